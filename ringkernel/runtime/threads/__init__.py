"""Threads that wait for what an event loop in another thread does."""
