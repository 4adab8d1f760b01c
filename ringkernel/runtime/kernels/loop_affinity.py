"""Where an object may be used: in one event loop, in that loop's thread, in the process that made it."""

from __future__ import annotations

import asyncio
import os
import weakref
from threading import get_ident
from typing import TYPE_CHECKING

from ringkernel.errors import KernelStateError

if TYPE_CHECKING:
    from collections.abc import Callable


def _never() -> bool:
    return False


class LoopAffinity:
    """The event loop to which an object belongs, from its first use on.

    A call that is made once per message asks `affinity.thread == get_ident() and affinity.is_running()`, and if that
    is not so, `bind()`: to ask asyncio for the running loop costs CPython 3.11 a system call (260 ns against 80).
    """

    __slots__ = ("__weakref__", "is_running", "loop", "pid", "thread", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pid = os.getpid()
        self.thread = 0
        self.is_running: Callable[[], bool] = _never
        _affinities.add(self)

    def bind(self) -> asyncio.AbstractEventLoop:
        """Return the loop; the running one from now on, if the object had none. Raises `KernelStateError` anywhere
        else."""
        if self.loop is not None and self.thread == get_ident() and self.is_running():
            return self.loop
        if os.getpid() != self.pid:
            raise KernelStateError(
                f"{self.what} belongs to process {self.pid} and cannot be used in a fork of it ({os.getpid()}); "
                f"make a new one here"
            )
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            raise KernelStateError(
                f"{self.what} was used outside of its event loop; call it from a coroutine in the loop's own thread "
                f"(from other threads: asyncio.run_coroutine_threadsafe)"
            ) from None
        if self.loop is not None:
            raise KernelStateError(f"{self.what} belongs to another event loop; make a new one in this one")
        self.loop, self.thread, self.is_running = running, get_ident(), running.is_running
        return running


_affinities: weakref.WeakSet[LoopAffinity] = weakref.WeakSet()


def _forget_threads() -> None:
    """A forked child has the thread's number and a loop that says it runs."""
    for affinity in _affinities:
        affinity.thread = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
