"""Functions, added to a hash with all that they read: globals, closure, helper functions, attributes of modules.

numba freezes these when it compiles. Names of files, line numbers and a function's own name are not in the hash:
compiled code does not show them (a failing handler's traceback comes from running the Python function).
"""

from __future__ import annotations

import builtins
import dis
import types
from typing import TYPE_CHECKING, Any

from .hashing import Fingerprint, Kind, UnkeyableError, exactly
from .libraries import is_dispatcher, is_library_object, is_reachable

if TYPE_CHECKING:
    from collections.abc import Iterator

_READS_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME"})
_READS_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_IMPORTS = frozenset({"IMPORT_NAME", "IMPORT_FROM"})


def _by_name(into: Fingerprint, value: Any) -> None:
    if value is getattr or value is hasattr:
        into.texts_are_names = True
    into.put("library", f"{type(value).__name__} {value.__module__}.{value.__qualname__}")


def _code(into: Fingerprint, value: types.CodeType) -> None:
    shape = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags)
    names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
    into.put("code", f"{shape} {names}")
    into.put("bytecode", value.co_code)
    into.put("exceptions", value.co_exceptiontable)
    into.add_all("constants", value.co_consts)


def _function(into: Fingerprint, value: types.FunctionType) -> None:
    if not into.is_new(value):
        return
    into.put("function")
    into.add(value.__code__)
    into.add(value.__defaults__)
    into.add_all("keywords", tuple((value.__kwdefaults__ or {}).items()))
    names = _reads(into, value.__code__)
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        into.put("cell", name)
        into.add(_content(name, cell))
    for name in sorted(names):
        for scope in (value.__globals__, vars(builtins)):
            if name in scope:
                into.put("global", name)
                into.add(scope[name])
                break


def _dispatcher(into: Fingerprint, value: Any) -> None:
    if not into.is_new(value):
        return
    into.put("dispatcher")
    into.add(value._compiler.pipeline_class)
    into.add_all("options", sorted(value.targetoptions.items()))
    into.add_all("locals", sorted(getattr(value, "locals", {}).items()))
    if not value._can_compile:  # it was given its signatures, and casts to them
        into.put("signatures", str(value.signatures))
    into.add(value.py_func)


def _reads(into: Fingerprint, code: types.CodeType) -> set[str]:
    """Return the global names that `code` and the functions inside it read; note the names of attributes."""
    names = set[str]()
    for instruction in _instructions(code):
        if instruction.opname in _READS_GLOBAL:
            names.add(instruction.argval)
        elif instruction.opname in _READS_ATTRIBUTE:
            into.attributes.add(instruction.argval)
        elif instruction.opname in _IMPORTS:
            raise UnkeyableError("it imports a module when it is called")
    return names


def _is_exception(value: Any) -> bool:
    is_class = isinstance(value, type) and issubclass(value, BaseException)
    return is_class and value.__module__ != "__main__" and is_reachable(value)  # otherwise it is pickled by value


def _is_number_type(value: Any) -> bool:
    from numba import types as numba_types

    return isinstance(value, numba_types.Number | numba_types.Boolean)


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    """Yield the instructions of `code` and of the functions inside it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _instructions(constant)


def _content(name: str, cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        raise UnkeyableError(f"{name} has no value yet") from None


FUNCTIONS: tuple[Kind, ...] = (
    (exactly(types.CodeType), _code),
    (exactly(types.ModuleType), Fingerprint.add_module),
    (is_library_object, _by_name),
    (exactly(types.FunctionType), _function),
    (_is_exception, lambda into, one: into.put("exception", f"{one.__module__}.{one.__qualname__}")),  # pickled by name
    (is_dispatcher, _dispatcher),
    (_is_number_type, lambda into, one: into.put("numba type", repr(one))),  # as in a dispatcher's `locals`
)
