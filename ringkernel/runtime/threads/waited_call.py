"""A call that one thread waits for, and an event loop in another thread does."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ringkernel.errors import KernelStateError
from ringkernel.tracebacks import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

LOOK_S = 1.0
"""How often a thread that waits looks whether the event loop can still answer."""
CANCEL_S = 1.0
"""How long an interrupted call waits for its own cancellation, so that the exception has what was computed."""


class WaitedCall(Generic[T]):
    """A method and its arguments. Everything happens in the loop's thread, so that a waiting thread that is interrupted
    anywhere, by Ctrl-C or a signal's handler, leaves nothing half done and holds no lock.

    That is why this is no `concurrent.futures.Future`: its condition stays locked when Ctrl-C comes between the lock
    and the block that would release it, and the loop's thread would wait for that lock for ever.
    """

    __slots__ = ("_context", "_has_ended", "_is_cancelled", "_outcomes", "_task", "_work", "gone")

    def __init__(self, method: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._work = method, arguments, named
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._is_cancelled = False
        self._outcomes: list[tuple[Any, BaseException | None]] = []  # the first one counts
        self._has_ended = threading.Lock()
        self._has_ended.acquire()
        self.gone = "the event loop of this runtime has ended"

    @property
    def has_ended(self) -> bool:
        """True once there is an outcome."""
        return bool(self._outcomes)

    # --- in the loop's thread --------------------------------------------------------------------------------

    def begin(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Begin, and return the task; `settle` is to be called when it is done."""
        self._task = task = loop.create_task(self._perform(), context=self._context)
        if self._is_cancelled:
            task.cancel()
        return task

    def settle(self, _: object = None) -> None:
        """Set the outcome of a task that was cancelled before it got to run."""
        self.end(None, asyncio.CancelledError())

    async def _perform(self) -> None:
        method, arguments, named = self._work
        try:
            result = method(*arguments, **named)
            self.end(await result if asyncio.iscoroutine(result) else result)
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            self.end(None, error)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def end(self, result: Any, error: BaseException | None = None) -> None:
        """Set the outcome, unless there is one. In any thread. Cancelled, but not by the waiting thread, it is a
        `KernelStateError`: the event loop, or the session, has ended."""
        if self._outcomes:
            return
        if isinstance(error, asyncio.CancelledError) and not self._is_cancelled:
            error = KernelStateError(f"{self.gone}, and with it what was waited for")
        self._outcomes.append((result, error))
        with suppress(RuntimeError):  # two threads at once
            self._has_ended.release()

    # --- in the thread that waits ----------------------------------------------------------------------------

    def wait_for(self, hand_over: Callable[[WaitedCall[T]], None], loop: asyncio.AbstractEventLoop) -> T:
        """Hand the call to the loop, and wait for its outcome. What interrupts the waiting cancels the call, and gets
        what it had computed as `partial`."""
        try:
            with _interruptible():
                hand_over(self)
                while not self._has_ended.acquire(timeout=LOOK_S):
                    if loop.is_closed():
                        self.end(None, KernelStateError(f"{self.gone}, and with it what was waited for"))
        except BaseException as error:
            if not self.has_ended:
                self._interrupt(loop, error)
            raise
        result, failure = self._outcomes[0]
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # no cycle through this frame
        return result  # type: ignore[no-any-return]

    def _interrupt(self, loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
        self._is_cancelled = True
        with suppress(RuntimeError):  # the loop was closed
            loop.call_soon_threadsafe(self._cancel)
        with suppress(BaseException):  # also a second Ctrl-C, by which the first one is no longer waited for
            self._has_ended.acquire(timeout=CANCEL_S)
        left: Any = self._outcomes[0][1] if self._outcomes else None
        if left is not None:
            with suppress(AttributeError):
                error.partial = left.partial  # type: ignore[attr-defined]
        shorten(error, str(left or ""))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C, or the stop button, end the waiting also where this thread's event loop has taken over the signal: it
    could react only when this is over."""
    before = None
    if threading.current_thread() is threading.main_thread() and _is_in_loop():
        before = signal.getsignal(signal.SIGINT)
    if before is None:
        yield
        return
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
