"""The loop of a kernel that takes the messages of its inputs in the order of their times, and its timer between them.

`span(merge, steps, target, context, fault) -> emitted`, called like the span of any kernel; instead of an array of
messages it gets the record of `memory/span_layout.py`, in which each input has a lane: what waits there, and what time
is to be expected when that is through. It is a k-way merge; a lane in which nothing waits takes part with that time, as
in the conservative synchronisation of Chandy and Misra (1979). At equal times the first lane is first.

A call with no steps looks only: `is_ready` then says whether there is something to do.
"""

from __future__ import annotations

from typing import Any

from numba import types

from ringkernel.memory.layout import ENDED, NO_TIME
from ringkernel.memory.span_layout import LANE, LANE_NBYTES, LANES, NOBODY, SPAN, lane_at

from .bounded import is_bounded
from .checks import in_order
from .faults import BACK, LATE, NO_TIME_VALUE
from .handler_call import argument_types
from .kernel_semantics import kernel_semantics
from .merged_calls import EXCEPTION, Handled, fail, merged_call
from .merged_pair import no_pair, pair
from .merged_timer import ALONE, Around, begin_timer, no_beginning, no_timer, run_timer
from .operations import peek, poke
from .readonly import read_only
from .span import call_on_cpu, compile_handler
from .span_body import FAILED
from .span_types import MergeTypes, Span
from .targets.cpu import compile_loop

Function = Any
FAIL_LATE, DROP_LATE, TAKE_LATE = range(3)
SKIP, HANDLE = -1, 0
"""What becomes of a message, or a number of `faults.py`, or `EXCEPTION`."""


def compile_merged_span(spec: MergeTypes) -> Span:
    """Compile it. Raises what `compile_span` raises."""
    with kernel_semantics():
        compiled = [compile_handler(*one)[0] for one in spec.handlers]
        calls = [
            Handled(merged_call(call_on_cpu(dispatcher, each), each), each)
            for dispatcher, (_, each) in zip(compiled, spec.handlers, strict=True)
        ]
        loop = compile_loop(merged_loop(spec, calls))
    returned = [
        dispatcher.overloads[argument_types(each, read_only)].signature.return_type
        for dispatcher, (_, each) in zip(compiled, spec.handlers, strict=True)
    ]
    return Span(
        loop.address,
        (loop, compiled),
        all(isinstance(one, types.NoneType) for one in returned) and spec.timer is None,
        all(is_bounded(one) for one in compiled),
        loop.library,
        loop.symbol,
        in_order=any(in_order(one) for one in compiled),
    )


def merged_loop(spec: MergeTypes, calls: list[Handled], around: Around = ALONE) -> Function:
    """The loop over what `calls` are for, the handlers of `spec`; not compiled yet."""
    lanes = [one.by(spec.field) for one in calls[: len(spec.inputs)]]
    run = _nobody
    key: Function = _nowhen
    for number, lane in reversed(list(enumerate(lanes))):
        run = _or(number, _run_lane(number, lane, spec.late), run)
        key = _or_key(number, lane.reads, key)
    two = pair(lanes[0], lanes[1]) if len(lanes) == 2 else no_pair
    if spec.timer is None:
        return _loop(len(lanes), key, run, two, no_timer, no_beginning)
    return _loop(len(lanes), key, run, two, run_timer(calls[-1], spec, around), begin_timer(spec))


def _nobody(which: int, merge: int, count: int, bound: int, emitted: int, target: int, context: int) -> int:
    return emitted


def _nowhen(which: int, merge: int) -> None:
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

    def key(which: int, merge: int) -> None:
        lane = merge + at
        taken = peek(lane + LANE.taken)
        if taken < peek(lane + LANE.count):
            poke(lane + LANE.key, reads(peek(lane + LANE.source), taken))
        else:
            poke(lane + LANE.key, max(peek(lane + LANE.horizon), peek(lane + LANE.last)))
        others(which, merge)

    return key


def _run_lane(number: int, handler: Handled, late: int) -> Function:
    """The messages of one lane up to a time, as long as there is room. How many outputs there are now."""
    call, reads, checked, at = handler.call, handler.reads, handler.checked, lane_at(number)
    is_sink, judge = handler.is_sink, _judge(late, checked=checked)

    def run(merge: int, count: int, bound: int, emitted: int, target: int, context: int) -> int:
        lane, fault = merge + at, peek(merge + SPAN.fault)
        source, first, there = peek(lane + LANE.source), peek(lane + LANE.taken), peek(lane + LANE.count)
        passed, last, room = peek(merge + SPAN.passed), peek(lane + LANE.last), peek(merge + SPAN.room)
        end = min(first + count, there)
        i, code = first, HANDLE
        key = reads(source, i)
        while code <= HANDLE and i < end and key <= bound and (is_sink or emitted < room):
            code = HANDLE
            if key < passed or (checked and key == NO_TIME):
                code = judge(merge, key, last)
            else:
                passed = key
            if code == HANDLE:
                verdict = call(source, i, target, emitted, context, fault)
                if verdict == FAILED:
                    code = EXCEPTION
                elif not is_sink:
                    emitted += 1 - verdict
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


