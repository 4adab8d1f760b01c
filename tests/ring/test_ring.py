"""Rings and edges against plain deques, compiled producers and consumers in two threads, and the memory below."""

from __future__ import annotations

import gc
import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from numba import types

from ringkernel.codegen.operations import load, load_acquire, store, store_release
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.memory.arenas import CHUNK_BYTES, Arena, ResultPool, Slab
from ringkernel.memory.layout import EDGE, LINE, NEVER, RING
from ringkernel.messages.arrays import as_array, from_array
from ringkernel.messages.types import MessageType
from ringkernel.ring.host_api import host_api
from ringkernel.ring.object_ring import ObjectEdge, ObjectRing
from ringkernel.ring.protocol import bound_of, consume, pop, publish, push, room_of, set_tail, slot_address
from ringkernel.ring.record_edge import RecordEdge
from ringkernel.ring.record_ring import RecordRing
from ringkernel.ring.waiting import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable

INT64 = MessageType(np.int64)
JOIN_S = 60.0


def record_ring(capacity: int, message_type: MessageType = INT64) -> RecordRing:
    return RecordRing(Arena(), message_type, capacity)


def take(edge: Any) -> Any:
    return edge.take() if edge.available() else NOTHING


def leftovers(edge: Any) -> list[int]:
    """What a closed edge had not taken."""
    return [int(one if isinstance(one, int) else one["value"]) for batch in edge.leftovers() for one in batch]


def some(start: int, count: int) -> Any:
    return as_array(INT64, np.arange(start, start + count))


# --- one thread: against a model ---------------------------------------------------------------------------------


