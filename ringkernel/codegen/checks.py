"""Refuses what numba would compile and a kernel must not do: looks at the typed code of a handler and its helpers."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from numba.core import ir

from .allowed import (
    ARRAY_ATTRIBUTES,
    EXPRESSIONS,
    INDEXED,
    INSTEAD,
    LOOP,
    METHODS,
    OPERATORS,
    Arguments,
    functions,
)
from .span_types import RefusedHandlerError
from .wording import kind_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from .typed_code import Statement


def check_return(returned: Any, batch: bool) -> None:
    """Refuse a handler that returns what means nothing here."""
    plain = returned.type if isinstance(returned, types.Optional) else returned
    if batch:
        if not isinstance(plain, types.Integer | types.NoneType) or isinstance(plain, types.Boolean):
            raise RefusedHandlerError(
                f"a batch handler returns how many messages it emitted, or nothing for all; this one returns "
                f"{_said_of(returned)}"
            )
    elif not isinstance(plain, types.Boolean | types.NoneType):
        raise RefusedHandlerError(
            f"a handler returns True (emit), False (drop) or nothing (emit); this one returns {_said_of(returned)}: "
            f"results are written to the fields of `out`"
        )


def _said_of(returned: Any) -> str:
    return kind_of(str(returned))


def check_program(program: Iterable[Statement], ours: Collection[Any]) -> None:
    """Refuse what a handler, or a function that it leads to, does and must not. `program`: their statements; `ours`:
    the functions that were compiled for it, with its checks."""
    checked = set(map(id, ours))
    for statement in program:
        if isinstance(statement.node, ir.Assign) and isinstance(statement.node.value, ir.Expr):
            _check_expression(statement, statement.node.value)
        _check_named_function(statement, checked)
        if isinstance(statement.node, ir.SetAttr | ir.SetItem | ir.StaticSetItem):
            _check_assignment(statement)
        elif isinstance(statement.node, ir.DelItem):
            _check_indexed(statement, statement.node.target)


def in_order(program: Iterable[Statement]) -> bool:
    """Return whether a handler does something that others notice: it prints, or calls a C function."""
    outside = types.ExternalFunctionPointer | types.ExternalFunction
    return any(isinstance(one.node, ir.Print) or isinstance(one.assigned_type, outside) for one in program)


# --- what it may call, index and read --------------------------------------------------------------------------------


def _check_expression(statement: Statement, expression: Any) -> None:
    if expression.op not in EXPRESSIONS:
        raise statement.refuse(f"{expression.op!r} is not among what a handler may do")
    if expression.op == "call":
        _check_call(statement, expression)
    elif expression.op in ("getitem", "static_getitem", "typed_getitem"):
        _check_indexed(statement, expression.value)
    elif expression.op == "getattr":
        _check_attribute_of(statement, expression.value, expression.attr)
    elif expression.op in ("binop", "inplace_binop") and expression.fn in (operator.mul, operator.imul):
        _check_product(statement, expression)
    elif expression.op == "binop" and expression.fn in (operator.is_, operator.is_not):
        _check_identity(statement, expression)
    elif expression.op == "arrayexpr":
        for ufunc in _array_functions(expression.expr):
            if not isinstance(ufunc, np.ufunc) and ufunc not in OPERATORS:
                raise _not_allowed(statement, ufunc)


def _array_functions(tree: Any) -> Iterator[Any]:
    if isinstance(tree, tuple):
        function, arguments = tree
        yield function
        for argument in arguments:
            yield from _array_functions(argument)


def _check_call(statement: Statement, expression: Any) -> None:
    function = statement.type_of(expression.func)
    signature = statement.function.signatures.get(expression)
    if isinstance(function, types.BoundFunction):
        _check_method(statement, expression, function, signature)
    elif isinstance(function, types.ExternalFunctionPointer | types.ExternalFunction):
        if not all(map(_is_number, (signature.return_type, *signature.args))):
            raise statement.refuse("a C function may be given numbers only: nothing says what it does with an address")
    elif isinstance(function, types.Function):
        if (arguments := functions().get(function.typing_key)) is None:
            raise _not_allowed(statement, function.typing_key)
        _check_arguments(statement, expression, function.typing_key, arguments)
        if function.typing_key in (getattr, hasattr):
            _check_attribute_of(statement, expression.args[0], getattr(signature.args[1], "literal_value", None))
        if function.typing_key is np.reshape:
            _check_shape(statement, expression.args[1:])
        _check_values(statement, expression, function.typing_key)
    elif not isinstance(function, _CALLED_ANYWAY):
        raise _not_allowed(statement, function)


def _check_method(statement: Statement, expression: Any, method: Any, signature: Any) -> None:
    if isinstance(method.this, types.Callable):  # as `np.add.at`
        raise _not_allowed(statement, method)
    if not isinstance(method.this, types.Array):
        return
    key = method.typing_key
    name = key.removeprefix("array.") if isinstance(key, str) else key[1]
    viewed = getattr(signature.return_type, "dtype", None)
    if name not in METHODS or (name == "view" and isinstance(viewed, types.Record)):  # which would be writable
        raise _not_allowed(statement, name)
    _check_arguments(statement, expression, name, METHODS[name])
    if name == "fill" and isinstance(method.this.dtype, types.Integer):
        _check_number(statement, method.this.dtype, expression.args[0])
    if name == "reshape":
        _check_shape(statement, expression.args)


def _check_arguments(statement: Statement, expression: Any, function: Any, arguments: Arguments) -> None:
    """Refuse arguments that are not listed: with them it might write to others, or reach outside."""
    names = [name for name, _ in expression.kws]
    refused = "`*`" if expression.vararg is not None else arguments.refused(len(expression.args), names)
    if refused is not None:
        raise _not_allowed(statement, function, f" with {refused}")


def _check_shape(statement: Statement, shape: Any) -> None:
    if not _is_safe_shape(statement, shape):
        raise _not_allowed(statement, "reshape", " so")


def _is_safe_shape(statement: Statement, shape: Any) -> bool:
    """Return whether the product of the lengths cannot overflow: numba compares it with the size, and no more."""
    lengths = statement.function.lengths(list(shape))
    others = [one for one in lengths if one is not None]
    unknown = len(lengths) - len(others)
    return math.prod(map(abs, others)) < _LARGE if unknown == 0 else unknown == 1 and set(others) <= {-1}


_LARGE = 2**48


def _check_product(statement: Statement, expression: Any) -> None:
    """A list or text times a number: numba does not look whether the length overflows."""
    operands = list(expression.list_vars())
    if any(isinstance(statement.type_of(one), types.List | types.UnicodeType) for one in operands):
        times = [one for one in operands if isinstance(statement.type_of(one), types.Integer)]
        if times and any((statement.function.constant(one) or _LARGE) >= _LARGE for one in times):
            raise statement.refuse("a list is repeated a number of times that is no constant; append to it in a loop")


def _check_values(statement: Statement, expression: Any, function: Any) -> None:
    """Refuse arguments of which numba makes other values than Python."""
    if function is str:
        _check_text(statement, expression)
    elif function is range and any(isinstance(statement.type_of(one), types.Float) for one in expression.args):
        raise statement.refuse("a float is no end or step of a range; convert it, as in int(...)")


def _check_identity(statement: Statement, expression: Any) -> None:
    """Numba compares numbers and text by their values."""
    kinds = [types.unliteral(statement.type_of(one)) for one in (expression.lhs, expression.rhs)]
    if all(isinstance(kind, types.Number | types.UnicodeType | types.UnicodeCharSeq) for kind in kinds):
        raise statement.refuse("whether numbers or texts are the same object says nothing here; compare them with `==`")


def _check_text(statement: Statement, expression: Any) -> None:
    """Numba takes the length of a number's text from a rounded logarithm, and has another text for other values."""
    for argument in expression.args:
        kind = types.unliteral(statement.type_of(argument))
        if not isinstance(kind, types.UnicodeType | types.UnicodeCharSeq | types.Boolean):
            raise statement.refuse(
                f"{kind_of(str(kind))} has no text in a handler, neither by str() nor in an f-string; print the value "
                f"itself, as in print('n =', n), and compare or count numbers as numbers"
            )


