"""What is compiled per handler: a pure loop over contiguous records, the handler inlined.

The loop itself is in `span_body.py`, the call of the handler in `handler_call.py`. Here is what a handler is compiled
for, what it may not do, and its span for the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import njit, types

from .bounded import is_bounded
from .checks import check_program, check_return, in_order, read_only_error
from .handler_call import CallTarget, argument_types, handler_call
from .handlers import HandlerSpecializer
from .kernel_semantics import kernel_semantics
from .keyed_call import KeyedCalls, keyed_end_span
from .line_tables import line_numbers, number_loop
from .readonly import read_only
from .span_body import batch_span, end_span, scalar_span
from .span_types import RefusedHandlerError, Span, SpanTypes
from .targets.cpu import called_from_words, compile_loop
from .unbound import check_bound

if TYPE_CHECKING:
    from collections.abc import Callable


def compile_span(
    handler: Callable[..., Any], spec: SpanTypes, finish: Callable[[Any, Any], None] | None = None
) -> Span:
    """Compile a handler into a span; `finish` as of `compile_loop`. Raises `RefusedHandlerError` and whatever numba
    raises."""
    with kernel_semantics():
        dispatcher, compile_function = compile_handler(handler, spec)
        returned = dispatcher.overloads[argument_types(spec, read_only)].signature.return_type
        never_drops = isinstance(returned, types.NoneType)
        call = message_call(call_on_cpu(dispatcher, spec), spec)
        body = span_body(call, spec, never_drops=never_drops)
        loop = compile_loop(body, finish)
    keepalive = (loop, dispatcher, compile_function)
    bounded, ordered = is_bounded(dispatcher), in_order(dispatcher)
    return Span(loop.address, keepalive, never_drops, bounded, loop.library, loop.symbol, in_order=ordered)


def message_call(call: Any, spec: SpanTypes) -> Any:
    """What loops call for each message, in the place of the `call` of its handler."""
    return call if spec.key is None or spec.input is None else KeyedCalls(spec).around(call)


def compile_numbered_span(handler: Callable[..., Any], spec: SpanTypes) -> Span:
    """The same with line numbers in it, to be looked at."""
    with line_numbers():
        return compile_span(handler, spec, number_loop)


def compile_handler(handler: Callable[..., Any], spec: SpanTypes) -> tuple[Any, HandlerSpecializer]:
    """The handler as a dispatcher that has its code, and what its helpers were compiled with: checked."""
    try:
        dispatcher, compile_function = _dispatcher(handler, spec, argument_types(spec, read_only))
    except RefusedHandlerError:
        raise
    except Exception as error:
        if (written := _written_to(handler, spec)) is not None:
            raise read_only_error(error, written, handler) from error
        raise
    returned = dispatcher.overloads[argument_types(spec, read_only)].signature.return_type
    check_return(returned, spec.batch)
    check_program(dispatcher, compile_function.compiled())
    return dispatcher, compile_function


def _dispatcher(
    handler: Callable[..., Any], spec: SpanTypes, arguments: tuple[Any, ...], *, lenient: bool = False
) -> tuple[Any, HandlerSpecializer]:
    jit = njit(error_model="numpy", boundscheck=spec.check, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    compile_function = HandlerSpecializer(jit, boundscheck=spec.check, lenient=lenient)
    dispatcher = with_all_parameters(compile_function(handler), handler, len(arguments), jit)
    try:
        dispatcher.compile(arguments)
    except Exception:
        check_bound(compile_function.compiled())  # which may be what numba says in words of its own
        raise
    check_bound(one for one in compile_function.compiled() if getattr(one, "overloads", None))
    return dispatcher, compile_function


def _written_to(handler: Callable[..., Any], spec: SpanTypes) -> str | None:
    """Of what is read only, what has to be writable for the handler to compile: "outside", "params" or "message"; None
    if it does not even then. Numba says many things of a write, and not always what was written to."""
    if _compiles(handler, spec, read_only, read_only, lenient=True):
        return "outside"
    if spec.params is not None and _compiles(handler, spec, read_only, _as_it_is):
        return "params"
    return "message" if spec.input is not None and _compiles(handler, spec, _as_it_is, _as_it_is) else None


def _as_it_is(numba_type: Any) -> Any:
    return numba_type


def _compiles(
    handler: Callable[..., Any],
    spec: SpanTypes,
    message: Callable[[Any], Any],
    params: Callable[[Any], Any],
    *,
    lenient: bool = False,
) -> bool:
    try:
        _dispatcher(handler, spec, argument_types(spec, message, params), lenient=lenient)
    except Exception:  # noqa: BLE001 (then that is what its author should hear of first)
        return False
    return True


def span_body(call: Any, spec: SpanTypes, *, never_drops: bool) -> Callable[..., int]:
    """The loop around a handler's `call`, not compiled yet, which sees to what lies far in memory."""
    loop = handler_loop(call, spec, never_drops=never_drops)
    return loop if spec.key is None or spec.is_end else KeyedCalls(spec).in_pieces(loop)


def handler_loop(call: Any, spec: SpanTypes, *, never_drops: bool) -> Callable[..., int]:
    """The loop around a handler's `call`, not compiled yet."""
    has_output = spec.output is not None
    if spec.is_end and spec.key is not None:
        return keyed_end_span(call, spec.state_at)
    if spec.is_end:
        return end_span(call)
    if spec.batch:
        return batch_span(call, spec.max_outputs if has_output else 0)
    return scalar_span(call, has_output=has_output, never_drops=never_drops)


def _overload(dispatcher: Any, arguments: tuple[Any, ...]) -> Any:
    dispatcher.compile(arguments)
    return dispatcher.overloads[arguments]


def _describe(builder: Any, status: Any) -> Any:
    """The address of numba's description of the exception."""
    return builder.ptrtoint(status.excinfoptr, ir.IntType(64))


CPU_CALL = CallTarget(called_from_words, _overload, _describe, read_only)


def call_on_cpu(dispatcher: Any, spec: SpanTypes) -> Any:
    """What calls a compiled handler on addresses, on this CPU."""
    return handler_call(dispatcher, spec, CPU_CALL)


def with_all_parameters(dispatcher: Any, handler: Callable[..., Any], count: int, jit: Callable[..., Any]) -> Any:
    """A compiled handler as a function of just its `count` first parameters; the others have defaults."""
    if handler.__code__.co_argcount > count:
        return jit(_with_defaults(dispatcher, count))
    return dispatcher


def _with_defaults(handler: Any, count: int) -> Callable[..., Any]:
    """The handler as a function of just its `count` first parameters."""

    def none() -> Any:
        return handler()

    def one(msg: Any) -> Any:
        return handler(msg)

    def two(msg: Any, second: Any) -> Any:
        return handler(msg, second)

    def three(msg: Any, out: Any, state: Any) -> Any:
        return handler(msg, out, state)

    def four(msg: Any, out: Any, state: Any, params: Any) -> Any:
        return handler(msg, out, state, params)

    def five(msg: Any, out: Any, state: Any, params: Any, rng: Any) -> Any:
        return handler(msg, out, state, params, rng)

    return (none, one, two, three, four, five)[count]
