"""Rings of Python objects, for coroutine kernels: what `protocol.py` does, with plain integer cursors.

Producer and consumers live in one event-loop thread, so nothing here is atomic. (Twice as fast there as a record
ring.)
"""

from __future__ import annotations

from typing import Any

from ringkernel.memory.layout import NEVER

from .waiting import NOBODY, NOTHING, Waiting, together


class ObjectEdge:
    """One consumer of an object ring. Sequences from `head` to below `bound` are known to be there; none from `limit`
    on may be taken. The methods are those of `RecordEdge`."""

    __slots__ = ("_getting", "_left", "_limit", "bound", "closed", "head", "peak", "ring", "start")
    input = 0  # of the kernel that reads it: it has one

    def __init__(self, ring: ObjectRing, head: int) -> None:
        self.ring = ring
        self.start = self.head = self.bound = head
        self._limit = NEVER
        self.peak = 0
        self._left: list[Any] = []
        self.closed = False
        self._getting: Waiting = NOBODY

    @property
    def getting(self) -> Waiting:
        """The waiters for more messages."""
        return self._getting

    @getting.setter
    def getting(self, line: Waiting) -> None:
        self._getting = line
        self.ring.refresh()

    @property
    def limit(self) -> int:
        """Take only below this sequence."""
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        self._limit = value
        self.bound = min(self.bound, value)

    def lift_limit(self) -> None:
        """Take whatever comes; the consumer is told."""
        self.limit = NEVER
        self.getting.notify()

    def take(self) -> Any:
        """Take a message, and tell a producer that waits for room; `NOTHING` if there is none."""
        head, ring = self.head, self.ring
        if head >= self.bound:  # `look` written out: this is the call that is made once per message
            bound = ring.tail
            if bound > self._limit:  # noqa: PLR1730 (min() and max() would take longer than all the rest)
                bound = self._limit
            self.bound = bound
            if head >= bound:
                return NOTHING
            if bound - head > self.peak:  # noqa: PLR1730
                self.peak = bound - head
        slots, index = ring.slots, head & ring.mask
        value = slots[index]
        if ring.single:
            slots[index] = None
        self.head = head + 1
        if ring.putting.asks:
            ring.putting.notify()
        return value

    def take_many(self, count: int) -> list[Any]:
        """Take `count` messages; there must be so many."""
        return [self.take() for _ in range(count)]

    def available(self) -> int:
        """How many messages may be taken now."""
        return self.bound - self.head if self.bound > self.head else self.look()

    def look(self) -> int:
        """How many messages there are."""
        bound = self.ring.tail
        if bound > self._limit:  # noqa: PLR1730 (min() and max() would take longer than all the rest)
            bound = self._limit
        self.bound = bound
        depth = bound - self.head
        if depth <= 0:
            return 0
        if depth > self.peak:  # noqa: PLR1730
            self.peak = depth
        return depth

    def refresh(self) -> None:
        """The cursor is a plain integer: there is nothing to look up."""

    def set_doorbell(self, address: int) -> None:
        """Everybody is in this thread: there is nobody to ring."""

    def position(self) -> int:
        """The next sequence to take."""
        return self.head

    def published(self) -> int:
        """The sequence after the last message that was meant for this consumer."""
        return min(self.ring.tail, self._limit)

    def close(self) -> None:
        """Take no more part: the producer no longer waits for this consumer. What it had not taken is in
        `leftovers()`."""
        head = self.head
        self.limit = NEVER
        self._left = self.take_many(self.look())
        self.head, self._limit = head, head + len(self._left)
        self.closed = True
        self.ring.refresh()
        self.ring.putting.notify()

    def leftovers(self) -> list[Any]:
        """Return the messages that a closed edge had not taken."""
        return [self._left]


class ObjectRing:
    """A bounded ring of Python objects with one producer. `capacity` is a power of two.

    The methods are those of `RecordRing`.
    """

    holds_records = False
    __slots__ = (
        "capacity",
        "ceiling",
        "edges",
        "getting",
        "is_at_end",
        "mask",
        "putting",
        "shut",
        "single",
        "slots",
        "tail",
    )

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.mask = capacity - 1
        self.slots: list[Any] = [None] * capacity
        self.tail = self.ceiling = 0
        self.edges: list[ObjectEdge] = []
        self.putting: Waiting = NOBODY
        self.getting: Waiting = NOBODY
        self.shut = False
        self.is_at_end = False
        self.single = True

    def add_edge(self) -> ObjectEdge:
        """A further consumer, which sees every message from now on."""
        edge = ObjectEdge(self, self.tail)
        self.edges.append(edge)
        self.refresh()
        self.putting.notify()  # without a consumer there was no room
        return edge

    def refresh(self) -> None:
        """Edges, or those who wait at them, have come or gone."""
        self.ceiling = 0
        self.edges[:] = [edge for edge in self.edges if not edge.closed]
        self.single = len(self.edges) == 1
        self.getting = together(edge.getting for edge in self.edges)

    def position(self) -> int:
        """The next sequence to publish."""
        return self.tail

    def room(self) -> int:
        """Free slots; none while there is no open consumer, so that nothing vanishes, and none once the ring is
        shut. Below `ceiling` there is room without looking again."""
        heads = [edge.head for edge in self.edges]
        self.ceiling = min(heads) + self.capacity if heads and not self.shut else 0
        return max(0, self.ceiling - self.tail)

    def offer(self, value: Any) -> bool:
        """Publish a message and tell consumers that wait for one; False if there is no room."""
        tail = self.tail
        if tail >= self.ceiling and self.room() < 1:
            return False
        self.slots[tail & self.mask] = value
        self.tail = tail + 1
        getting = self.getting
        if getting.asks:
            getting.notify()
        return True

    def offer_all(self, _: Any) -> bool:
        """Nothing is a batch of objects already: it may be any iterable."""
        return False

    def offer_many(self, values: list[Any]) -> None:
        """Publish messages; there must be room for all."""
        for value in values:
            self.offer(value)

    def shut_off(self) -> None:
        """Publish no more."""
        self.shut = True
        self.ceiling = 0

    def say_ended(self) -> None:
        """Nothing more will be published."""
        self.is_at_end = True

    def want(self, sequence: int) -> None:
        """Consumers notify the producer themselves."""

    def set_doorbell(self, address: int) -> None:
        """Everybody is in this thread: there is nobody to ring."""
