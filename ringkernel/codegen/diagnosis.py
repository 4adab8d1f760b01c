"""Says why a handler cannot be compiled: in terms of what its author wrote, where numba speaks of its own parts."""

from __future__ import annotations

import ast
import inspect
import linecache
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ringkernel.audience import place as shown

from .misspelt import Misspelt, Place, functions_of, no_field, suggestion, syntax_of, unknown_field, unknown_name
from .places import place_in
from .readonly import ReadOnlyRecord
from .span_types import RefusedHandlerError
from .wording import NO_FORM, in_plain_words, operands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringkernel.declaration.declaration import Declaration


_NO_DEL = "`del` has no compiled form for this; keep how many elements count in a variable of its own"


class Record(NamedTuple):
    """The record that a parameter of a handler is, or is an array of."""

    what: str
    dtype: Any


def explain(declaration: Declaration, error: Exception) -> str:
    """Return what is wrong and what to do about it; the line; the kernel."""
    if isinstance(error, RefusedHandlerError):
        reason, place = error.reason, error.place
    else:
        reason, place = _misspelt(declaration, error) or _said(declaration, error)
    if place is None or place == _first_line(declaration.func):
        place = _definition(declaration)
    file, line = place
    text = linecache.getline(file, line).strip()
    return "\n".join(
        [
            reason,
            f"  {shown(file, line)}",
            *([f"    {text}"] if text else []),
            f"  in kernel {declaration.kernel_id!r}, handler {declaration.func.__name__}",
        ]
    )


def _said(declaration: Declaration, error: Exception) -> tuple[str, Place | None]:
    """Return what numba has said, in other words, and the place."""
    place, text = place_in(error), str(error)
    if isinstance(error, AssertionError) and not text.strip():
        is_del = place is not None and re.match(r"\s*del\b", linecache.getline(*place))
        return _NO_DEL if is_del else _bad_assignment(declaration), place
    if not text.strip():
        return NO_FORM, place
    if place is None or place == _first_line(declaration.func):
        place = _odd_statement(declaration) or place
    line = "" if place is None else linecache.getline(*place).strip()
    reason = in_plain_words(text, line)
    if any("record" in kind for kind in operands(text)):
        names = (f"{name}.{field}" for name, record in _given(declaration) for field in record.dtype.names or ())
        reason += f"; a record itself cannot be calculated with, its fields can: {', '.join(names)}"
    return reason, place


# --- names -----------------------------------------------------------------------------------------------------------


def _misspelt(declaration: Declaration, error: Exception) -> tuple[str, Place | None] | None:
    """A name that means nothing, of a variable, an attribute of a module, or a field."""
    return unknown_name(declaration.func) or _field_of_parameter(declaration) or _field_elsewhere(declaration, error)


def _given(declaration: Declaration) -> list[tuple[str, Record]]:
    """The handler's parameters of records, one or an array."""
    given = [
        Record(what, kind.dtype)
        for what, kind in (
            ("message", declaration.input_type),
            ("output", declaration.output_type),
            ("state", declaration.state_type),
        )
        if kind is not None
    ]
    return list(zip(inspect.signature(declaration.func).parameters, given, strict=False))


def _field_of_parameter(declaration: Declaration) -> Misspelt | None:
    """A field that the message, the output or the state has not got."""
    records = {} if declaration.batch else dict(_given(declaration))
    for node, place in syntax_of(declaration.func, ast.Attribute):
        if isinstance(node.value, ast.Name) and node.value.id in records:
            what, dtype = records[node.value.id]
            if node.attr not in (dtype.names or ()):
                return Misspelt(f"{node.value.id}.{node.attr}: {no_field(what, node.attr, dtype.names or ())}", place)
    return None


def _field_elsewhere(declaration: Declaration, error: Exception) -> tuple[str, Place | None] | None:
    """A field that one of a batch, or a record in a helper, has not got."""
    known = {field for _, record in _given(declaration) for field in record.dtype.names or ()}
    found = unknown_field(error)
    if found is not None:
        name, record = found
        place = place_in(error) or next((place for one, place in _attributes(declaration) if one == name), None)
        return no_field(_called(declaration, record), name, record.fields), place
    for name, place in _attributes(declaration):
        if f"Unknown attribute '{name}' of type" in str(error) and "Record(" in str(error):
            what = "message" if "ReadOnlyRecord(" in str(error) else "output"
            fields = next((list(one.dtype.names or ()) for _, one in _given(declaration) if one.what == what), [])
            return no_field(what, name, fields), place_in(error) or place
        if f"Field '{name}' was not found in record" in str(error) and known:
            return f"there is no field {name!r}{suggestion(name, known)}", place_in(error) or place
    return None


def _called(declaration: Declaration, record: Any) -> str:
    """Return what to call a record, as far as its fields tell."""
    if isinstance(record, ReadOnlyRecord):
        return "message"
    same = [one.what for _, one in _given(declaration) if list(one.dtype.names or ()) == list(record.fields)]
    return next((what for what in same if what != "message"), "record")


def _attributes(declaration: Declaration) -> Iterator[tuple[Any, Place]]:
    """The attributes and constants in a handler and its helpers, and where they are."""
    for function in functions_of(declaration.func):
        for node, place in syntax_of(function, ast.Attribute, ast.Constant):
            yield node.attr if isinstance(node, ast.Attribute) else node.value, place


def _first_line(func: Any) -> Place:
    """Return the line where a function begins, decorators included."""
    return func.__code__.co_filename, func.__code__.co_firstlineno


def _definition(declaration: Declaration) -> Place:
    """The line of the handler's `def`."""
    found = [place for _, place in syntax_of(declaration.func, ast.FunctionDef)]
    return min(found, default=_first_line(declaration.func))


def _odd_statement(declaration: Declaration) -> Place | None:
    """The first statement of a kind that numba refuses without saying where."""
    return min((place for _, place in syntax_of(declaration.func, *_ODD)), default=None)


_ODD = (ast.With, ast.AsyncWith, ast.Try, ast.ClassDef, ast.Global, ast.Nonlocal, ast.Delete, ast.JoinedStr)


# --- assignments -----------------------------------------------------------------------------------------------------


def _bad_assignment(declaration: Declaration) -> str:
    records = [] if declaration.batch else _given(declaration)
    nested = [
        f"{name}.{field}"
        for name, (_, dtype) in records
        for field in dtype.names or ()
        if dtype[field].subdtype is not None
    ]
    hint = f" (as for {', '.join(nested)})" if nested else ""
    return (
        "a field is assigned a value of a type that does not fit it; assign a nested array element by element in a "
        f"loop{hint}, and convert numbers explicitly, as in int(...)"
    )
