"""Rings with several readers, and who sleeps and is woken: the host, a worker with its kernel, in both directions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from kernels import (
    BELL_AT,
    ENTRY_AT,
    HANDLED_AT,
    INPUT_AT,
    LOOP_AT,
    OUTPUT_AT,
    OUTPUT_EDGE,
    PLAYED,
    WORKER_AT,
    doorbell,
    kernel,
    ring,
    slot,
)
from played import Words, load_all, namespace, noted
from search import System, step

from ringkernel.memory.layout import ARMED, DOORBELL, EDGE, QUIET, RING, RUN_ENTRY

if TYPE_CHECKING:
    from search import End, Program

TAGS_AT, COPY_AT, SENT_AT = 60 << 40, 61 << 40, 62 << 40


def read_mark(edge: int, sequence: int, capacity: int) -> int:
    """A word in which a reader notes that it has read a slot. Who may write to the slot must see that: otherwise the
    two are not ordered, and a machine may let the reader read what was written later."""
    return edge + (1 << 12) + 8 * (sequence % capacity)


def take(code: dict[str, Any], edge: int, at: int, capacity: int, expected: int) -> Any:
    """Take all that is there, one by one. The next expected value; `expected` if nothing was there."""
    head = yield from step("load", edge + EDGE.head)
    bound = yield from code["bound_of"](edge, head)
    for sequence in range(head, bound):
        value = yield from step("load", slot(at, sequence, capacity))
        assert value == expected, f"message {value} was read where {expected} should be"
        yield from step("store", read_mark(edge, sequence, capacity), sequence + 1)
        expected += 1
    if bound > head:
        yield from code["consume"](edge, bound, 0)
    return expected


def wait(code: dict[str, Any], edge: int, at: int, capacity: int, expected: int) -> Any:
    """The same, once something is there."""
    while (after := (yield from take(code, edge, at, capacity, expected))) == expected:
        yield from step("poll")
    return after


def readers(source: str, n_readers: int) -> System:
    """Two messages go through a ring with room for one, to these readers."""
    words, n, capacity = Words(), 2, 1
    edges = [OUTPUT_EDGE + (i << 16) for i in range(n_readers)]
    ring(words, OUTPUT_AT, capacity, edges)
    code = namespace("turn", source, **PLAYED)

    def producer() -> Any:
        for i in range(n):
            while (yield from code["room_of"](OUTPUT_AT, 1)) <= 0:
                yield from step("poll")
            for edge in edges:
                seen = yield from step("load", read_mark(edge, i, capacity))
                assert seen == max(0, i + 1 - capacity), "a slot is written to that a reader may still read"
            yield from step("store", slot(OUTPUT_AT, i, capacity), i)
            yield from code["publish"](OUTPUT_AT, i + 1, 0)

    def consumer(edge: int) -> Any:
        expected = 0
        while expected < n:
            expected = yield from wait(code, edge, OUTPUT_AT, capacity, expected)
        return expected

    def check(end: End) -> None:
        assert not end.waiting, f"somebody waits for ever: {end.waiting}"

    agents: dict[str, Program] = {"producer": producer}
    agents.update({f"reader {i}": partial(consumer, edge) for i, edge in enumerate(edges)})
    return System(f"a ring, {n_readers} readers", words, agents, check)


def batches(source: str) -> System:
    """Batches that go around the end of the slots."""
    words, capacity = Words(), 2
    ring(words, OUTPUT_AT, capacity, [OUTPUT_EDGE])
    words.update({SENT_AT + 8 * i: i for i in range(3)})
    code = namespace("turn", source, **PLAYED)

    def producer() -> Any:
        for first, count in ((0, 1), (1, 2)):
            while (yield from code["room_of"](OUTPUT_AT, count)) < count:
                yield from step("poll")
            yield from code["publish_copy"](OUTPUT_AT, first, SENT_AT + 8 * first, count, 0)

    def consumer() -> Any:
        head = 0
        while head < 3:
            bound = yield from code["bound_of"](OUTPUT_EDGE, head)
            if bound == head:
                yield from step("poll")
            else:
                yield from code["consume_copy"](OUTPUT_EDGE, head, COPY_AT + 8 * head, bound - head, 0)
                head = bound

    def check(end: End) -> None:
        assert not end.waiting, f"somebody waits for ever: {end.waiting}"
        assert [end.word(COPY_AT + 8 * i) for i in range(3)] == [0, 1, 2], "a message is lost or torn"

    return System("a ring with batches", words, {"producer": producer, "consumer": consumer}, check)


def worker_sleeps(source: str, n: int) -> System:
    """A worker whose kernel rests, and which parks, is sent messages."""
    words = kernel()
    code = namespace("turn", source, **PLAYED)

    def host() -> Any:
        for i in range(n):
            yield from step("store", slot(INPUT_AT, i, 4), i)
            yield from code["publish"](INPUT_AT, i + 1, 0)

    def check(end: End) -> None:
        assert noted(end.word, HANDLED_AT) == list(range(n)), "a message waits for ever, or was read twice"
        assert end.waiting == {"worker"}, "the worker should sleep"

    return System("a worker sleeps", words, {"worker": lambda: code["run_worker"](WORKER_AT, 0), "host": host}, check)


def worker_waits_for_room(source: str) -> System:
    """A kernel whose output is full rests; the host takes an output."""
    words = kernel(room=1)
    words.update({
        INPUT_AT + RING.tail: 1, slot(INPUT_AT, 0, 4): 1,
        OUTPUT_AT + RING.tail: 1, OUTPUT_AT + RING.next: 1, slot(OUTPUT_AT, 0, 1): 0,
    })  # fmt: skip
    code = namespace("turn", source, **PLAYED)

    def host() -> Any:
        return (yield from take(code, OUTPUT_EDGE, OUTPUT_AT, 1, 0))

    def check(end: End) -> None:
        assert end.waiting == {"worker"}, "the worker should sleep"
        assert noted(end.word, HANDLED_AT) == [1], "a message waits, and has room"

    agents = {"worker": lambda: code["run_worker"](WORKER_AT, 0), "host": host}
    return System("a worker waits for room", words, agents, check)


def loop_sleeps(source: str, n: int, *, standing: bool = False, turns: bool = False) -> System:
    """The event loop waits for messages, asleep, as `Line.wait` and `LoopParker.dispatch` do; or with a doorbell that
    is armed again as soon as it was heard. They come from a thread, or from `turns` of a kernel."""
    words = kernel(state=ARMED)
    words.update({slot(INPUT_AT, i, 4): i for i in range(n)})
    words.update({INPUT_AT + RING.tail: n, ENTRY_AT + RUN_ENTRY.span_limit: 1})
    words.update({BELL_AT + DOORBELL.standing: int(standing), BELL_AT + DOORBELL.state: ARMED if standing else QUIET})
    code = namespace("turn", source, **PLAYED)

    def loop() -> Any:
        expected = 0
        while True:
            expected = yield from take(code, OUTPUT_EDGE, OUTPUT_AT, 4, expected)
            if expected == n:
                return expected
            if not standing:
                yield from code["arm_doorbell"](BELL_AT)
                before = expected
                expected = yield from take(code, OUTPUT_EDGE, OUTPUT_AT, 4, expected)
                if expected > before:
                    continue
            while True:
                yield from step("sleep_on", LOOP_AT + 4096)
                if (yield from code["collect_tags"](LOOP_AT, TAGS_AT, 8)) != 0:
                    break

    def worker() -> Any:
        for i in range(n):
            if turns:
                yield from code["turn"](ENTRY_AT, 0)
                continue
            yield from step("store", slot(OUTPUT_AT, i, 4), i)
            yield from code["publish"](OUTPUT_AT, i + 1, 0)

    def check(end: End) -> None:
        assert not end.waiting, "the event loop sleeps, and a message waits"

    return System("the event loop sleeps", words, {"loop": loop, "worker": worker}, check)


def rings(source: str, n_bells: int) -> System:
    """Two threads ring the event loop, by the same doorbell or each by its own, after they have left something."""
    words = kernel()
    bells = [BELL_AT + (i << 16) for i in range(n_bells)]
    for i, bell in enumerate(bells):
        doorbell(words, bell, LOOP_AT, ARMED)
        words[bell + DOORBELL.tag] = i
    code = namespace("turn", source, **PLAYED)

    def thread(number: int, rung: list[int]) -> Any:
        for bell in rung:
            yield from step("store", SENT_AT + (number << 16) + bell, 1)
            yield from step("fence")
            yield from code["ring_doorbell"](bell, 0)

    def loop() -> Any:
        told: list[int] = []
        while len(told) < n_bells:
            yield from step("sleep_on", LOOP_AT + 4096)
            count = yield from code["collect_tags"](LOOP_AT, TAGS_AT, 8)
            for i in range(count):
                tag = yield from step("load", TAGS_AT + 8 * i)
                left = yield from load_all(SENT_AT + (number << 16) + bells[tag] for number in range(2))
                assert any(left), "a doorbell is heard before what it was rung for is seen"
                told.append(tag)
        return told

    def check(end: End) -> None:
        assert not end.waiting, "a doorbell is never heard"
        assert sorted(end.results["loop"]) == list(range(n_bells)), "a doorbell is heard twice"

    agents = {"one": lambda: thread(0, bells[:1]), "other": lambda: thread(1, bells[-1:]), "loop": loop}
    return System(f"an inbox, {n_bells}", words, agents, check)


SYSTEMS = {
    "sleep: a doorbell, two threads": ("turn", partial(rings, n_bells=1)),
    "sleep: two doorbells, two threads": ("turn", partial(rings, n_bells=2)),
    "ring: a reader": ("turn", partial(readers, n_readers=1)),
    "ring: two readers": ("turn", partial(readers, n_readers=2)),
    "ring: batches": ("turn", batches),
    "sleep: a worker, a message": ("turn", partial(worker_sleeps, n=1)),
    "sleep: a worker, two messages": ("turn", partial(worker_sleeps, n=2)),
    "sleep: for room": ("turn", worker_waits_for_room),
    "sleep: the event loop, a message": ("turn", partial(loop_sleeps, n=1)),
    "sleep: the event loop, a standing doorbell": ("turn", partial(loop_sleeps, n=2, standing=True)),
    "sleep: the event loop, a turn": ("turn", partial(loop_sleeps, n=1, turns=True)),
    "sleep: the event loop, two messages": ("turn", partial(loop_sleeps, n=2)),
}
