"""Compiled kernels, whoever runs them: their blocks, rings, handshakes, and threads."""
