"""A parker with doorbells but no event loop, loops in threads, and what sleepers sleep on."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numba import types

from ringkernel.codegen.operations import fence, load, load_acquire, store, store_release
from ringkernel.codegen.targets.cpu import compile_entry, operations
from ringkernel.memory.arenas import Arena
from ringkernel.memory.layout import (
    ARMED,
    DOORBELL,
    DOORBELL_DTYPE,
    PARKER_DTYPE,
)
from ringkernel.memory.wait_handle import WAKE_MECHANISM, new_waker
from ringkernel.ring.host_api import host_api
from ringkernel.ring.protocol.doorbell import ring_doorbell

if TYPE_CHECKING:
    from collections.abc import Callable


DEADLINE_S = 60.0
DOORBELL_SIZE = DOORBELL_DTYPE.itemsize
DOORBELL_STATE, DOORBELL_NEXT = DOORBELL.state, DOORBELL.next_address

give_way = types.ExternalFunction("sched_yield", types.intc())
"""Give the core away: there may be fewer cores than threads that spin here."""


# --- a parker with doorbells, without an event loop -------------------------------------------------------------------


class Parker:
    """A parker and doorbells in plain memory. `cells` are words that say how often something has happened."""

    def __init__(self, n_doorbells: int, *, standing: bool = True, blocking: bool = False) -> None:
        self.arena = Arena()
        self.api = host_api()
        self.waker = new_waker(blocking=blocking)
        self.region = self.arena.allocate(PARKER_DTYPE.itemsize)
        self.address = self.region.address
        record = self.region.view(PARKER_DTYPE)[0]
        record["fd"], record["read_fd"] = self.waker.write_fd, self.waker.read_fd
        self.doorbells = self.arena.allocate(n_doorbells * DOORBELL_SIZE)
        self.n_doorbells = n_doorbells
        records = self.doorbells.view(DOORBELL_DTYPE, n_doorbells)
        records["parker_address"] = self.address
        records["tag"] = np.arange(n_doorbells)
        records["standing"] = int(standing)
        records["state"] = ARMED
        self.tags = np.zeros(n_doorbells + 8, np.int64)

    def doorbell(self, i: int) -> int:
        return self.doorbells.address + i * DOORBELL_SIZE

    def collect(self, room: int | None = None) -> list[int]:
        count = self.api.collect_tags(self.address, int(self.tags.ctypes.data), room or self.n_doorbells)
        return list(self.tags[:count].tolist())

    def close(self) -> None:
        self.waker.recycle()


class Threads:
    """Compiled loops in threads, that end by themselves or when `abort` is set."""

    def __init__(self, *calls: Callable[[int], int]) -> None:
        self._abort = np.zeros(1, np.int64)
        self.results: list[int | None] = [None] * len(calls)
        self.threads = [threading.Thread(target=self._run, args=(i, call)) for i, call in enumerate(calls)]
        for thread in self.threads:
            thread.start()

    def _run(self, i: int, call: Callable[[int], int]) -> None:
        self.results[i] = call(int(self._abort.ctypes.data))

    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def stop(self) -> None:
        host_api().write_word(int(self._abort.ctypes.data), 1)
        for thread in self.threads:
            thread.join()


def rouser(words: int, total: int, pause: int, abort: int) -> int:
    """Count up, ring, and wait for the answer; after a pause that varies, so that it meets the sleeper everywhere."""
    doorbell = load(words + 256)
    for i in range(1, total + 1):
        store_release(words, i)
        fence()
        ring_doorbell(doorbell, 0)
        while load_acquire(words + 128) < i:
            if load_acquire(abort) != 0:
                return i - 1
            give_way()
        idle = words + 384
        for _ in range(i * 37 % pause):
            store(idle, load(idle) + 1)
    return total


def compile_loop(function: Callable[..., Any], mechanism: str = WAKE_MECHANISM) -> Any:
    """As `compile_entry` does it, for any way to sleep."""
    return compile_entry(function, nogil=True, instead=operations(mechanism))


MECHANISMS = pytest.mark.parametrize("mechanism", ["eventfd", "pipe", "timed"], indirect=True)
