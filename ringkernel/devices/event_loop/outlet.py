"""The event loop's end of a ring that it produces into.

The fast path of a message is the ring's own `offer` and never suspends; who has to wait for room stands in a `Line`.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from ringkernel.errors import BatchTimeoutError, QueueFullError, RingKernelError
from ringkernel.ring.host.waiting import NOTHING

from .waiting_line import Hold, Line, check_timeout

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ringkernel.ring.host.kinds import Ring

    from .budget import Budget
    from .loop_parker import Doorbell
    from .services import Services

LOOK_S = 0.05
"""The interval at which a waiting producer checks whether there ever will be room, where that is in doubt."""


class Outlet:
    """Produces into a ring. Closed, it refuses with what `refuse` says.

    The fast path of a message is `offer`, the ring's own; while others wait in `line`, it must not be taken.
    """

    __slots__ = (
        "_doorbell",
        "_services",
        "_timer",
        "budget",
        "dead_end",
        "is_doubtful",
        "line",
        "offer",
        "refuse",
        "ring",
    )

    def __init__(self, ring: Ring, budget: Budget, services: Services | None = None) -> None:
        self.line = Line()
        self.refuse: Callable[[], RingKernelError] = lambda: RingKernelError("the queue is closed")
        self.dead_end: Callable[[], RingKernelError | None] = lambda: None  # why there never will be room, if so
        self.is_doubtful: Callable[[], bool] = lambda: False  # whether that may become so without anybody's notice
        self._timer: asyncio.TimerHandle | None = None
        self.budget = budget
        self._services = services
        self._doorbell: Doorbell | None = None
        self.bind(ring)

    def bind(self, ring: Ring) -> None:
        """Produce into this ring from now on."""
        self.ring = ring
        self.offer: Callable[[Any], bool] = ring.offer
        ring.putting = self.line
        if self._services is not None:
            self.line.prepare = self._ask_for_room
            if self._doorbell is not None:
                ring.set_doorbell(self._doorbell.doorbell_address)

    def _attempt(self, message: Any) -> Any:
        if self.ring.shut:
            raise self.refuse()
        return self.offer(message) or self._no_room()

    def _no_room(self) -> Any:
        reason = self.dead_end()
        if reason is not None:
            raise reason
        return NOTHING

    def _attempt_many(self, messages: Any, sent: int) -> Any:
        """Publish as many as there is room for, after the first `sent`. How many, or `NOTHING`."""
        ring = self.ring
        if ring.shut:
            raise self.refuse()
        count = min(ring.room(), len(messages) - sent)
        if count <= 0:
            return self._no_room()
        ring.offer_many(messages[sent : sent + count])
        return count

    def close(self) -> None:
        """Refuse from now on, also those who wait for room."""
        self.ring.shut_off()
        self.line.notify()

    async def put(self, message: Any, timeout: float | None = None) -> None:
        """Publish a message, waiting for room."""
        if timeout is not None:
            check_timeout(timeout)
        budget = self.budget
        budget.left -= 1
        if budget.left <= 0 and budget.due():
            await self.wait_put(message, timeout, yielding=True)
        elif self.line.waiters or not self.offer(message):
            await self.wait_put(message, timeout)

    async def wait_put(self, message: Any, timeout: float | None, *, yielding: bool = False) -> None:
        """The slow part of `put`: stand in line for room, or, `yielding`, to let other tasks run first."""
        if self.ring.shut:
            raise self.refuse()
        await self.line.wait(lambda: self._attempt(message), timeout, yielding=yielding)

    async def put_many(
        self, messages: Any, timeout: float | None = None, hold: Hold | None = None, *, yielding: bool | None = None
    ) -> None:
        """Publish all messages in order, waiting for room: in the line, or at its head with the `hold` of it.
        `yielding` says whether to let other tasks run first, if the budget was asked already.

        Raises `BatchTimeoutError`. Cancelled, it has sent a prefix. Whatever it raises has `sent`, the number of
        messages that were. Messages of concurrent callers may come in between.
        """
        if timeout is not None:
            check_timeout(timeout)
        if self.ring.shut:
            raise self.refuse()
        line = hold or self.line
        sent, total = 0, len(messages)
        deadline = None if timeout is None else time.monotonic() + timeout
        while sent < total:
            if yielding is None:
                yielding = self.budget.spend()
            try:
                count: Any = NOTHING if line.waiters or yielding else self._attempt_many(messages, sent)
                if count is NOTHING:
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    attempt = functools.partial(self._attempt_many, messages, sent)
                    count = await line.wait(attempt, left, yielding=yielding)
                sent += count
                yielding = None
            except TimeoutError:
                raise BatchTimeoutError(sent, total) from None
            except BaseException as error:
                error.sent = sent  # type: ignore[attr-defined]
                raise

    def put_nowait(self, message: Any) -> None:
        """Publish a message or raise `QueueFullError`."""
        if self.line.waiters or not self._attempt(message):
            self.budget.let_threads_run()
            holder = self.line.holder
            why = f"{holder} has the queue to itself" if holder else f"all {self.ring.capacity} slots are taken"
            raise QueueFullError(f"{why}; await put() or send() to wait")

    def _ask_for_room(self) -> None:
        """Ask to be woken when half the ring is free: once per half ring, not once per slot."""
        ring = self.ring
        assert self._services is not None
        if self._timer is None and self.is_doubtful():
            self._timer = self._services.loop.call_later(LOOK_S, self._look_again)
        if not ring.holds_records:
            return
        if self._doorbell is None:  # most queues never see anybody wait
            self._doorbell = self._services.parker.doorbell(self.line.notify)
            ring.set_doorbell(self._doorbell.doorbell_address)
        self._services.spinner.give(None)
        ring.want(ring.tail - ring.capacity + max(1, ring.capacity // 2))
        self._doorbell.arm()

    def _look_again(self) -> None:
        self._timer = None
        self.line.notify()

    def release(self) -> None:
        """The ring has no more producer here."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._doorbell is not None:
            self.ring.set_doorbell(0)
            self._doorbell.release()
            self._doorbell = self.line.prepare = None
