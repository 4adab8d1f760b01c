"""Who runs a kernel's turns: the event loop for coroutine kernels, CPU workers for compiled ones."""
