"""The Python side of a record ring: how the event-loop thread produces into it and consumes from it.

The cursor that Python owns is kept as a plain integer beside the shared word, which only compiled code touches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.layout import EDGE, EDGE_DTYPE, LINE, NEVER, RING, RING_DTYPE
from ringkernel.messages.codecs import codec

from .host_api import HostApi, host_api
from .waiting import NOBODY, NOTHING, Waiting, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.memory.arenas import Arena, Region
    from ringkernel.messages.codecs import Decode, Encode
    from ringkernel.messages.types import MessageType

    from .storage import DeviceStorage

Array = npt.NDArray[Any]
_EDGE_TABLE = 8
_FIRST_EDGE = RING_DTYPE.itemsize + LINE
_HEADER = _FIRST_EDGE + EDGE_DTYPE.itemsize
"""A ring's own record, its table and its first edge lie before the slots."""
_I8 = np.dtype(np.int64)


class RecordEdge:
    """One consumer of a record ring. Sequences from `head` to below `bound` are known to be there; `getting` are those
    who wait for more in the event loop, if it is the consumer; `engine` is the kernel that reads it, if one does that
    is compiled. `lost`: how many messages that it had not taken were lost with a device, and why."""

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
        "lost",
        "patience",
        "peak",
        "region",
        "ring",
        "start",
    )

    def __init__(self, ring: RecordRing, region: Region, offset: int, head: int) -> None:
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
        self.lost: tuple[int, DeviceUnavailableError] | None = None
        self._getting: Waiting = NOBODY

    @property
    def getting(self) -> Waiting:
        """Who waits for more in the event loop, if that is the consumer."""
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
        """The event loop takes over from a consumer that was somebody else."""
        self.head = self.bound = self.position()

    def skip_to(self, sequence: int) -> None:
        """Go on from there: what is before it was taken otherwise. The caller is the consumer."""
        self.head = self.bound = sequence
        self._api.consume(self.address, sequence)

    def set_doorbell(self, address: int) -> None:
        """Who is rung when something is published: a kernel, a doorbell of the event loop, or 0 for nobody."""
        self._api.write_word(self.address + EDGE.doorbell_address, address)

    def watch(self, sequence: int, doorbell_address: int) -> None:
        """Ring the doorbell at `doorbell_address` once the consumer has taken everything below `sequence`."""
        self._api.write_word(self.address + EDGE.watch_doorbell_address, doorbell_address)
        self._api.write_word(self.address + EDGE.watch, sequence)

    def position(self) -> int:
        """The next sequence to take, whoever the consumer is."""
        return self._api.read_word(self.address + EDGE.head)

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
        if self._consume(self.address, head + 1):
            ring.woke()
        if ring.putting.asks:
            ring.putting.notify()
        return value

    def take_many(self, count: int) -> Array:
        """Take `count` messages as an array of records; there must be so many."""
        ring = self.ring
        taken = ring.copy_out(self.head, count)
        self.head += count
        if self._consume(self.address, self.head):
            ring.woke()
        if ring.putting.asks:
            ring.putting.notify()
        return taken

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
        """What a closed edge had not taken. The last consumer of a ring also gets what a producer that was just
        then in a span has published since."""
        if self.closed and self.ring.is_last(self):
            end = max(self.ring.position(), self._end)
            if end > self._end:
                self._leave(self._end, end)
                self._end = end
        return list(self._left)

    def _leave(self, start: int, end: int) -> None:
        """Keep what was not taken, as far as it can be read."""
        try:
            self._left += (self.ring.copy_out(start, end - start),)
        except DeviceUnavailableError as error:
            self.lost = (self.lost[0] if self.lost else 0) + end - start, error

    def take_failed(self, count: int) -> Array:
        """The messages that the consumer, which does not run any more, failed on; they count as taken."""
        head = self.position()
        try:
            return self.ring.copy_out(head, count)
        finally:
            self._api.consume(self.address, head + count)

    def quarantine(self, count: int) -> None:
        """The consumer is stuck on the next `count` messages, which count as taken: it may read them for ever."""
        self._stuck_on = count
        self.ring.quarantine()


