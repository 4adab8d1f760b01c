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
        """The compiled form of `function`; it is compiled when it is first used."""
        if function not in self._done:
            copy, bind = self._shell(function)
            self._done[function] = self._jit(copy)
            bind()  # afterwards, so that functions may name themselves and each other
        return self._done[function]

    def compiled(self) -> list[Any]:
        """Everything that was compiled so far, and the replacements."""
        return list(self._done.values())

    def rebind(self, function: Callable[..., Any]) -> types.FunctionType:
        """A copy of `function` in which the functions that it names are the compiled ones."""
        copy, bind = self._shell(function)
        bind()
        return copy

    def _shell(self, function: Callable[..., Any]) -> tuple[types.FunctionType, Callable[[], None]]:
        """A copy whose globals and closure are still the original's, and what rebinds them."""
        assert isinstance(function, types.FunctionType)
        scope = dict(function.__globals__)
        cells = tuple(types.CellType(cell.cell_contents) for cell in function.__closure__ or ())
        copy = types.FunctionType(function.__code__, scope, function.__name__, function.__defaults__, cells)
        copy.__kwdefaults__ = function.__kwdefaults__
        copy.__qualname__ = function.__qualname__
        copy.__module__ = function.__module__
        copy.__doc__ = function.__doc__

        def bind() -> None:
            for name in _names(function.__code__) & scope.keys():
                scope[name] = self._value(scope[name])
            for cell in cells:
                cell.cell_contents = self._value(cell.cell_contents)

        return copy, bind

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
