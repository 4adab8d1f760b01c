"""Times as words: whole numbers of 64 bits in the order of the times, whatever type the times are of.

Integers and NumPy's times are what they are, unsigned ones less 2**63; a float has the bits of a 64-bit one, turned
round where it is negative (as in radix sorts of floats: Herf 2001).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from .conversion import converted
from .times import as_time

_LOW = 2**63 - 1
NO_TIME = -(2**63)
"""The word of NaN and NaT."""


def can_be_none(dtype: np.dtype[Any]) -> bool:
    """Return whether a value of this type may be no time, NaN or NaT: its word is `NO_TIME`."""
    return dtype.kind in "fM"


def word_of(dtype: np.dtype[Any], value: Any) -> int:
    """Return the word of a time, in a type of times. Raises `TypeError` or `ValueError` for what is none of that
    type."""
    value = as_time(value)
    if dtype.kind == "M":
        return _word_of_datetime(dtype, value)
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{value!r} is no number, as the times of {dtype} are")
    if dtype.kind == "f":
        if np.isnan(value):
            raise ValueError("NaN is no time")
        bits: int = struct.unpack("<q", struct.pack("<d", float(dtype.type(value)) + 0.0))[0]
        return bits if bits >= 0 else bits ^ _LOW
    if value != int(value):
        raise ValueError(f"{value!r} is no whole number, as the times of {dtype} are")
    limits = np.iinfo(dtype)
    if not limits.min <= int(value) <= limits.max:
        raise ValueError(f"{value!r} does not fit into {dtype}")
    return int(value) - (2**63 if dtype == np.uint64 else 0)


def _word_of_datetime(dtype: np.dtype[Any], value: Any) -> int:
    if not isinstance(value, np.datetime64):
        raise TypeError(f"{value!r} is no time; use a datetime64, a datetime or a Timestamp")
    if np.isnat(value):
        raise ValueError("NaT is no time")
    try:
        exact = converted(np.asarray(value), dtype)
    except OverflowError:
        raise ValueError(f"{value!r} is between two times of {dtype}, or beyond them") from None
    return int(exact.astype(np.int64))


def time_of(dtype: np.dtype[Any], word: int) -> Any:
    """Return the time that a word stands for, as a scalar of its type; NaN or NaT for `NO_TIME` where there is one."""
    if word == NO_TIME and can_be_none(dtype):
        return np.array("NaT", dtype)[()] if dtype.kind == "M" else dtype.type(np.nan)
    if dtype.kind == "M":
        return np.int64(word).astype(dtype)
    if dtype.kind == "f":
        return dtype.type(struct.unpack("<d", struct.pack("<q", word if word >= 0 else word ^ _LOW))[0])
    return dtype.type(word + (2**63 if dtype == np.uint64 else 0))
