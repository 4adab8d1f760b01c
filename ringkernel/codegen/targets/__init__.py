"""The operations of each target, as intrinsics."""