class RecordRing:
    """A bounded ring of records with one producer, and its edges. Its slots are in host memory, or in `storage`: the
    memory of the device whose grids it connects.

    `capacity` is a power of two. `overhang` extra slots behind the end let a kernel with several outputs per message
    write them in one piece. With `lent`, an array of records is the slot array itself: nothing is copied, and nothing
    is published beyond its end.
    `woke` is called when the event loop's own publishing or consuming has woken a worker.
    """

    holds_records = True
    __slots__ = (
        "_bytes",
        "_last",
        "_lent",
        "_publish",
        "_tables",
        "address",
        "api",
        "arena",
        "capacity",
        "ceiling",
        "decode",
        "doorbell_address",
        "edges",
        "encode",
        "engine",
        "getting",
        "keepalive",
        "message_type",
        "putting",
        "region",
        "shut",
        "storage",
        "tail",
        "woke",
    )

    def __init__(
        self,
        arena: Arena,
        message_type: MessageType,
        capacity: int,
        *,
        overhang: int = 0,
        lent: Array | None = None,
        woke: Callable[[], None] = lambda: None,
    ) -> None:
        self.woke = woke
        self.api: HostApi = host_api()
        self._publish = self.api.publish
        self.arena = arena
        self.message_type = message_type
        self.capacity = capacity
        self.tail = self.ceiling = 0
        self._last: RecordEdge | None = None
        self.doorbell_address = 0
        self.edges: list[RecordEdge] = []
        self.putting: Waiting = NOBODY
        self.getting: Waiting = NOBODY
        self.shut = False
        self.engine: Any = None
        self.keepalive: Any = None  # what owns the memory that was lent
        self.storage: DeviceStorage | None = None
        itemsize = message_type.dtype.itemsize
        own = 0 if lent is not None else (capacity + overhang) * itemsize
        self.region = arena.allocate(_HEADER + own)
        self.address = self.region.address
        self._lent = lent
        slots_address = self.address + _HEADER if lent is None else int(lent.ctypes.data)
        self._bytes: npt.NDArray[np.uint8] | None = None
        first_use = self._first_use
        self.encode: Encode = first_use
        self.decode: Decode = first_use
        record = self.region.view(RING_DTYPE)[0]
        record["slots"] = slots_address - self.address
        record["capacity"] = capacity
        record["itemsize"] = itemsize
        record["edges"] = RING_DTYPE.itemsize
        record["wanted"] = NEVER
        record["end"] = NEVER if lent is None else len(lent)
        record["low"] = NEVER  # not looked at yet
        self._tables: tuple[Region, ...] = ()  # most rings do with the one in their own region

    @property
    def slots(self) -> Array:
        """The slot array."""
        return self.region.view(self.message_type.dtype, self.capacity, _HEADER) if self._lent is None else self._lent

    @property
    def table(self) -> Array:
        """Where the edges are, relative to the ring."""
        if self._tables:
            return self._tables[-1].view(_I8, self._tables[-1].nbytes // 8)
        return self.region.view(_I8, _EDGE_TABLE, RING_DTYPE.itemsize)

    def _first_use(self, sequence: int, *message: Any) -> Any:
        """`encode` or `decode`, before there are any: many a ring never sees a single message in Python."""
        self.encode, self.decode = codec(self.message_type, self.slots, self.capacity - 1)
        return self.encode(sequence, *message) if message else self.decode(sequence)

    @property
    def _slot_bytes(self) -> npt.NDArray[np.uint8]:
        if self._bytes is None:
            self._bytes = self.slots.view(np.uint8)
        return self._bytes

    # --- where it lies: neither the producer nor a consumer that has something to take is running ------------------

    @property
    def slot_nbytes(self) -> int:
        """Bytes of the slot array, with the slots behind its end, of a ring that was not lent one."""
        return self.region.nbytes - _HEADER

    @property
    def _slots_on_host(self) -> npt.NDArray[np.uint8]:
        return self.region.bytes[_HEADER:]

    def move_to(self, storage: DeviceStorage) -> None:
        """Lie in device memory from now on. Raises `DeviceUnavailableError`, and then has changed nothing."""
        cursors = np.zeros((1 + len(storage.edges), LINE // 8), np.int64)
        cursors[:, 0] = [self.position(), *(edge.position() for edge in storage.edges)]
        storage.write(cursors.view(np.uint8).reshape(-1), self._slots_on_host)
        self._lie(storage, storage.slots_address)

    def bring_to_host(self) -> None:
        """Lie in host memory again. Raises `DeviceUnavailableError`, and then has changed nothing."""
        if self.storage is not None:
            self._slots_on_host[:] = self.storage.read_slots(0, self.slot_nbytes)
            self._lie(None, self.address + _HEADER)

    def _lie(self, storage: DeviceStorage | None, slots_address: int) -> None:
        write = self.api.write_word
        write(self.address + RING.slots, slots_address - self.address)
        write(self.address + RING.device_cursor_address, 0 if storage is None else storage.tail_address)
        for edge in self.edges:
            address = 0 if storage is None or edge not in storage.edges else storage.head_address(edge)
            write(edge.address + EDGE.device_cursor_address, address)
        self.storage = storage

    # --- edges: the producer is not running ------------------------------------------------------------------

    def add_edge(self) -> RecordEdge:
        """A further consumer, which sees every message from now on."""
        for edge in self.edges:
            edge.published()  # what was published for the last consumer stays its
        self._last = None
        is_first, size = not self.edges, EDGE_DTYPE.itemsize
        region, offset = (self.region, _FIRST_EDGE) if is_first else (self.arena.allocate(size), 0)
        edge = RecordEdge(self, region, offset, self.position())
        record = region.view(EDGE_DTYPE, 1, offset)[0]
        record["ring"] = self.address - edge.address
        record["head"] = edge.head
        record["limit"] = record["watch"] = NEVER
        index = next((i for i, old in enumerate(self.edges) if old.closed), len(self.edges))
        if index < len(self.edges):
            self.edges[index] = edge
        else:
            if index == len(self.table):
                self._grow_table()
            self.edges.append(edge)
        self.table[index] = edge.address - self.address
        self.api.write_word(self.address + RING.n_edges, len(self.edges))
        self.count_open()
        self.putting.notify()  # without a consumer there was no room
        return edge

    def count_open(self) -> None:
        """Consumers have come or gone."""
        self.ceiling = 0
        still_open = [edge for edge in self.edges if not edge.closed]
        self.api.write_word(self.address + RING.n_open, len(still_open))
        if len(still_open) == 1:
            self._last = still_open[0]

    def is_last(self, edge: RecordEdge) -> bool:
        """Whether this was the last consumer to leave, and nobody has come since."""
        return self._last is edge

    def _grow_table(self) -> None:
        before = self.table
        region = self.arena.allocate(2 * before.nbytes)
        region.view(_I8, len(before))[:] = before
        self._tables += (region,)
        self.api.write_word(self.address + RING.edges, region.address - self.address)

    def set_doorbell(self, address: int) -> None:
        """Who is rung when there is room: a kernel, a doorbell of the event loop, or 0 for nobody."""
        self.doorbell_address = address
        self.api.write_word(self.address + RING.doorbell_address, address)

    def fill(self) -> None:
        """Publish the whole slot array, of a ring that was lent an array as its input."""
        assert self._lent is not None
        self.tail = len(self._lent)
        self.api.publish(self.address, self.tail)

    # --- the event loop as producer --------------------------------------------------------------------------

    def position(self) -> int:
        """The next sequence to publish, whoever the producer is."""
        return self.api.read_word(self.address + RING.tail)

    def room(self) -> int:
        """Free slots; none while there is no open consumer, so that nothing vanishes, and none once the ring is
        shut. Below `ceiling` there is room without looking again."""
        low = self.api.slowest_head(self.address)
        self.ceiling = 0 if low == NEVER or self.shut else low + self.capacity
        if self._lent is not None:
            self.ceiling = min(self.ceiling, len(self._lent))
        return max(0, self.ceiling - self.tail)

    def want(self, sequence: int) -> None:
        """Ring the producer once the slowest consumer has taken everything below `sequence`."""
        self.api.write_word(self.address + RING.wanted, sequence)

    def offer(self, message: Any) -> bool:
        """Publish a message and tell consumers that wait for one; False if there is no room."""
        tail = self.tail
        if tail >= self.ceiling and self.room() < 1:
            return False
        self.encode(tail, message)
        self.tail = tail = tail + 1
        if self._publish(self.address, tail):
            self.woke()
        getting = self.getting
        if getting.asks:
            getting.notify()
        return True

    def offer_many(self, records: Array) -> None:
        """Publish an array of records; there must be room for all."""
        size = self.message_type.dtype.itemsize
        source, slots = records.view(np.uint8), self._slot_bytes  # as bytes: five times as fast as as records
        total = len(source)
        start = (self.tail & (self.capacity - 1)) * size
        straight = min(total, self.capacity * size - start)
        slots[start : start + straight] = source[:straight]
        slots[: total - straight] = source[straight:]
        self.tail += len(records)
        if self._publish(self.address, self.tail):
            self.woke()
        getting = self.getting
        if getting.asks:
            getting.notify()

    def shut_off(self) -> None:
        """Publish no more."""
        self.shut = True
        self.ceiling = 0

    def copy_out(self, head: int, count: int) -> Array:
        """A copy of the slots of `count` sequences from `head` on. Raises `DeviceUnavailableError` if they lie
        on a device that cannot be read."""
        size = self.message_type.dtype.itemsize
        result = np.empty(count * size, np.uint8)
        start = (head & (self.capacity - 1)) * size
        straight = min(len(result), self.capacity * size - start)
        result[:straight] = self._read(start, straight)
        result[straight:] = self._read(0, len(result) - straight)
        return result.view(self.message_type.dtype)

    def _read(self, start: int, nbytes: int) -> npt.NDArray[np.uint8]:
        if self.storage is None or nbytes == 0:
            return self._slot_bytes[start : start + nbytes]
        return self.storage.read_slots(start, nbytes)

    def dispose(self) -> None:
        """Nobody uses this ring any more: let go of what it holds, at once rather than at the next collection."""
        self.edges.clear()
        self._lent = self.engine = self._bytes = self._last = self.storage = self.keepalive = None
        del self.encode, self.decode

    def quarantine(self) -> None:
        """Never reuse this memory: a thread that does not return may still touch it."""
        for region in (self.region, *self._tables, *(edge.region for edge in self.edges)):
            region.quarantine()
        if self.storage is not None:
            self.storage.quarantine()
