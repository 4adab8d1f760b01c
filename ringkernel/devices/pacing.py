"""Waiting fairly in one event loop: a pace for operations that never wait, a line for those that do."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError
from ringkernel.ring.waiting import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_OPERATIONS = 64
MAX_NS = 1_000_000


class Pacer:
    """Says when a caller that never waits has to let other tasks run: every 64 operations or 1 ms.

    Callers count `left` down and ask `due()` at zero. The clock is read every few operations only, the more often
    the longer they take.
    """

    __slots__ = ("_checked_ns", "_deadline_ns", "_granted", "_operations", "left")

    def __init__(self) -> None:
        self._checked_ns = time.monotonic_ns()
        self._deadline_ns = self._checked_ns + MAX_NS
        self._operations = 0
        self._granted = self.left = 1

    def due(self) -> bool:
        """Whether to yield now."""
        now = time.monotonic_ns()
        self._operations += self._granted
        if self._operations >= MAX_OPERATIONS or now >= self._deadline_ns:
            self._deadline_ns = now + MAX_NS
            self._operations = 0
            self._granted = 1
            self._checked_ns = now
            self.left = 1
            return True
        each = max(1, (now - self._checked_ns) // self._granted)
        fits = (self._deadline_ns - now) // (2 * each)
        self._granted = self.left = int(max(1, min(fits, 2 * self._granted, MAX_OPERATIONS - self._operations)))
        self._checked_ns = now
        return False


class Line:
    """Waiters, first in, first out. Only the first may take; who leaves, for whatever reason, wakes the next.

    So an operation that is cancelled or timed out has either happened or not, and never swallows a wake-up. `asks` says
    that the first one sleeps and has not been notified.
    """

    __slots__ = ("_loop", "asks", "waiters")

    def __init__(self) -> None:
        self.waiters: deque[asyncio.Future[None]] | tuple[()] = ()  # most lines never see a waiter
        self.asks = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def notify(self) -> None:
        """Something may have changed for the first waiter."""
        self.asks = False
        if self.waiters:
            first = self.waiters[0]
            if not first.done():
                first.set_result(None)

    def notify_all(self) -> None:
        """Something has changed for everybody."""
        self.asks = False
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(  # noqa: C901, PLR0912 (one loop with every way to leave it)
        self,
        attempt: Callable[[], Any],
        prepare: Callable[[], None] | None,
        timeout: float | None,
        *,
        yielding: bool = False,
    ) -> Any:
        """Stand in line until `attempt` returns something other than `NOTHING`; it may raise. The caller has just
        tried, or found others waiting, or wants to let other tasks run first (`yielding`).

        `prepare` is called before sleeping, to ask for a `notify` from another thread; `attempt` is then tried once
        more. Raises `asyncio.TimeoutError` after `timeout` seconds, at the earliest after letting other tasks run.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + check_timeout(timeout)
        if isinstance(self.waiters, tuple):
            self.waiters = deque()
        waiters = self.waiters
        future = loop.create_future()
        waiters.append(future)
        if yielding:  # in line, so that nobody overtakes
            loop.call_soon(_expire, future)
        try:
            while True:
                if waiters[0] is future and not yielding:
                    if prepare is not None:
                        prepare()
                        result = attempt()
                        if result is not NOTHING:
                            return result
                    self.asks = True
                if deadline is None:
                    await future
                elif not await _await_until(future, deadline, loop):
                    result = attempt() if waiters[0] is future else NOTHING
                    if result is NOTHING:
                        raise TimeoutError
                    return result
                if waiters[0] is future:
                    result = attempt()
                    if result is not NOTHING:
                        return result
                yielding = False
                again = loop.create_future()
                waiters[waiters.index(future)] = again
                future = again
        finally:
            if waiters[0] is future:
                waiters.popleft()
                self.notify()
            else:
                waiters.remove(future)


async def _await_until(future: asyncio.Future[None], deadline: float, loop: asyncio.AbstractEventLoop) -> bool:
    """Await a future until a time of the loop's clock, never without letting other tasks run. Whether it was in
    time."""
    if deadline <= loop.time():
        await asyncio.sleep(0)
        return False
    timer = loop.call_at(deadline, _expire, future)
    try:
        await future
    finally:
        timer.cancel()
    return loop.time() < deadline


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def check_timeout(timeout: float) -> float:
    """The timeout in seconds. Raises `ConfigurationError` if it is none."""
    if not isinstance(timeout, int | float) or timeout != timeout or timeout < 0:  # noqa: PLR0124 (NaN)
        raise ConfigurationError(f"timeout is {timeout!r}; it must be None or a number of seconds, 0 or more")
    return timeout
