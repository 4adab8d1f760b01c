"""Connected kernels as one loop: each message goes through all handlers before the next one is taken.

`span(source, count, target, chain, fault) -> emitted`, as in `span_body.py`, so that a turn calls it like any other.
`chain` is a record of `memory/chain_layout.py` and `results` its words from `fault_index` on: what each stage has
dropped, and which of them has failed, on what. All else about the stages follows from these: a stage has processed what
the one before has emitted.

A handler writes its output to a record on the stack, given to it as an address, like any other; LLVM sees through that
and keeps what is small in registers, so that the loop is as good as one written by hand. Larger messages lie in a slot
of the ring between two stages, which is empty, and in cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ringkernel.memory.chain_layout import CHAIN, SMALL_NBYTES

from .arithmetic import arithmetic_like_numpy
from .handler_call import argument_types
from .operations import copy_bytes, peek, poke, zero_bytes
from .readonly import read_only
from .shapes import shapes_in_fixed_words
from .span import compile_handler, message_call
from .span_body import DROP, EMIT, FAILED, FAULT_COUNT
from .span_types import FusedSpan, SpanTypes
from .targets.cpu import compile_loop
from .targets.cpu_memory import operation
from .unwritten import unwritten

if TYPE_CHECKING:
    from collections.abc import Sequence

Function = Callable[..., Any]
Stage = tuple[Function, SpanTypes]
"""A handler, and what it is compiled for: one call per message, one output at most."""


def compile_fused_span(stages: Sequence[Stage]) -> FusedSpan:
    """Compile handlers that were compiled alone before into one span."""
    with arithmetic_like_numpy(), shapes_in_fixed_words():
        compiled = {stage: compile_handler(*stage) for stage in stages}
        body, never_drops = _body([(stage, compiled[stage][0]) for stage in stages])
        loop = compile_loop(body)
    keepalive = (loop, list(compiled.values()))
    return FusedSpan(loop.address, keepalive, never_drops, loop.library, loop.symbol)


def _body(stages: list[tuple[Stage, Any]]) -> tuple[Function, bool]:
    """The loop over messages, and whether no stage drops any."""
    step: Any = None
    never_drops = True
    for number, ((_, spec), dispatcher) in reversed(list(enumerate(stages))):
        returned = dispatcher.overloads[argument_types(spec, read_only)].signature.return_type
        never_drops &= isinstance(returned, types.NoneType) or spec.output is None
        call, zeroed = message_call(dispatcher, spec), unwritten(dispatcher, spec)
        step = _last_step(number, call, spec, zeroed) if step is None else _step(number, call, spec, zeroed, step)
        step = _noting(number, step, spec.input.itemsize) if number > 0 else step
    if stages[-1][0][1].output is None:
        return fused_sink(step, len(stages)), never_drops
    return (fused_loop if never_drops else fused_dropping_loop)(step, len(stages)), never_drops


# --- a message's way: each step returns EMIT, or which stage has dropped it, or has failed on it ----------------------


def _dropped_by(stage: int) -> int:
    return stage + 1


def _failed_in(stage: int) -> int:
    return -stage - 1


def _step(number: int, call: Any, spec: SpanTypes, zeroed: tuple[int, int], further: Any) -> Function:
    """A stage that is followed by others. `zeroed`: the stretch of its output that it may leave unwritten."""
    assert spec.output is not None
    itemsize = spec.output.itemsize
    at, failed, dropped = CHAIN.state_address + 8 * number, _failed_in(number), _dropped_by(number)
    place = place_between(itemsize, CHAIN.message_address + 8 * number)
    start, length = (0, itemsize) if itemsize <= SMALL_NBYTES else zeroed

    def step(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        message = place(chain)
        zero_bytes(message + start, length)
        verdict = call(source, index, message, 0, peek(chain + at), fault)
        if verdict == FAILED:
            return failed
        if verdict == DROP:
            return dropped
        return further(message, 0, target, emitted, chain, fault)  # type: ignore[no-any-return]

    return step


def _last_step(number: int, call: Any, spec: SpanTypes, zeroed: tuple[int, int]) -> Function:
    """The last stage, which writes to the output ring, or nowhere."""
    at = CHAIN.state_address + 8 * number
    failed, dropped = _failed_in(number), _dropped_by(number)
    itemsize = 0 if spec.output is None else spec.output.itemsize
    start, length = zeroed
    on_stack, into_slot = place_between(itemsize, 0), copy_record(itemsize)

    def over_stack(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        message = on_stack(chain)  # written to the ring once, whole: zeroing that first would take a second pass
        zero_bytes(message, itemsize)
        verdict = call(source, index, message, 0, peek(chain + at), fault)
        if verdict == FAILED:
            return failed
        if verdict == DROP:
            return dropped
        into_slot(target, emitted, message)
        return EMIT

    def in_place(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        zero_bytes(target + emitted * itemsize + start, length)
        verdict = call(source, index, target, emitted, peek(chain + at), fault)
        if verdict == FAILED:
            return failed
        return dropped if verdict == DROP else EMIT

    def sink(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        return failed if call(source, index, 0, 0, peek(chain + at), fault) == FAILED else EMIT

    if spec.output is None:
        return sink
    return over_stack if length > 0 and itemsize <= SMALL_NBYTES else in_place


def _noting(number: int, step: Function, itemsize: int) -> Function:
    """A stage that is not the first. If it fails, the message lives on: it will be in the ring before it."""
    failed, is_small = _failed_in(number), itemsize <= SMALL_NBYTES
    length = itemsize if is_small else 0

    def noting(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        verdict = step(source, index, target, emitted, chain, fault)
        if verdict == failed:
            copy_bytes(chain + CHAIN.failed, source, length)
            poke(chain + CHAIN.failed_address, chain + CHAIN.failed if is_small else source)
        return verdict  # type: ignore[no-any-return]

    return noting


# --- the loops --------------------------------------------------------------------------------------------------------


def _fail(chain: int, fault: int, index: int, verdict: int) -> None:
    poke(fault, index)
    poke(fault + FAULT_COUNT, 1)
    poke(chain + CHAIN.fault_stage, -verdict - 1)


def fused_loop(step: Function, n_stages: int) -> Function:
    """Stages none of which drops a message."""

    def loop(source: int, count: int, target: int, chain: int, fault: int) -> int:
        for i in range(count):
            verdict = step(source, i, target, i, chain, fault)
            if verdict != EMIT:
                _fail(chain, fault, i, verdict)
                return i
        return count

    return loop


def fused_dropping_loop(step: Function, n_stages: int) -> Function:
    """Stages of which some drop messages."""
    n_bytes = 8 * n_stages

    def loop(source: int, count: int, target: int, chain: int, fault: int) -> int:
        zero_bytes(chain + CHAIN.dropped, n_bytes)
        emitted = 0
        for i in range(count):
            verdict = step(source, i, target, emitted, chain, fault)
            if verdict == EMIT:
                emitted += 1
            elif verdict < 0:
                _fail(chain, fault, i, verdict)
                return emitted
            else:
                at = chain + CHAIN.dropped + 8 * (verdict - 1)
                poke(at, peek(at) + 1)
        return emitted

    return loop


def fused_sink(step: Function, n_stages: int) -> Function:
    """Stages that end with one that emits nothing."""
    dropping = fused_dropping_loop(step, n_stages)

    def loop(source: int, count: int, target: int, chain: int, fault: int) -> int:
        dropping(source, count, target, chain, fault)
        return 0

    return loop


def place_between(nbytes: int, at: int) -> Any:
    """An operation, `(chain)`: the address of a message of so many bytes on its way to the next stage. It is on the
    stack of the function that asks, or, if it is large, what the chain's record says at `at`."""

    @operation
    def place(builder: Any, chain: Any) -> Any:
        if nbytes > SMALL_NBYTES:
            word = builder.add(chain, ir.Constant(_I64, at))
            return builder.load(builder.inttoptr(word, _I64.as_pointer()))
        record = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(8), max(1, nbytes)))
        record.align = 16
        return builder.ptrtoint(record, _I64)

    return place


def copy_record(nbytes: int) -> Any:
    """An operation that copies a record of so many bytes to its place in an array of them: `(array, index, record)`.

    As for messages in `handler_call.py`, LLVM needs to see that the places are elements of one array to vectorise.
    """

    @operation
    def copy(builder: Any, array: Any, index: Any, record: Any) -> None:
        slots = builder.inttoptr(array, ir.ArrayType(ir.IntType(8), nbytes).as_pointer())
        there = builder.bitcast(builder.gep(slots, [index]), _BYTES)
        cgutils.raw_memcpy(builder, there, builder.inttoptr(record, _BYTES), ir.Constant(_I64, nbytes), 1)

    return copy


_I64, _BYTES = ir.IntType(64), ir.IntType(8).as_pointer()