def _judge(late: int, *, checked: bool) -> Function:
    """What becomes of a message whose time is none, or had passed."""

    def judge(merge: int, key: int, last: int) -> int:
        if checked and key == NO_TIME:
            return NO_TIME_VALUE
        if key < last:
            return BACK
        if late == FAIL_LATE:
            return LATE
        poke(merge + SPAN.late, peek(merge + SPAN.late) + 1)
        return HANDLE if late == TAKE_LATE else SKIP

    return judge


def _survey(n_lanes: int) -> Function:
    """Which lane has the earliest message, or -1; its time, and up to what time it may go on before the others are to
    be looked at again; and what all have come to."""

    def survey(merge: int) -> tuple[int, int, int, int]:
        best, time, low = -1, ENDED, ENDED
        for number in range(n_lanes):
            lane = merge + LANES + LANE_NBYTES * number
            key = peek(lane + LANE.key)
            low = min(low, key)
            if peek(lane + LANE.taken) < peek(lane + LANE.count) and (best < 0 or key < time):
                best, time = number, key
        bound = ENDED
        for number in range(n_lanes):
            lane = merge + LANES + LANE_NBYTES * number
            key = peek(lane + LANE.key)
            if number < best:
                if key == NO_TIME:
                    best = -1  # nothing is known of an input that goes first at equal times
                elif peek(lane + LANE.taken) < peek(lane + LANE.count) or peek(lane + LANE.ended) == 0:
                    bound = min(bound, key - 1)
            elif number > best:
                bound = min(bound, key)
        if best >= 0 and time > bound:
            best = -1
        return best, time, bound, low

    return survey


def _furthest(n_lanes: int) -> Function:
    """Where time has come to when nothing more comes in any lane: as far as in the one that was ahead."""

    def furthest(merge: int) -> int:
        found = peek(merge + SPAN.passed)
        for number in range(n_lanes):
            found = max(found, peek(merge + LANES + LANE_NBYTES * number + LANE.reached))
        return found

    return furthest


def _loop(  # noqa: C901
    n_lanes: int, keys: Function, run: Function, two: Function, timer: Function, begin: Function
) -> Function:
    survey, furthest = _survey(n_lanes), _furthest(n_lanes)

    def merged(merge: int, steps: int, target: int, context: int, fault: int) -> int:  # noqa: C901, PLR0912
        poke(merge + SPAN.steps, 0)
        poke(merge + SPAN.by_timer, 0)
        poke(merge + SPAN.failed_lane, NOBODY)
        poke(merge + SPAN.fault, fault)
        for number in range(n_lanes):
            keys(number, merge)
        emitted, before, is_ready, low = 0, -1, 1, NO_TIME
        while is_ready == 1 and peek(merge + SPAN.steps) > before:
            before = peek(merge + SPAN.steps)
            at, is_over = peek(merge + SPAN.timer), peek(merge + SPAN.timer_record) < 0
            if at != NO_TIME and before < steps:
                emitted = two(merge, steps - before, at, emitted, target, context)
                if peek(merge + SPAN.failed_lane) != NOBODY:
                    break
            best, time, bound, low = survey(merge)
            if low == ENDED and best < 0:
                low = furthest(merge)
            left = steps - peek(merge + SPAN.steps)
            if NO_TIME < at <= low and not is_over:
                if left > 0:
                    emitted += timer(merge, low, left, emitted, target, context)
            elif best < 0:
                is_ready = 0
            elif left > 0:
                if at == NO_TIME:
                    begin(merge, time)
                    at, is_over = peek(merge + SPAN.timer), peek(merge + SPAN.timer_record) < 0
                if at == NO_TIME:
                    bound = min(bound, time)  # the next message may begin it
                elif not is_over:
                    bound = min(bound, at - 1)
                emitted = run(best, merge, left, bound, emitted, target, context)
            if peek(merge + SPAN.failed_lane) != NOBODY:
                is_ready = 0
        at, passed = peek(merge + SPAN.timer), peek(merge + SPAN.passed)
        if at != NO_TIME:
            low = min(low, at)
        poke(merge + SPAN.low, low)
        poke(merge + SPAN.passed, max(low, passed))
        poke(merge + SPAN.is_ready, is_ready)
        return emitted

    return merged
