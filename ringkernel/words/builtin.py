"""Compiled functions as builtins: what Python calls without anything in between (50 ns)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

Entry = Callable[..., int]
COMPILE_EVENT = "ringkernel:compile"
"""The event that listeners of numba's events hear when a table of these is compiled."""
_METH_FASTCALL = 0x80


class EntryPoint(NamedTuple):
    """A function of words, see `words.py`. `nogil`: it runs without the GIL."""

    function: Callable[..., Any]
    nogil: bool = False


class ByAddress(NamedTuple):
    """A function of words that compiled code calls by its address, so that it is compiled once for all of it."""

    function: Callable[..., Any]


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_new_builtin = ctypes.pythonapi.PyCFunction_NewEx
_new_builtin.argtypes = (ctypes.POINTER(_MethodDef), ctypes.py_object, ctypes.py_object)
_new_builtin.restype = ctypes.py_object
_defined: list[_MethodDef] = []
"""Read at every call, so they stay."""


def builtin(name: str, address: int, owner: object) -> Entry:
    """The builtin function behind which `write_entry` has written the code at this address; it keeps its owner."""
    _defined.append(_MethodDef(name.encode(), address, _METH_FASTCALL, None))
    return _new_builtin(_defined[-1], owner, __name__)  # type: ignore[no-any-return]
