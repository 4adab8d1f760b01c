"""What is shown of running kernels: statistics, drawings, progress."""
