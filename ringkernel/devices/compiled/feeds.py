"""The inputs of a compiled kernel that are fed by threads which are neither the event loop's nor a worker's.

An input is appended while the kernel runs, and stays: its poller may be looking at it at any time. So it is used again.
Who opens one takes one that was closed and read to its end, if there is one; only as many are made as are open at the
same time, and a few whose messages still wait. Once many were closed, the kernel is paused for a moment and has them no
more.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from ringkernel.memory.layout import OPEN
from ringkernel.ring.host.feeder import Feed, Feeder

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.memory.arenas import Arena
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.record_edge import RecordEdge

BACKLOGGED = 8
"""So many that were closed may still be read; beyond that, whoever opens one goes on behind what waits there."""

CROWD = 64


class Feeds:
    """Opens and closes feeders of one input; in the event loop's thread, but for `closed`.

    `add_input` has the kernel read a further edge from now on.
    """

    def __init__(
        self, arena: Arena, message_type: MessageType, capacity: int, add_input: Callable[[RecordEdge], None]
    ) -> None:
        self._arena, self._message_type, self._capacity = arena, message_type, capacity
        self._add_input = add_input
        self._open: set[Feeder] = set()
        self._closed: deque[tuple[Feed, Feeder | None]] = deque()  # the feeder, if somebody was still pushing

    def open(self, when_full: int, woken_doorbell: int) -> Feeder:
        """A feeder, for one thread at a time. Raises `OSError`, and then has changed nothing."""
        feed = self._used()
        is_new = feed is None
        if feed is None:
            feed = Feed(self._arena, self._message_type, self._capacity)
        try:
            feeder = Feeder(feed, when_full, woken_doorbell)
            if is_new:
                self._add_input(feed.edge)
        except BaseException:
            if not is_new:
                self._closed.append((feed, None))
            raise
        self._open.add(feeder)
        return feeder

    def _used(self) -> Feed | None:
        """A feed that was closed, and of which nothing waits to be read, as far as there is one."""
        among = min(len(self._closed), BACKLOGGED)
        best: Feed | None = None
        for _ in range(among):
            feed, feeder = self._closed.popleft()
            if feeder is not None and feeder.is_busy:
                self._closed.append((feed, feeder))
            elif feed.waiting == 0:
                if best is not None:
                    self._closed.append((best, None))
                return feed
            elif best is None:
                best = feed
            else:
                self._closed.append((feed, None))
        if best is not None and among < BACKLOGGED:
            self._closed.append((best, None))
            return None
        return best

    def closed(self, feeder: Feeder) -> None:
        """Who had it has closed it. In any thread."""
        self._open.discard(feeder)
        feeder.feed.ring.say_ended()
        is_busy = feeder.is_busy
        if not is_busy:
            feeder.feed.ring.set_doorbell(0)  # first: from the next line on it may be somebody else's
        self._closed.append((feeder.feed, feeder if is_busy else None))

    @property
    def are_crowded(self) -> bool:
        """Whether so many have been closed that it pays to pause the kernel for a moment, and let them go."""
        return len(self._closed) >= CROWD

    def retire(self) -> list[RecordEdge]:
        """Let go of those that were closed and read to their end: their edges. The token is the host's."""
        gone = []
        for _ in range(len(self._closed)):
            feed, feeder = self._closed.popleft()
            if feed.waiting or (feeder is not None and feeder.is_busy):
                self._closed.append((feed, feeder))
            else:
                gone.append(feed.edge)
        return gone

    @property
    def are_in_use(self) -> bool:
        """Whether something may be pushed at any moment."""
        return bool(self._open) or any(feeder is not None and feeder.is_busy for _, feeder in tuple(self._closed))

    def shut(self) -> None:
        """The kernel takes nothing more."""
        for feeder in tuple(self._open):
            feeder.shut()
        self._open.clear()

    def wake(self) -> None:
        """Whoever waits for room may wait for nothing: have them look."""
        for feeder in tuple(self._open):
            if feeder.state == OPEN:
                feeder.wake()
