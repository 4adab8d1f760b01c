"""Connected kernels as one loop: each message goes through all handlers before the next one is taken.

`span(source, count, target, chain, fault) -> emitted`, as in `span_body.py`, so that a turn calls it like any other.
`chain` is a record of `memory/chain_layout.py` and `results` its words from `fault_index` on: what each stage has
dropped, and which of them has failed, on what. All else about the stages follows from these: a stage has processed what
the one before has emitted.

A message's way through the stages is in `fused_steps.py`; that of the messages of a kernel that goes by time begins in
`fused_merge.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from numba import types

from ringkernel.memory.chain_layout import CHAIN

from .fused_merge import fused_merge
from .fused_steps import last_step, noting, step_before
from .handler_call import argument_types
from .kernel_semantics import kernel_semantics
from .operations import peek, poke, zero_bytes
from .readonly import read_only
from .span import call_on_cpu, compile_handler, message_call
from .span_body import EMIT, FAULT_COUNT
from .span_types import FusedSpan, MergeTypes, SpanTypes
from .targets.cpu import compile_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

Function = Callable[..., Any]
Stage = tuple[Function, SpanTypes | MergeTypes]
"""A handler, and what it is compiled for: one call per message, one output at most. The first stage may be a kernel
that goes by time: its first handler, and what all of them are compiled for, see `fused_merge.py`."""


def compile_fused_span(stages: Sequence[Stage]) -> FusedSpan:
    """Compile handlers that were compiled alone before into one span."""
    with kernel_semantics():
        compiled = {one: compile_handler(*one) for stage in stages for one in handlers_of(*stage)}
        body, never_drops = _body(stages, {one: dispatcher for one, (dispatcher, _) in compiled.items()})
        loop = compile_loop(body)
    keepalive = (loop, list(compiled.values()))
    return FusedSpan(loop.address, keepalive, never_drops, loop.library, loop.symbol)


def handlers_of(handler: Function, spec: SpanTypes | MergeTypes) -> tuple[tuple[Function, SpanTypes], ...]:
    """What is compiled of a stage."""
    return spec.handlers if isinstance(spec, MergeTypes) else ((handler, spec),)


def _body(stages: Sequence[Stage], dispatchers: dict[Any, Any]) -> tuple[Function, bool]:
    """The loop over messages, and whether it is known that no stage drops any."""
    plain = [(number, handler, spec) for number, (handler, spec) in enumerate(stages) if isinstance(spec, SpanTypes)]
    last, merge = plain[-1][2], stages[0][1]
    step: Any = None
    never_drops = True
    for number, handler, spec in reversed(plain):
        dispatcher = dispatchers[handler, spec]
        returned = dispatcher.overloads[argument_types(spec, read_only)].signature.return_type
        never_drops &= isinstance(returned, types.NoneType) or spec.output is None
        call = message_call(call_on_cpu(dispatcher, spec), spec)
        step = last_step(number, call, spec) if step is None else step_before(number, call, spec, step)
        if number > 0:
            assert spec.input is not None
            step = noting(number, step, spec.input.itemsize)
    if isinstance(merge, MergeTypes):
        return fused_merge(merge, dispatchers, step, last.output, len(stages)), False
    if last.output is None:
        return fused_sink(step, len(stages)), never_drops
    return (fused_loop if never_drops else fused_dropping_loop)(step, len(stages)), never_drops


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
