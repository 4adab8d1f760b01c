"""A launched kernel as its user sees it: its queues, its lease, its loop, its timeouts."""
