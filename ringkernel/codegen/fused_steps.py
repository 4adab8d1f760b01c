"""A message's way through the stages of a fused chain: each step calls one handler, and then the next step.

A step returns EMIT, or which stage has dropped the message, or has failed on it. A handler writes its output to a
record on the stack, given to it as an address, like any other; LLVM sees through that and keeps what is small in
registers, so that the loop is as good as one written by hand. Larger messages lie in a slot of the ring between two
stages, which is empty, and in cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils

from ringkernel.memory.chain_layout import CHAIN, SMALL_NBYTES

from .operations import copy_bytes, peek, poke
from .span_body import DROP, EMIT, FAILED
from .targets.cpu_memory import operation

if TYPE_CHECKING:
    from .span_types import SpanTypes

Function = Callable[..., Any]


def dropped_by(stage: int) -> int:
    """What a step says if this stage has dropped the message."""
    return stage + 1


def failed_in(stage: int) -> int:
    """What a step says if this stage has failed."""
    return -stage - 1


def step_before(number: int, call: Any, spec: SpanTypes, further: Any) -> Function:
    """A stage that is followed by others."""
    assert spec.output is not None
    at, failed, dropped = CHAIN.state_address + 8 * number, failed_in(number), dropped_by(number)
    place = place_between(spec.output.itemsize, CHAIN.message_address + 8 * number)

    def step(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        message = place(chain)
        verdict = call(source, index, message, 0, peek(chain + at), fault)
        if verdict == FAILED:
            return failed
        if verdict == DROP:
            return dropped
        return further(message, 0, target, emitted, chain, fault)  # type: ignore[no-any-return]

    return step


def last_step(number: int, call: Any, spec: SpanTypes) -> Function:
    """The last stage, which writes to the output ring, or nowhere."""
    at = CHAIN.state_address + 8 * number
    failed, dropped = failed_in(number), EMIT if spec.output is None else dropped_by(number)

    def step(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        verdict = call(source, index, target, emitted, peek(chain + at), fault)
        if verdict == FAILED:
            return failed
        return dropped if verdict == DROP else EMIT

    return step


def noting(number: int, step: Function, itemsize: int) -> Function:
    """A stage that is not the first. If it fails, the message lives on: it will be in the ring before it."""
    failed, is_small = failed_in(number), itemsize <= SMALL_NBYTES
    length = itemsize if is_small else 0

    def noting(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        verdict = step(source, index, target, emitted, chain, fault)
        if verdict == failed:
            copy_bytes(chain + CHAIN.failed, source, length)
            poke(chain + CHAIN.failed_address, chain + CHAIN.failed if is_small else source)
        return verdict  # type: ignore[no-any-return]

    return noting


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


_I64 = ir.IntType(64)
