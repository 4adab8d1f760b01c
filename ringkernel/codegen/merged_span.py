"""The loop of a kernel that takes the messages of its inputs in the order of their times, and its timer between them.

Instead of an array of messages it gets the record of `memory/span_layout.py` for `source`, in which each input has a
lane: what waits there, and what time is to be expected when that is through. It is a k-way merge; a lane in which
nothing waits takes part with that time, as in the conservative synchronisation of Chandy and Misra (1979). At equal
times the first lane is first.

A call with no steps looks only: `is_ready` then says whether there is something to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.memory.layout import ENDED, NO_TIME
from ringkernel.memory.span_layout import LANE, LANE_NBYTES, LANES, NOBODY, SPAN

from .merged_lane import Lane, choice_of
from .merged_pair import no_pair, pair
from .merged_timer import begin_timer, no_beginning, no_timer, run_timer
from .operations import peek, poke
from .steps import n_states

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .span_types import Plan

Function = Any


def merged_loop(plan: Plan, calls: Sequence[Any]) -> Function:
    """Return the loop over what `calls_of` a plan are for; not compiled yet."""
    merge = plan.merge
    assert merge is not None
    lanes = [Lane(call, types, merge.field) for call, (_, types) in zip(calls, plan.lanes, strict=False)]
    run, keys = choice_of(lanes, merge.late, in_chain=len(plan.stages) > 0)
    two = pair(*lanes) if len(lanes) == 2 else no_pair
    if merge.timer is None:
        return _loop(len(lanes), keys, run, two, no_timer, no_beginning)
    times = lanes[0].times
    timer = run_timer(calls[-1], n_states(plan), times, merge.every)
    return _loop(len(lanes), keys, run, two, timer, begin_timer(times, merge.every))


def _survey(n_lanes: int) -> Function:
    """A function that finds the lane with the earliest message, or -1. It returns that, its time, up to what time it
    may go on before the others are to be looked at again, and the time that all have come to."""

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
    """A function that says where time has come to when nothing more comes in any lane: to that of the furthest one."""

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

    def merged(merge: int, steps: int, target: int, context: int, _fault: int) -> int:  # noqa: C901, PLR0912
        poke(merge + SPAN.steps, 0)
        poke(merge + SPAN.by_timer, 0)
        poke(merge + SPAN.failed_lane, NOBODY)
        keys(merge)
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
