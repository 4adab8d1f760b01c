"""The producer of a thread outside the runtime, as Python sees it: see `feeding.py`.

A **feed** is one more input of a kernel: a ring, its edge, and what its producer sleeps on. It is one feeder's at a
time, and the next one's when that is closed. All that a feeder needs stays for as long as somebody holds it.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import TYPE_CHECKING

from ringkernel.memory.layout import (
    DOORBELL,
    DOORBELL_DTYPE,
    FEEDER,
    FEEDER_DTYPE,
    FORKED,
    LINE,
    NO_TIME,
    OPEN,
    PARKER,
    PARKER_DTYPE,
    QUIET,
    RING,
    TAKES_NO_MORE,
    WAIT,
)
from ringkernel.memory.wait_handle import new_waker
from ringkernel.messages.codecs import encoder
from ringkernel.ring.protocol.feeding import FeedingApi, feeding_api

from .clock import tick_clock
from .record_ring import RecordRing

if TYPE_CHECKING:
    from ringkernel.memory.arenas import Arena
    from ringkernel.memory.wait_handle import Waker
    from ringkernel.messages.types import MessageType

_SCRATCH_AT = PARKER_DTYPE.itemsize
_DOORBELL_AT = _SCRATCH_AT + LINE


PATIENCE_NS = 20_000
"""So long a thread waits for room before it sleeps: what falling asleep and waking up would take."""


class Feed:
    """A ring that is fed from outside, with the edge by which a kernel reads it."""

    __slots__ = ("_parker", "doorbell_address", "edge", "encode", "parker_address", "ring")

    def __init__(self, arena: Arena, message_type: MessageType, capacity: int) -> None:
        self.ring = ring = RecordRing(arena, message_type, capacity)
        self.edge = ring.add_edge()
        self.encode = encoder(message_type, ring.slots, capacity - 1)
        self._parker = ring.keepalive = arena.allocate(_DOORBELL_AT + DOORBELL_DTYPE.itemsize)
        self.parker_address = parker = self._parker.address
        self.doorbell_address = doorbell = parker + _DOORBELL_AT
        write = ring.api.write_word
        write(parker + PARKER.scratch_address, parker + _SCRATCH_AT)
        write(parker + PARKER.max_patience, tick_clock().ticks_of(PATIENCE_NS))
        write(doorbell + DOORBELL.parker_address, parker)
        write(doorbell + DOORBELL.target_address, doorbell)
        write(doorbell + DOORBELL.state, QUIET)

    @property
    def waiting(self) -> int:
        """How many messages the kernel has not taken."""
        return self.ring.position() - self.edge.position()

    def give_to(self, waker: Waker | None) -> None:
        """Somebody produces from now on, and sleeps on this: the ring is not at its end any more. The kernel knows by
        the doorbell that it is not the event loop that feeds it."""
        write = self.ring.api.write_word
        write(self.ring.address + RING.progress, NO_TIME)
        write(self.ring.address + RING.ended, 0)
        write(self.parker_address + PARKER.fd, -1 if waker is None else waker.write_fd)
        write(self.parker_address + PARKER.read_fd, -1 if waker is None else waker.read_fd)
        self.ring.set_doorbell(self.doorbell_address + DOORBELL.target_address)


class Feeder:
    """The right to push into a feed. `when_full`: WAIT, RAISE, or DROP. Everything but making it, in any thread."""

    __slots__ = ("__weakref__", "_region", "_wakers", "address", "api", "feed", "pid")

    def __init__(self, feed: Feed, when_full: int, woken_doorbell: int) -> None:
        """Raises `OSError` when there is nothing to sleep on, and has changed nothing."""
        self.api: FeedingApi = feeding_api()
        self.feed = feed
        self.pid = os.getpid()
        ring = feed.ring
        self._wakers = [new_waker(blocking=True)] if when_full == WAIT else []  # a list: taken out by one thread
        self._region = ring.arena.allocate(FEEDER_DTYPE.itemsize)
        self.address = address = self._region.address
        feed.give_to(self._wakers[0] if self._wakers else None)
        for offset, word in (
            (FEEDER.ring, ring.address - address),
            (FEEDER.when_full, when_full),
            (FEEDER.doorbell_address, feed.doorbell_address),
            (FEEDER.parker_address, feed.parker_address),
            (FEEDER.woken_address, woken_doorbell),
        ):
            ring.api.write_word(address + offset, word)
        _feeders.add(self)

    @property
    def state(self) -> int:
        """OPEN, or why not."""
        return self.feed.ring.api.read_word(self.address + FEEDER.state)

    @property
    def is_busy(self) -> bool:
        """True while a thread pushes. Once the feeder is closed, none begins to."""
        return self.feed.ring.api.read_word(self.address + FEEDER.busy) != 0

    @property
    def dropped(self) -> int:
        """How many messages were dropped, since there was no room."""
        return self.feed.ring.api.read_word(self.address + FEEDER.dropped)

    def close(self) -> bool:
        """Push no more; who waits for room is woken. Whether this call has closed it."""
        if self.pid != os.getpid():
            return False
        has_closed = self.api.close(self.address) == OPEN
        if self.is_busy:
            self.wake()  # it lets go of what it sleeps on when it is collected
        else:
            self._let_go()
        return has_closed

    def shut(self) -> None:
        """The kernel takes nothing more; who waits for room is woken."""
        if self.state == OPEN:
            self.feed.ring.api.write_word(self.address + FEEDER.state, TAKES_NO_MORE)
        self.wake()

    def wake(self) -> None:
        """Have whoever waits for room look again: now, or before the next sleep."""
        for waker in tuple(self._wakers):
            waker.wake()

    def _let_go(self) -> None:
        """Recycle the wakers: no thread sleeps on them any more."""
        with contextlib.suppress(IndexError):  # two threads may close it
            self._wakers.pop().recycle()

    def __del__(self) -> None:
        if getattr(self, "_wakers", None):
            self._let_go()


_feeders: weakref.WeakSet[Feeder] = weakref.WeakSet()


def _shut_in_child() -> None:
    """A forked child has a copy of the rings, which nobody reads."""
    for feeder in _feeders:
        feeder.feed.ring.api.write_word(feeder.address + FEEDER.state, FORKED)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_shut_in_child)
