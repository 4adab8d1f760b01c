"""The errors of timeouts, and of interrupted waits, at kernels: for which one, and what holds it up."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ringkernel.declaration.decorator import id_of
from ringkernel.lifecycle import KernelState
from ringkernel.tracebacks import shorten

from .queue_timeouts import timed_out

if TYPE_CHECKING:
    from .kernel import RingKernel

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])

_TO_START = {KernelState.LAUNCHED: "activate", KernelState.DEACTIVATED: "reactivate"}


def nothing_came(kernel: RingKernel, timeout: float | None) -> TimeoutError:
    """Return the error of an output that has not come in time."""
    if holder := kernel.engine.inlet.line.holder:
        return timed_out(_is_held(kernel, timeout, holder))
    return timed_out(f"nothing came from kernel {kernel.kernel_id!r} within {timeout} s{_holding_up(kernel)}")


def no_room(kernel: RingKernel, timeout: float | None) -> TimeoutError:
    """Return the error of an input that had no room in time."""
    if holder := kernel.engine.outlet.line.holder:
        return timed_out(_is_held(kernel, timeout, holder))
    capacity = kernel.input_queue.capacity
    return timed_out(
        f"the input of kernel {kernel.kernel_id!r} had no room within {timeout} s: all {capacity} slots are taken"
        f"{_idle(kernel)}"
    )


def still_alive(kernel: RingKernel, timeout: float | None) -> TimeoutError:
    """Return the error of a kernel that has not ended in time."""
    return timed_out(f"kernel {kernel.kernel_id!r} is still {kernel.state.name} after {timeout} s")


def stopped_receiving(kernel: RingKernel, stopped: BaseException) -> None:
    """Say in a cancellation that an output was waited for."""
    shorten(stopped, f"was waiting for an output of kernel {kernel.kernel_id!r}{_holding_up(kernel)}")


def stopped_sending(kernel: RingKernel, stopped: BaseException) -> None:
    """Say in a cancellation that room was waited for."""
    shorten(stopped, f"was waiting for room in the input of kernel {kernel.kernel_id!r}{_idle(kernel)}")


def as_command(command: F) -> F:
    """Make a method a command of the runtime: a cancellation says that it was not done, and other threads get their
    turn, however quickly commands follow each other."""

    @functools.wraps(command)
    async def done(self: Any, kernel_id: Any, *arguments: Any, **options: Any) -> Any:
        self._supervisor.budget.let_threads_run()
        try:
            return await command(self, kernel_id, *arguments, **options)
        except asyncio.CancelledError as error:
            shorten(error, f"{command.__name__} of kernel {id_of(kernel_id)!r} was not over yet")
            raise

    return cast("F", done)


def _is_held(kernel: RingKernel, timeout: float | None, holder: str) -> str:
    return f"{holder} had kernel {kernel.kernel_id!r} to itself for longer than {timeout} s; await it, or wait longer"


def _holding_up(kernel: RingKernel) -> str:
    """Return the first kernel upstream that takes no messages, as the end of an error, or nothing."""
    return next((words for one in kernel.upstream() if (words := _idle(one))), "")


def _idle(kernel: RingKernel) -> str:
    if inputs := kernel.engine.holding_up():
        names = " and ".join(f"input {name!r}" if name else "its first input" for name in inputs)
        return (
            f"; kernel {kernel.kernel_id!r} goes by time, and waits for {names}: send to it, advance() it, or end what "
            f"feeds it"
        )
    if kernel.engine.declaration.is_source and kernel.state is KernelState.ACTIVE:
        calls, emitted = kernel.engine.ledger()["processed"], kernel.engine.emitted()
        return f"; source {kernel.kernel_id!r} was called {calls} times and emitted {emitted or 'nothing'}"
    if kernel.state not in _TO_START:
        return ""
    return f"; kernel {kernel.kernel_id!r} is {kernel.state.name}: {_TO_START[kernel.state]}() it"
