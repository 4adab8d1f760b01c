"""Why a handler cannot be compiled: in terms of what its author wrote, where numba speaks of its own parts."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringkernel.declaration.decorator import Declaration

_LOCATION = re.compile(r'(File "|Raised from )(?P<file>[^"\n]+?)("?, line |\s+\()(?P<line>\d+)')
_OPCODE = re.compile(r"unsupported opcode \((?P<name>\w+)\)")
_OPCODES = {
    "IMPORT_NAME": "an import inside of a handler cannot be compiled; import at the top of the module",
    "STORE_GLOBAL": "a handler cannot assign to a global; what it keeps between messages is its `state`",
}
_RECORD = re.compile(r"(?:ReadOnly)?Record\(.*?;\d+;(True|False)\)")
_RECORD_OPERAND = "; a record itself cannot be calculated with, its fields can: "


def reason_of(declaration: Declaration, error: Exception) -> tuple[str, str]:
    """A first line that says what is wrong, and where (`" at file:line"`, or nothing)."""
    text = str(error)
    found = list(_LOCATION.finditer(text))
    where = f" at {found[-1]['file']}:{found[-1]['line']}" if found else ""
    unknown = _unknown_field(declaration)
    if unknown is not None:
        return unknown, where
    if isinstance(error, AssertionError) and not text.strip():
        return _bad_assignment(declaration), where
    if not text.strip():
        return f"numba cannot compile this handler ({type(error).__name__})", where
    opcode = _OPCODE.search(text)
    if opcode is not None and opcode["name"] in _OPCODES:
        return _OPCODES[opcode["name"]], where
    return _first_reason(text) + _hint(declaration, text), where


def _records(declaration: Declaration) -> dict[str, tuple[str, Any]]:
    """The handler's parameters that are one record: name to what it is and its dtype."""
    return {} if declaration.batch else _given(declaration)


def _given(declaration: Declaration) -> dict[str, tuple[str, Any]]:
    """The handler's parameters of records, one or an array: name to what it is and its dtype."""
    names = list(inspect.signature(declaration.func).parameters)
    given: list[tuple[str, Any]] = []
    if declaration.input_type is not None:
        given.append(("message", declaration.input_type.dtype))
    if declaration.output_type is not None:
        given.append(("output", declaration.output_type.dtype))
    if declaration.state_type is not None:
        given.append(("state", declaration.state_type.dtype))
    return dict(zip(names, given, strict=False))


def _tree(declaration: Declaration) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(declaration.func)))
    except (OSError, SyntaxError, TypeError):
        return None


def _unknown_field(declaration: Declaration) -> str | None:
    """Numba says only KeyError, or nothing useful, about a field that does not exist."""
    records, tree = _records(declaration), _tree(declaration)
    if tree is None:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in records:
            what, dtype = records[node.value.id]
            if node.attr not in (dtype.names or ()):
                fields = ", ".join(dtype.names or ())
                return f"{node.value.id}.{node.attr}: the {what} has no field {node.attr!r}; its fields are {fields}"
    return None


def _bad_assignment(declaration: Declaration) -> str:
    records = _records(declaration)
    nested = [
        f"{name}.{field}"
        for name, (_, dtype) in records.items()
        for field in dtype.names or ()
        if dtype[field].subdtype is not None
    ]
    hint = f" (as for {', '.join(nested)})" if nested else ""
    return (
        "a field is assigned a value of a type that does not fit it; assign a nested array element by element in a "
        f"loop{hint}, and convert numbers explicitly, as in int(...)"
    )


def _hint(declaration: Declaration, text: str) -> str:
    """What a first line of numba's leaves out, as its end, or nothing."""
    if "Cannot determine Numba type of" in text:
        return "; from outside, a handler can read numbers, arrays, tuples and functions"
    called = re.search(r"found for signature:\s+>>> (?P<call>.*)", text)
    if called is None:
        return ""
    call = _RECORD.sub("record", called["call"])
    fields = [f"{name}.{field}" for name, (_, dtype) in _given(declaration).items() for field in dtype.names or ()]
    return f" {call}" + (f"{_RECORD_OPERAND}{', '.join(fields)}" if "record" in call else "")


def _first_reason(text: str) -> str:
    """The line of numba's report that names the problem."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        if not line.startswith(("Failed in", "During:", "- Resolution", "File ", "[", "(")) and "Traceback" not in line:
            return re.sub(r"\x1b\[[0-9;]*m", "", line)
    return lines[0]
