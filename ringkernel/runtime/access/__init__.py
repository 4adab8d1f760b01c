"""Further ways to a kernel: calls, lent outputs, inputs for threads, state."""
