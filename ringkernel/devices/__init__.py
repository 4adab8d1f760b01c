"""The devices that run the turns of kernels: the event loop for coroutine kernels, CPU workers for compiled ones."""
