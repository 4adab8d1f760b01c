"""Compile plain Python functions for a target, with everything that they call.

A function is copied with its globals and closure rebound: names of `ops.py` become the target's intrinsics, plain
Python functions become compiled ones in turn. This is how one source of the protocol serves several targets, and how
a user's handler may call ordinary helper functions.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

Jit = Callable[[Callable[..., Any]], Any]


class Specializer:
    """Rebinds and compiles functions; each function once.

    `jit` compiles one function whose names are already bound; `replacements` maps functions to what stands in for
    them on this target.
    """

    def __init__(self, jit: Jit, replacements: Mapping[Any, Any] | None = None) -> None:
        self._jit = jit
        self._done: dict[Any, Any] = dict(replacements or {})

    def __call__(self, function: Callable[..., Any]) -> Any:
        """The compiled form of `function`. A recursive function is compiled as it is."""
        if function not in self._done:
            self._done[function] = function
            self._done[function] = self._jit(self.rebind(function))
        return self._done[function]

    def compiled(self) -> list[Any]:
        """Everything that was compiled so far, and the replacements."""
        return list(self._done.values())

    def rebind(self, function: Callable[..., Any]) -> types.FunctionType:
        """A copy of `function` in which the functions that it names are the compiled ones."""
        assert isinstance(function, types.FunctionType)
        code = function.__code__
        names = _names(code)
        scope = {name: self._value(value) if name in names else value for name, value in function.__globals__.items()}
        cells = tuple(types.CellType(self._value(cell.cell_contents)) for cell in function.__closure__ or ())
        copy = types.FunctionType(code, scope, function.__name__, function.__defaults__, cells)
        copy.__kwdefaults__ = function.__kwdefaults__
        copy.__qualname__ = function.__qualname__
        copy.__module__ = function.__module__
        copy.__doc__ = function.__doc__
        return copy

    def _value(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType):
            return self(value)
        return value


def _names(code: types.CodeType) -> set[str]:
    """Every global name in `code` and in the functions defined inside it."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found
