"""Compiles handlers off the event loop, each once, and says why one cannot be compiled."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.order import LATE
from ringkernel.declaration.periods import period_of
from ringkernel.declaration.signature import warn_of_unwritten_output
from ringkernel.devices.event_loop.announcing import announced
from ringkernel.devices.event_loop.background import in_thread
from ringkernel.errors import ConfigurationError, KernelCompileError
from ringkernel.memory.keys_layout import slot_layout
from ringkernel.tracebacks import without_frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.declaration.declaration import Declaration

_spans: dict[Any, Any] = {}
_pending: dict[Any, asyncio.Future[Any]] = {}


async def compiled_span(declaration: Declaration) -> Any:
    """The declaration's compiled span: compiled once per function, types and options in this process.

    Raises `KernelCompileError`, at every call.
    """
    handlers = declaration.per_input
    if declaration.order is not None:
        merged = merge_spec_of(declaration)
        return await _once(merged, lambda: _find_merged(declaration, merged))
    if len(handlers) > 1:
        return together([await compiled_span(one) for one in handlers])
    spec = spec_of(declaration)
    return await _once((declaration.func, spec), lambda: _find(declaration, spec))


async def compiled_end(declaration: Declaration) -> Any:
    """What the kernel does at its end, likewise; None if it does nothing then."""
    at_end = declaration.at_end
    if at_end is None:
        return None
    spec = end_spec_of(declaration)
    return await _once((at_end.func, spec), lambda: _find(at_end, spec))


async def _once(key: Any, find: Callable[[], Any]) -> Any:
    """What was found under this key before, or is now, in a thread."""
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


def spec_of(declaration: Declaration) -> Any:
    """What the declaration's handler is compiled for, as a `SpanTypes`."""
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


def end_spec_of(declaration: Declaration) -> Any:
    """What the handler of a kernel's end is compiled for; see `Declaration.at_end`."""
    assert declaration.at_end is not None
    return replace(spec_of(declaration.at_end), is_end=True, state_at=_state_at(declaration))


def _state_at(declaration: Declaration) -> int:
    """Where in a slot of its table a keyed kernel's state is; 0 without keys."""
    if declaration.keys is None:
        return 0
    assert declaration.input_type is not None
    field = declaration.keys.field
    return slot_layout(field, declaration.input_type.dtype[field], spec_of(declaration).state).state_at


def merge_spec_of(declaration: Declaration) -> Any:
    """What the handlers of a kernel that goes by time are compiled for, as a `MergeTypes`."""
    from ringkernel.codegen.span_types import MergeTypes

    order, timer = declaration.order, declaration.timer
    assert order is not None
    return MergeTypes(
        inputs=tuple((one.func, spec_of(one)) for one in declaration.per_input),
        timer=None if timer is None else (timer.func, _timer_spec_of(declaration)),
        field=order.field,
        late=LATE.index(order.late),
        every=0 if timer is None else period_of(declaration.kernel_id, timer.every, declaration.times),
    )


def stage_of(declaration: Declaration) -> Any:
    """The kernel as a stage of a fused chain: its handler, and what it, or all of its handlers, are compiled for."""
    return declaration.func, spec_of(declaration) if declaration.order is None else merge_spec_of(declaration)


def _timer_spec_of(declaration: Declaration) -> Any:
    return replace(spec_of(_of_timer(declaration)), time=declaration.times, state_at=_state_at(declaration))


def _of_timer(declaration: Declaration) -> Declaration:
    """The kernel as it is for its timer."""
    assert declaration.timer is not None
    return replace(declaration.per_input[0], func=declaration.timer.func, input_type=None, batch=False)


def _find_merged(declaration: Declaration, spec: Any) -> Any:
    """The span of a kernel that goes by time. Raises `KernelCompileError` of the handler that it is about."""
    from ringkernel.codegen.span import compile_handler
    from ringkernel.codegen.span_cache import find_merged_span
    from ringkernel.messages import codecs

    handlers = [*declaration.per_input, *([_of_timer(declaration)] if declaration.timer else [])]
    for message_type in (*(one.input_type for one in declaration.per_input), declaration.output_type):
        if message_type is not None:
            codecs.prepare(message_type)

    def find(_func: Any, _spec: Any) -> Any:
        return find_merged_span(spec, announced(f"kernel {declaration.kernel_id!r}"))

    try:
        span = _compile(declaration, None, find)
    except KernelCompileError:
        for one, (_, each) in zip(handlers, (*spec.inputs, *([spec.timer] if spec.timer else [])), strict=True):
            _compile(one, each, compile_handler)
        raise
    if declaration.output_type is not None:
        for one in handlers:
            warn_of_unwritten_output(one.kernel_id, one.func)
    return span


def compile_now(declaration: Declaration) -> Any:
    """The declaration's span, compiled here and now, whatever the cache holds: of its first handler, or, if it goes by
    time, of all. Raises `KernelCompileError`."""
    from ringkernel.codegen.merged_span import compile_merged_span
    from ringkernel.codegen.span import compile_span

    if declaration.order is not None:
        return _compile(declaration, merge_spec_of(declaration), lambda _func, spec: compile_merged_span(spec))
    return _compile(declaration, spec_of(declaration), compile_span)


def compile_numbered(declaration: Declaration) -> Any:
    """The same, with line numbers in it, to be looked at."""
    from ringkernel.codegen.span import compile_numbered_span

    return _compile(declaration, spec_of(declaration), compile_numbered_span)


def find_now(declaration: Declaration) -> Any:
    """All that a declaration's kernels run, from the cache or compiled, here and now. Raises `KernelCompileError`."""
    if (at_end := declaration.at_end) is not None:
        _find(at_end, end_spec_of(declaration))
    if declaration.order is not None:
        return _find_merged(declaration, merge_spec_of(declaration))
    return together([_find(one, spec_of(one)) for one in declaration.per_input])


def _find(declaration: Declaration, spec: Any) -> Any:
    from ringkernel.codegen.span_cache import find_span
    from ringkernel.messages import codecs

    what = f"kernel {declaration.kernel_id!r}"
    for message_type in (declaration.input_type, declaration.output_type):
        if message_type is not None:
            codecs.prepare(message_type)
    span = _compile(declaration, spec, partial(find_span, around=announced(what)))
    waits_for_end = declaration.batch and declaration.end is not None
    if declaration.output_type is not None and not waits_for_end:
        number = 0 if declaration.input_type is None else 1
        warn_of_unwritten_output(declaration.kernel_id, declaration.func, number=number)
    return span


def _compile(declaration: Declaration, spec: Any, make: Callable[..., Any]) -> Any:
    from ringkernel.codegen.span_types import RefusedHandlerError

    try:
        return make(declaration.func, spec)
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
