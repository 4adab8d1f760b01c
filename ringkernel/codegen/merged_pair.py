"""Two lanes of a merge, as long as nothing is out of the ordinary: what most merges do nearly all the time.

What is in the lanes is kept in registers, so that the next message costs little more than the branch that chooses it,
which nobody can foretell. Whatever else there may be (a message that is late, one lane that is through and holds up the
other, a multiple of the timer's period) is left to the loop of `merged_span.py`, which calls this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ringkernel.memory.layout import LINE, NO_TIME
from ringkernel.memory.merge_layout import LANE, MERGE

from .merged_calls import EXCEPTION, fail
from .operations import peek, poke, zero_bytes
from .span_body import FAILED

if TYPE_CHECKING:
    from .merged_calls import Handled

FIRST, SECOND = MERGE.lanes, MERGE.lanes + LINE
Function = Callable[..., int]


def no_pair(merge: int, steps: int, until: int, emitted: int, target: int, context: int) -> int:
    """In its place, where there are not two lanes."""
    return emitted


def pair(first: Handled, second: Handled) -> Function:
    """What handles the messages of two lanes up to a time, at most so many. How many outputs there are now."""
    call_first, reads_first, (start_first, length_first) = first.call, first.reads, first.unwritten
    call_second, reads_second, (start_second, length_second) = second.call, second.reads, second.unwritten
    nbytes, is_sink, checked = first.out_nbytes, first.out_nbytes == 0, first.checked

    def run(merge: int, steps: int, until: int, emitted: int, target: int, context: int) -> int:
        source, i, n, horizon, last = _open(merge + FIRST)
        other_source, j, m, other_horizon, other_last = _open(merge + SECOND)
        passed, room, fault = peek(merge + MERGE.passed), peek(merge + MERGE.room), peek(merge + MERGE.fault)
        left, failed = steps, -1
        key = reads_first(source, i) if i < n else max(horizon, last)
        other = reads_second(other_source, j) if j < m else max(other_horizon, other_last)
        while left > 0 and failed < 0 and (is_sink or emitted < room):
            if key <= other:
                if i >= n or key > until or key < passed or (checked and key == NO_TIME):
                    break
                passed = key
                zero_bytes(target + emitted * nbytes + start_first, length_first)
                verdict = call_first(source, i, target, emitted, context, fault)
                if verdict == FAILED:
                    failed = 0
                else:
                    emitted += 0 if is_sink else 1 - verdict
                    i += 1
                    left -= 1
                    key = reads_first(source, i) if i < n else max(horizon, passed)
            else:
                if j >= m or other > until or other < passed or (checked and other == NO_TIME):
                    break
                passed = other
                zero_bytes(target + emitted * nbytes + start_second, length_second)
                verdict = call_second(other_source, j, target, emitted, context, fault)
                if verdict == FAILED:
                    failed = 1
                else:
                    emitted += 0 if is_sink else 1 - verdict
                    j += 1
                    left -= 1
                    other = reads_second(other_source, j) if j < m else max(other_horizon, passed)
        _close(merge + FIRST, i, reads_first(source, i - 1) if i > 0 else last, key)
        _close(merge + SECOND, j, reads_second(other_source, j - 1) if j > 0 else other_last, other)
        poke(merge + MERGE.passed, passed)
        poke(merge + MERGE.steps, peek(merge + MERGE.steps) + steps - left)
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


def _close(lane: int, taken: int, last: int, key: int) -> None:
    poke(lane + LANE.taken, taken)
    poke(lane + LANE.last, last)
    poke(lane + LANE.key, key)
