"""Grids: kernels that run as persistent CUDA kernels, and what the host does for them."""
