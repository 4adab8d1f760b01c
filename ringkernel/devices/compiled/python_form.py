"""Handlers as Python runs them: all that they call is Python, too, also what its author has compiled with `@njit`.

Numba's own code of such a helper looks at no index: called from Python it may read and write anywhere.
"""

from __future__ import annotations

import builtins
import dis
import enum
from types import CellType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.cache.libraries import is_dispatcher, is_library_object

from .handler_views import given

if TYPE_CHECKING:
    from collections.abc import Callable


class NotIsolatedError(Exception):
    """A function uses something that others might notice."""


class PythonForm:
    """Copies functions, with all functions that they lead to, and replaces each `@njit` function by what it was made
    of."""

    def __init__(self) -> None:
        self._copies: dict[Any, FunctionType] = {}

    def __call__(self, function: Callable[..., Any], n_given: int = 0) -> FunctionType:
        """The copy of a function. Its defaults for the first `n_given` parameters are left out."""
        assert isinstance(function, FunctionType)
        if function not in self._copies:
            code, scope = function.__code__, self._scope(function)
            cells = tuple(CellType() for _ in function.__closure__ or ())
            copy = FunctionType(code, scope, function.__name__, None, cells)
            self._copies[function] = copy  # at once: functions may name themselves and each other
            self._bind(function, scope, cells)
            defaults = function.__defaults__ or ()
            first = max(0, n_given - (code.co_argcount - len(defaults)))
            copy.__defaults__ = tuple(self.value("a default", one) for one in defaults[first:])
            keywords = function.__kwdefaults__ or {}
            copy.__kwdefaults__ = {name: self.value(name, one) for name, one in keywords.items()}
            copy.__qualname__, copy.__module__ = function.__qualname__, function.__module__
        return self._copies[function]

    def _bind(self, function: FunctionType, scope: dict[str, Any], cells: tuple[CellType, ...]) -> None:
        for name in _globals_read(function.__code__):
            if name in function.__globals__:
                scope[name] = self.value(name, function.__globals__[name])
            elif hasattr(builtins, name):
                scope[name] = self.value(name, getattr(builtins, name))
        for name, mine, theirs in zip(function.__code__.co_freevars, cells, function.__closure__ or (), strict=True):
            mine.cell_contents = self.value(name, theirs.cell_contents)

    def value(self, name: str, value: Any) -> Any:
        """Return what stands for a value that a function reads by this name."""
        if is_dispatcher(value):
            value = value.py_func
        if isinstance(value, FunctionType) and not is_library_object(value):
            return self(value)
        return _Module(self, value) if isinstance(value, ModuleType) else self._other(name, value)

    def _scope(self, function: FunctionType) -> dict[str, Any]:
        return dict(function.__globals__)

    def _other(self, name: str, value: Any) -> Any:  # noqa: ARG002 (for those that refuse some)
        return value


class _Module(ModuleType):
    """A module, with what stands for its attributes."""

    def __init__(self, form: PythonForm, module: ModuleType) -> None:
        super().__init__(module.__name__)
        vars(self).update(__form__=form, __theirs__=module)

    def __getattr__(self, name: str) -> Any:
        read = vars(self)
        found = read["__form__"].value(f"{self.__name__}.{name}", getattr(read["__theirs__"], name))
        return read.setdefault(name, found)


# --- what nobody notices ---------------------------------------------------------------------------------------------


_MARK = "__isolated__"
_CONSTANTS = (type(None), bool, int, float, complex, str, bytes, np.generic, np.dtype, enum.Enum, enum.EnumMeta)
_CLASSES = (np.generic, BaseException)


class IsolatedForm(PythonForm):
    """Copies that change nothing outside of their arguments: arrays are read only, `print` prints nothing.

    Raises `NotIsolatedError` for whatever is not known to be harmless, when it is read: numbers drawn from a generator
    that others share, C functions, objects of other classes.
    """

    def _scope(self, function: FunctionType) -> dict[str, Any]:
        return {"__name__": function.__globals__.get("__name__", ""), "__builtins__": {}, _MARK: True}

    def _other(self, name: str, value: Any) -> Any:
        if value is print:
            return _print_nothing
        if isinstance(value, tuple):
            made = [self.value(name, one) for one in value]
            return type(value)._make(made) if hasattr(value, "_make") else tuple(made)
        if isinstance(value, np.ndarray | np.void) and not value.dtype.hasobject:
            return _read_only(value)
        if isinstance(value, _CONSTANTS) or _is_harmless(value):
            return value
        raise NotIsolatedError(name)


def is_isolated(scope: dict[str, Any]) -> bool:
    """Return whether these globals are those of such a copy."""
    return _MARK in scope


def _print_nothing(*_: Any, **__: Any) -> None:
    pass


def _read_only(value: Any) -> Any:
    """As compiled code sees an array or a record from outside."""
    if isinstance(value, np.void):
        return given(np.array([value]), one=True)
    view = np.asarray(value).view()
    view.flags.writeable = False
    return given(view, one=False)


def _is_harmless(value: Any) -> bool:
    """Return whether calling this, with arguments of one's own, has no effect but what it returns."""
    from numba import types

    from ringkernel.codegen.allowed import drawing, functions

    if isinstance(value, type) and (issubclass(value, _CLASSES) or hasattr(value, "_make")):
        return True
    if isinstance(value, types.Number | types.Boolean):  # converts, as `numba.int64(x)`
        return True
    try:
        return value in functions() and value not in drawing()
    except TypeError:  # it has no hash
        return False


def _globals_read(code: CodeType) -> set[str]:
    """The global names that `code` and the functions inside it read."""
    found = {one.argval for one in dis.get_instructions(code) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _globals_read(constant)
    return found
