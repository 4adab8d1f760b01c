"""A grid's program: a kernel's handlers, the turn and the loop around them, specialised for a target that has grids.

Two tables of operations from one: what looks outside (fetch, post, the handler's messages) has the target's ordered
operations, and the turn, which runs on the mailbox, has private ones.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringkernel.codegen import operations as ops
from ringkernel.codegen.handler_call import argument_types
from ringkernel.codegen.span import span_loop, with_all_parameters
from ringkernel.codegen.span_body import of_record
from ringkernel.codegen.specialise import Specializer
from ringkernel.ring.turns.turn import obey, turn

from .cooperative_span import (
    alone,
    alone_at,
    by_address,
    cooperative_helper,
    cooperative_part,
    cooperative_span,
    nobody,
    part_at,
)
from .handlers import END, FIRST, Handler, Handlers
from .mailbox import by_time
from .private import call_span, left_out, nothing, private_operations

if TYPE_CHECKING:
    from ringkernel.codegen.span_types import Plan

Function = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class GridTarget:
    """A target that grids are compiled for.

    `jit` compiles the protocol's functions, `jit_handler(check)` is what compiles a handler, and
    `handler_call(compiled, spec)` what calls it on addresses, see `handler_call.py`; `operations` is the
    table for `operations.py`, with the order that the host and other devices see; `operation` makes one of this target
    of an operation that is written as LLVM instructions, see `targets/cpu_memory.py`.
    """

    jit: Callable[[Function], Any]
    jit_handler: Callable[[bool], Callable[[Function], Any]]
    handler_call: Callable[[Any, Any], Any]
    operations: Mapping[Any, Any]
    operation: Callable[[Any], Any]


@dataclass(frozen=True)
class GridSpan:
    """Runs a stretch of messages: `lead` on the first thread of a grid, `help` on the others. `goes_by_time`,
    `has_end`: what else its turn has to do."""

    lead: Function
    help: Function
    goes_by_time: bool
    has_end: bool


INDIRECT = GridSpan(by_address, nobody, goes_by_time=True, has_end=True)
"""Any span that was compiled for the same target, called by its address: then one program serves all kernels."""


def build_grid_span(target: GridTarget, handlers: Handlers, *, is_cooperative: bool) -> GridSpan:
    """The spans of a kernel. If it is cooperative, that of an input takes one message per thread of a block."""
    end = None if handlers.end is None else _loop(target, handlers.end.plan)
    by_time, has_end = handlers.merge is not None, end is not None
    if not is_cooperative or by_time:
        plans = [one.plan for one in handlers.inputs] if handlers.merge is None else [handlers.merge]
        loops = [_loop(target, plan) for plan in plans]
        return GridSpan(alone(_at_all(loops, end)), nobody, by_time, has_end)
    parts = [_part(target, one) for one in handlers.inputs]
    part = parts[0]
    for number, other in enumerate(parts[1:], FIRST + 1):
        part = part_at(number, other, part)
    at_end = alone_at(END, end, _nothing) if end is not None else _nothing
    return GridSpan(cooperative_span(part, at_end), cooperative_helper(part), by_time, has_end)


def _nothing(span: int, run: int) -> int:
    return 0


def _at_all(loops: list[Function], end: Function | None) -> Function:
    """Return a span that is one of these, by the number that stands for it."""
    chosen = _nothing
    for number, loop in reversed(list(enumerate(loops, FIRST))):
        chosen = alone_at(number, loop, chosen)
    return chosen if end is None else alone_at(END, end, chosen)


def _call(target: GridTarget, func: Function, spec: Any) -> Any:
    """Return what calls a handler on addresses."""
    jit = target.jit_handler(spec.check)
    dispatcher = with_all_parameters(Specializer(jit)(func), func, len(argument_types(spec)), jit)
    return target.handler_call(dispatcher, spec)


def _loop(target: GridTarget, plan: Plan) -> Function:
    return of_record(span_loop(plan, lambda func, spec: _call(target, func, spec), never_drops=False))


def _part(target: GridTarget, handler: Handler) -> Function:
    spec = handler.spec
    itemsize = spec.output.itemsize if spec.output is not None else 0
    call = _call(target, handler.func, spec)
    return cooperative_part(call, itemsize, never_drops=handler.never_drops)


@dataclass(frozen=True)
class Program:
    """A grid's functions, bound; `entry` is the loop, still to be compiled. The specializers say what is in it."""

    entry: Function
    shared: Specializer
    private: Specializer


def build_grid_program(target: GridTarget, loop: Function, span: GridSpan) -> Program:
    """Bind `loop` and all that it calls to a target. What does not depend on the span is compiled once per target."""
    all_shared, all_private = _common(target, goes_by_time=span.goes_by_time, has_end=span.has_end)
    differing = (ops.grid_span, ops.grid_helper, turn, obey)
    shared = Specializer(target.jit, parent=all_shared, differing=differing, operation=target.operation)
    shared.stand_in(ops.grid_span, shared(span.lead))
    shared.stand_in(ops.grid_helper, shared(span.help))
    own = dict.fromkeys(left_out(goes_by_time=span.goes_by_time, has_end=span.has_end), all_private(nothing))
    private = Specializer(
        target.jit, {**own, ops.call_span: shared(call_span)}, parent=all_private, differing=(ops.call_span,)
    )
    shared.stand_in(turn, private(turn))
    shared.stand_in(obey, private(obey))
    return Program(shared.rebind(loop), shared, private)


@functools.cache
def _common(target: GridTarget, *, goes_by_time: bool, has_end: bool) -> tuple[Specializer, Specializer]:
    """Return what programs of a target have in common: functions that look outside, and those of the mailbox alone."""
    shared = Specializer(target.jit, target.operations)
    private = Specializer(target.jit, private_operations(target.operations, target.jit))
    for function in left_out(goes_by_time=goes_by_time, has_end=has_end):
        private.stand_in(function, private(nothing))
    if not goes_by_time:
        shared.stand_in(by_time, shared(nothing))
    return shared, private
