"""Arrays of one dtype as arrays of another, every value checked: NumPy's own conversions wrap around, and cut off."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from .records import said

Array = npt.NDArray[Any]


def converted(given: Array, dtype: np.dtype[Any]) -> Array:
    """Return the array as one of `dtype`.

    Raises `TypeError` for a kind of values that is not, by NumPy's rule "same_kind", one of `dtype` (an integer is one
    of any integer type that it fits into), and `OverflowError` for the first value that does not fit.
    """
    if dtype.fields is not None:
        return _converted_records(given, dtype)
    is_integer = given.dtype.kind in "iu" and dtype.kind in "iu"
    is_other = "S" in (given.dtype.kind, dtype.kind) and given.dtype.kind != dtype.kind  # numbers would become text
    if is_other or (not is_integer and not np.can_cast(given.dtype, dtype, "same_kind")):
        raise TypeError(f"{said(given.dtype)} is no {said(dtype)}")
    with np.errstate(over="ignore", invalid="ignore"):
        result = in_unit(given, dtype) if dtype.kind in "mM" else given.astype(dtype)
    bad = _misfits(given, result)
    if bad is not None and bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at index {index if len(index) > 1 else index[0]}" if index else ""
        value = str(given[index]) if dtype.kind in "mM" else repr(given[index].item())  # which would have no unit
        raise OverflowError(f"{value}{where} does not fit into {said(dtype)}")
    return result


def _converted_records(given: Array, dtype: np.dtype[Any]) -> Array:
    if given.dtype.names != dtype.names:
        raise TypeError(f"{given.dtype} has other fields than {dtype}")
    result = np.zeros(given.shape, dtype)
    for name in dtype.names or ():
        field = dtype[name]
        if given.dtype[name].shape != field.shape:
            raise ValueError(f"field {name!r} has shape {given.dtype[name].shape} instead of {field.shape}")
        result[name] = converted(given[name], field.base)
    return result


def _misfits(given: Array, result: Array) -> Any:
    """Return which values a conversion has changed beyond rounding; None for kinds where that cannot be."""
    kind = result.dtype.kind
    if kind in "iu" and given.dtype.kind in "iu":
        return (result.astype(given.dtype) != given) | ((result < 0) != (given < 0))
    if kind in "fc" and given.dtype.kind in "iufc":
        return np.isfinite(given) & ~np.isfinite(result)
    if kind == "S":
        return result != given
    if kind in "mM" and given.dtype.kind == kind:
        return (in_unit(result, given.dtype) != given) & ~np.isnat(given)
    return None


def in_unit(given: Array, dtype: np.dtype[Any]) -> Array:
    """Return times as others, also of another unit; where they do not fit into it, NaT, or what NumPy makes of them:
    it wraps around, or, since 2.5, raises."""
    try:
        return given.astype(dtype)
    except OverflowError:
        result = np.full(given.shape, "NaT", dtype)
        for index in np.ndindex(given.shape):
            with suppress(OverflowError):
                result[index] = given[index].astype(dtype)
        return result
