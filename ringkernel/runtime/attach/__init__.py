"""Arrays in the place of kernels' queues until they are detached: what maps and replays have in common."""
