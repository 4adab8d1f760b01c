"""Turns of a kernel, of workers and of an event loop's thread. Compiled."""
