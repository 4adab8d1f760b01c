"""The asyncio supervisor: applies the lifecycle's table, and gives and takes the kernels' tokens."""
