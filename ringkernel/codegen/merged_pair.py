"""Two lanes of a merge, as long as nothing is out of the ordinary: what most merges do nearly all the time.

What is in the lanes is kept in registers, so that the next message costs little more than the branch that chooses it,
which nobody can foretell. Whatever else there may be (a message that is late, one lane that is through and holds up the
other, a multiple of the timer's period) is left to the loop of `merged_span.py`, which calls this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ringkernel.memory.layout import ENDED, NO_TIME
from ringkernel.memory.span_layout import LANE, LANE_NBYTES, LANES, SPAN

from .merged_lane import EXCEPTION, fail
from .operations import peek, poke

if TYPE_CHECKING:
    from .merged_lane import Lane

FIRST, SECOND = LANES, LANES + LANE_NBYTES
Function = Callable[..., int]


def no_pair(merge: int, steps: int, before: int, emitted: int, target: int, context: int) -> int:
    """In its place, where there are not two lanes."""
    return emitted


def pair(first: Lane, second: Lane) -> Function:  # noqa: C901, PLR0915 (one loop, and what it reads)
    """Return the loop over the messages of two lanes before a time, at most so many. It returns how many outputs there
    are now."""
    call_first, reads_first, call_second, reads_second = first.call, first.reads, second.call, second.reads
    checked = first.checked

    def run(  # noqa: C901, PLR0912, PLR0915 (two lanes, each in registers)
        merge: int, steps: int, before: int, emitted: int, target: int, context: int
    ) -> int:
        source, start, n, horizon, last = _open(merge + FIRST)
        other_source, other_start, m, other_horizon, other_last = _open(merge + SECOND)
        passed, fault = peek(merge + SPAN.passed), merge + SPAN.fault_index
        left = min(steps, peek(merge + SPAN.room) - emitted)
        # before what time each lane may go on: no further than what is to be expected in one that is through
        bound, other_bound, failed = before, before, -1
        i, j, key, other = start, other_start, ENDED, ENDED
        if i < n:
            key = reads_first(source, i)
        else:
            bound, other_bound = NO_TIME, min(other_bound, max(horizon, last))
        if j < m:
            other = reads_second(other_source, j)
        else:
            bound, other_bound = min(bound, _just_after(max(other_horizon, other_last))), NO_TIME
        while left > 0:
            left -= 1
            if key <= other:
                if key >= bound or key < passed or (checked and key == NO_TIME):
                    break
                passed = key
                verdict = call_first(source, i, target, emitted, context, fault)
                if verdict < 0:
                    failed = 0
                    break
                emitted += 1 - verdict
                i += 1
                if i < n:
                    key = reads_first(source, i)
                else:
                    key, bound, other_bound = ENDED, NO_TIME, min(other_bound, max(horizon, passed))
            else:
                if other >= other_bound or other < passed or (checked and other == NO_TIME):
                    break
                passed = other
                verdict = call_second(other_source, j, target, emitted, context, fault)
                if verdict < 0:
                    failed = 1
                    break
                emitted += 1 - verdict
                j += 1
                if j < m:
                    other = reads_second(other_source, j)
                else:
                    other, bound, other_bound = ENDED, min(bound, _just_after(max(other_horizon, passed))), NO_TIME
        if i > 0:
            last = reads_first(source, i - 1)
        if j > 0:
            other_last = reads_second(other_source, j - 1)
        _close(merge + FIRST, i, last, reads_first(source, i) if i < n else max(horizon, last))
        _close(
            merge + SECOND, j, other_last, reads_second(other_source, j) if j < m else max(other_horizon, other_last)
        )
        poke(merge + SPAN.passed, passed)
        poke(merge + SPAN.steps, peek(merge + SPAN.steps) + i - start + j - other_start)
        if failed >= 0:
            fail(merge, failed, EXCEPTION)
        return emitted

    return run


def _open(lane: int) -> tuple[int, int, int, int, int]:
    return (
        peek(lane + LANE.source),
        peek(lane + LANE.taken),
        peek(lane + LANE.count),
        peek(lane + LANE.horizon),
        peek(lane + LANE.last),
    )


def _just_after(time: int) -> int:
    """Before this a lane goes on that comes first at equal times."""
    return time + 1 if time < ENDED else ENDED


def _close(lane: int, taken: int, last: int, key: int) -> None:
    poke(lane + LANE.taken, taken)
    poke(lane + LANE.last, last)
    poke(lane + LANE.key, key)
