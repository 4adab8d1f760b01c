"""The services that all kernels of one event loop share: its budget, its parker, and the threads that end with it."""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from ringkernel.ring.turns.loop_turns import RANG

from . import background
from .announcing import announced
from .interrupts import heed_interrupts
from .spinning import Spinner

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .budget import Budget
    from .loop_parker import LoopParker

_FORSAKEN_STOP_S = 0.1
"""The time to wait for the threads of a runtime that was dropped without close()."""


class Shuts(Protocol):
    """Inputs that other threads feed."""

    def shut(self) -> None:
        """Refuse: nothing is taken there any more."""


class Services:
    """The event loop's thread, as its kernels need it. Devices say in `stops` how their threads end, in
    `on_woke` who looks after a worker that was woken, and in `feeds` who else waits for them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, budget: Budget) -> None:
        self.loop = loop
        self._pid = os.getpid()
        self._is_forsaken = self._is_closed = False
        self.budget = budget
        self.spinner = Spinner()
        self.is_within = False  # a kernel's task is run within another task's step
        self.stops: list[Callable[[float], None]] = []
        self.feeds: weakref.WeakSet[Shuts] = weakref.WeakSet()
        self._compiled: set[Callable[[], Any] | None] = {None}
        self.on_woke: Callable[[], None] | None = None
        self.woke = self._act_on  # one bound method for all rings: each would take 64 bytes
        self._parker: LoopParker | None = None
        heed_interrupts(loop)

    @property
    def parker(self) -> LoopParker:
        """The event loop as a parker. Imports numba and compiles, the first time; see `prepare`."""
        if self._parker is None:
            from .loop_parker import LoopParker

            self._parker = LoopParker(self.loop, self._lose_loop)
        return self._parker

    def _act_on(self, said: int) -> None:
        """Act on what a call has led to, see `see_to` of `loop_turns.py`: run callbacks of doorbells that the loop has
        rung itself, and let the monitor look after a worker that was woken."""
        if said >= RANG:
            self.parker.dispatch_own()
            said -= RANG
        if said and self.on_woke is not None:
            self.on_woke()

    async def prepare(self, compile_more: Callable[[], Any] | None = None) -> None:
        """Import and compile what the parker needs, and more if asked to, in a thread of its own: each once."""
        if self._parker is None or compile_more not in self._compiled:
            await background.in_thread(lambda: _warm_up(compile_more))
            self._compiled.add(compile_more)

    def close(self, timeout: float = 1.0) -> None:
        """End the threads, and stop listening: all of it, whatever one of them raises."""
        self._is_closed = True
        with ExitStack() as stack:  # in reverse
            if self._parker is not None:
                stack.callback(self._parker.close)
            for stop in self.stops:
                stack.callback(stop, timeout)
            for feeds in tuple(self.feeds):
                stack.callback(feeds.shut)

    def _lose_loop(self) -> None:
        self.forsake("'s event loop was closed")

    def forsake(self, reason: str, *, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close it, and warn: its owner has dropped it without closing it. Called by finalizers, so in any thread, in
        the middle of anything. At the interpreter's exit the pools end by themselves, and a fork has no threads."""
        if self._is_closed or self._parker is None or is_exiting() or os.getpid() != self._pid:
            return
        if self.loop.is_running():
            self.loop.call_soon_threadsafe(self.close, _FORSAKEN_STOP_S)
        else:
            self.close(_FORSAKEN_STOP_S)
        if not self._is_forsaken:
            self._is_forsaken = True
            warnings.warn(
                f"a RingKernelRuntime{reason} without close(): its threads are stopped, and its kernels do not go on; "
                f"use `async with RingKernelRuntime() as runtime`, or `await runtime.close()`",
                ResourceWarning,
                stacklevel=2,
            )


def _warm_up(compile_more: Callable[[], Any] | None) -> None:
    from ringkernel.ring.host.clock import tick_clock
    from ringkernel.ring.host_api import host_api

    with announced("ringkernel's own functions"):
        host_api()
        tick_clock()
        if compile_more is not None and not background.is_exiting():
            compile_more()
