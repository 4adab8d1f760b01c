"""The loops around handlers, as plain Python over `operations.py`: what a span is on every target.

`span(run) -> emitted`: the address of the words of what is to be run, see `memory/span_layout.py`. Inside it is a loop
over `(source, count, target, context, fault)`, all int64 addresses and counts: no ring, no command and no atomics in
it, so that LLVM may vectorise it. What a loop calls for a message may be one handler, or all stages of a
chain (`steps.py`); the loop of a kernel that goes by time is in `merged_span.py`.

A handler that fails ends the loop: the words at `fault` then hold the index of the message, what the target says about
the exception, and (`FAULT_COUNT`) how many messages failed with it. A failure is a return code, not `try/except`, which
does not compile for CUDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.memory.layout import FAULT
from ringkernel.memory.span_layout import FAULT_AT, RUN

from .operations import peek, poke

if TYPE_CHECKING:
    from collections.abc import Callable

EMIT, DROP, FAILED = 0, 1, -1
"""What a call returns: the verdict of the handler, or that it has raised. Of a chain whatever is below 0 is a failure,
see `steps.py`."""
ALL = -(2**62)
"""The verdict of a handler of batches that returns nothing, and means all; or of a kernel's end: that this was all."""
FAULT_INFO, FAULT_COUNT = FAULT.fault_info_address, FAULT.fault_count
FAULT_STAGE = RUN.fault_stage - FAULT_AT


def of_record(loop: Any) -> Callable[[int], int]:
    """Return the span that is this loop: it takes its words from the record."""

    def span(run: int) -> int:
        source, count, target = peek(run + RUN.source), peek(run + RUN.count), peek(run + RUN.target)
        return loop(source, count, target, peek(run + RUN.context), run + FAULT_AT)  # type: ignore[no-any-return]

    return span


def message_loop(call: Any) -> Callable[..., int]:
    """Return the loop around what is called once per message."""

    def loop(source: int, count: int, target: int, context: int, fault: int) -> int:
        emitted = 0
        for i in range(count):
            verdict = call(source, i, target, emitted, context, fault)
            if verdict < 0:
                poke(fault, i)
                poke(fault + FAULT_COUNT, 1)
                break
            emitted += 1 - verdict
        return emitted

    return loop


def batch_loop(call: Any, per_message: int) -> Callable[..., int]:
    """Return what surrounds a handler that gets slices of the rings, `per_message` slots for outputs, or 0."""

    def loop(source: int, count: int, target: int, context: int, fault: int) -> int:
        room = count * per_message
        poke(fault + FAULT_INFO, 0)  # nothing was raised, if the handler returns a number that cannot be
        verdict = call(source, count, target, room, context, fault)
        if verdict == ALL:  # one output for each message
            return min(count, room)
        if verdict < 0 or verdict > room:
            poke(fault, 0)
            poke(fault + FAULT_COUNT, count)
            return 0
        return verdict  # type: ignore[no-any-return]

    return loop


def end_loop(call: Any, n_states: Callable[[int], int]) -> Callable[..., int]:
    """Return the loop around what a kernel does at its end, at most `count` times, for each of its states in turn: one,
    or those of all keys. It returns n outputs, or -1 - n once there is no more. `source` is the address of a word with
    the number of the state that is next."""

    def loop(source: int, count: int, target: int, context: int, fault: int) -> int:
        number, n, emitted = peek(source), n_states(context), 0
        for _ in range(count):
            if number >= n:
                break
            verdict = call(source, number, target, emitted, context, fault)
            if verdict == FAILED:
                poke(source, number)
                poke(fault, emitted)
                poke(fault + FAULT_COUNT, 0)
                return emitted
            if verdict != DROP:
                emitted += 1
            if verdict != EMIT:  # it has not said that there is more
                number += 1
        poke(source, number)
        return -1 - emitted if number >= n else emitted

    return loop
