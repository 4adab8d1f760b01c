"""CPU workers: the threads that take turns, and the kernels that they run."""
