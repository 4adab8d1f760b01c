"""Compiles handlers off the event loop, each once, and says why one cannot be compiled."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.periods import period_of
from ringkernel.declaration.signature import warn_of_unwritten_output
from ringkernel.devices.event_loop.announcing import announced
from ringkernel.devices.event_loop.background import in_thread
from ringkernel.errors import ConfigurationError, KernelCompileError
from ringkernel.memory.keys_layout import slot_layout
from ringkernel.tracebacks import without_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ringkernel.declaration.declaration import Declaration

_spans: dict[Any, Any] = {}
_pending: dict[Any, asyncio.Future[Any]] = {}


async def compiled_span(declaration: Declaration) -> Any:
    """Return the declaration's compiled span: compiled once per plan in this process.

    Raises `KernelCompileError`, at every call.
    """
    if declaration.order is None and len(declaration.per_input) > 1:
        return together([await compiled_span(one) for one in declaration.per_input])
    plan = plan_of(declaration)
    return await _once(plan, lambda: _find(declaration, plan))


async def compiled_end(declaration: Declaration) -> Any:
    """Return the span of what the kernel does at its end, likewise; None if it does nothing then."""
    at_end = declaration.at_end
    if at_end is None:
        return None
    plan = end_plan_of(declaration)
    return await _once(plan, lambda: _find(at_end, plan))


async def _once(key: Any, find: Callable[[], Any]) -> Any:
    """Return what was found under this key before, or is now, in a thread."""
    if key in _spans:
        return _spans[key]
    here = (asyncio.get_running_loop(), key)
    if here not in _pending:
        _pending[here] = asyncio.ensure_future(in_thread(find))
        _pending[here].add_done_callback(lambda _: _pending.pop(here, None))
    _spans[key] = span = await asyncio.shield(_pending[here])
    return span


def together(spans: list[Any]) -> Any:
    """The spans of a kernel's inputs as one `Span`: the first, with the others."""
    return replace(
        spans[0],
        further=tuple(spans[1:]),
        never_drops=all(span.never_drops for span in spans),
        is_bounded=all(span.is_bounded for span in spans),
        in_order=any(span.in_order for span in spans),
    )


# --- what is compiled -------------------------------------------------------------------------------------------------


def spec_of(declaration: Declaration) -> Any:
    """Return the `SpanTypes` that the declaration's handler is compiled for."""
    from ringkernel.codegen.span_types import SpanTypes

    state = None
    if declaration.state is not None:
        shape = None if declaration.state_type is not None else declaration.state.shape
        state = (declaration.state.dtype, shape)
    return SpanTypes(
        input=None if declaration.input_type is None else declaration.input_type.dtype,
        output=None if declaration.output_type is None else declaration.output_type.dtype,
        state=state,
        batch=declaration.batch,
        max_outputs=declaration.max_outputs,
        check=declaration.check,
        zeroed=declaration.zeroed,
        params=None if declaration.params is None else declaration.params.dtype,
        key=None if declaration.keys is None else declaration.keys.field,
        rng=declaration.rng is not None,
    )


def plan_of(declaration: Declaration) -> Any:
    """Return the `Plan` of a declaration's span: its handler, or, if it goes by time, all of them."""
    from ringkernel.codegen.span_types import Merge, Plan

    order, timer = declaration.order, declaration.timer
    if order is None:
        return Plan.of(declaration.func, spec_of(declaration))
    lanes = tuple((one.func, spec_of(one)) for one in declaration.per_input)
    if timer is None:
        return Plan(lanes, Merge(order.field, order.late))
    types = replace(spec_of(_of_timer(declaration)), time=declaration.times, state_at=_state_at(declaration))
    every = period_of(declaration.kernel_id, timer.every, declaration.times)
    return Plan(lanes, Merge(order.field, order.late, (timer.func, types), every))


