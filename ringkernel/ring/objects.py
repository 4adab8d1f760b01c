"""Rings of Python objects, for coroutine kernels: the protocol of `transfer.py` with plain integer cursors.

Producer and consumers live in one event-loop thread, so nothing here is atomic. (Twice as fast there as a ring with
structured cursors.)
"""

from __future__ import annotations

from typing import Any

from .layout import NEVER


class ObjectEdge:
    """One consumer of an object ring. `head` is the next sequence to take, below `limit`.

    The methods are those of `TypedEdge`.
    """

    __slots__ = ("closed", "consumer", "head", "limit", "ring", "start")

    def __init__(self, ring: ObjectRing, head: int) -> None:
        self.ring = ring
        self.start = self.head = head
        self.limit = NEVER
        self.closed = False
        self.consumer: Any = None

    def available(self) -> int:
        """How many messages may be taken now."""
        tail = self.ring.tail
        return (tail if tail < self.limit else self.limit) - self.head

    def refresh(self) -> None:
        """The cursor is a plain integer: there is nothing to look up."""

    @property
    def bound(self) -> int:
        """Sequences below this may be taken."""
        return self.published()

    def look(self, patience: int) -> int:
        """`available()`: nothing can come while this thread waits."""
        return self.available()

    def set_door(self, address: int) -> None:
        """Everybody is in this thread: there is no door."""

    def position(self) -> int:
        """The next sequence to take."""
        return self.head

    def published(self) -> int:
        """The sequence after the last message that was meant for this consumer."""
        return min(self.ring.tail, self.limit)

    def pop(self) -> Any:
        """Take a message; there must be one."""
        ring, head = self.ring, self.head
        index = head & ring.mask
        value = ring.slots[index]
        self.head = head + 1
        if ring.single:
            ring.slots[index] = None
        return value

    def pop_many(self, count: int) -> list[Any]:
        """Take `count` messages; there must be so many."""
        return [self.pop() for _ in range(count)]

    def close(self) -> list[Any]:
        """Take no more part: the producer no longer waits for this consumer. What it had not taken."""
        rest = self.pop_many(max(0, self.available()))
        self.head -= len(rest)
        self.limit = self.head + len(rest)
        self.closed = True
        self.ring.refresh()
        return rest


class ObjectRing:
    """A bounded ring of Python objects with one producer. `capacity` is a power of two.

    The methods are those of `TypedRing`.
    """

    typed = False
    __slots__ = ("capacity", "ceiling", "edges", "inlets", "mask", "producer", "single", "slots", "tail")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.mask = capacity - 1
        self.slots: list[Any] = [None] * capacity
        self.tail = self.ceiling = 0
        self.edges: list[ObjectEdge] = []
        self.inlets: list[Any] = []
        self.producer: Any = None
        self.single = True

    def add_edge(self) -> ObjectEdge:
        """A further consumer, which sees every message from now on."""
        edge = ObjectEdge(self, self.tail)
        self.edges.append(edge)
        self.refresh()
        return edge

    def refresh(self) -> None:
        """Edges were added or closed."""
        self.ceiling = 0
        self.single = len(self.edges) == 1

    def position(self) -> int:
        """The next sequence to publish."""
        return self.tail

    def room(self) -> int:
        """Free slots; none while there is no open consumer, so that nothing vanishes. Below `ceiling` there is
        room without looking again."""
        low = min((edge.head for edge in self.edges if not edge.closed), default=self.tail - self.capacity)
        self.ceiling = low + self.capacity
        return self.ceiling - self.tail

    def push(self, value: Any) -> None:
        """Publish a message; there must be room."""
        tail = self.tail
        self.slots[tail & self.mask] = value
        self.tail = tail + 1

    def push_many(self, values: list[Any]) -> None:
        """Publish messages; there must be room for all."""
        for value in values:
            self.push(value)

    def want(self, sequence: int) -> None:
        """Consumers notify the producer themselves."""

    def set_door(self, address: int) -> None:
        """Everybody is in this thread: there is no door."""
