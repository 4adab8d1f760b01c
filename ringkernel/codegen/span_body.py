"""The loops around a handler, as plain Python over `operations.py`: what a span is on every target.

`span(source, count, target, state, fault) -> emitted`, all int64 addresses and counts. No ring, no command and no
atomics in it, so that LLVM may vectorise it. A handler that fails ends the loop: the words at `fault` then hold the
index of the message, what the target says about the exception, and (`FAULT_COUNT`) how many messages failed with it.
A failure is a return code, not `try/except`, which does not compile for CUDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.memory.layout import FAULT

from .operations import poke

if TYPE_CHECKING:
    from collections.abc import Callable

EMIT, DROP = 0, 1
FAILED, ALL = -(2**62), -(2**62) + 1
"""Verdicts that no handler returns as a count: it raised; it returned nothing and means all."""
FAULT_INFO, FAULT_COUNT = FAULT.fault_info_address, FAULT.fault_count


def scalar_span(call: Any, *, has_output: bool, never_drops: bool) -> Callable[..., int]:  # noqa: C901 (three loops)
    """The loop around a handler that is called once per message. `call`: see `handler_call.py`."""

    def fail(fault: int, index: int) -> None:
        poke(fault, index)
        poke(fault + FAULT_COUNT, 1)

    def emit_all(source: int, count: int, target: int, state: int, fault: int) -> int:
        for i in range(count):
            if call(source, i, target, i, state, fault) == FAILED:
                fail(fault, i)
                return i
        return count

    def emit_some(source: int, count: int, target: int, state: int, fault: int) -> int:
        emitted = 0
        for i in range(count):
            verdict = call(source, i, target, emitted, state, fault)
            if verdict == FAILED:
                fail(fault, i)
                return emitted
            emitted += 1 - verdict
        return emitted

    def consume_all(source: int, count: int, target: int, state: int, fault: int) -> int:
        for i in range(count):
            if call(source, i, target, i, state, fault) == FAILED:
                fail(fault, i)
                return 0
        return 0

    if not has_output:
        return consume_all
    return emit_all if never_drops else emit_some


def end_span(call: Any) -> Callable[..., int]:
    """The loop around what a kernel does at its end, at most `count` times. Return n outputs, or -1 - n once it has
    said that there is no more."""

    def end(source: int, count: int, target: int, state: int, fault: int) -> int:
        for emitted in range(count):
            verdict = call(source, 0, target, emitted, state, fault)
            if verdict == FAILED:
                poke(fault, emitted)
                poke(fault + FAULT_COUNT, 0)
                return emitted
            if verdict != EMIT:
                return -1 - emitted - (1 if verdict == ALL else 0)
        return count

    return end


def batch_span(call: Any, per_message: int) -> Callable[..., int]:
    """What surrounds a handler that gets slices of the rings, `per_message` slots for outputs, or 0."""

    def batch(source: int, count: int, target: int, state: int, fault: int) -> int:
        room = count * per_message
        verdict = call(source, count, target, room, state, fault)
        if verdict == ALL:  # one output for each message
            return min(count, room)
        if verdict < 0 or verdict > room:
            if verdict != FAILED:
                poke(fault + FAULT_INFO, 0)
            poke(fault, 0)
            poke(fault + FAULT_COUNT, count)
            return 0
        return verdict  # type: ignore[no-any-return]

    return batch
