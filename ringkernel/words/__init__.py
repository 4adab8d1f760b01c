"""Functions of 64-bit words: plain Python, compiled to machine code without numba's types."""
