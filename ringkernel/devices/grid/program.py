"""A grid's program: one handler, the turn and the loop around it, specialised for a target that has grids.

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
from ringkernel.codegen.span import span_body, with_all_parameters
from ringkernel.codegen.specialise import Specializer
from ringkernel.ring.split_span import lead
from ringkernel.ring.turn import obey, turn

from .cooperative_span import alone, by_address, cooperative_helper, cooperative_part, cooperative_span, nobody
from .private import call_span, never_split, private_operations

if TYPE_CHECKING:
    from ringkernel.codegen.span_types import SpanTypes

Function = Callable[..., Any]


@dataclass(frozen=True, eq=False)
class GridTarget:
    """A target that grids are compiled for.

    `jit` compiles the protocol's functions, `jit_handler(check)` is what compiles a handler, and
    `handler_call(compiled, spec)` what calls it on addresses, see `handler_call.py`; `operations` is the
    table for `operations.py`, with the order that the host and other devices see.
    """

    jit: Callable[[Function], Any]
    jit_handler: Callable[[bool], Callable[[Function], Any]]
    handler_call: Callable[[Any, SpanTypes], Any]
    operations: Mapping[Any, Any]


@dataclass(frozen=True)
class GridSpan:
    """What a grid does with a stretch of messages: `lead` by its first thread, `help` by the others."""

    lead: Function
    help: Function


INDIRECT = GridSpan(by_address, nobody)
"""Any span that was compiled for the same target, called by its address: then one program serves all kernels."""


def build_grid_span(
    target: GridTarget,
    handler: Function,
    spec: SpanTypes,
    *,
    never_drops: bool,
    is_cooperative: bool,
    unwritten: tuple[int, int] | None = None,
) -> GridSpan:
    """The span of one handler. If it is cooperative, it takes one message per thread of a block. `unwritten`: what the
    CPU's compiler has seen; None if that was not asked."""
    jit = target.jit_handler(spec.check)
    dispatcher = with_all_parameters(Specializer(jit)(handler), handler, len(argument_types(spec)), jit)
    call = target.handler_call(dispatcher, spec)
    itemsize = spec.output.itemsize if spec.output is not None else 0
    zeroed = unwritten if unwritten is not None else (0, itemsize if spec.zeroed else 0)
    if not is_cooperative:
        return GridSpan(alone(span_body(call, spec, zeroed, never_drops=never_drops)), nobody)
    part = cooperative_part(call, itemsize, zeroed, never_drops=never_drops)
    return GridSpan(cooperative_span(part), cooperative_helper(part))


@dataclass(frozen=True)
class Program:
    """A grid's functions, bound; `entry` is the loop, still to be compiled. The specializers say what is in it."""

    entry: Function
    shared: Specializer
    private: Specializer


def build_grid_program(target: GridTarget, loop: Function, span: GridSpan) -> Program:
    """Bind `loop` and all that it calls to a target. What does not depend on the span is compiled once per target."""
    all_shared, all_private = _common(target)
    differing = (ops.grid_span, ops.grid_helper, turn, obey)
    shared = Specializer(target.jit, parent=all_shared, differing=differing)
    shared.stand_in(ops.grid_span, shared(span.lead))
    shared.stand_in(ops.grid_helper, shared(span.help))
    own = {ops.call_span: shared(call_span), lead: shared(never_split)}
    private = Specializer(target.jit, own, parent=all_private, differing=(ops.call_span,))
    shared.stand_in(turn, private(turn))
    shared.stand_in(obey, private(obey))
    return Program(shared.rebind(loop), shared, private)


@functools.cache
def _common(target: GridTarget) -> tuple[Specializer, Specializer]:
    """What all programs of a target have in common: functions that look outside, and those that stay on the mailbox."""
    shared = Specializer(target.jit, target.operations)
    return shared, Specializer(target.jit, private_operations(target.operations, shared, target.jit))
