"""A column as an array of a field's dtype, every value as it was, or a refusal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkernel.messages.conversion import converted
from ringkernel.messages.fitting import fitted, fitted_array
from ringkernel.messages.records import said

from .columns import Frame, check_missing, plain

Array = npt.NDArray[Any]


def column_for(dtype: np.dtype[Any], column: Any) -> Array | Frame:
    """Return a column as an array of a field's dtype, or as a frame if it is one of records.

    Raises `ValueError`, `TypeError` or `OverflowError` for what does not fit, without the column's name.
    """
    found = plain(column)
    if isinstance(found, Frame):
        return found
    if dtype.base.names is not None:
        raise TypeError("the field is a record, so this has to be a frame of its own, such as a dict of columns")
    return _of_values(dtype, column) if found is None else array_for(dtype, found)


def array_for(dtype: np.dtype[Any], given: Array) -> Array:
    """Return an array as one of a field's dtype, without a copy if it is one. Raises what `column_for` raises."""
    if given.ndim == 0:
        raise ValueError("it is one value, not one for each row")
    if len(given) == 0:
        return np.zeros((0, *dtype.shape), dtype.base)
    if given.dtype.kind == "O":
        return _of_objects(dtype, given)
    if given.shape[1:] != dtype.shape:
        raise ValueError(f"each row has {_each(given.shape[1:])}, and the field has {_each(dtype.shape)}")
    return _converted(given, dtype.base)


def _each(shape: tuple[int, ...]) -> str:
    return f"an array of shape {shape}" if shape else "one value"


def _converted(given: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array as one of `dtype`, if its dtype says that nothing is lost; whole numbers and times value by
    value."""
    if given.dtype == dtype:
        return given
    kinds = {given.dtype.kind, dtype.kind}
    by_value = kinds <= {"i", "u"} or kinds in ({"M"}, {"m"}, {"S"})
    if by_value or (np.can_cast(given.dtype, dtype) and not kinds & set("mMS")):
        return converted(given, dtype)
    raise TypeError(f"{said(given.dtype)} is not made {said(dtype)}, since values might change; convert it yourself")


def _of_values(dtype: np.dtype[Any], column: Any) -> Array:
    """Return a list of Python's values, which have no dtype yet: what a message with each of them would hold."""
    if isinstance(column, str | bytes | bytearray) or not isinstance(column, Iterable):
        raise TypeError(f"{column!r:.100} is not one value for each row")
    values = list(column)
    if not values:
        return np.zeros((0, *dtype.shape), dtype.base)
    try:
        given = np.asarray(values)
    except ValueError:  # of several shapes
        given = None
    if given is None or given.dtype.kind == "O":  # NumPy makes objects of what is missing
        check_missing([_is_missing(value) for value in values], "python")
    in_units = given is None or dtype.base.kind in "mM"  # which the values have each
    return fitted_array(dtype.base, (len(values), *dtype.shape), values if in_units else given)


def numbers_for(dtype: np.dtype[Any], values: list[Any]) -> Array | None:
    """Return Python's own numbers as an array of a field's dtype, as its messages would hold them; None if they do not
    fit, or if one of them is something else."""
    kinds = _NUMBERS.get(dtype.kind)
    if kinds is None or not {*map(type, values)} <= kinds:
        return None
    given = np.asarray(values)
    if dtype.kind == "f" and given.dtype.kind in "iu":
        given = given.astype(np.float64)  # as Python does it, also on the way to something shorter
    try:
        return given if given.dtype == dtype else converted(given, dtype)
    except (TypeError, OverflowError):
        return None


_NUMBERS: dict[str, set[type]] = {"b": {bool}, "i": {int, bool}, "u": {int, bool}, "f": {float, int, bool}}
"""Which types NumPy makes the same of as a message's codec, by the kind of the field."""


def _of_objects(dtype: np.dtype[Any], values: Any) -> Array:
    """Objects, one by one."""
    check_missing([_is_missing(value) for value in values], "python")
    fit = fitted(dtype)
    result = np.zeros((len(values), *dtype.shape), dtype.base)
    for row, value in enumerate(values):
        try:
            result[row] = fit(value)
        except TypeError:
            is_text = dtype.kind == "S" and isinstance(value, str)
            remedy = "; encode the text first, as pandas does by `.str.encode('ascii')`" if is_text else ""
            raise TypeError(f"{value!r:.100} in row {row} is no {said(dtype)}{remedy}") from None
        except (ValueError, OverflowError) as error:
            raise ValueError(f"row {row}: {error}") from None
    return result


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ == "NAType"  # pandas'
