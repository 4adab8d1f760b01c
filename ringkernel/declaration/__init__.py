"""Kernels as they are declared, before they are launched."""