_CALLED_ANYWAY = (types.Dispatcher, types.NumberClass, types.NamedTupleClass, types.ExceptionClass)
"""A dispatcher's code is looked at where it is named."""


def _is_number(kind: Any) -> bool:
    return isinstance(kind, types.Number | types.Boolean | types.NoneType)


def _check_indexed(statement: Statement, variable: Any) -> None:
    container = statement.type_of(variable)
    if isinstance(container, types.NumpyFlatType):
        raise _not_allowed(statement, "flat")
    if isinstance(container, types.Optional):
        raise statement.refuse("this may be None, which cannot be indexed; let it begin as an array, as in np.empty(0)")
    if not isinstance(container, INDEXED):
        raise statement.refuse(f"a handler may not index {kind_of(str(container))}; its index is not checked")


def _check_attribute_of(statement: Statement, variable: Any, name: Any) -> None:
    kind = statement.type_of(variable)
    if not isinstance(kind, types.Array):
        return
    fields = kind.dtype.fields if isinstance(kind.dtype, types.Record) else ()
    if name not in ARRAY_ATTRIBUTES and name not in fields:
        raise _not_allowed(statement, str(name))


def _check_named_function(statement: Statement, ours: Collection[int]) -> None:
    kind = statement.assigned_type
    if isinstance(kind, types.Dispatcher) and id(kind.dispatcher) not in ours:
        name = kind.dispatcher.py_func.__name__
        raise statement.refuse(
            f"{name} is compiled without the checks of a handler; define it in a module, outside of the handler"
        )


