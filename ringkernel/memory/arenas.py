"""Memory for rings and blocks that stays for as long as anybody may still reach it.

A compiled thread cannot be stopped, and Python frees what it owned while such a thread may still run. So memory
comes from arenas, plain lists of large chunks. A thread that may touch the memory keeps the arena's `chunks` in a
frame of its own; an arena is freed when the last such thread and the last owner are gone.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from mmap import PAGESIZE
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .layout import LINE

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_BYTES = 1 << 22

Bytes = npt.NDArray[np.uint8]


class Region:
    """A piece of an arena: `nbytes` zeroed bytes at `address`, aligned to a line. Goes back when it is collected."""

    __slots__ = ("_arena", "_chunk", "_quarantined", "_start", "address", "nbytes")

    _chunk: Bytes
    _start: int
    nbytes: int
    address: int

    def __init__(self, arena: Arena) -> None:
        """None yet; `Arena.allocate` makes it one once nothing can fail any more."""
        self._arena = arena
        self._quarantined = True

    @property
    def bytes(self) -> Bytes:
        """The memory itself."""
        return self._chunk[self._start : self._start + self.nbytes]

    def quarantine(self) -> None:
        """Never reuse this memory: a thread that does not return may still write to it."""
        self._quarantined = True

    def discard(self) -> None:
        """Only who allocated this memory knows of it, and has no use for it: it goes back now, and if it has a chunk of
        its own to the system."""
        if not self._quarantined:
            self._quarantined = True
            if not self._arena._close_chunk(self._chunk):
                self._arena._take_back(self._chunk, self._start, self.nbytes, self.address)

    def view(self, dtype: np.dtype[Any], count: int = 1, offset: int = 0) -> npt.NDArray[Any]:
        """`count` items of `dtype` at a byte offset. For memory that nobody else writes at the moment."""
        start = self._start + offset
        return self._chunk[start : start + count * dtype.itemsize].view(dtype)

    def __del__(self) -> None:
        if not getattr(self, "_quarantined", True):
            self._arena._take_back(self._chunk, self._start, self.nbytes, self.address)


class Arena:
    """Hands out regions, and reuses those that came back, by size. Not thread-safe: one event loop's.

    Where they come from and go to is `_take` and `_take_back` alone.
    """

    GRAIN = LINE
    """Regions are multiples of this."""

    loop_address = 0
    """The parker of the event loop whose it is; 0: of none."""

    def __init__(self) -> None:
        self.chunks: list[Bytes] = []
        self.grown: list[Bytes] = []  # the whole pages of its own chunks; `chunks` also holds what was lent
        self._chunk: Bytes = np.empty(0, np.uint8)
        self._used = 0
        self._address = 0
        self._free: defaultdict[int, list[tuple[Bytes, int, int]]] = defaultdict(list)
        self._kept = 0
        self._trial: list[Region] | None = None

    def allocate(self, nbytes: int, *, lasting: bool = False) -> Region:
        """A zeroed region of at least `nbytes`. `lasting`: it stays whatever becomes of a trial."""
        region = Region(self)
        if self._trial is not None and not lasting:
            self._trial.append(region)
        size = -(-max(nbytes, 1) // self.GRAIN) * self.GRAIN
        region._chunk, region._start, region.address = self._take(size)
        region.nbytes = size
        region._quarantined = False
        return region

    @contextmanager
    def trial(self) -> Iterator[None]:
        """Give back at once what is allocated in here, if it fails: the exception still holds whoever allocated it."""
        tried: list[Region] = []
        self._trial = tried
        self.keep()
        try:
            yield
        except BaseException:
            for region in tried:
                region.discard()
            raise
        finally:
            self._trial = None

    def room(self) -> int:
        """Bytes that it can hand out at once before it grows."""
        return self._chunk.nbytes - self._used

    def grow(self) -> None:
        """Take the next regions from a new chunk."""
        self._chunk, self._address = self._open_chunk(CHUNK_BYTES)
        self._used = 0

    def keep(self) -> None:
        """Threads or devices may reach what there is: none of these chunks goes back to the system."""
        self._kept = len(self.grown)

    def _take(self, size: int) -> tuple[Bytes, int, int]:
        """Zeroed bytes: their chunk, where they start in it, their address."""
        free = self._free[size]
        if free:
            chunk, start, address = free.pop()
            chunk[start : start + size] = 0
            return chunk, start, address
        if size > CHUNK_BYTES:
            chunk, address = self._open_chunk(size)
            return chunk, 0, address
        if self.room() < size:
            self.grow()
        start = self._used
        self._used += size
        return self._chunk, start, self._address + start

    def _open_chunk(self, size: int) -> tuple[Bytes, int]:
        size += -size % PAGESIZE
        memory = np.zeros(size + PAGESIZE, np.uint8)  # zeroed by the system, page by page, when first touched
        start = -int(memory.ctypes.data) % PAGESIZE
        chunk = memory[start : start + size]
        self.chunks.append(memory)
        self.grown.append(chunk)
        return chunk, int(memory.ctypes.data) + start

    def _close_chunk(self, chunk: Bytes) -> bool:
        """Give a chunk that has one region back to the system; False if it has more, or others may reach it."""
        if chunk.nbytes <= CHUNK_BYTES or not any(chunk is one for one in self.grown[self._kept :]):
            return False
        self.grown[:] = [one for one in self.grown if one is not chunk]
        self.chunks[:] = [one for one in self.chunks if one is not chunk.base]
        return True

    def lend(self, array: npt.NDArray[Any]) -> None:
        """Keep an array that is not the arena's alive for as long as what is the arena's."""
        self.chunks.append(array)

    def take_back(self, array: npt.NDArray[Any]) -> None:
        """Take back an array that nobody who works on the arena's memory reaches any more."""
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
    MAX_SPARE_BYTES = 1 << 29

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

    A thread that read the address of a doorbell just before it was retired may still ring it; that must hit a doorbell,
    never somebody's data.
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
            region = self._arena.allocate(self._size * self._per_region, lasting=True)
            self._regions.append(region)
            self._free.extend(region.address + i * self._size for i in reversed(range(self._per_region)))
        return self._free.pop()

    def release(self, address: int) -> None:
        """The record may serve again."""
        self._free.append(address)
