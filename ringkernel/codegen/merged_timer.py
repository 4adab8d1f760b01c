"""The timer of a merged span: it handles each multiple of its period that time passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringkernel.memory.keys_layout import KEYS
from ringkernel.memory.layout import ENDED
from ringkernel.memory.span_layout import SPAN, WITHOUT

from .merged_calls import EXCEPTION, fail
from .operations import peek, poke
from .span_body import FAILED
from .time_words import count_after, multiple

if TYPE_CHECKING:
    from .merged_calls import Handled
    from .span_types import MergeTypes

Function = Any
NO_MORE = -1
"""In the place of the number of a key."""


def _itself(context: int) -> int:
    return context


def _never(context: int) -> int:
    return 0


@dataclass(frozen=True)
class Around:
    """What the loop is part of. Functions of the word that it is called with for the context: where the context of the
    kernel itself is; and 1 if what has just failed was not its own handler, but came after it."""

    context: Function = _itself
    was_after: Function = _never


ALONE = Around()


def no_timer(merge: int, low: int, steps: int, emitted: int, target: int, context: int) -> int:
    """In its place, where there is no timer."""
    return 0


def run_timer(handler: Handled, spec: MergeTypes, around: Around) -> Function:
    """The multiples up to a time, as long as there is room; of a keyed kernel each of them for every key. How many
    outputs came of them; `timer_emitted` counts them, too."""
    call, own_context, was_after = handler.call, around.context, around.was_after
    word, is_keyed, is_sink = multiple(_times(spec), spec.every), handler.spec.key is not None, handler.is_sink

    def timer(merge: int, low: int, steps: int, emitted: int, target: int, context: int) -> int:
        at, count, number = (
            peek(merge + SPAN.timer),
            peek(merge + SPAN.timer_count),
            peek(merge + SPAN.timer_record),
        )
        room, fault, failed = peek(merge + SPAN.room), peek(merge + SPAN.fault), 0
        last = peek(own_context(context) + KEYS.count) - 1 if is_keyed else 0
        done = came = 0
        while failed == 0 and number >= 0 and at <= low and done < steps and (is_sink or emitted + came < room):
            verdict = call(at, number, target, emitted + came, context, fault)
            if verdict == FAILED:
                failed = 1
            elif not is_sink:
                came += 1 - verdict
            if failed == 0 or was_after(context) == 1:
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


def _times(spec: MergeTypes) -> Any:
    times = spec.inputs[0][1].input
    assert times is not None
    return times[spec.field]


def begin_timer(spec: MergeTypes) -> Function:
    """A message has come, and none before it that multiples could be counted from: from which one on there is something
    to handle."""
    dtype = _times(spec)
    after, word = count_after(dtype, spec.every), multiple(dtype, spec.every)

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
