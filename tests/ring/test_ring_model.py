"""A ring holds what a plain deque per consumer holds, whatever is done to it in whatever order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ring_tools import INT64, leftovers, record_ring

from ringkernel.memory.layout import NEVER
from ringkernel.messages.arrays import as_array, from_array
from ringkernel.ring.host.object_ring import ObjectRing
from ringkernel.ring.host.waiting import NOTHING

if TYPE_CHECKING:
    from ringkernel.ring.host.record_ring import RecordRing


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
        return list(from_array(INT64, messages).tolist() if self.ring.holds_records else messages)

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
