"""The loops around a handler, as plain Python over `operations.py`: what a span is on every target.

`span(source, count, target, state, fault) -> emitted`, all int64 addresses and counts. No ring, no command and no
atomics in it, so that LLVM may vectorise it. A handler that fails ends the loop: the words at `fault` then hold the
index of the message, what the target says about the exception, and (`FAULT_COUNT`) how many messages failed with it.
A failure is a return code, not `try/except`, which does not compile for CUDA.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.memory.layout import BLOCK

from .operations import poke, zero_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

EMIT, DROP = 0, 1
FAILED, ALL = -(2**62), -(2**62) + 1
"""Verdicts that no handler returns as a count: it raised; it returned nothing and means all."""
FAULT_INFO = BLOCK.fault_info_address - BLOCK.fault_index
FAULT_COUNT = BLOCK.fault_count - BLOCK.fault_index


SMALL = 256
"""Bytes of a record up to which a span's outputs are zeroed all at once, if it is most of each; larger ones one by one,
while in cache."""


def scalar_span(call: Any, itemsize: int, unwritten: tuple[int, int], *, never_drops: bool) -> Callable[..., int]:  # noqa: C901 (three loops)
    """The loop around a handler that is called once per message. `call`: see `handler_call.py`; `itemsize` of an
    output, 0 if there is none; `unwritten`: see there."""
    start, length = unwritten
    at_once = itemsize if itemsize <= SMALL and 2 * length > itemsize else 0
    each = 0 if at_once else length

    def fail(fault: int, index: int) -> None:
        poke(fault, index)
        poke(fault + FAULT_COUNT, 1)

    def emit_all(source: int, count: int, target: int, state: int, fault: int) -> int:
        zero_bytes(target, count * at_once)
        for i in range(count):
            zero_bytes(target + i * itemsize + start, each)
            if call(source, i, target, i, state, fault) == FAILED:
                fail(fault, i)
                return i
        return count

    def emit_some(source: int, count: int, target: int, state: int, fault: int) -> int:
        emitted = 0
        for i in range(count):
            zero_bytes(target + emitted * itemsize + start, length)
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

    if itemsize == 0:
        return consume_all
    return emit_all if never_drops else emit_some


def end_span(call: Any, itemsize: int, unwritten: tuple[int, int]) -> Callable[..., int]:
    """The loop around what a kernel does at its end, at most `count` times. How often it has said that there is more;
    below 0 it is over, and the emitted are what is missing to -1."""
    start, length = unwritten

    def end(source: int, count: int, target: int, state: int, fault: int) -> int:
        for emitted in range(count):
            zero_bytes(target + emitted * itemsize + start, length)
            verdict = call(source, 0, target, emitted, state, fault)
            if verdict == FAILED:
                poke(fault, emitted)
                poke(fault + FAULT_COUNT, 0)
                return emitted
            if verdict != EMIT:
                return -1 - emitted - (1 if verdict == ALL else 0)
        return count

    return end


def batch_span(call: Any, itemsize: int, per_message: int, unwritten: tuple[int, int]) -> Callable[..., int]:
    """What surrounds a handler that gets slices of the rings."""
    cleared = itemsize if unwritten[1] > 0 else 0

    def batch(source: int, count: int, target: int, state: int, fault: int) -> int:
        room = count * per_message if itemsize > 0 else 0
        zero_bytes(target, room * cleared)
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
