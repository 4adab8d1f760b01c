"""The product's own ring between two compiled threads: push and pop of 16-byte records, no runtime around it.

    main --ring--> thread --ring--> main

The loops below are compiled as the product compiles its own: `compile_entry` binds push, pop and the rest.
"""

import functools
import threading
import time

import numpy as np
from atomics import fresh_words
from harness import check

from ringkernel.ring.cpu import compile_entry
from ringkernel.ring.layout import EDGE_DTYPE, LINE, NEVER, RING_DTYPE
from ringkernel.ring.ops import load, load_acquire, spin_hint, store, store_release
from ringkernel.ring.transfer import pop, push

CAPACITY = 1024
RECORD_BYTES = 16
SALT = 0x5A5A


def _ping(ring, edge, record, round_trips):
    """Send (i, salted i), expect (i, -i). Returns how many answers were wrong."""
    bad = 0
    for i in range(round_trips):
        store(record, i)
        store(record + 8, i ^ SALT)
        while push(ring, record) == 0:
            spin_hint()
        while pop(edge, record) == 0:
            spin_hint()
        if load(record) != i or load(record + 8) != -i:
            bad += 1
    return bad


def _pong(ring, edge, record, round_trips, status):
    """The other side: writes 1 to `status` when it is ready, and to the word after it how many were wrong."""
    store_release(status, 1)
    bad = 0
    for i in range(round_trips):
        while pop(edge, record) == 0:
            spin_hint()
        if load(record) != i or load(record + 8) != i ^ SALT:
            bad += 1
        store(record + 8, -i)
        while push(ring, record) == 0:
            spin_hint()
    store_release(status + 8, bad)
    return bad


def _is_ready(status):
    return load_acquire(status)


@functools.cache
def _compiled():
    return (
        compile_entry(_ping, 4, nogil=True),
        compile_entry(_pong, 5, nogil=True),
        compile_entry(_is_ready, 1),
    )


def _ring():
    """A ring with one edge in one piece. Returns (memory to keep alive, ring address, edge address)."""
    edge_at = RING_DTYPE.itemsize
    table_at = edge_at + EDGE_DTYPE.itemsize
    slots_at = table_at + LINE
    memory = fresh_words((slots_at + CAPACITY * RECORD_BYTES) // LINE)
    as_bytes = memory.view(np.uint8)
    ring = as_bytes[:edge_at].view(RING_DTYPE)[0]
    edge = as_bytes[edge_at:table_at].view(EDGE_DTYPE)[0]
    ring["capacity"], ring["itemsize"], ring["slots"] = CAPACITY, RECORD_BYTES, slots_at
    ring["edges"], ring["n_edges"], ring["n_open"], ring["wanted"] = table_at, 1, 1, NEVER
    memory[table_at // 8] = edge_at
    edge["limit"], edge["watch"], edge["ring"] = NEVER, NEVER, -edge_at
    return memory, memory.ctypes.data, memory.ctypes.data + edge_at


def ring_ping_pong_ns(round_trips):
    """Mean round trip in ns of a record that both threads read and check."""
    ping, pong, is_ready = _compiled()
    there, ring_there, edge_there = _ring()
    back, ring_back, edge_back = _ring()
    words = fresh_words(3)
    record, its_record, status = (words.ctypes.data + i * LINE for i in range(3))
    its_arguments = ring_back, edge_there, its_record, round_trips, status
    thread = threading.Thread(target=pong, args=its_arguments, daemon=True)
    thread.start()
    while not is_ready(status):
        time.sleep(0)
    start = time.perf_counter_ns()
    bad = ping(ring_there, edge_back, record, round_trips)
    elapsed_ns = time.perf_counter_ns() - start
    thread.join(10)
    check(not thread.is_alive(), "the ring ping-pong did not end")
    check(bad == 0 and words[2 * LINE // 8 + 1] == 0, "the ring changed a record")
    del there, back  # alive until here: the threads knew their addresses only
    return elapsed_ns / round_trips
