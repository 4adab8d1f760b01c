"""Compiles a plan: its handlers, and the loop around them, in which they are inlined.

The loops are in `span_body.py` and `merged_span.py`, what they call in `steps.py`, and the call of a handler in
`handler_call.py`. Here is what a handler is compiled for, what it may not do, and the span for the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir
from numba import njit, types

from .bounded import is_bounded
from .checks import check_program, check_return, in_order
from .handler_call import CallTarget, argument_types, handler_call
from .handlers import HandlerSpecializer
from .kernel_semantics import kernel_semantics
from .keyed_call import KeyedCalls
from .line_tables import line_numbers, number_loop
from .merged_span import merged_loop
from .readonly import read_only, read_only_error
from .span_body import batch_loop, end_loop, message_loop, of_record
from .span_types import Plan, RefusedHandlerError, Span, SpanTypes
from .steps import CallOf, calls_of, from_zero, n_states
from .targets.cpu import called_from_words, compile_loop
from .typed_code import statements
from .unbound import check_bound

if TYPE_CHECKING:
    from collections.abc import Callable


class CompiledHandler(NamedTuple):
    """A handler as a dispatcher that has its code, checked. `helpers`: what else was compiled for it; `always_emits`:
    it returns nothing; `is_bounded` and `in_order` as of a `Span`."""

    dispatcher: Any
    helpers: HandlerSpecializer
    always_emits: bool
    is_bounded: bool
    in_order: bool


def compile_span(plan: Plan, finish: Callable[[Any, Any], None] | None = None) -> Span:
    """Compile a plan; `finish` as of `compile_loop`. Raises `RefusedHandlerError` and whatever numba raises."""
    with kernel_semantics():
        compiled = {handler: compile_handler(*handler) for handler in plan.handlers}
        all_emit = all(one.always_emits for one in compiled.values())
        never_drops = all_emit and (plan.merge is None or plan.merge.timer is None)
        body = span_loop(plan, lambda *one: call_on_cpu(compiled[one].dispatcher, one[1]), never_drops=never_drops)
        loop = compile_loop(of_record(_fetching_ahead(plan, body)), finish)
    return Span(
        loop.address,
        (loop, list(compiled.values())),
        never_drops,
        all(one.is_bounded for one in compiled.values()),
        loop.library,
        loop.symbol,
        in_order=any(one.in_order for one in compiled.values()),
    )


def compile_numbered_span(plan: Plan) -> Span:
    """Compile the same with line numbers in it, to be looked at."""
    with line_numbers():
        return compile_span(plan, number_loop)


# --- the loop ---------------------------------------------------------------------------------------------------------


def span_loop(plan: Plan, call_of: CallOf, *, never_drops: bool) -> Callable[..., int]:
    """Return the loop of a plan, not compiled yet, for any target. `call_of` a handler and what it is compiled for is
    what calls it on addresses there; `never_drops`: no stage of a chain can drop a message."""
    loop = _loop(plan, calls_of(plan, call_of))
    return from_zero(loop, 1 + len(plan.stages)) if plan.stages and not never_drops else loop


def _loop(plan: Plan, calls: list[Any]) -> Callable[..., int]:
    (_, types), call = plan.lanes[0], calls[0]
    if plan.merge is not None:
        return merged_loop(plan, calls)  # type: ignore[no-any-return]
    if types.is_end:
        return end_loop(call, n_states(plan))
    if types.batch:
        return batch_loop(call, types.max_outputs if types.output is not None else 0)
    return message_loop(call)


def _fetching_ahead(plan: Plan, loop: Callable[..., int]) -> Callable[..., int]:
    """The loop of a keyed kernel by itself, which asks for slots of its table that are far in memory."""
    types = plan.lanes[0][1]
    if types.key is None or types.is_end or plan.merge is not None or plan.stages:
        return loop
    return KeyedCalls(types).in_pieces(loop)


# --- a handler --------------------------------------------------------------------------------------------------------


def compile_handler(handler: Callable[..., Any], spec: SpanTypes) -> CompiledHandler:
    """Compile a handler, and refuse what a kernel cannot use."""
    arguments = argument_types(spec, read_only)
    try:
        dispatcher, helpers = _dispatcher(handler, spec, arguments)
    except RefusedHandlerError:
        raise
    except Exception as error:
        if (written := _written_to(handler, spec)) is not None:
            raise read_only_error(error, written, handler) from error
        raise
    returned = dispatcher.overloads[arguments].signature.return_type
    check_return(returned, spec.batch)
    program = list(statements(dispatcher))
    check_program(program, (dispatcher, *helpers.compiled()))
    emits = isinstance(returned, types.NoneType)
    return CompiledHandler(dispatcher, helpers, emits, is_bounded(program), in_order(program))


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


# --- its call ---------------------------------------------------------------------------------------------------------


def _overload(dispatcher: Any, arguments: tuple[Any, ...]) -> Any:
    dispatcher.compile(arguments)
    return dispatcher.overloads[arguments]


def _describe(builder: Any, status: Any) -> Any:
    """The address of numba's description of the exception."""
    return builder.ptrtoint(status.excinfoptr, ir.IntType(64))


CPU_CALL = CallTarget(called_from_words, _overload, _describe, read_only)


def call_on_cpu(dispatcher: Any, spec: SpanTypes) -> Any:
    """Return the call of a compiled handler on addresses, on this CPU."""
    return handler_call(dispatcher, spec, CPU_CALL)


def with_all_parameters(dispatcher: Any, handler: Callable[..., Any], count: int, jit: Callable[..., Any]) -> Any:
    """Return a compiled handler as a function of just its `count` first parameters; the others have defaults."""
    if handler.__code__.co_argcount <= count:
        return dispatcher
    names = ", ".join(f"p{number}" for number in range(count))
    scope = {"handler": dispatcher, "__name__": __name__}
    return jit(eval(f"lambda {names}: handler({names})", scope))  # noqa: S307 (our own names)
