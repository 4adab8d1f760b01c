"""Compiles a handler and all that it calls for the CPU, with index checks everywhere."""

from __future__ import annotations

import dis
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numba.core.registry import CPUDispatcher

from ringkernel.cache.libraries import is_library

from .readonly import from_outside
from .span_types import RefusedHandlerError
from .specialise import Specializer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

KEPT = "what it keeps between messages is its `state`"
_KEPT = ("error_model", "fastmath")
"""What the author of an `@njit` function has chosen and still holds."""
_REFUSED = ("parallel", "forceobj")


class HandlerSpecializer(Specializer):
    """Compiles plain functions, and anew what its author has compiled with `@njit`: numba's own code of that has no
    index checks. If `lenient`, arrays from outside may be written to: to see whether that is what keeps a handler from
    being compiled."""

    def __init__(self, jit: Callable[..., Any], *, boundscheck: bool, lenient: bool = False) -> None:
        super().__init__(jit)
        self._boundscheck, self._lenient = boundscheck, lenient
        self._entered: set[ModuleType] = set()  # modules may name each other

    def _shell(self, function: Callable[..., Any]) -> tuple[FunctionType, Callable[[], None]]:
        for one in dis.get_instructions(function):
            if one.opname == "STORE_DEREF" and one.argval in function.__code__.co_freevars:
                raise RefusedHandlerError(f"a handler cannot assign to `{one.argval}`, which is not its own; {KEPT}")
        copy, bind = super()._shell(function)
        copy.__defaults__ = self._outside(function.__defaults__)
        copy.__kwdefaults__ = {name: self._outside(one) for name, one in (function.__kwdefaults__ or {}).items()}
        return copy, bind

    def _value(self, value: Any, names: Collection[str]) -> Any:
        if isinstance(value, CPUDispatcher):
            return self._anew(value)
        if isinstance(value, ModuleType):
            return self._module(value, names)
        if isinstance(value, tuple | np.ndarray | np.void):
            return self._outside(value)
        return super()._value(value, names)

    def _outside(self, value: Any) -> Any:
        """Return what compiled code holds as a constant, to which nothing may be written."""
        if isinstance(value, tuple):
            parts = map(self._outside, value)
            return value._make(parts) if hasattr(value, "_make") else tuple(parts)
        return from_outside(value, writable=self._lenient)

    def _module(self, module: ModuleType, names: Collection[str]) -> ModuleType:
        """The module, or a copy of it where a function names an `@njit` function in there."""
        if module in self._entered or is_library(module.__name__):
            return module
        self._entered.add(module)
        there = [(name, vars(module)[name]) for name in names if name in vars(module)]
        kinds = (CPUDispatcher, ModuleType, np.ndarray, np.void)
        changed = {
            name: new for name, old in there if isinstance(old, kinds) and (new := self._value(old, names)) is not old
        }
        self._entered.discard(module)
        if not changed:
            return module
        copy = ModuleType(module.__name__)
        vars(copy).update({**vars(module), **changed})
        return copy

    def _anew(self, theirs: Any) -> Any:
        if theirs not in self._done:
            options = {name: theirs.targetoptions[name] for name in _KEPT if name in theirs.targetoptions}
            for name in _REFUSED:
                if theirs.targetoptions.get(name):
                    raise RefusedHandlerError(
                        f"{theirs.py_func.__name__} is compiled with {name}=True, which several kernels at once cannot "
                        f"use; leave it out"
                    )
            copy, bind = self._shell(theirs.py_func)
            self._done[theirs] = ours = njit(boundscheck=self._boundscheck, locals=theirs.locals, **options)(copy)
            bind()
            if not theirs._can_compile:  # it has its signatures, and casts to them
                for signature in theirs.nopython_signatures:
                    ours.compile(signature)
                ours.disable_compile()
        return self._done[theirs]
