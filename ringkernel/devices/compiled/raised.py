"""The exceptions of machine code: numba leaves a pointer to a description of what a handler has raised."""

from __future__ import annotations

import ctypes
import pickle
from typing import Any, TypeAlias

from ringkernel.codegen.faults import LARGEST

COMPUTED = "(computed)"
"""Shown for an argument of an exception that only the compiled code has known."""

Raised: TypeAlias = tuple[type[BaseException] | None, tuple[Any, ...]]
"""The class of an exception, None if there is none, and its arguments."""


class _ExceptionInfo(ctypes.Structure):
    # numba's excinfo_t (core/callconv.py): the pickled class, static arguments and location
    _fields_ = (("pickle", ctypes.c_void_p), ("size", ctypes.c_int32))


def described(address: int) -> Raised:
    """Class and static arguments of the exception that numba describes at this address."""
    if address == 0:
        return None, ()
    kind, arguments, _ = _unpickled(address)
    return kind, tuple(map(_known, arguments)) if isinstance(arguments, tuple | list) else ()


def is_stop(address: int) -> bool:
    """Return whether that exception is of a `raise StopIteration`. That of an exhausted generator, from `next`, has no
    place in the code."""
    if address <= LARGEST:
        return False
    kind, _, place = _unpickled(address)
    return issubclass(kind, StopIteration) and place is not None


def _unpickled(address: int) -> tuple[type[BaseException], Any, Any]:
    """Class, static arguments and place of an exception; what is not known is a `RuntimeError`."""
    info = _ExceptionInfo.from_address(address)
    if not info.pickle:
        return RuntimeError, (), None
    try:
        described = pickle.loads(ctypes.string_at(info.pickle, info.size))  # noqa: S301 (our own machine code's)
        kind, arguments, place = described[:3]
    except Exception:  # noqa: BLE001 (numba's format is not ours; the class is a nicety)
        return RuntimeError, (), None
    is_known = isinstance(kind, type) and issubclass(kind, BaseException)
    return (kind, arguments, place) if is_known else (RuntimeError, (), None)


def _known(argument: Any) -> Any:
    """An argument of an exception; numba has an object of LLVM's in the place of one that the handler has computed."""
    return COMPUTED if type(argument).__module__.partition(".")[0] == "llvmlite" else argument
