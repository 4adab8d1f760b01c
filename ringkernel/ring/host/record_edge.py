"""One consumer of a record ring, as Python sees it: the event loop takes messages here, or asks how far a kernel is.

The cursor that Python owns is kept as a plain integer beside the shared word, which only compiled code touches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.layout import EDGE, NEVER

from .waiting import NOBODY, NOTHING, Waiting, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.memory.arenas import Region
    from ringkernel.messages.codecs import Decode
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host_api import HostApi

Array = npt.NDArray[Any]


class Source(Protocol):
    """The ring of an edge, see `RecordRing`."""

    address: int
    api: HostApi
    capacity: int
    message_type: MessageType
    edges: list[RecordEdge]
    decode: Decode
    doorbell_address: int
    engine: Any
    getting: Waiting
    putting: Waiting
    here: int
    woke: Callable[[int], None]

    @property
    def holds_records(self) -> bool:
        """True, other than of a ring of objects."""

    @property
    def is_at_end(self) -> bool:
        """True if nothing more will be published."""

    @property
    def is_on_host(self) -> bool:
        """True if the slots are in host memory."""

    @property
    def slots(self) -> Array:
        """The slot array."""

    def position(self) -> int:
        """The next sequence to publish."""

    def copy_out(self, head: int, count: int) -> Array:
        """A copy of the slots of `count` sequences from `head` on."""

    def count_open(self) -> None:
        """Consumers have come or gone."""

    def is_last(self, edge: RecordEdge) -> bool:
        """Return whether this was the last consumer to leave, and none has come since."""

    def forget_wait(self, edge: RecordEdge) -> None:
        """The edge has another consumer now."""

    def quarantine(self) -> None:
        """Never reuse this memory."""

    def dispose(self) -> None:
        """Let go of the ring: it is used no more."""


class RecordEdge:
    """One consumer of a record ring. Sequences from `head` to below `bound` are known to be there; `getting` are those
    who wait for more in the event loop, if it is the consumer; `engine` is the kernel that reads it, if one does that
    is compiled, and `input` the number of its input. `lost`: how many messages that it had not taken were lost with a
    device, and why."""

    __slots__ = (
        "_api",
        "_consume",
        "_end",
        "_getting",
        "_left",
        "_stuck_on",
        "_wait_bound",
        "address",
        "bound",
        "closed",
        "engine",
        "head",
        "input",
        "lost",
        "patience",
        "peak",
        "region",
        "ring",
        "start",
    )

    def __init__(self, ring: Source, region: Region, offset: int, head: int) -> None:
        self._api = ring.api
        self._wait_bound, self._consume = ring.api.wait_bound, ring.api.consume
        self.ring = ring
        self.region = region
        self.address = region.address + offset
        self.start = self.head = head
        self.bound = head
        self.peak = self.patience = 0
        self._stuck_on = 0
        self._end = 0
        self._left: tuple[Array, ...] = ()
        self.closed = False
        self.engine: Any = None
        self.input = 0
        self.lost: tuple[int, Exception] | None = None
        self._getting: Waiting = NOBODY

    @property
    def getting(self) -> Waiting:
        """The line that waits for more in the event loop, if that is the consumer."""
        return self._getting

    @getting.setter
    def getting(self, line: Waiting) -> None:
        self._getting = line
        self.ring.getting = together(edge.getting for edge in self.ring.edges)

    @property
    def limit(self) -> int:
        """Take only below this sequence."""
        return self._api.read_word(self.address + EDGE.limit)

    @limit.setter
    def limit(self, value: int) -> None:
        self._api.write_word(self.address + EDGE.limit, value)
        self.bound = min(self.bound, value)

    def lift_limit(self) -> None:
        """Take whatever comes; the consumer is told."""
        self.limit = NEVER
        self._api.ring_doorbell_at(self._api.read_word(self.address + EDGE.doorbell_address))
        self.getting.notify()

    def refresh(self) -> None:
        """Another consumer takes over; the producer does not run."""
        self.head = self.bound = self.position()
        self.ring.forget_wait(self)

    def set_doorbell(self, address: int) -> None:
        """Set whom a publication rings: a kernel, a doorbell of the event loop, or 0 for nobody."""
        self._api.write_word(self.address + EDGE.doorbell_address, address)

    def set_span(self, address: int) -> None:
        """Set the address of what handles the messages; 0: the kernel's own handler. The consumer does not run."""
        self._api.write_word(self.address + EDGE.span_address, address)

    def set_key(self, field: str) -> None:
        """The field by whose value the consumer has a state for each. The consumer does not run."""
        self._api.write_word(self.address + EDGE.key_at, self.ring.message_type.field(field)[1])

    def watch(self, sequence: int, doorbell_address: int) -> None:
        """Ring the doorbell at `doorbell_address` once the consumer has taken everything below `sequence`."""
        self._api.write_word(self.address + EDGE.watch_doorbell_address, doorbell_address)
        self._api.write_word(self.address + EDGE.watch, sequence)

    def position(self) -> int:
        """The next sequence to take, whoever the consumer is."""
        return self._api.read_word(self.address + EDGE.head)

    def starved_ticks(self) -> int:
        """For how many ticks its kernel has had nothing to do, and nothing was here."""
        return self._api.read_word(self.address + EDGE.starved_ticks)

    def published(self) -> int:
        """The sequence after the last message that was meant for this consumer."""
        if self.closed:
            self.leftovers()
            return self._end
        return self._api.bound_of(self.address, self.position())

    def available(self) -> int:
        """How many messages the event loop may take now."""
        return self.bound - self.head if self.bound > self.head else self.look()

    def look(self) -> int:
        """How many messages there are."""
        self.bound = bound = self._wait_bound(self.address, self.head, 0)
        depth = bound - self.head
        if depth > self.peak:  # noqa: PLR1730 (once per look: half the time of max())
            self.peak = depth
        return depth

    def take(self) -> Any:
        """Take a message, and tell a producer that waits for room; `NOTHING` if there is none, also after spinning
        for `patience` ticks."""
        head = self.head
        if head >= self.bound:  # `look` written out: this is the call that is made once per message
            self.bound = bound = self._wait_bound(self.address, head, self.patience)
            if bound <= head:
                return NOTHING
            if bound - head > self.peak:  # noqa: PLR1730 (half the time of max())
                self.peak = bound - head
        ring = self.ring
        value = ring.decode(head)
        self.head = head + 1
        said = self._consume(self.address, head + 1, ring.here)
        if said:
            ring.woke(said)
        if ring.putting.asks:
            ring.putting.notify()
        return value

    def take_many(self, count: int) -> Array:
        """Take `count` messages as an array of records; there must be so many."""
        taken = np.empty(count, self.ring.message_type.dtype)
        self.take_into(taken, count)
        return taken

    def take_into(self, target: Array, count: int) -> None:
        """Take `count` messages, which are there, into the memory of an array that has room for so many."""
        ring, head, api = self.ring, self.head, self._api
        if ring.is_on_host:
            said = api.consume_copy(self.address, head, api.address_of(target), count, ring.here)
        else:
            target[:count] = ring.copy_out(head, count).view(target.dtype)
            said = self._consume(self.address, head + count, ring.here)
        self.head = head + count
        if said:
            ring.woke(said)
        if ring.putting.asks:
            ring.putting.notify()

    def in_one_piece(self, count: int) -> Array:
        """The first of the next `count` messages, which are there: as many as lie in one piece, where they lie."""
        slots = self.ring.slots
        start = self.head & (self.ring.capacity - 1)
        return slots[start : min(start + count, len(slots))]

    def give_back(self, count: int) -> None:
        """`count` messages have been taken where they lie."""
        ring = self.ring
        self.head += count
        said = self._consume(self.address, self.head, ring.here)
        if said:
            ring.woke(said)
        if ring.putting.asks:
            ring.putting.notify()

    def close(self) -> None:
        """Take no more part: the producer no longer waits for this consumer. The caller makes sure that it is not
        running. What it had not taken is in `leftovers()`."""
        self.head = self.bound = self.position() + self._stuck_on
        self.set_doorbell(0)
        seen = max(self.ring.position(), self.head)
        self._leave(self.head, seen)  # while the producer still waits for this
        self.closed = True
        self._api.write_word(self.address + EDGE.closed, 1)
        self.ring.count_open()
        self._end = seen  # where others read on, the producer may have overwritten what it has published since
        self._api.ring_doorbell_at(self.ring.doorbell_address)
        self.ring.putting.notify()

    def leftovers(self) -> list[Array]:
        """Return what a closed edge had not taken. The last consumer of a ring also gets what a producer that was just
        then in a span has published since."""
        if self.closed and self.ring.is_last(self):
            end = max(self.ring.position(), self._end)
            if end > self._end:
                self._leave(self._end, end)
                self._end = end
        return list(self._left)

    def _leave(self, start: int, end: int) -> None:
        """Keep what was not taken, as far as it can be read, and there is memory for it."""
        try:
            self._left += (self.ring.copy_out(start, end - start),)
        except (DeviceUnavailableError, MemoryError) as error:
            self.lost = (self.lost[0] if self.lost else 0) + end - start, error

    def take_failed(self, count: int) -> Array:
        """The messages that the consumer, which does not run any more, failed on; they count as taken."""
        head = self.position()
        try:
            return self.ring.copy_out(head, count)
        finally:
            self._api.consume(self.address, head + count, 0)

    def quarantine(self, count: int) -> None:
        """The consumer is stuck on the next `count` messages, which count as taken: it may read them for ever."""
        self._stuck_on = count
        self.ring.quarantine()