class Model:
    """What an edge should hold: a deque of what was published and not taken."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.waiting: deque[int] = deque()
        self.taken = 0
        self.limit = NEVER
        self.closed = False

    def push(self, sequence: int) -> None:
        if not self.closed:
            self.waiting.append(sequence)

    def available(self) -> int:
        head = self.start + self.taken
        return max(0, min(len(self.waiting), self.limit - head))


class RingMachine(RuleBasedStateMachine):
    """Message i has the value i, so that the model needs the sequence numbers only."""

    def new_ring(self, capacity: int) -> Any:
        raise NotImplementedError

    def plain(self, messages: Any) -> list[Any]:
        return from_array(INT64, messages).tolist() if self.ring.holds_records else messages

    @initialize(capacity=st.sampled_from([1, 2, 4, 8, 32]), edges=st.integers(0, 3))
    def start(self, capacity: int, edges: int) -> None:
        self.capacity = capacity
        self.ring = self.new_ring(capacity)
        self.published = 0
        self.edges: list[tuple[Any, Model]] = []
        for _ in range(edges):
            self.add_edge()

    def room(self) -> int:
        open_models = [model for _, model in self.edges if not model.closed]
        if not open_models:
            return 0
        return self.capacity - max(len(model.waiting) for model in open_models)

    @precondition(lambda self: len(self.edges) < 12)
    @rule()
    def add_edge(self) -> None:
        self.edges.append((self.ring.add_edge(), Model(self.published)))

    @rule()
    def push(self) -> None:
        fits = self.room() >= 1
        assert self.ring.offer(self.published) is fits
        self._pushed(int(fits))

    @rule(data=st.data())
    def push_many(self, data: st.DataObject) -> None:
        count = data.draw(st.integers(0, max(0, self.room())))
        values = list(range(self.published, self.published + count))
        self.ring.offer_many(as_array(INT64, values) if self.ring.holds_records else values)
        self._pushed(count)

    def _pushed(self, count: int) -> None:
        for sequence in range(self.published, self.published + count):
            for _, model in self.edges:
                model.push(sequence)
        self.published += count

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def pop(self, data: st.DataObject) -> None:
        edge, model = data.draw(st.sampled_from(self.edges))
        if not model.closed:
            assert (edge.available() > 0) == (model.available() > 0)
            if model.available():
                assert edge.take() == model.waiting.popleft()
                model.taken += 1
            else:
                assert edge.take() is NOTHING

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def pop_many(self, data: st.DataObject) -> None:
        edge, model = data.draw(st.sampled_from(self.edges))
        if not model.closed:
            count = data.draw(st.integers(0, model.available()))
            assert edge.look() >= count
            values = edge.take_many(count)
            taken = from_array(INT64, values).tolist() if self.ring.holds_records else values
            assert taken == [model.waiting.popleft() for _ in range(count)]
            model.taken += count

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def set_limit(self, data: st.DataObject) -> None:
        edge, model = data.draw(st.sampled_from(self.edges))
        if not model.closed:
            head = model.start + model.taken
            limit = data.draw(st.one_of(st.just(NEVER), st.integers(head, head + 2 * self.capacity)))
            edge.limit = model.limit = limit

    @precondition(lambda self: self.edges)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        edge, model = data.draw(st.sampled_from(self.edges))
        if not model.closed:
            edge.close()
            values = [value for part in edge.leftovers() for value in self.plain(part)]
            assert values == list(model.waiting)  # whatever the limit: nobody else will take it
            model.meant = model.taken + len(values)
            model.closed = True

    @invariant()
    def agrees(self) -> None:
        assert self.ring.position() == self.published
        assert self.ring.room() == self.room()
        for edge, model in self.edges:
            assert edge.position() == model.start + model.taken
            assert edge.closed == model.closed
            remaining = len(model.waiting) if model.closed else model.available()
            assert edge.published() - edge.start == model.taken + remaining
            if model.closed:
                assert leftovers(edge) == list(model.waiting)  # whatever its limit was
            if not model.closed:
                assert min(1, model.available()) <= edge.available() <= model.available()  # what is known to be there


class RecordMachine(RingMachine):
    def new_ring(self, capacity: int) -> RecordRing:
        return record_ring(capacity)


class ObjectMachine(RingMachine):
    def new_ring(self, capacity: int) -> ObjectRing:
        return ObjectRing(capacity)


relaxed = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TestRecordRing = RecordMachine.TestCase
TestRecordRing.settings = relaxed
TestObjectRing = ObjectMachine.TestCase
TestObjectRing.settings = relaxed


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_a_ring_without_an_open_consumer_is_full(new: Callable[[int], Any]) -> None:
    ring = new(8)
    assert ring.room() == 0
    edge = ring.add_edge()
    assert ring.room() == 8
    assert ring.offer(1)
    edge.close()
    assert ring.room() == 0


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_a_ring_that_is_shut_takes_nothing_and_gives_what_it_holds(new: Callable[[int], Any]) -> None:
    ring = new(4)
    edge = ring.add_edge()
    assert ring.offer(1)
    ring.shut_off()
    assert not ring.offer(2)
    assert take(edge) == 1
    assert not ring.offer(3)
    assert take(edge) is NOTHING


class Line:
    """A waiter that counts how often it was told."""

    asks = True
    told = 0

    def notify(self) -> None:
        self.told += 1


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_both_sides_are_told_only_while_they_ask(new: Callable[[int], Any]) -> None:
    ring = new(4)
    edge = ring.add_edge()
    ring.putting, edge.getting = putting, getting = Line(), Line()
    assert ring.offer(1)
    assert take(edge) == 1
    assert (putting.told, getting.told) == (1, 1)
    putting.asks = getting.asks = False
    assert ring.offer(2)
    assert take(edge) == 2
    assert (putting.told, getting.told) == (1, 1)
    putting.asks = getting.asks = True
    ring.offer_many(some(3, 2) if ring.holds_records else [3, 4])
    assert getting.told >= 2
    assert edge.available() == 2
    edge.take_many(2)
    assert putting.told >= 2
    edge.close()
    assert putting.told >= 3  # a producer that waited for this consumer may go on


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_a_limit_below_the_cursor_leaves_nothing_to_take(new: Callable[[int], Any]) -> None:
    ring = new(4)
    edge = ring.add_edge()
    for i in range(4):
        assert ring.offer(i)
    assert [take(edge), take(edge)] == [0, 1]
    edge.limit = 1
    assert edge.available() == edge.look() == 0
    assert edge.take() is NOTHING


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_the_slowest_open_consumer_bounds_the_producer(new: Callable[[int], Any]) -> None:
    ring = new(4)
    fast, slow = ring.add_edge(), ring.add_edge()
    for i in range(4):
        assert ring.offer(i)
    assert (fast.available(), slow.available(), ring.room()) == (4, 4, 0)
    for i in range(4):
        assert take(fast) == i
    assert ring.room() == 0
    slow.close()
    assert ring.room() == 4


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_a_late_consumer_sees_only_what_comes_after_it(new: Callable[[int], Any]) -> None:
    ring = new(8)
    first = ring.add_edge()
    assert ring.offer(1)
    second = ring.add_edge()
    assert ring.offer(2)
    assert [take(first), take(first)] == [1, 2]
    assert second.available() == 1
    assert take(second) == 2


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_a_ring_serves_more_consumers_one_after_another_than_its_table_holds(new: Callable[[int], Any]) -> None:
    ring = new(2)
    for i in range(40):
        edge = ring.add_edge()
        assert ring.offer(i)
        assert edge.available() == 1
        assert take(edge) == i
        edge.close()
    assert ring.room() == 0


def test_many_consumers_at_once_outgrow_the_first_table() -> None:
    ring = record_ring(4)
    edges = [ring.add_edge() for _ in range(20)]
    ring.offer_many(some(5, 3))
    for edge in edges:
        assert from_array(INT64, edge.take_many(3)).tolist() == [5, 6, 7]
    assert ring.room() == 4


def test_an_object_ring_lets_go_of_what_was_taken() -> None:
    class Thing:
        pass

    ring = ObjectRing(4)
    edge = ring.add_edge()
    assert ring.offer(Thing())
    assert isinstance(take(edge), Thing)
    assert ring.slots == [None] * 4


def test_an_object_ring_lets_go_also_after_another_consumer_has_left() -> None:
    ring = ObjectRing(4)
    first, second = ring.add_edge(), ring.add_edge()
    first.close()
    assert ring.offer(object())
    take(second)
    assert ring.slots == [None] * 4


def test_a_lent_array_is_published_without_a_copy() -> None:
    array = some(0, 5)
    ring = RecordRing(Arena(), INT64, 8, lent=array)
    edge = ring.add_edge()
    ring.fill()
    assert edge.available() == 5
    array["value"][4] = 99
    assert from_array(INT64, edge.take_many(5)).tolist() == [0, 1, 2, 3, 99]


# --- compiled, one thread ----------------------------------------------------------------------------------------


class Pair:
    """A ring of int64 with one edge, and words for compiled code to copy from and to."""

    def __init__(self, capacity: int, message_type: MessageType = INT64, edges: int = 1) -> None:
        self.ring = RecordRing(Arena(), message_type, capacity)
        self.edges = [self.ring.add_edge() for _ in range(edges)]
        self.edge = self.edges[0]
        self.words = np.zeros(16, np.int64)
        self.address = int(self.words.ctypes.data)


@pytest.fixture(scope="module")
def compiled_push() -> Any:
    return compile_entry(push, 2)


@pytest.fixture(scope="module")
def compiled_pop() -> Any:
    return compile_entry(pop, 2)


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
            taken = compiled_pop(pair.edges[which].address, pair.address + 8)
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
    assert [compiled_pop(pair.edge.address, pair.address) for _ in range(3)] == [1, 1, 0]
    pair.edge.limit = NEVER
    assert compiled_pop(pair.edge.address, pair.address) == 1


# --- compiled, two threads: litmus -------------------------------------------------------------------------------

MESSAGE = MessageType(np.dtype([("sequence", "i8"), ("twice", "i8"), ("inverse", "i8"), ("check", "i8")], align=True))


_give_way = types.ExternalFunction("sched_yield", types.intc())


def wait() -> None:
    """Give the core away: there may be fewer cores than threads that spin here."""
    _give_way()


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
            wait()
    return sequence


def collect(edge: int, total: int, scratch: int, abort: int) -> int:
    """Pop and check. -1 when all were right, else the sequence number of the first that was not."""
    sequence = 0
    while sequence < total and load_acquire(abort) == 0:
        if pop(edge, scratch) == 1:
            intact = load(scratch) == sequence and load(scratch + 8) == 2 * sequence
            if not intact or load(scratch + 16) != -sequence or load(scratch + 24) != sequence ^ 0x5555:
                return sequence
            sequence += 1
        else:
            wait()
    return -1 if sequence == total else sequence


def produce_in_place(ring: int, total: int, batch: int, abort: int) -> int:
    """Write messages into the slots themselves and publish in batches, as a turn does."""
    sequence = 0
    while sequence < total and load_acquire(abort) == 0:
        count = min(room_of(ring, batch), batch, total - sequence)
        if count < 1:
            wait()
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
            wait()
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
    return {function.__name__: compile_entry(function, 4, nogil=True) for function in functions}


TOTALS = {1: 300_000, 2: 300_000, 8: 1_000_000, 1024: 1_000_000}


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


# --- the ledger --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_published_is_consumed_plus_remaining_on_each_edge(new: Callable[[int], Any]) -> None:
    ring = new(16)

    def publish_some(start: int, count: int) -> None:
        ring.room()
        ring.offer_many(some(start, count) if ring.holds_records else list(range(start, start + count)))

    first = ring.add_edge()
    publish_some(0, 5)
    second = ring.add_edge()
    publish_some(5, 4)
    for edge, consumed in ((first, 6), (second, 1)):
        assert edge.look() >= consumed
        edge.take_many(consumed)
    first.limit = 8
    for edge, meant, consumed in ((first, 8, 6), (second, 4, 1)):
        assert edge.published() - edge.start == meant
        assert edge.position() - edge.start == consumed
    first.close()
    publish_some(9, 2)  # not meant for who has gone
    second.close()
    assert leftovers(first) == [6, 7, 8]  # also what its limit kept from it
    assert leftovers(second) == [6, 7, 8, 9, 10]
    for edge, consumed in ((first, 6), (second, 1)):
        assert edge.published() - edge.start == consumed + len(leftovers(edge))


@pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])
def test_what_an_edge_had_not_taken_survives_the_ring(new: Callable[[int], Any]) -> None:
    ring = new(8)
    edge = ring.add_edge()
    for i in range(6):
        assert ring.offer(i)
    assert [take(edge) for _ in range(5)] == [0, 1, 2, 3, 4]
    for i in range(6, 10):  # around the end
        assert ring.offer(i)
    edge.close()
    ring.add_edge()
    for i in range(100, 108):
        assert ring.offer(i)
    assert leftovers(edge) == [5, 6, 7, 8, 9]


def test_what_a_producer_in_a_span_publishes_after_its_last_consumer_left_is_still_that_ones() -> None:
    ring = record_ring(8)
    gone, last = ring.add_edge(), ring.add_edge()
    ring.offer_many(some(0, 3))
    gone.close()
    last.close()
    ring.slots["value"][3:5] = [3, 4]
    ring.api.publish(ring.address, 5)  # as a worker does that had looked before
    assert leftovers(last) == [0, 1, 2, 3, 4]
    assert leftovers(gone) == [0, 1, 2]
    for _ in range(100):
        assert last.published() == 5
    assert len(last.leftovers()) < 10  # to ask costs nothing that stays
    fresh = ring.add_edge()
    ring.slots["value"][5] = 5
    ring.api.publish(ring.address, 6)
    assert leftovers(last) == [0, 1, 2, 3, 4]
    assert fresh.look() == 1
    assert fresh.take() == 5


def test_words_of_a_new_ring_and_edge() -> None:
    ring = record_ring(8)
    edge = ring.add_edge()
    read = ring.api.read_word
    assert read(ring.address + RING.capacity) == 8
    assert read(ring.address + RING.wanted) == NEVER
    assert (read(edge.address + EDGE.limit), read(edge.address + EDGE.watch)) == (NEVER, NEVER)
    assert edge.address + read(edge.address + EDGE.ring) == ring.address


def test_publish_and_consume_wake_nobody_when_nobody_waits() -> None:
    ring = record_ring(8)
    edge = ring.add_edge()
    assert compile_entry(publish, 2)(ring.address, 1) == 0
    assert compile_entry(consume, 2)(edge.address, 1) == 0


# --- memory ------------------------------------------------------------------------------------------------------


@given(sizes=st.lists(st.integers(1, 5_000), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_regions_are_aligned_zeroed_and_do_not_overlap(sizes: list[int]) -> None:
    arena = Arena()
    regions = [arena.allocate(size) for size in sizes]
    spans = sorted((region.address, region.address + region.nbytes) for region in regions)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for region, size in zip(regions, sizes, strict=True):
        assert region.address % LINE == 0
        assert region.nbytes >= size
        assert not region.bytes.any()
        region.bytes[:] = 0xFF


def test_a_region_is_reused_when_it_was_dropped_and_zeroed_then() -> None:
    arena = Arena()
    region = arena.allocate(300)
    region.bytes[:] = 7
    address = region.address
    assert arena.allocate(300).address != address  # not while it is in use
    del region
    gc.collect()
    again = arena.allocate(300)
    other = arena.allocate(300)
    assert address in (again.address, other.address)
    assert not again.bytes.any()
    assert not other.bytes.any()


def test_a_region_lives_as_long_as_its_owner_whatever_else_happens() -> None:
    arena = Arena()
    kept = arena.allocate(LINE)
    kept.bytes[:] = 5
    for _ in range(100):
        arena.allocate(LINE).bytes[:] = 9
    gc.collect()
    assert (kept.bytes == 5).all()


def test_quarantined_memory_is_never_reused() -> None:
    arena = Arena()
    region = arena.allocate(LINE)
    address = region.address
    region.quarantine()
    del region
    gc.collect()
    taken = [arena.allocate(LINE) for _ in range(CHUNK_BYTES // LINE + 10)]
    assert address not in {one.address for one in taken}


def test_a_quarantined_ring_and_its_edges_are_never_reused() -> None:
    arena = Arena()
    ring = RecordRing(arena, INT64, 4)
    edges = [ring.add_edge() for _ in range(12)]  # outgrows the first table
    addresses = {ring.address, *(edge.address for edge in edges)}
    table = ring.address + ring.api.read_word(ring.address + RING.edges)
    ring.quarantine()
    ring.dispose()
    del ring, edges
    gc.collect()
    taken = {arena.allocate(nbytes).address for nbytes in (LINE, 2 * LINE, 3 * LINE, 5 * LINE) for _ in range(50)}
    assert not taken & (addresses | {table})


def test_a_chunk_outlives_its_arena_in_the_hands_of_a_thread() -> None:
    arena = Arena()
    region = arena.allocate(LINE)
    chunks, address = arena.chunks, region.address
    del arena, region
    gc.collect()
    (chunk,) = chunks
    start = int(chunk.ctypes.data)
    assert start <= address < start + chunk.nbytes


def test_a_large_region_gets_a_chunk_of_its_own() -> None:
    arena = Arena()
    large = arena.allocate(2 * CHUNK_BYTES)
    assert large.nbytes >= 2 * CHUNK_BYTES
    assert large.address % LINE == 0
    assert len(arena.chunks) == 1


def test_a_slab_hands_out_records_of_its_own_only() -> None:
    arena = Arena()
    dtype = np.dtype([("words", "i8", 16)])
    slab = Slab(arena, dtype, per_region=4)
    first = [slab.allocate() for _ in range(9)]
    assert len(set(first)) == 9
    assert all(address % LINE == 0 for address in first)
    slab.release(first[3])
    gc.collect()
    taken = {arena.allocate(dtype.itemsize).address for _ in range(50)}
    assert first[3] not in taken  # never somebody's data
    assert slab.allocate() == first[3]


def test_a_result_is_reused_only_when_all_its_views_are_gone() -> None:
    pool = ResultPool()
    result = pool.allocate(1000)
    address = int(result.ctypes.data)
    view = result.view(np.float64)[3:]
    del result
    gc.collect()
    assert int(pool.allocate(1000).ctypes.data) != address
    view[:] = 1.0
    del view
    gc.collect()
    held = [pool.allocate(1000) for _ in range(3)]
    assert address in {int(one.ctypes.data) for one in held}


def test_a_result_pool_neither_hoards_nor_wastes() -> None:
    pool = ResultPool()
    held = [pool.allocate(1000) for _ in range(6)]
    del held
    gc.collect()
    assert len(pool._spares) <= ResultPool.MAX_SPARES
    small = pool.allocate(10)  # a spare of a hundred times the size is not spent on it
    assert len(pool._spares) == ResultPool.MAX_SPARES
    assert small.nbytes == 10


def test_an_empty_result_is_fine() -> None:
    assert ResultPool().allocate(0).nbytes == 0


def test_results_that_are_alive_do_not_share_memory() -> None:
    pool = ResultPool()
    for _ in range(5):
        held = [pool.allocate(500) for _ in range(4)]
        for i, one in enumerate(held):
            one[:] = i
        assert all((one == i).all() for i, one in enumerate(held))
        del held, one
        gc.collect()


def test_both_kinds_of_edge_have_the_same_methods() -> None:
    def public(cls: type) -> set[str]:
        return {name for name in vars(cls) if not name.startswith("_") and callable(getattr(cls, name))}

    assert public(ObjectEdge) <= public(RecordEdge)
    assert public(ObjectRing) - {"refresh"} <= public(RecordRing)


def test_an_edge_that_closes_while_its_producer_laps_it_keeps_what_it_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever closes an edge is descheduled in the middle; the producer and another consumer go on."""
    ring = RecordRing(Arena(), MessageType(int), 4)
    closing, other = ring.add_edge(), ring.add_edge()
    for value in range(4):
        assert ring.offer(value)
    count_open = RecordRing.count_open

    def meanwhile(self: RecordRing) -> None:
        count_open(self)
        for value in range(4, 20):
            assert other.take() == value - 4
            assert self.offer(value)

    monkeypatch.setattr(RecordRing, "count_open", meanwhile)
    closing.close()
    assert [value for part in closing.leftovers() for value in part["value"].tolist()] == [0, 1, 2, 3]
    assert closing.published() - closing.start == 4
