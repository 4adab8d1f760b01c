"""The event loop's ends of rings: an outlet produces into one, an inlet consumes from one or several.

Both work on object rings and on typed rings. Fast paths never suspend; the rest stands in a `Line`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from ringkernel.errors import QueueEmptyError, QueueFullError, RingKernelError
from .pacing import NOTHING, Line, Pacer

if TYPE_CHECKING:
    from ringkernel.ring.objects import ObjectEdge, ObjectRing
    from ringkernel.ring.typed import TypedEdge, TypedRing

    from .host import Host
    from .party import Bell

Ring: TypeAlias = "ObjectRing | TypedRing"
Edge: TypeAlias = "ObjectEdge | TypedEdge"

SPIN_NS = 3_000
_PAYS_BELOW_NS = 40_000
_MAX_CREDIT = 8


class BatchTimeoutError(asyncio.TimeoutError):
    """A `send_batch` that ran out of time. `sent` says how many messages it had published."""

    def __init__(self, sent: int, total: int) -> None:
        super().__init__(f"{sent} of {total} messages were sent when the time was over")
        self.sent = sent


class Outlet:
    """Produces into a ring. Closed, it refuses with what `refuse` says."""

    def __init__(self, ring: Ring, pacer: Pacer, host: Host | None = None) -> None:
        self.ring = ring
        self.line = Line()
        self.open = True
        self.refuse: Callable[[], RingKernelError] = lambda: RingKernelError("the queue is closed")
        self._pacer = pacer
        self._bell: Bell | None = None
        ring.producer = self
        if ring.typed and host is not None:
            self._bell = host.party.bell(self.line.notify)
            ring.set_door(self._bell.door)

    def notify(self) -> None:
        """There is room."""
        self.line.notify()

    def try_put(self, message: Any) -> bool:
        """Publish a message if there is room. Raises what `refuse` says when closed, `MessageTypeError` for a
        message of another type."""
        if not self.open:
            raise self.refuse()
        ring = self.ring
        if ring.tail >= ring.ceiling and ring.room() < 1:
            return False
        ring.push(message)
        for inlet in ring.inlets:  # consumers in this event loop; compiled ones have been rung
            if inlet.line.waiters:
                inlet.line.notify()
        return True

    def try_put_many(self, messages: Any) -> int:
        """Publish as many as there is room for. How many."""
        if not self.open:
            raise self.refuse()
        ring = self.ring
        count = min(ring.room(), len(messages))
        if count <= 0:
            return 0
        ring.push_many(messages[:count])
        for inlet in ring.inlets:
            inlet.line.notify()
        return count

    async def put(self, message: Any, timeout: float | None = None) -> None:
        """Publish a message, waiting for room."""
        pacer = self._pacer
        pacer.left -= 1
        if pacer.left <= 0 and pacer.due():
            await asyncio.sleep(0)  # before the operation: a cancellation here means that it has not happened
        if self.line.waiters or not self.try_put(message):
            await self.wait_put(message, timeout)

    async def wait_put(self, message: Any, timeout: float | None) -> None:
        """The slow part of `put`: stand in line for room."""
        await self.line.wait(lambda: self.try_put(message) or NOTHING, self._prepare, timeout)

    async def put_many(self, messages: Any, timeout: float | None = None) -> None:
        """Publish all messages in order, waiting for room. Raises `BatchTimeoutError`.

        Cancelled, it has sent a prefix. Messages of concurrent callers may come in between.
        """
        sent, total = 0, len(messages)
        deadline = None if timeout is None else time.monotonic() + timeout
        while sent < total:
            pacer = self._pacer
            pacer.left -= 1
            if pacer.left <= 0 and pacer.due():
                await asyncio.sleep(0)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                sent += await self.line.wait(
                    lambda: self.try_put_many(messages[sent:]) or NOTHING,  # noqa: B023 (called before `sent` moves)
                    self._prepare,
                    left,
                )
            except asyncio.TimeoutError:
                raise BatchTimeoutError(sent, total) from None

    def put_nowait(self, message: Any) -> None:
        """Publish a message or raise `QueueFullError`."""
        if self.line.waiters or not self.try_put(message):
            raise QueueFullError(f"all {self.ring.capacity} slots are taken; await put() or send() to wait for room")

    def _prepare(self) -> None:
        """Ask to be woken when half the ring is free: once per half ring, not once per slot."""
        ring = self.ring
        if self._bell is not None:
            ring.want(ring.tail - ring.capacity + max(1, ring.capacity // 2))
            self._bell.arm()

    def release(self) -> None:
        """The ring has no more producer here."""
        if self._bell is not None:
            self._bell.release()
            self._bell = None


class Inlet:
    """Consumes from edges, in turn. Closed, it hands out nothing; `ended` says why nothing more will come."""

    def __init__(self, pacer: Pacer, host: Host | None = None) -> None:
        self.edges: list[Edge] = []
        self.line = Line()
        self.open = True
        self.ended: Callable[[], BaseException | None] = lambda: None
        self._pacer = pacer
        self._host = host
        self._bell: Bell | None = None
        self._next = 0
        self.patience = 0
        self._credit = _MAX_CREDIT
        self._parked_ns = 0

    def attach(self, edge: Edge) -> None:
        """Consume from this edge, too."""
        edge.consumer = self
        edge.ring.inlets.append(self)
        self.edges.append(edge)
        edge.refresh()
        if edge.ring.typed and self._host is not None:
            if self._bell is None:
                self._bell = self._host.party.bell(self._on_bell)
            edge.set_door(self._bell.door)
            # only where the producer runs on another thread can watching help
            self.patience = 0 if edge.ring.producer else self._host.party.clock.ticks_of(SPIN_NS)

    def detach(self, edge: Edge) -> None:
        """Leave an edge to somebody else."""
        edge.consumer = None
        edge.ring.inlets.remove(self)
        self.edges.remove(edge)

    def notify(self) -> None:
        """Something may have come, or the end."""
        self.line.notify()

    def available(self) -> int:
        """How many messages wait."""
        return sum(edge.available() for edge in self.edges)

    def try_get(self, patience: int = 0) -> Any:
        """Take a message; `NOTHING` if there is none now. Raises what `ended` says.

        With `patience`, in ticks, watches a lone edge for so long first, as long as that has lately paid.
        """
        edge = self._ready_edge(patience if self._credit > 0 else 0)
        if edge is None:
            return self._nothing()
        message = edge.pop()
        producer = edge.ring.producer
        if producer is not None and producer.line.waiters:
            producer.line.notify()
        return message

    def try_get_many(self, most: int | None, patience: int = 0) -> Any:
        """Take up to `most` messages of one edge, as an array or a list; otherwise as `try_get`."""
        edge = self._ready_edge(patience if self._credit > 0 else 0)
        if edge is None:
            return self._nothing()
        count = edge.available()
        messages = edge.pop_many(count if most is None else min(most, count))
        producer = edge.ring.producer
        if producer is not None:
            producer.line.notify()
        return messages

    def _nothing(self) -> Any:
        reason = self.ended()
        if reason is not None:
            raise reason
        return NOTHING

    def _ready_edge(self, patience: int) -> Edge | None:
        """The next edge in turn that has a message."""
        if not self.open:
            return None
        edges = self.edges
        if len(edges) == 1:
            edge = edges[0]
            if edge.bound > edge.head or edge.look(patience) > 0:
                if self._credit < _MAX_CREDIT:
                    self._credit += 1
                return edge
            if patience:
                self._credit -= 2
            return None
        for _ in range(len(edges)):
            self._next = (self._next + 1) % len(edges)
            if edges[self._next].available() > 0:
                return edges[self._next]
        return None

    async def get(self, timeout: float | None = None) -> Any:
        """Take a message, waiting for it."""
        pacer = self._pacer
        pacer.left -= 1
        if pacer.left <= 0 and pacer.due():
            await asyncio.sleep(0)  # before the operation: a cancellation here means that it has not happened
        if not self.line.waiters:
            message = self.try_get(self.patience)
            if message is not NOTHING:
                return message
        return await self.wait_get(timeout)

    async def wait_get(self, timeout: float | None) -> Any:
        """The slow part of `get`: stand in line for a message."""
        return await self.line.wait(self.try_get, self._prepare, timeout)

    async def get_many(self, most: int | None = None, timeout: float | None = None) -> Any:
        """Take at least one and up to `most` messages, waiting for the first."""
        pacer = self._pacer
        pacer.left -= 1
        if pacer.left <= 0 and pacer.due():
            await asyncio.sleep(0)
        if not self.line.waiters:
            messages = self.try_get_many(most, self.patience)
            if messages is not NOTHING:
                return messages
        return await self.line.wait(lambda: self.try_get_many(most), self._prepare, timeout)

    def get_nowait(self) -> Any:
        """Take a message or raise `QueueEmptyError`."""
        message = NOTHING if self.line.waiters else self.try_get()
        if message is NOTHING:
            raise QueueEmptyError("no message is waiting; await get() or receive() to wait for one")
        return message

    def _prepare(self) -> None:
        if self._bell is not None:
            self._parked_ns = time.monotonic_ns()
            self._bell.arm()

    def _on_bell(self) -> None:
        if self._parked_ns and time.monotonic_ns() - self._parked_ns < _PAYS_BELOW_NS:
            self._credit = max(self._credit, 2)
        self._parked_ns = 0
        self.line.notify()

    def release(self) -> None:
        """Nobody consumes here any more."""
        for edge in list(self.edges):
            self.detach(edge)
        if self._bell is not None:
            self._bell.release()
            self._bell = None