def end_plan_of(declaration: Declaration) -> Any:
    """Return the plan of a kernel's end; see `Declaration.at_end`."""
    from ringkernel.codegen.span_types import Plan

    at_end = declaration.at_end
    assert at_end is not None
    return Plan.of(at_end.func, replace(spec_of(at_end), is_end=True, state_at=_state_at(declaration)))


def chain_of(declarations: Iterable[Declaration]) -> Any:
    """Return the plan of a fused chain of these kernels."""
    first, *others = map(plan_of, declarations)
    return first.then(tuple(others))


def _state_at(declaration: Declaration) -> int:
    """Return the offset of a keyed kernel's state in a slot of its table; 0 without keys."""
    if declaration.keys is None:
        return 0
    assert declaration.input_type is not None
    field = declaration.keys.field
    return slot_layout(field, declaration.input_type.dtype[field], spec_of(declaration).state).state_at


def _of_timer(declaration: Declaration) -> Declaration:
    """The kernel as it is for its timer."""
    assert declaration.timer is not None
    return replace(declaration.per_input[0], func=declaration.timer.func, input_type=None, batch=False)


# --- compiling --------------------------------------------------------------------------------------------------------


def compile_now(declaration: Declaration) -> Any:
    """Return the declaration's span, compiled here and now, whatever the cache holds: of its first handler, or, if it
    goes by time, of all. Raises `KernelCompileError`."""
    from ringkernel.codegen.span import compile_span

    return _compile(declaration, partial(compile_span, plan_of(declaration)))


def compile_numbered(declaration: Declaration) -> Any:
    """Return the same with line numbers in it, to be looked at."""
    from ringkernel.codegen.span import compile_numbered_span

    return _compile(declaration, partial(compile_numbered_span, plan_of(declaration)))


def find_now(declaration: Declaration) -> Any:
    """Return all that a declaration's kernels run, from the cache or compiled, here and now. Raises
    `KernelCompileError`."""
    if (at_end := declaration.at_end) is not None:
        _find(at_end, end_plan_of(declaration))
    if declaration.order is not None:
        return _find(declaration, plan_of(declaration))
    return together([_find(one, plan_of(one)) for one in declaration.per_input])


def _find(declaration: Declaration, plan: Any) -> Any:
    """The span of a plan. Raises `KernelCompileError` of the handler that it is about."""
    from ringkernel.codegen.span import compile_handler
    from ringkernel.codegen.span_cache import find_span
    from ringkernel.messages import codecs

    timer = [] if plan.merge is None or plan.merge.timer is None else [_of_timer(declaration)]
    handlers = [declaration] if plan.merge is None else [*declaration.per_input, *timer]
    for message_type in (*(one.input_type for one in handlers), declaration.output_type):
        if message_type is not None:
            codecs.prepare(message_type)
    try:
        span = _compile(declaration, partial(find_span, plan, announced(f"kernel {declaration.kernel_id!r}")))
    except KernelCompileError:
        for one, handler in zip(handlers, plan.first, strict=True) if len(handlers) > 1 else ():
            _compile(one, partial(compile_handler, *handler))
        raise
    waits_for_end = declaration.batch and declaration.end is not None
    if declaration.output_type is not None and not waits_for_end:
        for one in handlers:
            number = 0 if one.input_type is None and plan.merge is None else 1  # a timer's handler has a time
            warn_of_unwritten_output(one.kernel_id, one.func, number=number)
    return span


def _compile(declaration: Declaration, make: Callable[[], Any]) -> Any:
    from ringkernel.codegen.span_types import RefusedHandlerError

    try:
        return make()
    except ConfigurationError:
        raise
    except RefusedHandlerError as error:
        raise KernelCompileError(explain(declaration, error)) from None
    except Exception as error:  # noqa: BLE001 (numba raises all sorts)
        raise KernelCompileError(explain(declaration, error)) from without_frames(error)


def explain(declaration: Declaration, error: Exception) -> str:
    """The reason first, then the line, then which kernel."""
    from ringkernel.codegen import diagnosis

    return diagnosis.explain(declaration, error)
