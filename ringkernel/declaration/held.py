"""State and parameters, as they were declared, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ringkernel.errors import MessageTypeError
from ringkernel.messages.arrays import MASKED, as_array
from ringkernel.messages.records import empty_part, is_plain
from ringkernel.messages.types import MessageType

from .remedies import instead_of, other_dtype

Record = tuple[np.ndarray[Any, Any], MessageType]


def state_array(kernel_id: str, state: Any) -> tuple[np.ndarray[Any, Any], MessageType | None]:
    """Return the initial state as an array: of one record, or as it is. Raises `MessageTypeError`."""
    if isinstance(state, np.ma.MaskedArray):
        raise MessageTypeError(f"kernel {kernel_id!r}: state is a masked array; {MASKED}")
    if isinstance(state, np.ndarray) and state.shape != ():
        if state.dtype.hasobject:
            raise MessageTypeError(
                f"kernel {kernel_id!r}: state must not hold Python objects, got {state.dtype}; {other_dtype(state)}"
            )
        empty = empty_part(state.dtype)
        if empty is not None:
            raise MessageTypeError(f"kernel {kernel_id!r}: state cannot be of {state.dtype}: {empty}")
        if not is_plain(state.dtype):
            raise MessageTypeError(
                f"kernel {kernel_id!r}: state cannot be an array of {state.dtype}; it may be of numbers, booleans, "
                f"times, bytes of a fixed size such as 'S8', or records of these"
            )
        return np.array(state, state.dtype.newbyteorder("="), order="C"), None
    found = _as_record(state)
    if found is None:
        raise MessageTypeError(
            f"kernel {kernel_id!r}: state is {state!r:.100}; use a message instance, a structured record, or an array"
            f"{instead_of(state)}"
        )
    return found


def record_of(kernel_id: str, what: str, given: Any) -> Record:
    """Return a record as an array of one. Raises `MessageTypeError`, which calls it `what`."""
    masked = isinstance(given, np.ma.MaskedArray | np.ma.core.mvoid)
    found = None if masked else _as_record(given)
    if found is None:
        raise MessageTypeError(
            f"kernel {kernel_id!r}: {what} is {given!r:.100}; use a message instance, or a structured record"
        )
    return found


def _as_record(given: Any) -> Record | None:
    """Return a message instance or a structured record as an array of one; None if it is neither."""
    if isinstance(given, np.ndarray | np.void) and given.shape == () and given.dtype.fields is not None:
        message_type = MessageType(given.dtype)
        return as_array(message_type, np.array([given], given.dtype).reshape(1)), message_type
    if isinstance(getattr(type(given), "dtype", None), np.dtype) and not isinstance(given, np.generic | np.ndarray):
        message_type = MessageType(type(given))
        return as_array(message_type, [given]), message_type
    return None
