"""Where rings and blocks live: arenas that outlast whoever may still reach them.

A compiled thread cannot be stopped, and Python frees what it owned while such a thread may still run. So memory
comes from arenas, plain lists of large chunks. A thread that may touch the memory keeps the arena's `chunks` in a
frame of its own; an arena is freed when the last such thread and the last owner are gone.
"""

from __future__ import annotations

from collections import defaultdict
from mmap import PAGESIZE
from typing import Any

import numpy as np
import numpy.typing as npt

from .layout import LINE

CHUNK_BYTES = 1 << 22

Bytes = npt.NDArray[np.uint8]


class Region:
    """A piece of an arena: `nbytes` zeroed bytes at `address`, aligned to a line. Goes back when it is collected."""

    __slots__ = ("_arena", "_chunk", "_quarantined", "_start", "address", "nbytes")

    def __init__(self, arena: Arena, chunk: Bytes, start: int, nbytes: int, address: int) -> None:
        self._arena = arena
        self._chunk = chunk
        self._start = start
        self._quarantined = False
        self.nbytes = nbytes
        self.address = address

    @property
    def bytes(self) -> Bytes:
        """The memory itself."""
        return self._chunk[self._start : self._start + self.nbytes]

    def quarantine(self) -> None:
        """Never reuse this memory: a thread that does not return may still write to it."""
        self._quarantined = True

    def view(self, dtype: np.dtype[Any], count: int = 1, offset: int = 0) -> npt.NDArray[Any]:
        """`count` items of `dtype` at a byte offset. For memory that nobody else writes at the moment."""
        start = self._start + offset
        return self._chunk[start : start + count * dtype.itemsize].view(dtype)

    def __del__(self) -> None:
        if not self._quarantined:
            self._arena._take_back(self._chunk, self._start, self.nbytes, self.address)


class Arena:
    """Hands out regions, and reuses those that came back, by size. Not thread-safe: one event loop's."""

    def __init__(self) -> None:
        self.chunks: list[Bytes] = []
        self.grown: list[Bytes] = []  # the whole pages of its own chunks; `chunks` also holds what was lent
        self._chunk: Bytes = np.empty(0, np.uint8)
        self._used = 0
        self._address = 0
        self._free: defaultdict[int, list[tuple[Bytes, int, int]]] = defaultdict(list)

    def allocate(self, nbytes: int) -> Region:
        """A zeroed region of at least `nbytes`."""
        size = -(-max(nbytes, 1) // LINE) * LINE
        free = self._free[size]
        if free:
            chunk, start, address = free.pop()
            chunk[start : start + size] = 0
            return Region(self, chunk, start, size, address)
        if self._chunk.nbytes - self._used < size:
            self._open_chunk(max(size, CHUNK_BYTES))
        start = self._used
        self._used += size
        return Region(self, self._chunk, start, size, self._address + start)

    def _open_chunk(self, size: int) -> None:
        size += -size % PAGESIZE
        memory = np.zeros(size + PAGESIZE, np.uint8)  # zeroed by the system, page by page, when first touched
        start = -int(memory.ctypes.data) % PAGESIZE
        self.chunks.append(memory)
        self._chunk = memory[start : start + size]
        self.grown.append(self._chunk)
        self._address = int(memory.ctypes.data) + start
        self._used = 0

    def lend(self, array: npt.NDArray[Any]) -> None:
        """Keep an array that is not the arena's alive for as long as what is the arena's."""
        self.chunks.append(array)

    def take_back(self, array: npt.NDArray[Any]) -> None:
        """Nobody who works on the arena's memory reaches that array any more."""
        index = next(i for i, chunk in enumerate(self.chunks) if chunk is array)
        del self.chunks[index]

    def _take_back(self, chunk: Bytes, start: int, nbytes: int, address: int) -> None:
        self._free[nbytes].append((chunk, start, address))


class ResultPool:
    """Large result arrays, of which a few are kept for the next request when their user has let go of them.

    Fresh memory costs a page fault per page in whichever thread writes first, several times the time of computing
    what goes in.
    """

    MAX_SPARES = 2
    MAX_SPARE_BYTES = 1 << 28

    def __init__(self) -> None:
        self._spares: list[Bytes] = []

    def allocate(self, nbytes: int) -> Bytes:
        """An uninitialised array of bytes, the caller's until it is collected."""
        for i, spare in enumerate(self._spares):
            if nbytes <= spare.nbytes <= 2 * nbytes:
                del self._spares[i]
                break
        else:
            spare = np.empty(max(nbytes, 1), np.uint8)
        return np.asarray(_Lease(spare, self))[:nbytes]

    def _take_back(self, memory: Bytes) -> None:
        if memory.nbytes <= self.MAX_SPARE_BYTES:
            self._spares.append(memory)
            del self._spares[: -self.MAX_SPARES]


class _Lease:
    """The base of an array from a pool: gives the memory back when the last view of it is gone."""

    def __init__(self, memory: Bytes, pool: ResultPool) -> None:
        self._memory, self._pool = memory, pool
        self.__array_interface__ = memory.__array_interface__

    def __del__(self) -> None:
        self._pool._take_back(self._memory)


class Slab:
    """Records of one dtype that are only ever reused as the same kind.

    A thread that read the address of a bell just before the bell was retired may still ring it; that must hit a
    bell, never somebody's data.
    """

    def __init__(self, arena: Arena, dtype: np.dtype[Any], per_region: int = 32) -> None:
        self._arena = arena
        self._size = dtype.itemsize
        self._per_region = per_region
        self._regions: list[Region] = []
        self._free: list[int] = []

    def allocate(self) -> int:
        """The address of a record, with whatever its last use left in it."""
        if not self._free:
            region = self._arena.allocate(self._size * self._per_region)
            self._regions.append(region)
            self._free.extend(region.address + i * self._size for i in reversed(range(self._per_region)))
        return self._free.pop()

    def release(self, address: int) -> None:
        """The record may serve again."""
        self._free.append(address)
