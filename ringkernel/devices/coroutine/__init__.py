"""Coroutine kernels: tasks of the event loop."""
