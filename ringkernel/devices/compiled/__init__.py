"""What compiled kernels have in common, whoever runs them: their blocks, rings, handshakes, and threads."""
