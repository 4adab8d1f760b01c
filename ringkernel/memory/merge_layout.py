"""What a kernel that goes by time keeps about its inputs: what waits in each, and how far time has come.

It lies in the arena beside the kernel's block, which names it. A time is a word here, in the order of the times, see
`messages/time_words.py`. See `codegen/merged_span.py` and `ring/run_merge.py`.
"""

from __future__ import annotations

from .layout import LINE, record

MAX_INPUTS = 16

MERGE_DTYPE, MERGE = record(
    "Merge",
    # host: how many ticks without news an input holds up the others, or `NEVER`
    ("patience_ticks",),
    # poller. `passed`: no time below this is to come any more; `low`: what all inputs have come to, so far; `told`:
    # what kernels downstream were told; `timer`: the next multiple of the period, as a time and as a number of periods,
    # `timer_record`: for whose key it is handled next, or -1: there is none any more; `late`: messages whose time had
    # passed. Of the last span:
    # `room`: how many outputs it might have had; `fault`: the address of the fault words; `is_ready`: whether there was
    # something to do; `starved_by`: a bit for each input that kept it from that; `steps`: messages and multiples
    # handled; `failed_lane`: on whose message it has failed, or -1: in the timer's handler
    (
        "passed",
        "low",
        "told",
        "timer",
        "timer_count",
        "timer_record",
        "late",
        "room",
        "fault",
        "is_ready",
        "starved_by",
        "steps",
        "timer_emitted",
        "failed_lane",
    ),
    # poller: for each input a line
    (f"lanes:{MAX_INPUTS * LINE // 8}",),
)

_, LANE = record(
    "Lane",
    # where the messages that may be taken are, how many, and how many were; the time of the last one that was; the
    # time below which nothing comes when these are through, whether nothing comes at all then (a message may have the
    # time `ENDED`), and what the ring's `progress` said of it; the time of the next, or what stands for it; what was
    # there when there last was news, and when that was. Of a grid: what it knew of the ring when it had nothing to do,
    # and which count the host was told
    (
        *("source", "count", "taken", "last", "horizon", "ended", "reached", "key"),
        *("seen_tail", "seen_progress", "news_at"),
        *("known_tail", "known_progress", "known_ended", "told_count"),
    ),
)


def lane_at(number: int) -> int:
    """Where the lane of an input is, from the beginning of the record."""
    return int(MERGE.lanes + LINE * number)
