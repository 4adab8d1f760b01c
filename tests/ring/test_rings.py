"""What a ring does with consumers that come, go, lag or stop, in records and in objects; each edge's books balance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ringkernel.memory.arenas import Arena
from ringkernel.memory.layout import EDGE, NEVER, RING
from ringkernel.messages.arrays import from_array
from ringkernel.messages.types import MessageType
from ringkernel.ring.host.object_ring import ObjectEdge, ObjectRing
from ringkernel.ring.host.record_edge import RecordEdge
from ringkernel.ring.host.record_ring import RecordRing
from ringkernel.ring.host.waiting import NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable
from ring_tools import INT64, leftovers, record_ring, some, take

EITHER_KIND = pytest.mark.parametrize("new", [record_ring, ObjectRing], ids=["records", "objects"])


@EITHER_KIND
def test_a_ring_without_an_open_consumer_is_full(new: Callable[[int], Any]) -> None:
    ring = new(8)
    assert ring.room() == 0
    edge = ring.add_edge()
    assert ring.room() == 8
    assert ring.offer(1)
    edge.close()
    assert ring.room() == 0


@EITHER_KIND
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


@EITHER_KIND
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


@EITHER_KIND
def test_a_limit_below_the_cursor_leaves_nothing_to_take(new: Callable[[int], Any]) -> None:
    ring = new(4)
    edge = ring.add_edge()
    for i in range(4):
        assert ring.offer(i)
    assert [take(edge), take(edge)] == [0, 1]
    edge.limit = 1
    assert edge.available() == edge.look() == 0
    assert edge.take() is NOTHING


@EITHER_KIND
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


@EITHER_KIND
def test_a_late_consumer_sees_only_what_comes_after_it(new: Callable[[int], Any]) -> None:
    ring = new(8)
    first = ring.add_edge()
    assert ring.offer(1)
    second = ring.add_edge()
    assert ring.offer(2)
    assert [take(first), take(first)] == [1, 2]
    assert second.available() == 1
    assert take(second) == 2


@EITHER_KIND
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


@EITHER_KIND
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


@EITHER_KIND
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
    ring.api.publish(ring.address, 5, 0)  # as a worker does that had looked before
    assert leftovers(last) == [0, 1, 2, 3, 4]
    assert leftovers(gone) == [0, 1, 2]
    for _ in range(100):
        assert last.published() == 5
    assert len(last.leftovers()) < 10  # to ask costs nothing that stays
    fresh = ring.add_edge()
    ring.slots["value"][5] = 5
    ring.api.publish(ring.address, 6, 0)
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
