"""What is compiled per handler: a pure loop over contiguous records, the handler inlined.

The loop itself is in `span_body.py`, the call of the handler in `calling.py`. Here is what a handler is compiled for,
what it may not do, and its span for the CPU.
"""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import cfunc, njit, types
from numba.core import ir as numba_ir
from numba.extending import intrinsic

from .calling import CallTarget, argument_types, handler_call
from .cpu import TIMED_SLEEP, specializer
from .span_body import batch_span, scalar_span
from .specialize import Specializer

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


@dataclass(frozen=True)
class SpanTypes:
    """What a handler is compiled for. `state` is None, or the dtype and shape (None: one record) of its state."""

    input: np.dtype[Any]
    output: np.dtype[Any] | None
    state: tuple[np.dtype[Any], tuple[int, ...] | None] | None
    batch: bool = False
    max_outputs: int = 1
    check: bool = True


@dataclass(frozen=True)
class Span:
    """A compiled span. `keepalive` owns the machine code; `never_drops`: the handler returns nothing."""

    address: int
    keepalive: Any
    library: Any
    never_drops: bool


class HandlerError(TypeError):
    """The handler compiles, but does something that a kernel cannot use."""


def compile_span(handler: Callable[..., Any], spec: SpanTypes) -> Span:
    """Compile a handler into a span. Raises whatever numba raises."""
    jit = njit(error_model="numpy", boundscheck=spec.check)
    compile_function = Specializer(jit)
    arguments = argument_types(spec)
    dispatcher = with_all_parameters(compile_function(handler), handler, len(arguments), jit)
    dispatcher.compile(arguments)
    returned = dispatcher.overloads[arguments].signature.return_type
    _check_return(returned, spec.batch)
    for overload in compile_function(handler).overloads.values():
        _check_message_untouched(overload.type_annotation)
    for compiled in compile_function.compiled():
        for overload in getattr(compiled, "overloads", {}).values():
            _check_assignments(overload.type_annotation)
    never_drops = isinstance(returned, types.NoneType)
    body = span_body(handler_call(dispatcher, spec, CPU_CALL), spec, never_drops=never_drops)
    bound = specializer(TIMED_SLEEP).rebind(body)
    compiled = cfunc(types.int64(*[types.int64] * 5), error_model="numpy")(bound)
    return Span(int(compiled.address), (compiled, dispatcher, compile_function), compiled._library, never_drops)


def span_body(call: Any, spec: SpanTypes, *, never_drops: bool) -> Callable[..., int]:
    """The loop around a handler's `call`, not compiled yet."""
    itemsize = spec.output.itemsize if spec.output is not None else 0
    if spec.batch:
        return batch_span(call, itemsize, spec.max_outputs)
    return scalar_span(call, itemsize, never_drops=never_drops)


def _overload(dispatcher: Any, arguments: tuple[Any, ...]) -> Any:
    dispatcher.compile(arguments)
    return dispatcher.overloads[arguments]


def _describe(builder: Any, status: Any) -> Any:
    """The address of numba's description of the exception."""
    return builder.ptrtoint(status.excinfoptr, ir.IntType(64))


CPU_CALL = CallTarget(intrinsic, _overload, _describe)


def with_all_parameters(dispatcher: Any, handler: Callable[..., Any], count: int, jit: Callable[..., Any]) -> Any:
    """A compiled handler as a function of just its `count` first parameters; the others have defaults."""
    if handler.__code__.co_argcount > count:
        return jit(_with_defaults(dispatcher, count))
    return dispatcher


def _with_defaults(handler: Any, count: int) -> Callable[..., Any]:
    """The handler as a function of just its `count` first parameters."""

    def one(msg: Any) -> Any:
        return handler(msg)

    def two(msg: Any, second: Any) -> Any:
        return handler(msg, second)

    def three(msg: Any, out: Any, state: Any) -> Any:
        return handler(msg, out, state)

    return (one, two, three)[count - 1]


def _check_return(returned: Any, batch: bool) -> None:
    plain = returned.type if isinstance(returned, types.Optional) else returned
    if batch:
        if not isinstance(plain, types.Integer | types.NoneType) or isinstance(plain, types.Boolean):
            raise HandlerError(
                f"a batch handler returns how many messages it emitted, or nothing for all; this one returns {returned}"
            )
    elif not isinstance(plain, types.Boolean | types.NoneType):
        raise HandlerError(
            f"a handler returns True (emit), False (drop) or nothing (emit); this one returns {returned}"
        )


def _check_assignments(annotation: Any) -> None:
    """Refuse what numba would truncate without a word: a float assigned to an integer field or array."""
    for block in annotation.blocks.values():
        for statement in block.body:
            if not isinstance(statement, numba_ir.SetAttr | numba_ir.SetItem | numba_ir.StaticSetItem):
                continue
            container = annotation.typemap.get(statement.target.name)
            value = annotation.typemap.get(statement.value.name)
            value = value.dtype if isinstance(value, types.Array) else value
            where = _assigned_type(container, statement)
            if isinstance(where, types.Integer) and isinstance(value, types.Float | types.Complex):
                raise HandlerError(
                    f"{_source(statement)}: a {value} is assigned to a place of type {where}; convert it explicitly, "
                    f"as in int(...)"
                )


_DERIVING = ("getattr", "getitem", "static_getitem", "getiter", "iternext", "pair_first", "cast", "exhaust_iter")


def _check_message_untouched(annotation: Any) -> None:
    """Refuse to write to the message, under whatever name: other kernels may read it, and it may be lent."""
    statements = [statement for block in annotation.blocks.values() for statement in block.body]
    derived: set[str] = set()
    before = -1
    while before < len(derived):
        before = len(derived)
        derived |= {
            statement.target.name
            for statement in statements
            if isinstance(statement, numba_ir.Assign)
            and _derives(statement.value, derived)
            and not isinstance(annotation.typemap.get(statement.target.name), types.Number | types.Boolean)
        }
    for statement in statements:
        writes = isinstance(statement, numba_ir.SetAttr | numba_ir.SetItem | numba_ir.StaticSetItem)
        if writes and statement.target.name in derived:
            raise HandlerError(
                f"{_source(statement)}: a message is read only, since other kernels may read it, too; write to the "
                f"output instead"
            )


def _source(statement: Any) -> str:
    """The line that a statement comes from, with its number."""
    text = linecache.getline(statement.loc.filename, statement.loc.line).strip()
    return f"line {statement.loc.line}: {text}"


def _derives(value: Any, derived: set[str]) -> bool:
    if isinstance(value, numba_ir.Arg):
        return bool(value.index == 0)
    if isinstance(value, numba_ir.Var):
        return value.name in derived
    return (
        isinstance(value, numba_ir.Expr)
        and value.op in _DERIVING
        and any(variable.name in derived for variable in value.list_vars())
    )


def _assigned_type(container: Any, statement: Any) -> Any:
    if isinstance(container, types.Record):
        field = getattr(statement, "attr", getattr(statement, "index", None))
        return container.typeof(field) if field in container.fields else None
    return container.dtype if isinstance(container, types.Array) else None
