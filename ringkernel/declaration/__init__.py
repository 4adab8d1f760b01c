"""What a kernel is before it is launched."""
