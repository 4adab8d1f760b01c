"""Kernels through their lifecycle: launched, told, replaced, ended."""
