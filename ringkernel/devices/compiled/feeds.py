"""The inputs of a compiled kernel that are fed by threads which are neither the event loop's nor a worker's.

An input is appended while the kernel runs, and stays: its poller may be looking at it at any time. So it is used again.
Who opens one takes one that was closed and read to its end, if there is one; only as many are made as are open at the
same time, and a few whose messages still wait. Once many were closed, the kernel is paused for a moment and has them no
more.
"""

from __future__ import annotations

from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING

from ringkernel.devices.thread_feeds import ThreadFeeds
from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.layout import OPEN
from ringkernel.ring.host.feeder import Feed, Feeder

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from ringkernel.devices.event_loop.services import Services

    from .chain import Stage

    Closed: TypeAlias = deque[tuple[Feed, Feeder | None]]

BACKLOGGED = 8
"""So many that were closed may still be read; beyond that, whoever opens one goes on behind what waits there."""
CROWD = 64
"""So many that were closed are worth a pause of the kernel, which then lets them go."""


class AppendedFeeds(ThreadFeeds):
    """The feeds of one kernel: those that are open, and by the numbers of its inputs those that were closed, with their
    feeder if somebody was still pushing then."""

    __slots__ = ("__weakref__", "_closed", "_kernel", "_open", "_services")

    def __init__(self, kernel: Stage, services: Services) -> None:
        super().__init__(kernel.kernel_id)
        self._kernel, self._services = kernel, services
        self._open: set[Feeder] | tuple[()] = ()  # most kernels never have one
        self._closed: Mapping[int, Closed] = MappingProxyType({})

    def open(self, number: int, when_full: int) -> Feeder:
        if number not in self._closed:
            self._open = self._open or set()
            self._closed = {**self._closed, number: deque()}
            self._services.feeds.add(self)
        feed = _used(self._closed[number])
        is_new = feed is None
        if feed is None:
            feed = self._new(number)
        try:
            feeder = Feeder(feed, when_full, self._kernel.executor.woken_doorbell())
            if is_new:
                self._kernel.add_input(feed.edge, number)
        except BaseException as error:
            if not is_new:
                self._closed[number].append((feed, None))
            if isinstance(error, OSError):
                raise DeviceUnavailableError(
                    f"kernel {self._kernel_id!r}: there is nothing to sleep on for one more thread ({error}); close() "
                    f'inputs that are not used any more, or open them with full="raise" or "drop"'
                ) from error
            raise
        self._open.add(feeder)  # type: ignore[union-attr]  # made just above, or before
        return feeder

    def _new(self, number: int) -> Feed:
        declaration = self._kernel.declaration
        message_type = declaration.per_input[number].input_type
        assert message_type is not None
        return Feed(self._services.parker.arena, message_type, declaration.queue_size)

    def close(self, feeder: Feeder) -> None:
        if not feeder.close():
            return
        self._open.discard(feeder)  # type: ignore[union-attr]  # it was opened
        feeder.feed.ring.say_ended()
        is_busy = feeder.is_busy
        if not is_busy:
            feeder.feed.ring.set_doorbell(0)  # first: from the next line on it may be somebody else's
        self._closed[feeder.feed.edge.input].append((feeder.feed, feeder if is_busy else None))
        if self._kernel.closing is not None:  # it may be over with this
            self._services.parker.api.ring_doorbell_at(self._kernel.doorbell_address)

    async def retire(self) -> None:
        async with self._kernel.token():
            if not self._kernel.is_ending:
                for closed in self._closed.values():
                    self._kernel.rings.remove_inputs([feed.edge for feed in _taken_out(closed)])

    @property
    def open_at_rest(self) -> bool:
        return not self._kernel.executor.appends_inputs

    @property
    def are_crowded(self) -> bool:
        is_for_it = not self._kernel.has_ended and self._kernel.declaration.order is None
        return is_for_it and any(len(closed) >= CROWD for closed in self._closed.values())

    @property
    def were_used(self) -> bool:
        return bool(self._closed)

    @property
    def are_in_use(self) -> bool:
        return bool(self._open) or any(map(_is_pushed_to, (one for c in self._closed.values() for one in tuple(c))))

    def shut(self) -> None:
        feeders, self._open = tuple(self._open), set() if self._open else self._open
        for feeder in feeders:
            feeder.shut()

    def wake(self) -> None:
        for feeder in tuple(self._open):
            if feeder.state == OPEN:
                feeder.wake()


def _used(closed: Closed) -> Feed | None:
    """A feed that was closed, and of which nothing waits to be read, as far as there is one."""
    among = min(len(closed), BACKLOGGED)
    best: Feed | None = None
    for _ in range(among):
        feed, feeder = closed.popleft()
        if feeder is not None and feeder.is_busy:
            closed.append((feed, feeder))
        elif feed.waiting == 0:
            if best is not None:
                closed.append((best, None))
            return feed
        elif best is None:
            best = feed
        else:
            closed.append((feed, None))
    if best is not None and among < BACKLOGGED:
        closed.append((best, None))
        return None
    return best


def _taken_out(closed: Closed) -> list[Feed]:
    """Those that were read to their end, which are not among the closed ones any more."""
    gone = []
    for _ in range(len(closed)):
        feed, feeder = closed.popleft()
        if feed.waiting or _is_pushed_to((feed, feeder)):
            closed.append((feed, feeder))
        else:
            gone.append(feed)
    return gone


def _is_pushed_to(one: tuple[Feed, Feeder | None]) -> bool:
    """Return whether somebody pushes there just now, though it was closed."""
    return one[1] is not None and one[1].is_busy
