"""The product's own rings between two compiled threads, without the runtime around them.

    round trip   main --ring--> thread --ring--> main      push and pop of 16-byte records, one in flight
    one way      thread --ring--> main                     push and pop, or batches written in place

The loops are compiled as the product compiles its own: `compile_entry` binds push, pop and the rest. A batch goes the
way in which kernels themselves write and read: slots in place, published once, taken as a stretch. Both sides check
every record.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ringkernel.codegen.operations import load, load_acquire, peek, poke, spin_hint, store, store_release
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.memory.layout import EDGE, EDGE_DTYPE, LINE, NEVER, RING_DTYPE
from ringkernel.memory.layout import RING as RING_AT
from ringkernel.ring.protocol.cursors import bound_of, room_of, set_tail, slot_address

from .floors import beside_thread, fresh_words
from .method import check
from .single import pop, push

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD_BYTES = 16
ROUND_TRIP_CAPACITY = 1024
GLANCE_EVERY = 4
"""Pauses between two looks of a consumer that reads one by one: with one, its rate falls into either of two modes, of
which the slower has the cursor move between the cores for each message."""
SALT = 0x5A5A


def _ping(ring: int, edge: int, record: int, round_trips: int) -> int:
    """Send (i, salted i), expect (i, -i). Returns how many answers were wrong."""
    bad = 0
    for i in range(round_trips):
        store(record, i)
        store(record + 8, i ^ SALT)
        while push(ring, record) == 0:
            spin_hint()
        while pop(edge, record, record + RECORD_BYTES) == 0:
            spin_hint()
        if load(record) != i or load(record + 8) != -i:
            bad += 1
    return bad


def _pong(ring: int, edge: int, record: int, round_trips: int, status: int) -> int:
    """The other side: writes 1 to `status` when it is ready, and to the word after it how many were wrong."""
    store_release(status, 1)
    bad = 0
    for i in range(round_trips):
        while pop(edge, record, record + RECORD_BYTES) == 0:
            spin_hint()
        if load(record) != i or load(record + 8) != i ^ SALT:
            bad += 1
        store(record + 8, -i)
        while push(ring, record) == 0:
            spin_hint()
    store_release(status + 8, bad)
    return bad


def _push_all(ring: int, record: int, messages: int, status: int, _batch: int) -> int:
    """Once told to go, push (i, salted i) for every i."""
    store_release(status, 1)
    while load_acquire(status + LINE) == 0:
        spin_hint()
    for i in range(messages):
        poke(record, i)
        poke(record + 8, i ^ SALT)
        while push(ring, record) == 0:
            spin_hint()
    return 0


def _pop_all(edge: int, record: int, messages: int, status: int, _batch: int) -> int:
    """Give the word, and pop everything. How many were wrong."""
    bad = 0
    store_release(status + LINE, 1)
    for i in range(messages):
        while pop(edge, record, record + RECORD_BYTES) == 0:
            spin_hint()
        if peek(record) != i or peek(record + 8) != i ^ SALT:
            bad += 1
    return bad


def _write_batches(ring: int, _record: int, messages: int, status: int, batch: int) -> int:
    """As `_push_all`, but written into the slots, `batch` at a time. `batch` divides the capacity."""
    store_release(status, 1)
    while load_acquire(status + LINE) == 0:
        spin_hint()
    for first in range(0, messages, batch):
        while room_of(ring, batch) < batch:
            spin_hint()
        slot = slot_address(ring, first)
        for i in range(batch):
            poke(slot + RECORD_BYTES * i, first + i)
            poke(slot + RECORD_BYTES * i + 8, (first + i) ^ SALT)
        set_tail(ring, first + batch)
    return 0


def _read_batches(edge: int, _record: int, messages: int, status: int, batch: int) -> int:
    """As `_pop_all`, but read in the slots, up to `batch` at a time."""
    bad = 0
    head = 0
    ring = edge + load(edge + EDGE.ring)
    last_slot = load(ring + RING_AT.capacity) - 1
    store_release(status + LINE, 1)
    while head < messages:
        bound = bound_of(edge, head)
        if bound <= head:
            spin_hint()
            continue
        count = min(batch, bound - head, last_slot + 1 - (head & last_slot))
        slot = slot_address(ring, head)
        for i in range(count):
            differs = (peek(slot + RECORD_BYTES * i) ^ (head + i)) | (
                peek(slot + RECORD_BYTES * i + 8) ^ ((head + i) ^ SALT)
            )
            bad += 1 if differs != 0 else 0
        head += count
        store_release(edge + EDGE.head, head)  # release: the slots have been read
    return bad


def _write_one_by_one(ring: int, _record: int, messages: int, status: int, _batch: int) -> int:
    """As `_push_all`, but written into the slots. As a turn does, it keeps its cursor and what it knows of its consumer
    at hand, and tells the ring's own copy when it looks anew."""
    store_release(status, 1)
    while load_acquire(status + LINE) == 0:
        spin_hint()
    slots, last_slot = ring + load(ring + RING_AT.slots), load(ring + RING_AT.capacity) - 1
    limit = 0
    for i in range(messages):
        while i >= limit:
            store(ring + RING_AT.next, i)
            limit = i + room_of(ring, 1)
            if i >= limit:
                spin_hint()
        slot = slots + RECORD_BYTES * (i & last_slot)
        poke(slot, i)
        poke(slot + 8, i ^ SALT)
        store_release(ring + RING_AT.tail, i + 1)  # release: the slot has been written
    return 0