def _not_allowed(statement: Statement, function: Any, how: str = "") -> RefusedHandlerError:
    name = function if isinstance(function, str) else getattr(function, "__name__", str(function))
    module = getattr(function, "__module__", None)
    full = f"{module}.{name}" if module and not isinstance(function, str) else name
    return statement.refuse(
        f"{full} is not among the functions that a handler may use{how}: nothing shows that it keeps within its "
        f"arguments and writes to none; {INSTEAD.get(name, LOOP)}"
    )


# --- what it may assign ----------------------------------------------------------------------------------------------


def _check_assignment(statement: Statement) -> None:
    node = statement.node
    container, value = statement.type_of(node.target), statement.type_of(node.value)
    if not isinstance(container, types.Record):
        _check_indexed(statement, node.target)
    where = _assigned_type(container, node)
    if isinstance(where, types.NestedArray) and isinstance(value, types.Array):
        _check_nested_array(statement, where, value)
    elif isinstance(container, types.Record) and isinstance(where, types.Number) and isinstance(value, types.Array):
        raise statement.refuse(
            f"an array is assigned to a field that holds one {where}; choose an element, as in `xs[0]`"
        )
    if isinstance(where, types.Integer) and isinstance(container, types.Record | types.Array):
        _check_number(statement, where, node.value)


def _check_number(statement: Statement, where: Any, variable: Any) -> None:
    """Numba would cut off what does not fit."""
    value = statement.type_of(variable)
    value = value.dtype if isinstance(value, types.Array) else value
    numbers = statement.function.numbers(variable)
    is_whole = numbers is not None and numbers.fits(where)
    if isinstance(value, types.Float | types.Complex) or (isinstance(value, types.Integer) and not is_whole):
        raise statement.refuse(
            f"a {value} is assigned to a place of type {where}; convert it explicitly, as in np.{where}(...)"
        )


def _check_nested_array(statement: Statement, field: Any, value: Any) -> None:
    """Numba copies as many bytes as the field has, whatever there are."""
    same = isinstance(value, types.NestedArray) and value.shape == field.shape and value.dtype == field.dtype
    if not same:
        raise statement.refuse(f"the field is {field} and the value {value}; assign its elements in a loop")


def _assigned_type(container: Any, node: Any) -> Any:
    if isinstance(container, types.Record):
        field = getattr(node, "attr", getattr(node, "index", None))
        return container.typeof(field) if field in container.fields else None
    return getattr(container, "dtype", None)
