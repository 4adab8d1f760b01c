"""The timer of a merged span: it handles each multiple of its period that time passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.memory.layout import ENDED
from ringkernel.memory.span_layout import SPAN, WITHOUT

from .merged_lane import EXCEPTION, fail
from .operations import peek, poke
from .span_body import FAILED
from .time_words import count_after, multiple

if TYPE_CHECKING:
    import numpy as np

Function = Any
NO_MORE = -1
"""In the place of the number of a key."""


def no_timer(merge: int, low: int, steps: int, emitted: int, target: int, context: int) -> int:
    """In its place, where there is no timer."""
    return 0


def run_timer(call: Any, n_states: Function, times: np.dtype[Any], every: float) -> Function:
    """Return what handles the multiples up to a time, as long as there is room; of a keyed kernel each of them for
    every key. It returns how many outputs came of them, which `by_timer` counts, too."""
    word = multiple(times, every)

    def timer(merge: int, low: int, steps: int, emitted: int, target: int, context: int) -> int:
        at, count, number = (
            peek(merge + SPAN.timer),
            peek(merge + SPAN.timer_count),
            peek(merge + SPAN.timer_record),
        )
        room, fault, failed = peek(merge + SPAN.room), merge + SPAN.fault_index, 0
        last = n_states(context) - 1
        done = came = 0
        while failed == 0 and number >= 0 and at <= low and done < steps and emitted + came < room:
            verdict = call(at, number, target, emitted + came, context, fault)
            if verdict < 0:
                failed = 1
            else:
                came += 1 - verdict
            if verdict != FAILED:  # if a further stage has failed, this one is through with it
                poke(merge + SPAN.passed, max(at, peek(merge + SPAN.passed)))
                number += 1
                done += 1
                if number > last:
                    count += 1
                    following = word(count)
                    number = 0 if following > at else NO_MORE
                    at = following if following > at else ENDED
        poke(merge + SPAN.timer, at)
        poke(merge + SPAN.timer_count, count)
        poke(merge + SPAN.timer_record, number)
        poke(merge + SPAN.by_timer, peek(merge + SPAN.by_timer) + came)
        poke(merge + SPAN.steps, peek(merge + SPAN.steps) + done)
        if failed == 1:
            fail(merge, WITHOUT, EXCEPTION)
        return came

    return timer


def begin_timer(times: np.dtype[Any], every: float) -> Function:
    """Return what finds, for the first message that comes, from which multiple on there is something to handle: there
    is none before it that multiples could be counted from."""
    after, word = count_after(times, every), multiple(times, every)

    def begin(merge: int, first: int) -> None:
        count = after(first)
        at = word(count)
        poke(merge + SPAN.timer_count, count)
        if at > first:
            poke(merge + SPAN.timer, at)
        elif first >= 0:  # in the second half of all times, so no later one has a multiple after it
            no_beginning(merge, first)

    return begin


def no_beginning(merge: int, first: int) -> None:
    """Note that no multiple is to come. Also in the place of `begin_timer`, where there is no timer."""
    poke(merge + SPAN.timer, ENDED)
    poke(merge + SPAN.timer_record, NO_MORE)
