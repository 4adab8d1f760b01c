"""Whole arrays through a path of kernels."""
