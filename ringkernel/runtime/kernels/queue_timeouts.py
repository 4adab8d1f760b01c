"""The errors of timeouts, and of interrupted waits, at a queue."""

from __future__ import annotations

from ringkernel.tracebacks import shorten


def timed_out(text: str) -> TimeoutError:
    """Return a `TimeoutError` that is shown without frames of ours."""
    error = TimeoutError(text)
    shorten(error)
    return error


def queue_is_empty(error: BaseException, timeout: float | None) -> BaseException:
    """Return the error of a queue that nothing was put into in time, or note in a cancellation that it was awaited."""
    if isinstance(error, TimeoutError):
        return timed_out(f"nothing came within {timeout} s")
    shorten(error, "was waiting for what is put into a queue")
    return error


def queue_is_full(error: BaseException, capacity: int, timeout: float | None) -> BaseException:
    """Return the error of a queue that nothing was taken from in time, or say in a cancellation that room was waited
    for."""
    if isinstance(error, TimeoutError):
        return timed_out(f"there was no room within {timeout} s: all {capacity} slots are taken")
    shorten(error, "was waiting for room in a queue")
    return error
