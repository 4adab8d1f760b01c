"""What is said when the time is over: of whom was something wanted, and what holds it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.lifecycle import KernelState

if TYPE_CHECKING:
    from .kernel import RingKernel

_TO_START = {KernelState.LAUNCHED: "activate", KernelState.DEACTIVATED: "reactivate"}


def nothing_came(kernel: RingKernel, timeout: float | None) -> TimeoutError:
    """There was no output in time."""
    if holder := kernel.engine.inlet.line.holder:
        return TimeoutError(_is_held(kernel, timeout, holder))
    return TimeoutError(f"nothing came from kernel {kernel.kernel_id!r} within {timeout} s{_holding_up(kernel)}")


def no_room(kernel: RingKernel, timeout: float | None) -> TimeoutError:
    """There was no room in the input in time."""
    if holder := kernel.engine.outlet.line.holder:
        return TimeoutError(_is_held(kernel, timeout, holder))
    capacity = kernel.input_queue.capacity
    return TimeoutError(
        f"the input of kernel {kernel.kernel_id!r} had no room within {timeout} s: all {capacity} slots are taken"
        f"{_idle(kernel)}"
    )


def still_alive(kernel: RingKernel, timeout: float | None) -> TimeoutError:
    """The kernel has not ended in time."""
    return TimeoutError(f"kernel {kernel.kernel_id!r} is still {kernel.state.name} after {timeout} s")


def _is_held(kernel: RingKernel, timeout: float | None, holder: str) -> str:
    return f"{holder} had kernel {kernel.kernel_id!r} to itself for longer than {timeout} s; await it, or wait longer"


def _holding_up(kernel: RingKernel) -> str:
    """The first kernel upstream that takes no messages, as the end of an error, or nothing."""
    return next((words for one in kernel.upstream() if (words := _idle(one))), "")


def _idle(kernel: RingKernel) -> str:
    if kernel.state not in _TO_START:
        return ""
    return f"; kernel {kernel.kernel_id!r} is {kernel.state.name}: {_TO_START[kernel.state]}() it"
