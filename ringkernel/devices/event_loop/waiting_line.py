"""Waiting fairly in one event loop: a line, first in, first out."""

from __future__ import annotations

import asyncio
import math
import types
from collections import deque
from contextlib import suppress
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

from ringkernel.errors import ConfigurationError
from ringkernel.ring.host.waiting import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Waiter(Protocol):
    """A place in a line: mostly a future."""

    def set_result(self, _: None) -> None:
        """Wake who waits there. Raises `asyncio.InvalidStateError` if that has happened, or nobody does any more."""


class _Passing:
    """The place in a line of who lets other tasks run first: it is up to nobody to wake it."""

    __slots__ = ()

    def set_result(self, _: None) -> None:
        """It goes on by itself."""


@types.coroutine
def _let_others_run() -> Generator[None, None, None]:
    yield


class Line:
    """Waiters, first in, first out. Only the first may take; who leaves, for whatever reason, wakes the next.

    So an operation that is cancelled or timed out has either happened or not, and never swallows a wake-up. `asks` says
    that the first one sleeps and has not been notified.
    """

    __slots__ = ("_loop", "asks", "holder", "prepare", "waiters")

    def __init__(self) -> None:
        self.waiters: deque[Waiter] | tuple[()] = ()  # most lines never see a waiter
        self.asks = False
        self.holder = ""  # whom the head of the line belongs to for longer, in words
        self.prepare: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def length(self) -> int:
        """The number of waiters."""
        return len(self.waiters) - bool(self.holder)

    def notify(self) -> None:
        """Something may have changed for the first waiter."""
        self.asks = False
        waiters = self.waiters
        if waiters:
            try:  # noqa: SIM105 (once per message: `suppress` would take as long as all the rest)
                waiters[0].set_result(None)
            except asyncio.InvalidStateError:
                pass

    def notify_all(self) -> None:
        """Something has changed for everybody."""
        self.asks = False
        for waiter in self.waiters:
            with suppress(asyncio.InvalidStateError):
                waiter.set_result(None)

    def hold(self, holder: str) -> Hold:
        """The head of the line, before all who stand in it, until it is released; in the loop's thread."""
        return Hold(self, self._begin()[1], holder)

    def _begin(self) -> tuple[asyncio.AbstractEventLoop, deque[Any]]:
        """The loop and the line: both from the first waiter on."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self.waiters = deque()
        return self._loop, self.waiters  # type: ignore[return-value]  # made with the loop

    def stand(self, place: Waiter) -> None:
        """Be the first, where nobody stands and nobody need be asked (`prepare`). Who does that has just tried, awaits
        the place, tries again if it is still the first, and does `leave`; or goes on there by `wait`."""
        if self._loop is None:
            self._begin()
        self.waiters.append(place)  # type: ignore[union-attr]  # made with the loop
        self.asks = True

    def leave(self, place: Waiter) -> None:
        """Stand there no more, for whatever reason. If that was the first, the next one is woken."""
        waiters: Any = self.waiters
        if waiters[0] is place:
            waiters.popleft()
            if waiters:
                self.notify()
            else:
                self.asks = False
        else:
            waiters.remove(place)

    async def wait(  # noqa: C901, PLR0912 (one loop with every way to leave it)
        self,
        attempt: Callable[[], Any],
        timeout: float | None,
        *,
        yielding: bool = False,
        place: Any = None,
    ) -> Any:
        """Stand in line until `attempt` returns something other than `NOTHING`; it may raise. The caller has just
        tried, or found others waiting, or wants to let other tasks run first (`yielding`), or was woken in vain at a
        `place` in the line.

        The line's `prepare` is called before sleeping, to ask for a `notify` from another thread; `attempt` is then
        tried once more. Raises `asyncio.TimeoutError` after `timeout` seconds, and after letting other tasks run.
        """
        loop, waiters = self._begin()
        deadline = None if timeout is None else loop.time() + check_timeout(timeout)
        is_woken = place is not None
        if place is None:
            place = _Passing() if yielding else loop.create_future()
            waiters.append(place)  # also who yields, so that nobody overtakes
        try:
            while True:
                if yielding:
                    await _let_others_run()
                elif not is_woken:
                    if waiters[0] is place:
                        if self.prepare is not None:  # each time: it may have become necessary meanwhile
                            self.prepare()
                            result = attempt()
                            if result is not NOTHING:
                                return result
                        self.asks = True
                    if deadline is None:
                        await place  # a call less than below
                    elif not await _await_until(place, deadline, loop):
                        result = attempt() if waiters[0] is place else NOTHING
                        if result is NOTHING:
                            raise TimeoutError
                        return result
                if waiters[0] is place:
                    result = attempt()
                    if result is not NOTHING:
                        return result
                yielding = is_woken = False
                again = loop.create_future()
                waiters[waiters.index(place)] = again
                place = again
        finally:
            self.leave(place)


class Hold:
    """The head of a line, held for longer than one operation. Its owner waits in it as in a line; all others wait until
    it is released. There is at most one in a line."""

    __slots__ = ("_line", "_waiters")

    waiters: tuple[()] = ()
    """There is never anybody before its owner."""

    def __init__(self, line: Line, waiters: deque[Any], holder: str) -> None:
        assert not line.holder
        self._line, self._waiters = line, waiters
        line.holder = holder
        line.asks = False
        waiters.appendleft(_Passing())

    async def wait(self, attempt: Callable[[], Any], timeout: float | None, *, yielding: bool = False) -> Any:
        """As `Line.wait`, but for who holds the head."""
        line = self._line
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        if yielding:
            await _let_others_run()
            result = attempt()
        else:
            result = NOTHING
        while result is NOTHING:
            if line.prepare is not None:
                line.prepare()
                result = attempt()
                if result is not NOTHING:
                    break
            place = self._waiters[0] = loop.create_future()
            line.asks = True
            try:
                in_time = await _await_until(place, deadline, loop)
            finally:
                line.asks = False
                self._waiters[0] = _Passing()
            result = attempt()
            if result is NOTHING and not in_time:
                raise TimeoutError
        return result

    def release(self) -> None:
        """Let the next one have the line."""
        self._waiters.popleft()
        self._line.holder = ""
        self._line.notify()


async def _await_until(future: asyncio.Future[None], deadline: float | None, loop: asyncio.AbstractEventLoop) -> bool:
    """Await a future until a time of the loop's clock, never without letting other tasks run. Whether it was in
    time."""
    if deadline is None:
        await future
        return True
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


def check_timeout(timeout: Any, *, remedy: str = "None waits without limit") -> float:
    """The timeout in seconds. Raises `ConfigurationError` if it is no finite number of them, 0 or more."""
    if isinstance(timeout, Real) and not isinstance(timeout, bool):
        with suppress(OverflowError):  # an int may be larger than any float
            seconds = float(timeout)
            if 0 <= seconds < math.inf:
                return seconds
    try:
        said = repr(timeout)[:60]
    except ValueError:  # Python writes out no more than 4,300 digits
        said = "larger than any float"
    raise ConfigurationError(f"timeout is {said}; it must be a finite number of seconds, 0 or more ({remedy})")
