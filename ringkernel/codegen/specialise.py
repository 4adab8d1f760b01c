"""Compile plain Python functions for a target, with everything that they call.

A function is copied with its globals and closure rebound: names of `operations.py` become the target's intrinsics,
plain Python functions become compiled ones in turn. This is how one source of the protocol serves several targets, and
how a user's handler may call ordinary helper functions.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

Jit = Callable[[Callable[..., Any]], Any]


class Specializer:
    """Rebinds and compiles functions; each function once.

    `jit` compiles one function whose names are already bound; `replacements` maps functions to what stands in for
    them on this target; `operation` makes an intrinsic of the target of one that is written as LLVM instructions (see
    `targets/cpu_memory.py`), if numba's own will not do. With a `parent`, what does not depend on one of `differing` is
    compiled there, once for all that have the same parent.
    """

    def __init__(
        self,
        jit: Jit,
        replacements: Mapping[Any, Any] | None = None,
        *,
        parent: Specializer | None = None,
        differing: Collection[Any] = (),
        operation: Callable[[Any], Any] | None = None,
    ) -> None:
        self._jit = jit
        self._done: dict[Any, Any] = dict(replacements or {})
        self._parent = parent
        self._differing = frozenset(differing)
        self._operation = operation

    def __call__(self, function: Callable[..., Any]) -> Any:
        """The compiled form of `function`; it is compiled when it is first used."""
        if function not in self._done and self._parent is not None and not self._differs(function, set()):
            self._done[function] = self._parent(function)
        if function not in self._done:
            copy, bind = self._shell(function)
            self._done[function] = self._jit(copy)
            bind()  # afterwards, so that functions may name themselves and each other
        return self._done[function]

    @property
    def functions(self) -> set[Any]:
        """The functions that were compiled so far, and those that something stands in for."""
        return set(self._done) | (self._parent.functions if self._parent is not None else set())

    def stand_in(self, function: Callable[..., Any], replacement: Any) -> None:
        """Let `replacement` stand for `function` in what is compiled from now on."""
        self._done[function] = replacement

    def compiled(self) -> list[Any]:
        """Everything that was compiled so far, and the replacements."""
        return list(self._done.values())

    def rebind(self, function: Callable[..., Any]) -> types.FunctionType:
        """A copy of `function` in which the functions that it names are the compiled ones."""
        copy, bind = self._shell(function)
        bind()
        return copy

    def _differs(self, function: Callable[..., Any], seen: set[Any]) -> bool:
        """Return whether the function is compiled here: it is a local one, or leads to one that differs."""
        if function in self._differing or "<locals>" in function.__qualname__:
            return True
        seen.add(function)
        named = (function.__globals__.get(name) for name in _names(function.__code__))
        called = [value for value in named if isinstance(value, types.FunctionType) and value not in seen]
        return any(self._differs(value, seen) for value in called)

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
            names = _names(function.__code__)
            for name in names & scope.keys():
                scope[name] = self._value(scope[name], names)
            for cell in cells:
                cell.cell_contents = self._value(cell.cell_contents, names)

        return copy, bind

    def _value(self, value: Any, names: Collection[str]) -> Any:
        """Return what stands for a value that a function reads; `names` are all that it names, attributes, too."""
        if isinstance(value, types.FunctionType):
            return self(value)
        if self._operation is not None and hasattr(value, "emit"):
            return self._operation(value)
        if isinstance(value, tuple) and hasattr(value, "_asdict"):
            return _as_module(type(value), value)
        return value


@functools.cache
def _as_module(kind: Any, value: Any) -> types.ModuleType:
    """A module with the fields of a named tuple: where a field is read, numba would make a constant of the whole."""
    module = types.ModuleType(kind.__name__)
    vars(module).update(value._asdict())
    return module


def code_objects(code: types.CodeType) -> Iterator[types.CodeType]:
    """Return the code, and that of the functions defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from code_objects(constant)


def _names(code: types.CodeType) -> set[str]:
    """Every global name in `code` and in the functions defined inside it."""
    return {name for one in code_objects(code) for name in one.co_names}
