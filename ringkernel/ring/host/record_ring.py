"""A record ring, as Python sees it: how the event loop's thread publishes, and who its consumers are.

Its records are in an arena, see `memory/layout.py`. The cursor that Python owns is kept as a plain integer beside the
shared word, which only compiled code touches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.memory.layout import EDGE_DTYPE, LINE, NEVER, RING, RING_DTYPE
from ringkernel.messages.codecs import codec
from ringkernel.ring.host_api import HostApi, host_api
from ringkernel.ring.protocol.lay_out import EDGE_TABLE

from .record_edge import RecordEdge
from .storage import HostStorage, Storage
from .waiting import NOBODY, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.memory.arenas import Arena, Region
    from ringkernel.messages.codecs import Decode, Encode
    from ringkernel.messages.types import MessageType


Array = npt.NDArray[Any]
_FIRST_EDGE = RING_DTYPE.itemsize + LINE
_HEADER = _FIRST_EDGE + EDGE_DTYPE.itemsize
"""A ring's own record, its tables and its first edge lie before the slots."""
_I8 = np.dtype(np.int64)


def _tell_nobody(_said: int) -> None:
    """Ignore what the event loop's own publishing and consuming has woken."""


class RecordRing:
    """A bounded ring of records with one producer, and its edges. Its slots are in `storage`.

    `capacity` is a power of two. `overhang` extra slots behind the end let a kernel with several outputs per message
    write them in one piece. With `lent`, an array of records is the slot array itself: nothing is copied, and nothing
    is published beyond its end.
    `woke` is called with what the event loop's own publishing or consuming has led to, see `see_to` of `loop_turns.py`;
    without it that leads to nothing in the loop.
    """

    holds_records = True
    edge_class = RecordEdge
    __slots__ = (
        "_end",
        "_last",
        "_on_host",
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
        "here",
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
        woke: Callable[[int], None] | None = None,
    ) -> None:
        self.woke: Callable[[int], None] = woke or _tell_nobody
        self.here = 0 if woke is None else arena.loop_address
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
        own = 0 if lent is not None else (capacity + overhang) * message_type.dtype.itemsize
        self.region = arena.allocate(_HEADER + own)
        self.address = self.region.address
        self._on_host = HostStorage(self.region, _HEADER, lent, self.api.address_of)
        self.storage: Storage = self._on_host
        self._end = NEVER if lent is None else len(lent)
        self._tables: tuple[Region, ...] = ()  # most rings do with the one in their own region
        first_use = self._first_use
        self.encode: Encode = first_use
        self.decode: Decode = first_use
        self.api.lay_out_ring(self.address, self.storage.address, capacity, message_type.dtype.itemsize, self._end)

    @property
    def is_on_host(self) -> bool:
        """True if the slots are in host memory."""
        return self.storage is self._on_host

    @property
    def slots(self) -> Array:
        """The slot array in host memory."""
        return self._on_host.view(self.message_type.dtype, self.capacity)

    @property
    def tables(self) -> Array:
        """Where the edges are, relative to the ring; and for how long the producer has waited for each."""
        if self._tables:
            words: Array = self._tables[-1].view(_I8, self._tables[-1].nbytes // 8)
        else:
            words = self.region.view(_I8, 2 * EDGE_TABLE, RING_DTYPE.itemsize)
        return words.reshape(2, -1)

    def _first_use(self, sequence: int, *message: Any) -> Any:
        """`encode` or `decode`, before there are any: many a ring never sees a single message in Python."""
        self.encode, self.decode = codec(self.message_type, self.slots, self.capacity - 1)
        return self.encode(sequence, *message) if message else self.decode(sequence)

    # --- where its slots are: neither the producer nor a consumer that has something to take is running ------------

    @property
    def slot_nbytes(self) -> int:
        """Bytes of the slot array, with the slots behind its end, of a ring that was not lent one."""
        return self.region.nbytes - _HEADER

    def move_to(self, storage: Storage) -> None:
        """Have the slots there from now on. Raises `DeviceUnavailableError`, and then has changed nothing."""
        storage.write(self.storage.read(0, self.slot_nbytes))
        self.api.write_word(self.address + RING.slots, storage.address - self.address)
        self.storage = storage

    def move_to_host(self) -> None:
        """Have the slots in host memory again. Raises `DeviceUnavailableError`, and then has changed nothing."""
        self.move_to(self._on_host)

    # --- edges: the producer is not running ------------------------------------------------------------------

    def add_edge(self) -> RecordEdge:
        """A further consumer, which sees every message from now on."""
        for edge in self.edges:
            edge.published()  # what was published for the last consumer stays its
        self._last = None
        is_first, size = not self.edges, EDGE_DTYPE.itemsize
        region, offset = (self.region, _FIRST_EDGE) if is_first else (self.arena.allocate(size), 0)
        edge = self.edge_class(self, region, offset, self.position())
        self.api.lay_out_edge(edge.address, self.address, edge.head)
        index = next((i for i, old in enumerate(self.edges) if old.closed), len(self.edges))
        if index < len(self.edges):
            self.edges[index] = edge
        else:
            if index >= EDGE_TABLE and index == self.tables.shape[1]:
                self._grow_tables()
            self.edges.append(edge)
        self.api.enter_edge(self.address, index, edge.address, len(self.edges))
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
        """Return whether this was the last consumer to leave, and none has come since."""
        return self._last is edge

    def _grow_tables(self) -> None:
        before = self.tables
        size = before.shape[1]
        region = self.arena.allocate(2 * before.nbytes)
        region.view(_I8, 4 * size).reshape(2, -1)[:, :size] = before
        self._tables += (region,)
        self.api.write_word(self.address + RING.edges, region.address - self.address)
        self.api.write_word(self.address + RING.waits, region.address + 16 * size - self.address)

    def ticks_waited_for(self, index: int) -> int:
        """For how many ticks the producer, a kernel, has had no room because of the edge with this index."""
        return self.api.read_word(self._wait_at(index))

    def forget_wait(self, edge: RecordEdge) -> None:
        """Whatever the producer has waited for this edge, it was because of another consumer than there is now."""
        self.api.write_word(self._wait_at(self.edges.index(edge)), 0)

    def _wait_at(self, index: int) -> int:
        return self.address + self.api.read_word(self.address + RING.waits) + 8 * index

    def set_doorbell(self, address: int) -> None:
        """Set whom room rings: a kernel, a doorbell of the event loop, or 0 for nobody."""
        self.doorbell_address = address
        self.api.write_word(self.address + RING.doorbell_address, address)

    def fill(self) -> None:
        """Publish the whole slot array, of a ring over an array that a kernel is to read."""
        self.tail = self._end
        said = self.api.publish(self.address, self.tail, self.here)
        if said:
            self.woke(said)

    def lie_over(self, array: Array, tail: int) -> None:
        """Of a lent ring: its words lie over this array now, see `lay_over` of `map_here.py`, with everything below
        `tail` published."""
        self._on_host = self.storage = HostStorage(self.region, _HEADER, array, self.api.address_of)
        self.capacity = 1 << max(0, len(array) - 1).bit_length()
        self._end, self.tail = len(array), tail

    # --- the event loop as producer --------------------------------------------------------------------------

    def position(self) -> int:
        """The next sequence to publish, whoever the producer is."""
        return self.api.read_word(self.address + RING.tail)

    def room(self) -> int:
        """Free slots; none while there is no open consumer, so that nothing vanishes, and none once the ring is
        shut. Below `ceiling` there is room without looking again."""
        low = self.api.slowest_head(self.address)
        self.ceiling = 0 if low == NEVER or self.shut else min(low + self.capacity, self._end)
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
        said = self._publish(self.address, tail, self.here)
        if said:
            self.woke(said)
        getting = self.getting
        if getting.asks:
            getting.notify()
        return True

    def offer_all(self, messages: Any) -> bool:
        """Publish an array that is one of this ring's messages already, and for all of which there is room; False, and
        nothing was done, for anything else."""
        if not self.message_type.is_batch(messages):
            return False
        count = len(messages)
        if count == 0 or (self.tail + count > self.ceiling and self.room() < count):
            return False
        self.offer_many(messages)
        return True

    def offer_many(self, records: Array) -> None:
        """Publish a contiguous array of messages; there must be room for all."""
        tail, count, api = self.tail, len(records), self.api
        self.tail = tail + count
        said = api.publish_copy(self.address, tail, api.address_of(records), count, self.here)
        if said:
            self.woke(said)
        getting = self.getting
        if getting.asks:
            getting.notify()

    def say_progress(self, word: int) -> None:
        """Nothing with a time below this is published any more. The caller is the producer, or that one has ended."""
        said = self.api.publish_progress(self.address, word, self.here)
        if said:
            self.woke(said)

    def shut_off(self) -> None:
        """Publish no more."""
        self.shut = True
        self.ceiling = 0

    @property
    def is_at_end(self) -> bool:
        """True if nothing more will be published."""
        return self.api.read_word(self.address + RING.ended) == 1

    def say_ended(self) -> None:
        """Nothing more is published, by this thread or by a producer that has ended."""
        said = self.api.publish_end(self.address, self.here)
        if said:
            self.woke(said)

    def copy_out(self, head: int, count: int) -> Array:
        """A copy of the slots of `count` sequences from `head` on. Raises `DeviceUnavailableError` if they lie
        on a device that cannot be read."""
        size = self.message_type.dtype.itemsize
        result = np.empty(count * size, np.uint8)
        start = (head & (self.capacity - 1)) * size
        straight = min(len(result), self.capacity * size - start)
        result[:straight] = self.storage.read(start, straight)
        result[straight:] = self.storage.read(0, len(result) - straight)
        return result.view(self.message_type.dtype)

    def dispose(self) -> None:
        """Let go of all that the ring holds, at once rather than at the next collection."""
        self.edges.clear()
        self.engine = self._last = self.keepalive = None
        self._on_host.let_go()
        self.storage = self._on_host
        del self.encode, self.decode

    def quarantine(self) -> None:
        """Never reuse this memory: a thread that does not return may still touch it."""
        for region in (self.region, *self._tables, *(edge.region for edge in self.edges)):
            region.quarantine()
        self.storage.quarantine()
