"""The dtypes that records of a ring can have: of a fixed size, without pointers, aligned as in C."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

_STRUCT_FORMATS = {
    ("b", 1): "?",
    **{("i", 2**i): "bhiq"[i] for i in range(4)},
    **{("u", 2**i): "BHIQ"[i] for i in range(4)},
    **{("f", 2**i): "-efd"[i] for i in range(1, 4)},
}


def struct_character(dtype: np.dtype[Any]) -> str | None:
    """Return the character that `struct` has for a field of this dtype, or None."""
    return _STRUCT_FORMATS.get((dtype.kind, dtype.itemsize)) if dtype.isnative else None


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Return whether values of this dtype have a fixed size and hold no pointers."""
    if dtype.subdtype is not None:
        return dtype.itemsize > 0 and dtype.base.kind != "S" and is_plain(dtype.base)
    if dtype.fields is None:
        return dtype.kind in "biufcmMS" and dtype.itemsize > 0
    return bool(dtype.names) and all(is_plain(dtype[name]) for name in dtype.names or ())


def aligned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the same fields with natural alignment, nested records included."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((aligned(base), shape))
    if dtype.fields is None:
        return dtype.newbyteorder("=")
    return np.dtype([(name, aligned(dtype.fields[name][0])) for name in dtype.names or ()], align=True)


def struct_format(dtype: np.dtype[Any]) -> str | None:
    """Return the `struct` format of a flat record, or None if it has nested fields, or some that `struct` does not
    know."""
    text, end = "=", 0
    for name in dtype.names or ():
        assert dtype.fields is not None
        field, offset = dtype.fields[name][:2]
        character = struct_character(field)
        if character is None or offset < end:
            return None
        text += f"{offset - end}x{character}"
        end = offset + field.itemsize
    return f"{text}{dtype.itemsize - end}x"


def fields_of(dtype: np.dtype[Any]) -> str:
    """Return the fields and their types, as words for an error."""
    return ", ".join(f"{name}: {said(dtype[name])}" for name in dtype.names or ())


def said(dtype: np.dtype[Any]) -> str:
    """Return a dtype in words; bytes without the byte order that they do not have."""
    return str(dtype).removeprefix("|") if dtype.kind == "S" else str(dtype)


def empty_part(dtype: np.dtype[Any], path: str = "") -> str | None:
    """Return the part of a record that has no size, in words for an error; None if there is none."""
    for name in dtype.base.names or ():
        found = empty_part(dtype.base[name], f"{path}.{name}".lstrip("."))
        if found is not None:
            return found
    if dtype.itemsize == 0:
        return f"{f'field {path!r}' if path else str(dtype)} holds nothing, so it has no size"
    return None


@functools.lru_cache(maxsize=256)
def bytes_field(dtype: np.dtype[Any], path: str = "") -> str | None:
    """Return the field of a record that is of bytes, also in records within it; None if there is none."""
    base = dtype.base
    if base.fields is None:
        return path if base.kind == "S" else None
    found = (bytes_field(base[name], f"{path}.{name}".lstrip(".")) for name in base.names or ())
    return next((one for one in found if one is not None), None)


@functools.lru_cache(maxsize=256)  # asked at each launch
def misaligned_field(dtype: np.dtype[Any]) -> str | None:
    """Return the field of an array of records that is not aligned, in words for an error, or None."""
    leaves = list(_leaves(dtype, "", 0))
    for name, offset, size in leaves:
        if offset % size:
            return f"field {name!r} lies at byte {offset} of a record, which is no multiple of {size}"
    for name, offset, size in leaves:
        if dtype.itemsize % size:
            return (
                f"field {name!r} lies at byte {offset} of a record of {dtype.itemsize} bytes, so in the next record it "
                f"lies at byte {offset + dtype.itemsize}, which is no multiple of {size}"
            )
    return None


def _leaves(dtype: np.dtype[Any], path: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and alignment of everything that a handler may load at once."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        for i in range(min(2, math.prod(shape))):  # the second shows whether all that follow are aligned, too
            yield from _leaves(base, path, start + i * base.itemsize)
    elif dtype.fields is None:
        yield path, start, dtype.alignment
    else:
        for name in dtype.names or ():
            field, offset = dtype.fields[name][:2]
            yield from _leaves(field, f"{path}.{name}".lstrip("."), start + offset)
