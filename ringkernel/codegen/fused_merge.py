"""A fused chain whose first kernel goes by time: the loop of `merged_span.py`, each of whose calls goes through all
stages.

The loop knows the verdicts of a handler: what a step says of its stages becomes one of these, and a note in the
chain's record. If a further stage fails on what came of a message, that message stays the next one in its lane, though
the first kernel is through with it: who commits the span takes it (`ring/spans/commit.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.span_layout import SPAN

from .fused_steps import dropped_by, failed_in, step_before
from .merged_calls import Handled, merged_call
from .merged_span import DROP_LATE, merged_loop
from .merged_timer import Around
from .operations import peek, poke, zero_bytes
from .span import call_on_cpu
from .span_body import DROP, EMIT, FAILED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .span_types import MergeTypes

Function = Callable[..., Any]


def fused_merge(spec: MergeTypes, compiled: Mapping[Any, Any], further: Any, output: Any, n_stages: int) -> Function:
    """The loop. `compiled` has the handlers of `spec`; `further` is the step through the other stages, and `output` the
    dtype of what comes out of the last one, or None."""
    calls = []
    for handler in spec.handlers:
        dispatcher, each = compiled[handler], handler[1]
        step = step_before(0, merged_call(call_on_cpu(dispatcher, each), each), each, further)
        call = _of_timer(step) if each.input is None else _of_message(step)
        calls.append(Handled(call, replace(each, output=output)))
    merged = merged_loop(spec, calls, Around(_first_context, _was_further))
    n_bytes, drops_late = 8 * n_stages, spec.late == DROP_LATE

    def loop(merge: int, steps: int, target: int, chain: int, fault: int) -> int:
        zero_bytes(chain + CHAIN.dropped, n_bytes)
        poke(chain + CHAIN.by_timer, 0)
        poke(chain + CHAIN.fault_stage, 0)  # the loop itself may find something wrong with a message
        before = peek(merge + SPAN.late)
        emitted = merged(merge, steps, target, chain, fault)
        if drops_late:
            poke(chain + CHAIN.dropped, peek(chain + CHAIN.dropped) + peek(merge + SPAN.late) - before)
        return emitted  # type: ignore[no-any-return]

    return loop


def _first_context(chain: int) -> int:
    return peek(chain + CHAIN.state_address)


def _was_further(chain: int) -> int:
    return 1 if peek(chain + CHAIN.fault_stage) > 0 else 0


def _noted(verdict: int, chain: int) -> int:
    """What a step says, as a handler would, and noted in the chain's record."""
    if verdict == EMIT:
        return EMIT
    if verdict < 0:
        poke(chain + CHAIN.fault_stage, -verdict - 1)
        return FAILED
    at = chain + CHAIN.dropped + 8 * (verdict - 1)
    poke(at, peek(at) + 1)
    return DROP


def _of_message(step: Function) -> Function:
    def call(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        return _noted(step(source, index, target, emitted, chain, fault), chain)

    return call


def _of_timer(step: Function) -> Function:
    """A multiple. What its handler emits is one more message that comes to the next stage, and what it does not is none
    that the first has dropped."""
    is_none, has_failed = dropped_by(0), failed_in(0)

    def call(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        verdict = step(source, index, target, emitted, chain, fault)
        if verdict == is_none:
            return DROP
        if verdict != has_failed:
            poke(chain + CHAIN.by_timer, peek(chain + CHAIN.by_timer) + 1)
        return _noted(verdict, chain)

    return call
