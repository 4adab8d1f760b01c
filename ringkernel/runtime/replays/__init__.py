"""Recorded messages in the place of live ones, as fast as kernels take them or at their pace."""
