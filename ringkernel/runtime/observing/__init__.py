"""Views of running kernels: statistics, drawings, progress."""
