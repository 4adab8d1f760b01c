"""Memory between pages that nobody can touch: an access beyond its end, or after it was given back, ends the process.

Each region of an arena and each result gets a mapping of its own and ends where the inaccessible page begins, as close
as an alignment of 8 bytes allows. Arrays that are given to a runtime are copied to pages that cannot be written to.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel import RingKernelRuntime
from ringkernel.memory.arenas import Arena, ResultPool
from ringkernel.runtime.maps import map_path

if TYPE_CHECKING:
    import pytest

PAGE = mmap.PAGESIZE
WORD = 8
UNTOUCHED = 0xA5
"""What a result holds before it is written."""
WHY_NOT = None if sys.platform == "linux" else "guarded memory needs Linux's mprotect"

_libc = ctypes.CDLL(None, use_errno=True)


def protect(address: int, nbytes: int, *, readable: bool) -> None:
    """Take the right to write to these pages, and, if not `readable`, to read them."""
    access = mmap.PROT_READ if readable else 0
    if _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), ctypes.c_int(access)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Mapping:
    """`nbytes` zeroed bytes, rounded up to words, that end at an inaccessible page; `inner` are the whole pages."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = -(-max(nbytes, 1) // WORD) * WORD
        inner = -(-self.nbytes // PAGE) * PAGE
        memory = np.frombuffer(mmap.mmap(-1, inner + 2 * PAGE), np.uint8)
        self.inner = memory[PAGE : PAGE + inner]
        self.start = inner - self.nbytes
        address = int(memory.ctypes.data)
        protect(address, PAGE, readable=False)
        protect(address + PAGE + inner, PAGE, readable=False)

    @property
    def bytes(self) -> Any:
        return self.inner[self.start :]

    def protect(self, *, readable: bool) -> None:
        protect(int(self.inner.ctypes.data), self.inner.nbytes, readable=readable)


def take(arena: Arena, nbytes: int) -> tuple[Any, int, int]:
    """`Arena._take`: nothing is reused, so that what touches a region that was given back is found out."""
    mapping = Mapping(nbytes)
    if not arena.chunks:
        arena.chunks.append([])  # type: ignore[arg-type]  # one thing to keep, however many regions there are
    arena.chunks[0].append(mapping.inner)  # type: ignore[attr-defined]
    return mapping.inner, mapping.start, int(mapping.bytes.ctypes.data)


def take_back(arena: Arena, chunk: Any, start: int, nbytes: int, address: int) -> None:
    """`Arena._take_back`: nobody may touch it any more."""
    protect(int(chunk.ctypes.data), chunk.nbytes, readable=False)


def allocate_result(pool: ResultPool, nbytes: int) -> Any:
    """`ResultPool.allocate`: the memory is gone with the last view of it."""
    result = Mapping(nbytes).bytes[:nbytes]
    result[:] = UNTOUCHED
    return result


def read_only(array: Any) -> Any:
    """A copy of an array, or of a sequence's array, that nobody can write to. Anything else is returned as it is."""
    if type(array) is not np.ndarray or array.dtype.hasobject or array.nbytes == 0:
        return array
    mapping = Mapping(array.nbytes)
    copy = mapping.bytes[: array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    mapping.protect(readable=True)
    copy.flags.writeable = False
    return copy


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """All memory of runtimes and standalone queues is guarded, and what they are given is read-only."""
    monkeypatch.setattr(Arena, "GRAIN", WORD)
    monkeypatch.setattr(Arena, "_take", take)
    monkeypatch.setattr(Arena, "_take_back", take_back)
    monkeypatch.setattr(ResultPool, "allocate", allocate_result)
    monkeypatch.setattr(map_path, "POOLED_NBYTES", 0)  # small results, too
    plain_map, plain_send = RingKernelRuntime.map, RingKernelRuntime.send_batch

    async def guarded_map(self: RingKernelRuntime, kernel_id: Any, messages: Any, **options: Any) -> Any:
        return await plain_map(self, kernel_id, read_only(messages), **options)

    async def guarded_send(self: RingKernelRuntime, kernel_id: str, messages: Any, **options: Any) -> None:
        await plain_send(self, kernel_id, read_only(messages), **options)

    monkeypatch.setattr(RingKernelRuntime, "map", guarded_map)
    monkeypatch.setattr(RingKernelRuntime, "send_batch", guarded_send)
