"""Refuse a value that is no message of a type: name the field that does not fit, and why."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ringkernel.errors import MessageTypeError

from .fitting import REFUSALS, NamesError, NoRecordError, as_bool, fitted, values_of
from .records import fields_of, struct_character

if TYPE_CHECKING:
    import numpy as np

    from .types import MessageType


def refuse(message_type: MessageType, value: Any, error: BaseException | None = None) -> NoReturn:
    """Raise `MessageTypeError` for a value that is no message of this type, as `error` says, if there is one."""
    if isinstance(error, MessageTypeError):
        raise error from None  # it says all of what follows
    record = f"a {message_type.name} or dict" if message_type.cls is not None else "a record, tuple or dict"
    wanted = _scalar(message_type) if message_type.is_scalar else record
    is_said = error is None or (isinstance(error, NoRecordError) and error.value is value)
    reason = "" if is_said else f": {_misfit(message_type, value) or error}"
    if wanted == "a number" and isinstance(value, str | bytes):
        reason = f"; convert the text first, as in `np.{message_type.dtype['value']}(text)`"
    raise MessageTypeError(
        f"expected {wanted} for message type {message_type.name} ({fields_of(message_type.dtype)}), "
        f"got {value!r:.200}{reason}"
    ) from None


def _scalar(message_type: MessageType) -> str:
    kinds = {"M": "an np.datetime64", "m": "an np.timedelta64", "b": "a bool", "V": "an array", "S": "bytes"}
    return kinds.get(message_type.dtype["value"].kind, "a number")


def _misfit(message_type: MessageType, value: Any) -> str | None:
    """Return the first field that does not fit, and why; None if none is to blame."""
    dtype = message_type.dtype
    if message_type.is_scalar:
        return None
    if message_type.cls is not None and not isinstance(value, Mapping):
        return _misfit_in(dtype, [getattr(value, name, None) for name in dtype.names or ()], "")
    try:
        values = list(values_of(dtype)(value))
    except NamesError as error:
        return str(error)
    return _misfit_in(dtype, values, "")


def _misfit_in(dtype: np.dtype[Any], values: list[Any], path: str) -> str | None:
    names = dtype.names or ()
    if len(values) != len(names):
        return f"{f'field {path[:-1]!r}: ' if path else ''}{len(values)} values instead of {len(names)}"
    for name, value in zip(names, values, strict=True):
        try:
            if dtype[name].names is None:
                _check(dtype[name], value)
                continue
            found = _misfit_in(dtype[name], list(values_of(dtype[name])(value)), f"{path}{name}.")
        except REFUSALS as error:
            found = f"field {path + name!r}: {error}"
        if found is not None:
            return found
    return None


def _check(dtype: np.dtype[Any], value: Any) -> None:
    character = struct_character(dtype)
    if character is None:
        fitted(dtype)(value)
    elif character == "?":
        as_bool(value)
    else:
        struct.pack(character, value)