def _read_one_by_one(edge: int, _record: int, messages: int, status: int, _batch: int) -> int:
    """As `_pop_all`, but read in the slots, likewise. It gives its producer a moment before it looks anew: a cursor
    that both sides want all the time moves between cores for each message."""
    bad = 0
    ring = edge + load(edge + EDGE.ring)
    slots, last_slot = ring + load(ring + RING_AT.slots), load(ring + RING_AT.capacity) - 1
    store_release(status + LINE, 1)
    bound = 0
    for i in range(messages):
        while i >= bound:
            for _ in range(GLANCE_EVERY):
                spin_hint()
            bound = bound_of(edge, i)
        slot = slots + RECORD_BYTES * (i & last_slot)
        if peek(slot) != i or peek(slot + 8) != i ^ SALT:
            bad += 1
        store_release(edge + EDGE.head, i + 1)  # release: the slot has been read
    return bad


class PlainRing(NamedTuple):
    """A ring with one edge in one piece of memory, which `memory` keeps alive."""

    memory: npt.NDArray[np.int64]
    address: int
    edge: int


def plain_ring(capacity: int) -> PlainRing:
    """A ring that nobody is woken for, in another place of the memory pool at each call."""
    edge_at = RING_DTYPE.itemsize
    table_at = edge_at + EDGE_DTYPE.itemsize
    slots_at = table_at + LINE
    memory = fresh_words(-(-(slots_at + capacity * RECORD_BYTES) // LINE))
    as_bytes = memory.view(np.uint8)
    ring = as_bytes[:edge_at].view(RING_DTYPE)[0]
    edge = as_bytes[edge_at:table_at].view(EDGE_DTYPE)[0]
    ring["capacity"], ring["itemsize"], ring["slots"], ring["end"] = capacity, RECORD_BYTES, slots_at, NEVER
    ring["edges"], ring["n_edges"], ring["n_open"], ring["wanted"] = table_at, 1, 1, NEVER
    memory[table_at // 8] = edge_at
    edge["limit"], edge["watch"], edge["ring"] = NEVER, NEVER, -edge_at
    return PlainRing(memory, memory.ctypes.data, memory.ctypes.data + edge_at)


@functools.cache
def _compiled(function: Callable[..., int]) -> Any:
    return compile_entry(function, nogil=True)


def _ns(partner: tuple[Any, ...], main: tuple[Any, ...], status: npt.NDArray[np.int64]) -> int:
    """Call `partner` in a thread and, once it has written `status`, `main` here, each given as a function and its
    arguments. Ns that `main` took."""
    beside, here = (functools.partial(_compiled(loop), *given) for loop, *given in (partner, main))
    bad: list[int] = []
    elapsed_ns = beside_thread(beside, lambda: status[0], lambda: bad.append(here()))
    check(bad == [0], f"{bad[0]} records came out changed")
    return elapsed_ns


def _two_records_and(lines: int) -> tuple[int, int, npt.NDArray[np.int64], int]:
    """Places for a record of each side, and so many lines for `status`, with its address."""
    words = fresh_words(2 + lines)
    first, status = words.ctypes.data, words[2 * LINE // 8 :]
    return first, first + LINE, status, status.ctypes.data


def round_trip_ns(round_trips: int) -> float:
    """Mean round trip in ns of a record that both threads read and check."""
    there, back = plain_ring(ROUND_TRIP_CAPACITY), plain_ring(ROUND_TRIP_CAPACITY)
    record, its_record, status, at = _two_records_and(1)
    pong = _pong, back.address, there.edge, its_record, round_trips, at
    elapsed_ns = _ns(pong, (_ping, there.address, back.edge, record, round_trips), status)
    check(status[1] == 0, "records arrived changed")
    return elapsed_ns / round_trips


WAYS: dict[str, tuple[Callable[..., int], Callable[..., int]]] = {
    "push and pop": (_push_all, _pop_all),
    "one by one": (_write_one_by_one, _read_one_by_one),
    "batched": (_write_batches, _read_batches),
}


def one_way_ns(messages: int, *, way: str, capacity: int, batch: int) -> float:
    """Ns per 16-byte message from one compiled thread to another one; `messages` is rounded down to whole batches."""
    produce, consume = WAYS[way]
    messages = max(batch, messages // batch * batch)
    ring = plain_ring(capacity)
    record, its_record, status, at = _two_records_and(2)
    producer = produce, ring.address, its_record, messages, at, batch
    return _ns(producer, (consume, ring.edge, record, messages, at, batch), status) / messages
