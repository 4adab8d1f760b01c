"""All that comes out of a kernel, as one array: written in place while that is attached, else taken from its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.messages.arrays import from_array
from ringkernel.ring.host.waiting import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.devices.event_loop.waiting_line import Hold
    from ringkernel.memory.arenas import Region
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.record_ring import RecordRing
    from ringkernel.runtime.kernels.kernel import RingKernel

_LEAST = 1024
WASTE = 8
"""A result that fills a smaller part of its array is copied, and the array given back. A copy of 160 MB takes 40 ms, as
long as a join of ten million messages."""


class Results:
    """The outputs of one kernel: records in an array, or objects in a list.

    `ring` lies over the array while the kernel is to write there itself; all else is taken from its queue, and the
    array grows as needed. In the end the outputs are in `out`, if that is given and has the room.
    """

    __slots__ = (
        "_engine",
        "_filled",
        "_given",
        "_is_in_place",
        "_objects",
        "_out",
        "_records",
        "_region",
        "_type",
        "ring",
    )

    def __init__(self, kernel: RingKernel, out: Any = None) -> None:
        self._engine: Any = kernel.engine
        output: Any = kernel.engine.output
        self._type: MessageType | None = output.message_type if output is not None and output.holds_records else None
        self._objects: list[Any] | None = None if output is None else []
        self._records: Any = None if self._type is None else np.empty(_LEAST, self._type.dtype)
        self._out = out
        self._filled = 0
        self._given = -1  # how many somebody has by now
        self._region: Region | None = None
        self._is_in_place = False
        self.ring: RecordRing | None = None

    def use_array(self, room: int, *, in_arena: bool = False) -> None:
        """Have the kernel write to an array with so much room once it is attached; `in_arena` if a device reaches
        nothing else."""
        if self._type is None:
            return
        nbytes = room * self._type.dtype.itemsize
        if in_arena:
            self._region = self._engine.arena.allocate(nbytes)
            memory: Any = self._region.bytes[:nbytes]
        else:
            memory = self._engine.results.allocate(nbytes) if self._out is None else self._out[:room]
        self.use_ring(ring_over(self._engine, memory.view(self._type.dtype), self._type))

    def use_ring(self, ring: RecordRing | None) -> None:
        """Have the kernel write there."""
        if ring is not None:
            self.ring, self._records = ring, ring.slots
            self._is_in_place = self._out is not None and self._region is None

    def filled(self) -> int:
        """Return how many records there are."""
        return self._filled if self.ring is None else self.ring.position()

    def has_room(self, count: int) -> bool:
        """Return whether so many more records fit."""
        return self.filled() + count <= len(self._records)

    def detached(self) -> None:
        """Note that the kernel writes to its own queue again. Outputs that came after `result` can be received."""
        ring, self.ring = self.ring, None
        if ring is None:
            return
        self._filled = ring.position()
        if 0 <= self._given < self._filled:
            left = ring_over(self._engine, self._records[self._given : self._filled].copy(), self._type)
            left.fill()
            self._engine.inlet.take_first_from(left.edges[0])
        if self._region is not None and self._engine.is_reached:
            self._region.quarantine()
        ring.dispose()

    # --- from the queue --------------------------------------------------------------------------------------

    async def take_all(self, hold: Hold) -> None:
        """Take what comes, at the head of the queue's line, until the queue says why nothing more will."""
        inlet = self._engine.inlet
        while True:
            most, room = self._room()
            yielding = inlet.budget.spend()
            got = NOTHING if yielding else inlet.try_get_many(most, room)
            if got is NOTHING:
                got = await inlet.wait_get_many(most, None, hold, target=room, yielding=yielding)
            self._add(room, got)

    def take_rest(self) -> None:
        """Take what is there, unless somebody has the result already: then it can be received."""
        inlet = self._engine.inlet
        while self._given < 0 and self._objects is not None and inlet.available():
            most, room = self._room()
            self._add(room, inlet.try_get_many(most, room))

    def _room(self) -> tuple[int | None, Any]:
        """Return how many outputs to take next, and where to: behind the others, or, if there is no room, to an array
        of their own. The array grows only when something has come."""
        if self._type is None:
            return None, None
        room = self._records[self._filled :]
        room = room if len(room) else np.empty(_LEAST, self._type.dtype)
        return len(room), room

    def _add(self, room: Any, got: Any) -> None:
        """Keep what `_room` was for: a list of objects, or so many records."""
        if room is None:
            self._objects += got
            return
        begin, end = self._filled, self._filled + got
        if begin == len(self._records):
            grown = np.empty(2 * end, self._records.dtype)
            grown[:begin], grown[begin:end] = self._records, room[:got]
            self._records = grown
        self._filled = end

    # --- the result ------------------------------------------------------------------------------------------

    def result(self) -> Any:
        """Return all that has come out by now: once. What comes later is left to receivers."""
        self._filled = self._given = count = self.filled()
        if self._type is None:
            return self._objects
        records = self._records
        if self.ring is None:
            self._records = None  # its memory serves again as soon as its user lets go of it
        made = from_array(self._type, records[:count])
        out = self._out
        if out is not None and count <= len(out):
            if not self._is_in_place:
                out[:count] = made
            return out[:count]
        return made.copy() if self._region is not None or count * WASTE < len(records) else made


def ring_over(engine: Any, array: Any, message_type: Any, woke: Callable[[int], None] | None = None) -> RecordRing:
    """Return a ring with this array as its slots, and one edge, for a kernel to read or write in place of its own."""
    from ringkernel.ring.host.record_ring import RecordRing

    ring = RecordRing(engine.arena, message_type, 1 << max(0, len(array) - 1).bit_length(), lent=array, woke=woke)
    ring.add_edge()
    return ring
