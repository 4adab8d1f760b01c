"""Tell a library's own values, which are known by name, since every key has the versions of these libraries."""

from __future__ import annotations

import enum
import sys
import types
from typing import Any

import numpy as np

LIBRARIES = frozenset({"builtins", "cmath", "math", "numba", "numpy", "operator", "_operator", "random", "_random"})
"""Known by name."""

_DATA = (
    bool, int, float, complex, str, bytes, tuple, frozenset, slice, enum.Enum, types.ModuleType, np.ndarray, np.generic,
    np.dtype,
)  # fmt: skip
"""Values that may be a library's own, or have been put there by another program."""


def is_library(module: Any) -> bool:
    """Return whether a module's name is one of those whose versions are in the key."""
    return isinstance(module, str) and module.partition(".")[0] in LIBRARIES


def is_reachable(value: Any) -> bool:
    """Return whether a class or function can be found by its module and name."""
    found: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for part in str(getattr(value, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found is value


def is_library_object(value: Any) -> bool:
    """Return whether a class or function is a library's, under the name that it says."""
    return is_library(_module_of(value)) and is_library(getattr(value, "__module__", None)) and is_reachable(value)


def _module_of(value: Any) -> Any:
    """Return the name of the module that a value comes from. Of a function it is where its code is, since a decorator
    may have given it another's name."""
    function = getattr(value, "py_func", value)
    is_function = isinstance(function, types.FunctionType)
    return function.__globals__.get("__name__") if is_function else getattr(value, "__module__", None)


def is_foreign(value: Any) -> bool:
    """Return whether a value in a library's module may have been put there by another program."""
    if isinstance(value, types.FunctionType) or is_dispatcher(value):
        return not is_library_object(value)
    if isinstance(value, type):
        return not is_library(value.__module__)
    return isinstance(value, _DATA) or not is_library(type(value).__module__)


def is_dispatcher(value: Any) -> bool:
    """Return whether a value is a function under numba's `@njit`."""
    from numba.core.registry import CPUDispatcher

    return isinstance(value, CPUDispatcher)
