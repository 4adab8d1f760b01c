"""The record of a kernel's span: which messages, by which function, where outputs go, and what came of it.

`ring/spans/fill.py` fills it, `ring/spans/run_span.py` runs it, `ring/spans/commit.py` commits it. A **lane** is an
input that the span may take messages from: the one that was found, or, for a kernel that goes by time, all of them;
what a kernel does at its end has none. Such a kernel also keeps here how far time has come. A time is a word in the
order of the times, see `messages/time_words.py`, and `codegen/merged_span.py`.
"""

from __future__ import annotations

from .layout import FAULT, FAULT_WORDS
from .record import group, line, record, within

MAX_INPUTS = 16

# span.failed_lane, besides the number of a lane
WITHOUT, NOBODY = -1, -2

TIME_WORDS = {
    "passed": "no time below this is to come any more",
    "low": "time that all inputs have come to, so far",
    "told": "time that kernels downstream were told",
    "timer": "next multiple of the timer's period, as a time",
    "timer_count": "the same as a number of periods",
    "timer_record": "number of the key for which the timer is handled next; -1: it is not handled any more",
    "late": "messages that came after their time had passed",
    "room": "how many outputs the span may have",
    "is_ready": "1: there was something to do",
    "starved_by": "a bit for each input that kept it from that",
}
"""What a kernel that goes by time keeps, and its grid brings back."""

TIME_DTYPE, TIME = record("Time", line("poller", TIME_WORDS))

RUN_WORDS = {
    "address": "address of the function that is called, once with all that was found, or in parts",
    "source": "address of the messages",
    "count": "how many messages it is called with, at most",
    "target": "address that outputs go to; 0: there are none",
    "context": "address of the kernel's context, or of the fused chain that is run",
    "emitted": "outputs",
    "done": "messages that are through, of a kernel that does not go by time",
    "started": "when it began",
    "ended": "when it ended",
    **FAULT_WORDS,
    "fault_stage": "which stage has failed; 0: the first, if any",
}
"""What a thread runs, and what came of it: a span, or a part of one that several threads share."""

RUN_DTYPE, RUN = group("Run", "who runs the span", RUN_WORDS)

SPAN_DTYPE, SPAN = record(
    "Span",
    line(
        "host",
        by_time="1: the kernel goes by time",
        patience_ticks="by time: how many ticks without news an input holds up the others, or `NEVER`",
    ),
    line(
        "poller",
        RUN_WORDS,
        n_lanes="number of lanes",
        waiting="how many messages wait in them",
        output="address of the output ring; 0: none",
        tail="sequence of the first output",
        # what came of it, and then what a commit makes of that
        by_timer="outputs that came of no message",
        steps="how often a handler was called",
        failed_lane="the lane of the message that it has failed on, `WITHOUT` one, or `NOBODY`: it has not failed",
        is_over="1: there is no more to do at the end",
        busy_ticks="time it took, all threads together",
        taken="messages taken, with those that it has failed on",
        failing="which stage has failed, 0 if it is the kernel itself; -1: none",
        missing="which stage's message is lost by that; -1: none",
        is_news="1: time has come further than was told",
        stages="address of what was run, see `STAGES_WORDS`",
    ),
    # so that a commit says what it is afterwards, however often it begins again
    line(
        "poller",
        ledger_version="the kernel's `ledger_version` before the span",
        processed="its `processed` before the span",
        failed="its `failed` before the span",
        emitted_before="its `emitted` before the span",
        dropped="its `dropped` before the span",
    ),
    line("poller", TIME_WORDS),
)

LANE_DTYPE, LANE = record(
    "Lane",
    line(
        "poller",
        edge="the edge, from the block",
        head="sequence of the first message",
        source="address of the messages that may be taken",
        count="how many these are",
        taken="how many of them were taken",
        last="by time, like all below: time of the last one that was taken",
        horizon="nothing below this time comes once these are through",
        ended="1: nothing comes at all then, whatever its time",
        reached="what the ring's `progress` said of that",
        key="time of the next message, or what stands for it",
        seen_tail="the ring's `tail` when there was news last",
        seen_progress="the ring's `progress` then",
        news_at="when that was",
    ),
    line(
        "poller",  # a grid
        known_tail="the ring's `tail` when the grid had nothing to do",
        known_progress="the ring's `progress` then",
        known_ended="the ring's `ended` then",
    ),
)

LANES, LANE_NBYTES = SPAN_DTYPE.itemsize, LANE_DTYPE.itemsize
"""Where the lanes are, from the beginning of the record, and how long each is."""

RUN_AT, RUN_NBYTES = within(SPAN, RUN), RUN_DTYPE.itemsize
"""Where the words of what is run are, from the beginning of the record, and how long they are."""

FAULT_AT = within(RUN, FAULT)
"""Where the words of a fault are in these."""

TIME_AT = within(SPAN, TIME)
"""Where the words of time are, from the beginning of the record: next to the lanes."""
assert TIME_AT + TIME_DTYPE.itemsize == LANES


def lane_at(number: int) -> int:
    """Where the lane of an input is, from the beginning of the record."""
    return int(LANES + LANE_NBYTES * number)


def span_nbytes(n_lanes: int) -> int:
    """Bytes of a record with so many lanes."""
    return lane_at(n_lanes)
