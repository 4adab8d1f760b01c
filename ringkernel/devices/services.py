"""What all kernels of one event loop share: its budget, its parker, its workers. Each is made when first needed."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from .spinning import Spinner

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from .cpu.pool import WorkerPool
    from .grid.pool import GridPool
    from .loop_parker import LoopParker
    from .waiting_line import Budget


def allowed_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """One worker for each of these cores but one, which is for the event loop; at least one."""
    return max(1, allowed_cores() - 1)


_FORSAKEN_STOP_S = 0.1
"""How long the threads of a runtime that nobody has closed are waited for, in the middle of something else."""


class Services:
    """What the kernels of one event loop need from its thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, workers: int | None, budget: Budget) -> None:
        self.loop = loop
        self._pid = os.getpid()
        self._is_forsaken = self._is_closed = False
        self.budget = budget
        self.spinner = Spinner()
        self.workers = default_workers() if workers is None else workers
        self._parker: LoopParker | None = None
        self._pool: WorkerPool | None = None
        self._grids: GridPool | None = None

    @property
    def parker(self) -> LoopParker:
        """The event loop as a parker. Imports numba and compiles, the first time; see `prepare`."""
        if self._parker is None:
            from .loop_parker import LoopParker

            self._parker = LoopParker(self.loop, self._lose_loop)
        return self._parker

    @property
    def pool(self) -> WorkerPool:
        """The CPU workers."""
        if self._pool is None:
            from .cpu.pool import WorkerPool

            self._pool = WorkerPool(self.parker, self.workers)
        return self._pool

    @property
    def grids(self) -> GridPool:
        """The grids on other devices."""
        if self._grids is None:
            from .grid.pool import GridPool

            self._grids = GridPool(self.parker)
        return self._grids

    def woke(self) -> None:
        """A worker was woken: let the monitor look after it."""
        if self._pool is not None:
            self._pool.watch()

    async def prepare_grids(self) -> None:
        """Compile what grids need on this side, in a thread of its own."""
        from . import compiling
        from .grid.pool import compiled_watcher

        await compiling.in_thread(compiled_watcher)

    async def prepare(self, *, workers: bool) -> None:
        """Import and compile what record rings and, with `workers`, compiled kernels need, in a thread of its own."""
        from . import compiling

        if self._parker is None or (workers and self._pool is None):
            await compiling.in_thread(functools.partial(_warm_up, workers))

    def close(self, timeout: float = 1.0) -> None:
        """End the threads, and stop listening: all of it, whatever one of them raises."""
        self._is_closed = True
        with ExitStack() as stack:  # in reverse
            if self._parker is not None:
                stack.callback(self._parker.close)
            for pool in (self._pool, self._grids):
                if pool is not None:
                    stack.callback(pool.stop, timeout)

    def _lose_loop(self) -> None:
        self.forsake("'s event loop was closed")

    def forsake(self, reason: str, *, is_exiting: Callable[[], bool] = sys.is_finalizing) -> None:
        """Nobody has closed it, and nobody will: close it, and warn. Called by finalizers, so in any thread, in the
        middle of anything. At the interpreter's exit the pools end by themselves, and a fork has no threads."""
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


def _warm_up(workers: bool) -> Any:
    from ringkernel.ring.clock import tick_clock
    from ringkernel.ring.host_api import host_api

    from . import compiling

    host_api()
    tick_clock()
    if workers and not compiling.is_exiting():
        from .cpu.pool import compiled_loop

        compiled_loop()
