"""One lane of a merge: what its messages are called with, when they are late, and how it runs as far as it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.memory.layout import NO_TIME
from ringkernel.memory.span_layout import LANE, SPAN, lane_at

from .faults import BACK, LARGEST, LATE, NO_TIME_VALUE
from .operations import peek, poke
from .steps import note_dropped
from .time_words import read_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .span_types import SpanTypes

Function = Any
EXCEPTION = LARGEST
"""In place of a number of `faults.py`: the fault words say what was raised."""
SKIP, HANDLE = -1, 0
"""The verdict on a message's time; else it is a number of `faults.py`, or `EXCEPTION`."""


class Lane:
    """An input of a merge: the `call` of its messages, and what `reads` their time, of the type `times`, which may be
    none if it is to be `checked`."""

    def __init__(self, call: Any, types: SpanTypes, field: str) -> None:
        messages = types.input
        assert messages is not None
        assert messages.fields is not None
        self.times, offset = messages[field], messages.fields[field][1]
        self.call, self.checked = call, self.times.kind in "fM"
        self.reads = read_time(self.times, messages.itemsize, offset)


def choice_of(lanes: Sequence[Lane], late: str, *, in_chain: bool) -> tuple[Function, Function]:
    """Return what runs one of the lanes, by its number, and what notes the time of what comes next in each."""
    skip = note_dropped if in_chain else _note_nothing
    run, keys = _nobody, _nowhen
    for number, lane in reversed(list(enumerate(lanes))):
        run = _or(number, _run_lane(number, lane, _judge(late, checked=lane.checked), skip), run)
        keys = _or_key(number, lane.reads, keys)
    return run, keys


def _nobody(which: int, merge: int, count: int, bound: int, emitted: int, target: int, context: int) -> int:
    return emitted


def _nowhen(merge: int) -> None:
    return None


def _note_nothing(context: int, number: int) -> None:
    return None


def _or(number: int, this: Function, others: Function) -> Function:
    """One of the lanes, by its number."""

    def run(which: int, merge: int, count: int, bound: int, emitted: int, target: int, context: int) -> int:
        if which == number:
            return this(merge, count, bound, emitted, target, context)  # type: ignore[no-any-return]
        return others(which, merge, count, bound, emitted, target, context)  # type: ignore[no-any-return]

    return run


def _or_key(number: int, reads: Function, others: Function) -> Function:
    """Note the time of what comes next in each lane."""
    at = lane_at(number)

    def keys(merge: int) -> None:
        lane = merge + at
        taken = peek(lane + LANE.taken)
        if taken < peek(lane + LANE.count):
            poke(lane + LANE.key, reads(peek(lane + LANE.source), taken))
        else:
            poke(lane + LANE.key, max(peek(lane + LANE.horizon), peek(lane + LANE.last)))
        others(merge)

    return keys


def _run_lane(number: int, of: Lane, judge: Function, skip: Function) -> Function:
    """A function that runs the messages of one lane up to a time, as long as there is room. It returns how many outputs
    there are now."""
    call, reads, checked, at = of.call, of.reads, of.checked, lane_at(number)

    def run(merge: int, count: int, bound: int, emitted: int, target: int, context: int) -> int:
        lane, fault = merge + at, merge + SPAN.fault_index
        source, first, there = peek(lane + LANE.source), peek(lane + LANE.taken), peek(lane + LANE.count)
        passed, last, room = peek(merge + SPAN.passed), peek(lane + LANE.last), peek(merge + SPAN.room)
        end = min(first + count, there)
        i, code = first, HANDLE
        key = reads(source, i)
        while code <= HANDLE and i < end and key <= bound and emitted < room:
            code = HANDLE
            if key < passed or (checked and key == NO_TIME):
                code = judge(merge, key, last)
            else:
                passed = key
            if code == HANDLE:
                verdict = call(source, i, target, emitted, context, fault)
                if verdict < 0:
                    code = EXCEPTION
                else:
                    emitted += 1 - verdict
            elif code == SKIP:
                skip(context, 0)
            if code <= HANDLE:
                last = key
                i += 1
                key = reads(source, i) if i < there else max(peek(lane + LANE.horizon), last)
        poke(merge + SPAN.steps, peek(merge + SPAN.steps) + i - first)
        poke(lane + LANE.taken, i)
        poke(lane + LANE.last, last)
        poke(lane + LANE.key, key)
        poke(merge + SPAN.passed, passed)
        if code > HANDLE:
            fail(merge, number, code)
        return emitted

    return run


def _judge(late: str, *, checked: bool) -> Function:
    """A function that judges a message whose time is none, or had passed."""
    fails, code = late == "fail", HANDLE if late == "take" else SKIP

    def judge(merge: int, key: int, last: int) -> int:
        if checked and key == NO_TIME:
            return NO_TIME_VALUE
        if key < last:
            return BACK
        if fails:
            return LATE
        poke(merge + SPAN.late, peek(merge + SPAN.late) + 1)
        return code

    return judge


def fail(merge: int, lane: int, code: int) -> None:
    """Note that this lane has failed, or the timer."""
    poke(merge + SPAN.failed_lane, lane)
    poke(merge + SPAN.fault_index, 0)
    poke(merge + SPAN.fault_count, 1 if lane >= 0 else 0)
    if code != EXCEPTION:
        poke(merge + SPAN.fault_info_address, code)
