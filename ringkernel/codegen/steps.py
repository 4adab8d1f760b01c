"""The calls that a loop makes for a message: of the handler with the message's state, and then, in a chain, of all
stages.

Every call has the form `call(source, index, target, emitted, context, fault) -> verdict`. A handler without a message
(of a timer, or of a kernel's end) has the number of a state for `index`. In a chain `context` is the record of
`memory/chain_layout.py`, in which each stage has its own, and the verdict is multiplied by the stage's place, counted
from 1: so it says which stage has dropped the message, or has failed on it. What the loop is told is whether the first
stage got it through; the rest is noted in the record.

A handler writes its output to a record on the stack, given to it as an address, like any other; LLVM sees through that
and keeps what is small in registers, so that the loop is as good as one written by hand. Larger messages lie in a slot
of the ring between two stages, which is empty, and in cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils

from ringkernel.memory.chain_layout import CHAIN, SMALL_NBYTES
from ringkernel.memory.keys_layout import KEYS

from .key_table import nth_state
from .keyed_call import KeyedCalls
from .operations import copy_bytes, peek, poke, zero_bytes
from .span_body import DROP, EMIT, FAILED, FAULT_STAGE
from .targets.cpu_memory import operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .span_types import Handler, Plan, SpanTypes

Function = Callable[..., Any]
CallOf = Callable[[Any, Any], Any]
"""Returns the call on addresses of a handler, with what it is compiled for: see `handler_call.py`."""


def calls_of(plan: Plan, call_of: CallOf) -> list[Function]:
    """Return what the loop of a plan calls: for the messages of each lane, and for the timer, if there is one."""
    calls, behind = [], _through(plan.stages, call_of)
    for number, (handler, types) in enumerate(plan.first):
        call = with_state(call_of(handler, types), types)
        if behind is not None:
            note_all = noted if number < len(plan.lanes) else noted_of_timer
            call = note_all(stage(0, call, types, behind))
        calls.append(silent(call) if plan.output is None and not (types.batch or types.is_end) else call)
    return calls


def _through(stages: Sequence[Handler], call_of: CallOf) -> Function | None:
    """The way of a message through the stages behind the first."""
    step = None
    for number, (handler, types) in reversed(list(enumerate(stages, 1))):
        step = stage(number, with_state(call_of(handler, types), types), types, step)
    return step


# --- one stage --------------------------------------------------------------------------------------------------------


def with_state(call: Any, types: SpanTypes) -> Function:
    """Return a handler's `call` with its state: of a keyed kernel that of the message's key, or of the key of a
    number."""
    if types.key is None:
        return call  # type: ignore[no-any-return]
    if types.input is not None:
        return KeyedCalls(types).around(call)
    state_at = types.state_at

    def of_number(source: int, number: int, target: int, emitted: int, table: int, fault: int) -> int:
        state = nth_state(table, number, state_at)
        return call(source, 0, target, emitted, table, fault, state)  # type: ignore[no-any-return]

    return of_number


def silent(call: Any) -> Function:
    """Return the call of what has no output: nothing comes of any message."""

    def call_silently(source: int, index: int, target: int, emitted: int, context: int, fault: int) -> int:
        verdict = call(source, index, target, emitted, context, fault)
        return verdict if verdict < 0 else DROP

    return call_silently


def n_states(plan: Plan) -> Callable[[int], int]:
    """Return what counts the states that the first kernel's handlers without a message are called for."""
    is_keyed, in_chain = plan.first[0][1].key is not None, len(plan.stages) > 0

    def of_keys(context: int) -> int:
        return peek((peek(context + CHAIN.state_address) if in_chain else context) + KEYS.count)

    return of_keys if is_keyed else _one


def _one(context: int) -> int:
    return 1


# --- a chain ----------------------------------------------------------------------------------------------------------


def stage(number: int, call: Any, types: SpanTypes, further: Function | None) -> Function:
    """Return the step of a stage, and of those behind it. The last one writes to the output ring, or nowhere."""
    at, place = CHAIN.state_address + 8 * number, number + 1
    keep = _keeping(0 if types.input is None else types.input.itemsize) if number > 0 else _keep_nothing
    is_sink = types.output is None

    def last(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        verdict = call(source, index, target, emitted, peek(chain + at), fault)
        if verdict == FAILED:
            keep(chain, source)
        return (min(verdict, EMIT) if is_sink else verdict) * place  # type: ignore[no-any-return]

    if types.output is None or further is None:
        return last
    message_of = message_between(types.output.itemsize, CHAIN.message_address + 8 * number)

    def step(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        message = message_of(chain)
        verdict = call(source, index, message, 0, peek(chain + at), fault)
        if verdict == EMIT:
            return further(message, 0, target, emitted, chain, fault)  # type: ignore[no-any-return]
        if verdict == FAILED:
            keep(chain, source)
        return verdict * place  # type: ignore[no-any-return]

    return step


def _keeping(itemsize: int) -> Function:
    """A function that keeps the message that a stage has failed on: it will be in the ring before that stage."""
    is_small = itemsize <= SMALL_NBYTES

    def keep_copy(chain: int, source: int) -> None:
        copy_bytes(chain + CHAIN.failed, source, itemsize)
        poke(chain + CHAIN.failed_address, chain + CHAIN.failed)

    def keep_address(chain: int, source: int) -> None:
        poke(chain + CHAIN.failed_address, source)

    return keep_copy if is_small else keep_address


def _keep_nothing(chain: int, source: int) -> None:
    """The message of the first stage stays where it is."""


def message_between(nbytes: int, at: int) -> Any:
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


# --- what is noted of it ----------------------------------------------------------------------------------------------


def note(chain: int, fault: int, verdict: int) -> int:
    """Note which stage has dropped a message, or failed. Return what the loop goes by."""
    if verdict < 0:
        poke(fault + FAULT_STAGE, -verdict - 1)
        return verdict
    if verdict == EMIT:
        return EMIT
    note_dropped(chain, verdict - 1)
    return DROP


def note_dropped(chain: int, number: int) -> None:
    """Count a message that a stage has dropped."""
    at = chain + CHAIN.dropped + 8 * number
    poke(at, peek(at) + 1)


def noted(step: Function) -> Function:
    """Return the call of a message's step through all stages."""

    def call(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        return note(chain, fault, step(source, index, target, emitted, chain, fault))

    return call


def noted_of_timer(step: Function) -> Function:
    """Return the same of a timer. What its handler emits is one more message that comes to the next stage, and what it
    does not is none that the first has dropped."""

    def call(source: int, index: int, target: int, emitted: int, chain: int, fault: int) -> int:
        verdict = step(source, index, target, emitted, chain, fault)
        if verdict == DROP:
            return DROP
        if verdict != FAILED:
            poke(chain + CHAIN.by_timer, peek(chain + CHAIN.by_timer) + 1)
        return note(chain, fault, verdict)

    return call


def from_zero(loop: Function, n_stages: int) -> Function:
    """Return the loop over a chain, which counts anew in each span what is noted."""
    n_bytes = 8 * n_stages

    def chained(source: int, count: int, target: int, chain: int, fault: int) -> int:
        zero_bytes(chain + CHAIN.dropped, n_bytes)
        poke(chain + CHAIN.by_timer, 0)
        return loop(source, count, target, chain, fault)  # type: ignore[no-any-return]

    return chained
