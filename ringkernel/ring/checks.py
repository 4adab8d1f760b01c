"""What numba would compile and a kernel must not do: looked for in the typed code of a handler and its helpers."""

from __future__ import annotations

import inspect
import linecache
from typing import TYPE_CHECKING, Any

from numba import types
from numba.core import ir as numba_ir

from .span_types import HandlerError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_return(returned: Any, batch: bool) -> None:
    """Refuse a handler that returns what means nothing here."""
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


def check_assignments(annotation: Any) -> None:
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


_DERIVING = (
    "getattr",
    "getitem",
    "static_getitem",
    "getiter",
    "iternext",
    "pair_first",
    "cast",
    "exhaust_iter",
    "build_tuple",
)


def check_message_untouched(annotation: Any) -> None:
    """Refuse to write to the message, under whatever name and in whatever helper: other kernels may read it, and it may
    be lent."""
    _check_arguments_untouched(annotation, frozenset({0}), set())


def _check_arguments_untouched(annotation: Any, arguments: frozenset[int], done: set[Any]) -> None:
    """Refuse to write to these arguments of a function, and to what is read from them."""
    if (id(annotation), arguments) in done:
        return  # recursion
    done.add((id(annotation), arguments))
    statements = [statement for block in annotation.blocks.values() for statement in block.body]
    derived: set[str] = set()
    before = -1
    while before < len(derived):
        before = len(derived)
        derived |= {
            statement.target.name
            for statement in statements
            if isinstance(statement, numba_ir.Assign)
            and _derives(statement.value, annotation, arguments, derived)
            and not isinstance(annotation.typemap.get(statement.target.name), types.Number | types.Boolean)
        }
    for statement in statements:
        writes = isinstance(statement, numba_ir.SetAttr | numba_ir.SetItem | numba_ir.StaticSetItem)
        if writes and statement.target.name in derived:
            raise HandlerError(
                f"{_source(statement)}: a message is read only, since other kernels may read it, too; write to the "
                f"output instead"
            )
        call = getattr(statement, "value", None)
        for callee, passed in _calls_with(call, annotation, derived):
            _check_arguments_untouched(callee, passed, done)


def _derives(value: Any, annotation: Any, arguments: frozenset[int], derived: set[str]) -> bool:
    if isinstance(value, numba_ir.Arg):
        return value.index in arguments
    if isinstance(value, numba_ir.Var):
        return value.name in derived
    if not isinstance(value, numba_ir.Expr):
        return False
    if value.op == "call":  # a helper may return what it was given
        return any(True for _ in _calls_with(value, annotation, derived))
    return value.op in _DERIVING and any(variable.name in derived for variable in value.list_vars())


def _calls_with(value: Any, annotation: Any, derived: set[str]) -> Iterator[tuple[Any, frozenset[int]]]:
    """The helpers that an expression calls with something derived: their typed code, and which arguments that are."""
    if not isinstance(value, numba_ir.Expr) or value.op != "call":
        return
    function = annotation.typemap.get(value.func.name)
    if not isinstance(function, types.Dispatcher):
        return
    dispatcher = function.dispatcher
    names = list(inspect.signature(dispatcher.py_func).parameters)
    passed = {i for i, variable in enumerate(value.args) if variable.name in derived}
    passed |= {names.index(name) for name, variable in value.kws if variable.name in derived}
    if passed:
        for overload in dispatcher.overloads.values():
            if not hasattr(overload.type_annotation, "blocks"):
                continue  # a helper of the user's own `njit(cache=True)`, from numba's cache without its typed code
            yield overload.type_annotation, frozenset(passed)


def _source(statement: Any) -> str:
    """The line that a statement comes from, with its number."""
    text = linecache.getline(statement.loc.filename, statement.loc.line).strip()
    return f"line {statement.loc.line}: {text}"


def _assigned_type(container: Any, statement: Any) -> Any:
    if isinstance(container, types.Record):
        field = getattr(statement, "attr", getattr(statement, "index", None))
        return container.typeof(field) if field in container.fields else None
    return container.dtype if isinstance(container, types.Array) else None
