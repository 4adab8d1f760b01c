"""The stop button of a notebook, and Ctrl-C in IPython, end a cell that awaits.

A notebook's kernel cancels an awaiting cell by a callback that its handler of SIGINT adds to the event loop. But the
loop sleeps, and goes on sleeping: the handler runs within its `select`, which is taken up again where nothing has come.
So a descriptor that the loop listens to is written to when a signal comes (`signal.set_wakeup_fd`): nothing is looked
at again and again.

IPython in a terminal lets Ctrl-C break off its event loop, and the task of the cell lies there until the next cell that
awaits; it would take messages then. So Ctrl-C cancels the task.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ringkernel.audience import notebook, shell

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import FrameType

SETTLE_S = 0.5
"""How long what was stopped may take to end before it is left to itself."""
_heeding: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
_leaving: set[asyncio.Future[Any]] = set()


def heed_interrupts(loop: asyncio.AbstractEventLoop) -> None:
    """Let the stop button, or Ctrl-C, end cells that await in this loop, if it is IPython's. From the loop's thread."""
    ipython = shell()
    if ipython is None or loop in _heeding or threading.current_thread() is not threading.main_thread():
        return
    _heeding.add(loop)
    if notebook() is not None:
        _wake_by_signals(loop)
    else:
        _Cells(loop).watch(ipython.events)


async def finish(work: Coroutine[Any, Any, None], error: BaseException | None) -> None:
    """Do what ends a block that was left with this error. Where that was the stop button of a notebook, whose event
    loop goes on, it is waited for only for a moment."""
    if isinstance(error, asyncio.CancelledError) and _goes_on():
        await wait_out(asyncio.ensure_future(work))
    else:
        await work


async def wait_out(task: asyncio.Future[Any]) -> None:
    """Wait for what goes on though its caller was cancelled, however often that happens. In a notebook, whose event
    loop goes on, only for a moment."""
    _leaving.add(task)
    task.add_done_callback(_leaving.discard)
    left = SETTLE_S if _goes_on() else None
    while not task.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=left)
            if left is not None:
                return


def _goes_on() -> bool:
    """Return whether the event loop goes on, whatever becomes of the task that runs."""
    return notebook() is not None and asyncio.get_running_loop() in _heeding


def _wake_by_signals(loop: asyncio.AbstractEventLoop) -> None:
    """Have every signal wake the loop, unless that is so, or somebody else is woken."""
    other = signal.set_wakeup_fd(-1)
    if other != -1:
        signal.set_wakeup_fd(other)
        return
    ours, written = socket.socketpair()
    ours.setblocking(False)
    written.setblocking(False)
    loop.add_reader(ours, _drain, ours, written)
    signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)


def _drain(ours: socket.socket, _written: socket.socket) -> None:
    """The loop is awake: that was all. It keeps both ends."""
    with suppress(OSError):
        ours.recv(4096)


class _Cells:
    """The cells of IPython in a terminal, whose event loop runs as long as one of them awaits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._stopped: weakref.ref[asyncio.Task[Any]] | None = None

    def watch(self, events: Any) -> None:
        """Take over Ctrl-C now, since a cell runs, and whenever one does."""
        self.begin()
        events.register("pre_run_cell", self.begin)
        events.register("post_run_cell", self.end)

    def begin(self, *_: Any) -> None:
        """A cell begins. Where somebody else has taken over Ctrl-C, that is left so."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._on_interrupt)

    def end(self, *_: Any) -> None:
        """A cell has ended."""
        if signal.getsignal(signal.SIGINT) == self._on_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        """Cancel the cell, if it awaits; the second time, and otherwise, break off what runs."""
        loop = self._loop()
        task = None if loop is None or not loop.is_running() else _task_of_cell(loop)
        if task is None or (self._stopped is not None and self._stopped() is task):
            signal.default_int_handler(number, frame)
        self._stopped = weakref.ref(task)
        task.get_loop().call_soon_threadsafe(task.cancel)


def _task_of_cell(loop: asyncio.AbstractEventLoop) -> asyncio.Task[Any] | None:
    tasks = asyncio.all_tasks(loop)
    return next((task for task in tasks if getattr(task.get_coro(), "__name__", "") == "run_cell_async"), None)
