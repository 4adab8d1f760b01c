"""An event loop in a thread of its own: it does what other threads ask for, and answers each of them, also at its end.

A call is appended to the inbox, and then the thread looks whether the loop is over; the loop says that it is over, and
then empties the inbox. One of the two sees the other, without a lock: a signal's handler may ask while the main thread
does, and a forked child inherits nothing that is locked.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, overload

from ringkernel.devices.event_loop.background import refuse_at_exit
from ringkernel.errors import KernelStateError

from .waited_call import WaitedCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

T = TypeVar("T")

_CLOSED = "this session is closed"
_SETTLE_S = 1.0
"""How long calls may take to end once they were cancelled."""


class LoopThread:
    """The thread of a session. `ending` ends what its loop has, before it stops."""

    def __init__(self, ending: Callable[[], Awaitable[None]]) -> None:
        refuse_at_exit()  # no thread begins any more, and nobody could wait for one
        self._ending = ending
        self.loop: asyncio.AbstractEventLoop
        self._pid = os.getpid()
        self._inbox: deque[WaitedCall[Any]] = deque()
        self._begun: dict[asyncio.Task[None], WaitedCall[Any]] = {}
        self._closing: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self._is_closed = self._is_over = False
        self._has_begun = threading.Lock()
        self._has_begun.acquire()
        self._thread = threading.Thread(target=self._run, name="ringkernel-session", daemon=True)
        try:
            self._thread.start()
            self._has_begun.acquire()
        except BaseException:
            self._is_closed = True  # nobody will know the thread: it ends as soon as it has begun
            self._wake()
            raise
        if self._error is not None:
            raise self._error

    @property
    def is_ours(self) -> bool:
        """True in the process that has the thread; a fork has not."""
        return os.getpid() == self._pid

    @property
    def is_open(self) -> bool:
        """True while it takes calls."""
        return not self._is_closed and self.is_ours  # in this order: at the end of the interpreter there is no `os`

    def _refusal(self) -> str | None:
        """Why nothing can be done by this thread, or None."""
        if not self.is_ours:
            return f"this session belongs to process {self._pid} and cannot be used in a fork of it; make a new one"
        if self._is_closed:
            return f"{_CLOSED}; make a new one"
        if self._is_own_thread():
            return "this is the session's own thread, which would wait for itself; await the runtime's method instead"
        return None

    def _is_own_thread(self) -> bool:
        return threading.get_ident() == self._thread.ident

    @overload
    def do(self, method: Callable[..., Coroutine[Any, Any, T]], *arguments: Any, **named: Any) -> T: ...

    @overload
    def do(self, method: Callable[..., T], *arguments: Any, **named: Any) -> T: ...

    def do(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Have the loop call a method, and await what that returns if it is a coroutine; return the result, or raise
        what it raises. Raises `KernelStateError` where that cannot be, and if the thread ends before."""
        refuse_at_exit()
        reason = self._refusal()
        if reason is not None:
            raise KernelStateError(reason)
        call: WaitedCall[Any] = WaitedCall(method, arguments, named)
        call.gone = "this session was closed meanwhile"
        return call.wait_for(self._hand_over, self.loop)

    def post(self, method: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> None:
        """Have the loop do it some time, and wait for nothing. From any thread, in the middle of anything."""
        if self.is_open:
            self._hand_over(WaitedCall(method, arguments, {}))

    def _hand_over(self, call: WaitedCall[Any]) -> None:
        self._inbox.append(call)
        with suppress(RuntimeError):  # it is over
            self.loop.call_soon_threadsafe(self._take)
        if self._is_over:
            self._refuse_all()

    # --- the end ---------------------------------------------------------------------------------------------

    def close_soon(self) -> None:
        """Take no more calls, and begin to end, if that has not begun. From any thread, in the middle of anything."""
        if self.is_ours:
            self._is_closed = True
            self._wake()

    def _wake(self) -> None:
        with suppress(RuntimeError, AttributeError):  # it is over, or has not begun
            self.loop.call_soon_threadsafe(self._begin_to_end)

    def close(self, timeout: float) -> bool:
        """Take no more calls, and wait for the end of those that there are, and of the thread. Return whether all that
        has ended in `timeout` seconds. Raises what `ending` has raised, in the thread that is there first, and
        `KernelStateError` in the session's own thread."""
        if not self.is_ours or self._is_over:
            return True
        if self._is_own_thread():
            raise KernelStateError(
                "this is the session's own thread, which would wait for itself: close() in another one"
            )
        self.close_soon()
        self._thread.join(timeout)
        error, self._error = self._error, None
        if error is not None:
            raise error
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """The thread does not come back: answer everybody who waits for it."""
        self._is_over = True
        self._refuse_all()

    # --- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self.loop = asyncio.new_event_loop()  # here, where no Ctrl-C leaves it half made
        except BaseException as error:  # noqa: BLE001 (it is raised in the thread that waits)
            self._error = error
            self._has_begun.release()
            return
        asyncio.set_event_loop(self.loop)
        try:
            self._has_begun.release()
            if self._is_closed:
                self._begin_to_end()
            self.loop.run_forever()
        finally:
            self._is_closed = self._is_over = True
            self._refuse_all()
            self.loop.close()

    def _take(self) -> None:
        while self._inbox:
            call = self._inbox.popleft()
            if self._is_closed:
                self._refuse(call)
            else:
                task = call.begin(self.loop)
                self._begun[task] = call
                task.add_done_callback(self._settle)

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._begun.pop(task).settle()

    def _begin_to_end(self) -> None:
        if self._closing is None:
            self._closing = self.loop.create_task(self._end())

    async def _end(self) -> None:
        """End the runtime, which ends most calls; cancel the others, and answer those that do not end by that."""
        try:
            await self._ending()
        except BaseException as error:  # noqa: BLE001 (it is raised where somebody waits for the end)
            self._error = error
        finally:
            for task in self._begun:
                task.cancel()
            if self._begun:
                await asyncio.wait(set(self._begun), timeout=_SETTLE_S)
            self.loop.stop()

    def _refuse_all(self) -> None:
        """In any thread, once it is over."""
        for call in list(self._begun.values()):
            self._refuse(call)
        with suppress(IndexError):
            while True:
                self._refuse(self._inbox.popleft())

    def _refuse(self, call: WaitedCall[Any]) -> None:
        call.end(None, KernelStateError(f"{_CLOSED}: it was closed meanwhile"))
