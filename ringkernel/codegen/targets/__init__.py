"""What differs from target to target: the operations as intrinsics."""
