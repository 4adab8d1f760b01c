"""Batches of messages in and out: as arrays of records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.errors import MessageTypeError

from .codecs import decoder, encoder
from .frames.columns import frame_of
from .frames.reading import check_extra, from_frame, from_rows
from .records import aligned, fields_of, is_plain, said

if TYPE_CHECKING:
    from .types import MessageType

Array = npt.NDArray[Any]

MASKED = "the mask would be lost: use what `.filled(value)` or `.compressed()` makes of it"
_NO_BATCHES: dict[Any, str] = {
    np.ma.MaskedArray: MASKED,
    bytes | bytearray | memoryview: "`np.frombuffer(data, dtype)` makes an array of it",
    str: "text is no sequence of messages",
    AbstractSet: "it has no order: send `sorted(values)`, or a list",
}
"""Values that are no batches, although NumPy or `iter` would accept them, and what to do with them."""


def as_array(message_type: MessageType, values: Any, extra: str = "refuse") -> Array:
    """Return the messages as a 1-D array of records; without a copy when they are one already.

    `extra` says what to do with columns, and keys of dicts, that are no fields. Raises `MessageTypeError`.
    """
    if message_type.is_batch(values):
        return np.asarray(values.view(message_type.dtype)) if message_type.is_scalar else np.asarray(values)
    remedy = next((text for kinds, text in _NO_BATCHES.items() if isinstance(values, kinds)), None)
    if remedy is not None:
        raise MessageTypeError(
            f"expected an array or a sequence of {message_type.name}, got {_article(type(values).__name__)}; {remedy}"
        )
    check_extra(extra)
    if isinstance(values, np.ndarray):
        return _records_of(message_type, values)
    if not isinstance(values, list | tuple):
        records = from_frame(message_type, values, extra)
        if records is not None:
            return records
    if not isinstance(values, Iterable):
        raise MessageTypeError(f"expected an array or a sequence of {message_type.name}, got {values!r:.200}")
    rows = list(values)
    if rows and isinstance(rows[0], Mapping):
        return from_rows(message_type, rows, extra)
    result = np.zeros(len(rows), message_type.dtype)
    if rows:
        encode = encoder(message_type, result, -1)
        for i, row in enumerate(rows):
            encode(i, row)
    return result


def as_objects(values: Any) -> list[Any]:
    """Return the messages for a kernel without a type. Raises `MessageTypeError` for a frame: iterating it gives
    names."""
    frame = None if isinstance(values, list | tuple) else frame_of(values)
    if frame is not None and frame.kind != "dict":
        raise MessageTypeError(
            f"expected a sequence of messages, got {_article(type(values).__name__)}; declare an input_type, whose "
            f"fields its columns are, or send a list of its rows"
        )
    return list(values)


def as_messages(message_type: MessageType, records: Array) -> list[Any]:
    """Return the messages in an array of records, one by one."""
    decode = decoder(message_type, records, -1)
    return [decode(i) for i in range(len(records))]


def from_array(message_type: MessageType, records: Array) -> Array:
    """Return an array of records as the user sees it: plain for a scalar type, else the records."""
    return records["value"] if message_type.is_scalar else records


def _records_of(message_type: MessageType, values: Array) -> Array:
    """Return an array that a user gave as one of records."""
    dtype = message_type.dtype
    if values.ndim != 1:
        raise MessageTypeError(
            f"expected a 1-D array of {message_type.name}, got shape {values.shape}{_of_rows(message_type, values)}"
        )
    if values.dtype == dtype:
        return np.ascontiguousarray(values).view(dtype)
    if message_type.is_scalar and values.dtype.fields is None and _becomes(values.dtype, dtype["value"]):
        plain = np.ascontiguousarray(values, dtype=dtype["value"])
        return plain.view(dtype)
    if values.dtype.fields is not None and aligned(values.dtype) == dtype:
        return values.astype(dtype)
    raise MessageTypeError(
        f"expected an array of {message_type.name} ({fields_of(dtype)}), got one of dtype {values.dtype}"
        f"{_remedy(message_type, values.dtype)}"
    )


def _becomes(given: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether values of one dtype become another without a change; numbers never become bytes."""
    return bool(np.can_cast(given, dtype)) and (dtype.kind != "S" or given.kind == "S")


def _of_rows(message_type: MessageType, values: Array) -> str:
    """Say what to do with an array of more dimensions, as the end of an error."""
    names = message_type.dtype.names or ()
    if message_type.is_scalar and values.ndim > 1:
        rows = ", ".join(map(str, values.shape[1:]))
        return (
            f"; `array.ravel()` sends its elements one by one, and for a row as a message the input_type is "
            f'`np.dtype([("row", "{message_type.dtype["value"]}", ({rows},))])`'
        )
    if values.ndim == 2 and values.shape[1] == len(names):
        return "; for its rows as messages send `numpy.lib.recfunctions.unstructured_to_structured(array, dtype)`"
    return ""


def _remedy(message_type: MessageType, given: np.dtype[Any]) -> str:
    """Say how to make an array of another dtype fit, as the end of an error, or return ""."""
    names, have = message_type.dtype.names or (), given.names
    if have is None:
        wanted = _scalar_wanted(given, message_type.dtype["value"]) if message_type.is_scalar else None
    elif have == names:
        wanted = f"{message_type.cls.__name__}.dtype" if message_type.cls is not None else "dtype"
    else:
        same = set(names) <= set(have)
        return f"; its fields in order are `array[{list(names)}]`" if same else ""
    return "" if wanted is None else f"; convert it, as in `array.astype({wanted})`"


def _scalar_wanted(given: np.dtype[Any], dtype: np.dtype[Any]) -> str | None:
    """Return the dtype to convert an array to that shall hold messages of a scalar type; None if it cannot be."""
    if dtype.kind == "S":
        return f'"{said(dtype)}"' if given.kind in "SU" else None
    is_convertible = is_plain(given) or (given.kind in "USO" and dtype.kind in "iufc")
    return f"np.{dtype}" if is_convertible else None


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
