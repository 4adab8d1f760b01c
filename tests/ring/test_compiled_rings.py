"""Compiled producers and consumers, alone and in threads of their own: messages arrive in order, whole, and once."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringkernel.bench.single import pop, push
from ringkernel.codegen.operations import load, load_acquire, store, store_release
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.memory.layout import EDGE, NEVER
from ringkernel.messages.arrays import as_array
from ringkernel.messages.types import MessageType
from ringkernel.ring.host_api import host_api
from ringkernel.ring.protocol.cursors import bound_of, consume, publish, room_of, set_tail, slot_address

if TYPE_CHECKING:
    from collections.abc import Callable
from parking import give_way
from ring_tools import JOIN_S, Pair, record_ring


@pytest.fixture(scope="module")
def compiled_push() -> Any:
    return compile_entry(push)


@pytest.fixture(scope="module")
def compiled_pop() -> Any:
    return compile_entry(pop)


@given(operations=st.lists(st.sampled_from(["push", "pop 0", "pop 1"]), max_size=60), log=st.integers(0, 4))
@settings(max_examples=50, deadline=None)
def test_compiled_push_and_pop_against_deques(
    compiled_push: Any, compiled_pop: Any, operations: list[str], log: int
) -> None:
    pair = Pair(2**log, edges=2)
    models: list[deque[int]] = [deque(), deque()]
    for i, operation in enumerate(operations):
        if operation == "push":
            pair.words[0] = i
            fits = max(map(len, models)) < 2**log
            assert compiled_push(pair.ring.address, pair.address) == int(fits)
            for model in models if fits else ():
                model.append(i)
        else:
            which = int(operation[-1])
            taken = compiled_pop(pair.edges[which].address, pair.address + 8, pair.address + 16 + 8 * which)
            assert taken == (1 if models[which] else 0)
            if taken:
                assert pair.words[1] == models[which].popleft()


def test_a_compiled_producer_without_consumers_is_full_from_the_start(compiled_push: Any) -> None:
    ring = record_ring(8)
    words = np.zeros(1, np.int64)
    assert compiled_push(ring.address, int(words.ctypes.data)) == 0
    ring.add_edge()
    assert compiled_push(ring.address, int(words.ctypes.data)) == 1


def test_a_compiled_producer_is_full_as_soon_as_its_last_consumer_has_gone(compiled_push: Any) -> None:
    """Its cached cursor shows room; what it published there would vanish."""
    pair = Pair(8)
    assert compiled_push(pair.ring.address, pair.address) == 1
    pair.edge.close()
    assert compiled_push(pair.ring.address, pair.address) == 0


def test_a_compiled_consumer_stops_at_its_limit(compiled_push: Any, compiled_pop: Any) -> None:
    pair = Pair(8)
    pair.edge.limit = 2
    for _ in range(3):
        assert compiled_push(pair.ring.address, pair.address) == 1
    assert [compiled_pop(pair.edge.address, pair.address, pair.address + 8) for _ in range(3)] == [1, 1, 0]
    pair.edge.limit = NEVER
    assert compiled_pop(pair.edge.address, pair.address, pair.address + 8) == 1


# --- compiled, two threads: litmus -------------------------------------------------------------------------------

MESSAGE = MessageType(np.dtype([("sequence", "i8"), ("twice", "i8"), ("inverse", "i8"), ("check", "i8")], align=True))


def produce(ring: int, total: int, scratch: int, abort: int) -> int:
    """Push messages whose four words depend on the sequence number. How many were pushed."""
    sequence = 0
    while sequence < total and load_acquire(abort) == 0:
        store(scratch, sequence)
        store(scratch + 8, 2 * sequence)
        store(scratch + 16, -sequence)
        store(scratch + 24, sequence ^ 0x5555)
        if push(ring, scratch) == 1:
            sequence += 1
        else:
            give_way()
    return sequence


def collect(edge: int, total: int, scratch: int, abort: int) -> int:
    """Pop and check. -1 when all were right, else the sequence number of the first that was not."""
    sequence = 0
    while sequence < total and load_acquire(abort) == 0:
        if pop(edge, scratch, scratch + 32) == 1:
            intact = load(scratch) == sequence and load(scratch + 8) == 2 * sequence
            if not intact or load(scratch + 16) != -sequence or load(scratch + 24) != sequence ^ 0x5555:
                return sequence
            sequence += 1
        else:
            give_way()
    return -1 if sequence == total else sequence


def produce_in_place(ring: int, total: int, batch: int, abort: int) -> int:
    """Write messages into the slots themselves and publish in batches, as a turn does."""
    sequence = 0
    while sequence < total and load_acquire(abort) == 0:
        count = min(room_of(ring, batch), batch, total - sequence)
        if count < 1:
            give_way()
        for i in range(max(0, count)):
            slot = slot_address(ring, sequence + i)
            store(slot, sequence + i)
            store(slot + 8, 2 * (sequence + i))
            store(slot + 16, -(sequence + i))
            store(slot + 24, (sequence + i) ^ 0x5555)
        if count > 0:
            sequence += count
            set_tail(ring, sequence)
    return sequence


def collect_in_place(edge: int, total: int, batch: int, abort: int) -> int:
    """Read the slots themselves and give back in batches. -1, or the first sequence number that was wrong."""
    head = 0
    ring = edge + load(edge + EDGE.ring)
    while head < total and load_acquire(abort) == 0:
        end = min(bound_of(edge, head), head + batch)
        if end <= head:
            give_way()
        for sequence in range(head, end):
            slot = slot_address(ring, sequence)
            intact = load(slot) == sequence and load(slot + 8) == 2 * sequence
            if not intact or load(slot + 16) != -sequence or load(slot + 24) != sequence ^ 0x5555:
                return sequence
        if end > head:
            head = end
            store_release(edge + EDGE.head, head)
    return -1 if head == total else head


class Abort:
    """A word that ends compiled loops, so that a lost message fails a test and does not hang it."""

    def __init__(self) -> None:
        self.word = np.zeros(1, np.int64)
        self.address = int(self.word.ctypes.data)


def run_threads(abort: Abort, *calls: Callable[[], int]) -> list[int]:
    """Run compiled loops side by side; all must end by themselves."""
    results: list[int | None] = [None] * len(calls)

    def run(i: int) -> None:
        try:
            results[i] = calls[i]()
        finally:
            if results[i] is None:
                host_api().write_word(abort.address, 1)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(JOIN_S)
    stuck = [thread for thread in threads if thread.is_alive()]
    host_api().write_word(abort.address, 1)
    for thread in stuck:
        thread.join()
    assert not stuck, results
    return [result for result in results if result is not None]


@pytest.fixture(scope="module")
def loops() -> dict[str, Any]:
    functions = (produce, collect, produce_in_place, collect_in_place)
    return {function.__name__: compile_entry(function, nogil=True) for function in functions}


TOTALS = {1: 5_000, 2: 10_000, 8: 40_000, 1024: 1_000_000}
"""For each lap of a ring its threads may have to wait their turn for a core, which takes a time slice where all cores
are busy."""


@pytest.mark.parametrize("capacity", TOTALS)
@pytest.mark.parametrize("n_edges", [1, 2])
def test_messages_arrive_in_order_and_whole(loops: dict[str, Any], capacity: int, n_edges: int) -> None:
    """Allowed outcome: each consumer sees 0, 1, 2, ... to the last, each with the payload that belongs to it.

    Not allowed: a gap, a repetition, a payload of an earlier lap of the ring, a producer that overtakes.
    """
    total = TOTALS[capacity] // n_edges
    pair, abort = Pair(capacity, MESSAGE, n_edges), Abort()
    scratch = [np.zeros(16, np.int64) for _ in range(n_edges + 1)]

    def consumer(i: int) -> Callable[[], int]:
        return lambda: loops["collect"](pair.edges[i].address, total, int(scratch[i].ctypes.data), abort.address)

    pushed, *seen = run_threads(
        abort,
        lambda: loops["produce"](pair.ring.address, total, int(scratch[-1].ctypes.data), abort.address),
        *map(consumer, range(n_edges)),
    )
    assert seen == [-1] * n_edges
    assert pushed == pair.ring.position() == total
    assert [edge.position() for edge in pair.edges] == [total] * n_edges


@pytest.mark.parametrize("capacity", TOTALS)
def test_batches_that_are_written_in_place_arrive_in_order_and_whole(loops: dict[str, Any], capacity: int) -> None:
    total, batch = TOTALS[capacity], max(1, capacity // 3)
    pair, abort = Pair(capacity, MESSAGE), Abort()
    pushed, seen = run_threads(
        abort,
        lambda: loops["produce_in_place"](pair.ring.address, total, batch, abort.address),
        lambda: loops["collect_in_place"](pair.edge.address, total, batch, abort.address),
    )
    assert (pushed, seen) == (total, -1)


def test_the_litmus_test_notices_a_payload_that_does_not_belong(loops: dict[str, Any]) -> None:
    pair, abort = Pair(8, MESSAGE), Abort()
    scratch = np.zeros(16, np.int64)
    pair.ring.offer_many(as_array(MESSAGE, [(0, 0, 0, 0x5555), (1, 3, -1, 1 ^ 0x5555)]))
    assert loops["collect"](pair.edge.address, 2, int(scratch.ctypes.data), abort.address) == 1


def test_python_and_a_compiled_consumer_share_a_ring(loops: dict[str, Any]) -> None:
    """The host publishes in batches while a compiled thread takes."""
    total, pair, abort = 20_000, Pair(64, MESSAGE), Abort()
    scratch = np.zeros(16, np.int64)
    numbers = np.arange(total)
    array = np.zeros(total, MESSAGE.dtype)
    array["sequence"], array["twice"], array["inverse"] = numbers, 2 * numbers, -numbers
    array["check"] = numbers ^ 0x5555

    def feed() -> int:
        sent = 0
        while sent < total and abort.word[0] == 0:
            count = min(pair.ring.room(), total - sent, 17)
            if count > 0:
                pair.ring.offer_many(array[sent : sent + count])
                sent += count
        return sent

    address = int(scratch.ctypes.data)
    sent, seen = run_threads(abort, feed, lambda: loops["collect"](pair.edge.address, total, address, abort.address))
    assert (sent, seen) == (total, -1)
    assert pair.edge.published() == pair.edge.position() == total


def test_publish_and_consume_wake_nobody_when_nobody_waits() -> None:
    ring = record_ring(8)
    edge = ring.add_edge()
    assert compile_entry(publish)(ring.address, 1, 0) == 0
    assert compile_entry(consume)(edge.address, 1, 0) == 0
