"""Names in a handler that mean nothing, and what may have been meant: variables, attributes of modules, fields."""

from __future__ import annotations

import ast
import builtins
import difflib
import dis
import inspect
import textwrap
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from numba import types

from .specialise import code_objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


Place = tuple[str, int]
"""A file and a line."""


class Misspelt(NamedTuple):
    """A name that means nothing: what to say of it, and where it is."""

    reason: str
    place: Place


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the name that may have been meant, in parentheses, or nothing."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1) or [one for one in names if one.lower() == name.lower()]
    return f" (did you mean {near[0]!r}?)" if near else ""


def no_field(what: str, name: str, fields: Iterable[str]) -> str:
    """Return the error of a field that does not exist."""
    names = list(fields)
    return f"the {what} has no field {name!r}{suggestion(name, names)}; its fields are {', '.join(names)}"


def unknown_name(handler: Callable[..., Any]) -> Misspelt | None:
    """Return the first name in a handler, or in a function that it calls, that has no value."""
    for function in functions_of(handler):
        for code in code_objects(function.__code__):
            found = _unknown_in(function, code)
            if found is not None:
                return found
    return None


def functions_of(handler: Any) -> Iterator[FunctionType]:
    """The handler, and the Python functions of its package that it leads to by their names."""
    package = (handler.__module__ or "").partition(".")[0]
    seen: set[int] = set()
    left = [handler]
    while left:
        function = left.pop()
        function = getattr(function, "py_func", function)  # what `@njit` has made of it
        if isinstance(function, FunctionType) and id(function) not in seen and is_of(function, package):
            seen.add(id(function))
            yield function
            steps = (one for code in code_objects(function.__code__) for one in dis.get_instructions(code))
            left += [function.__globals__.get(one.argval) for one in steps if one.opname == "LOAD_GLOBAL"]
            left += [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]


def is_of(function: FunctionType, package: str) -> bool:
    """Return whether a function is in a package."""
    return (function.__module__ or "").partition(".")[0] == package


def syntax_of(function: Callable[..., Any], *kinds: type[Any]) -> list[tuple[Any, Place]]:
    """Return the nodes of these kinds in the syntax of a function, and where they are; none if it has no source."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, SyntaxError, TypeError):
        return []
    file = function.__code__.co_filename
    return [(node, (file, node.lineno + first - 1)) for node in ast.walk(tree) if isinstance(node, kinds)]


def unknown_field(error: BaseException) -> tuple[str, Any] | None:
    """The name that numba has looked for in vain among the fields of a record, and the record's type."""
    trace, found = error.__traceback__, None
    while trace is not None:
        record = trace.tb_frame.f_locals.get("self")
        found = record if isinstance(record, types.Record) else None
        trace = trace.tb_next
    return None if found is None or not isinstance(error, KeyError) else (str(error.args[0]), found)


def _unknown_in(function: FunctionType, code: CodeType) -> Misspelt | None:
    scope, file = function.__globals__, code.co_filename
    value: Any = None
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        line = instruction.positions.lineno if instruction.positions is not None else None
        place = (file, line or code.co_firstlineno)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            if name not in scope and not hasattr(builtins, name):
                known = {*code.co_varnames, *scope, *dir(builtins)}
                return Misspelt(f"the name {name!r} is not defined{suggestion(name, known)}", place)
            value = scope.get(name)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, ModuleType):
            if not hasattr(value, name):
                return Misspelt(f"{value.__name__} has no {name!r}{suggestion(name, dir(value))}", place)
            value = getattr(value, name)
        elif instruction.opname not in ("CACHE", "PUSH_NULL", "EXTENDED_ARG"):
            value = None
    return None


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (an empty one raises)
    except ValueError:
        return False
    return True
