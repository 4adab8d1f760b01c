"""Kernels as a graph: connections, inputs by time, ends that go on from kernel to kernel."""
