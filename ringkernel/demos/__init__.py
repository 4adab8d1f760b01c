"""The demos of `ringkernel demo`: a module for each, which has `run`."""

DEMOS = {
    "flights": "a year of flights through four compiled kernels",
    "flow": "trades joined with quotes by time, minute bars, a signal",
}
