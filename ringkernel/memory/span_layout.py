"""What a turn runs: which messages, by which function, where outputs go, and what came of it. One record per kernel.

`ring/fill.py` fills it, `ring/run_span.py` runs it, `ring/commit.py` commits it. A **lane** is an input that the span
may take messages from: the one that was found, or, for a kernel that goes by time, all of them; what a kernel does at
its end has none. Such a kernel also keeps here how far time has come. A time is a word in the order of the times, see
`messages/time_words.py`, and `codegen/merged_span.py`.
"""

from __future__ import annotations

from .layout import record

MAX_INPUTS = 16

# span.failed_lane, besides the number of a lane
WITHOUT, NOBODY = -1, -2

SPAN_DTYPE, SPAN = record(
    "Span",
    # host: whether the kernel goes by time, and how many ticks without news an input holds up the others, or `NEVER`
    ("by_time", "patience_ticks"),
    # poller: what is called, `span(source, count, target, context, fault)`, once with all that was found, or in parts;
    # how many lanes there are, and how many messages wait in them; the output ring, or 0, and the sequence of the first
    # output
    ("address", "source", "count", "target", "context", "fault", "n_lanes", "waiting", "output", "tail"),
    # poller: what came of it. `emitted`; of these, `by_timer`, that came of no message; `steps`: how often a handler
    # was called; `done`: messages that are through, of the one lane of a kernel that does not go by time;
    # `failed_lane`: on whose message it has failed, or WITHOUT: called without one, or NOBODY: it has not; `is_over`:
    # there is no more to do at the end; when it began and ended, and the time of all threads together. And what a
    # commit makes of that: `taken`, with those that it has failed on; which stage has failed, or -1, and which one's
    # message is lost by that; whether time has come further than was told; the chain that was run, or 0
    (
        *("emitted", "by_timer", "steps", "done", "failed_lane", "is_over", "started", "ended", "busy_ticks"),
        *("taken", "failing", "missing", "is_news", "chain"),
    ),
    # poller: the kernel's ledger as it was before, so that a commit says what it is afterwards, however often
    ("ledger_version", "processed", "failed", "emitted_before", "dropped"),
    # poller, of a kernel that goes by time. `passed`: no time below this is to come any more; `low`: what all inputs
    # have come to, so far; `told`: what kernels downstream were told; `timer`: the next multiple of the period, as a
    # time and as a number of periods, `timer_record`: for whose key it is handled next, or -1: there is none any more;
    # `late`: messages whose time had passed; `room`: how many outputs the span may have; `is_ready`: whether there was
    # something to do; `starved_by`: a bit for each input that kept it from that
    (
        *("passed", "low", "told", "timer", "timer_count", "timer_record", "late", "room", "is_ready"),
        "starved_by",
    ),
)

LANE_DTYPE, LANE = record(
    "Lane",
    # which edge, as an offset from the block, and from which sequence on; where the messages that may be taken are, how
    # many, and how many were. By time: the time of the last one that was; the time below which nothing comes when these
    # are through, whether nothing comes at all then (a message may have the time `ENDED`), and what the ring's
    # `progress` said of it; the time of the next, or what stands for it; what was there when there last was news, and
    # when that was
    (
        *("edge", "head", "source", "count", "taken", "last", "horizon", "ended", "reached", "key"),
        *("seen_tail", "seen_progress", "news_at"),
    ),
    # of a grid: what it knew of the ring when it had nothing to do, and which count the host was told
    ("known_tail", "known_progress", "known_ended", "told_count"),
)

LANES, LANE_NBYTES = SPAN_DTYPE.itemsize, LANE_DTYPE.itemsize
"""Where the lanes are, from the beginning of the record, and how long each is."""


def lane_at(number: int) -> int:
    """Where the lane of an input is, from the beginning of the record."""
    return int(LANES + LANE_NBYTES * number)


def span_nbytes(n_lanes: int) -> int:
    """Bytes of a record with so many lanes."""
    return lane_at(n_lanes)
