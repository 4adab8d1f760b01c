"""A value as what a field takes, or a refusal: NumPy itself would parse text, broadcast, and wrap around."""

from __future__ import annotations

import difflib
import struct
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .conversion import converted
from .record_class import Record
from .records import struct_format
from .times import as_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Array = npt.NDArray[Any]

REFUSALS = (struct.error, TypeError, ValueError, OverflowError)
"""Raised for a value that does not fit, here and by `struct`."""


class NoRecordError(TypeError):
    """This value is no record with the wanted fields."""

    def __init__(self, value: Any, names: tuple[str, ...]) -> None:
        super().__init__(f"{value!r:.200} is no record, tuple or dict of {', '.join(names)}")
        self.value = value


class NamesError(TypeError):
    """A dict has other keys than a record has fields."""

    def __init__(self, given: Mapping[Any, Any], names: tuple[str, ...]) -> None:
        missing = [name for name in names if name not in given]
        others = [key for key in given if key not in names]
        said = f"it has no {_listed(missing)}" if missing else f"no field is called {_listed(others)}"
        super().__init__(f"{said}{guess(missing, others)}")


def guess(missing: Iterable[str], given: Iterable[Any]) -> str:
    """Return which of the given names may be meant by those that are missing, as the end of an error, or ""."""
    known = [*map(str, given)]
    near = [match for name in missing for match in difflib.get_close_matches(name, known, 1)]
    return f"; perhaps {_listed(near)} is meant" if near else ""


def as_bool(value: Any) -> bool:
    """Return a boolean, or 0 or 1 as one: `struct` takes anything for a bool. Raises `TypeError`."""
    if value.__class__ is bool or isinstance(value, np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{value!r} is no bool")


def as_complex(value: Any) -> complex:
    """Return a number as a complex one. Raises what `fitted` raises."""
    return complex(_fitting(_COMPLEX, value).item())


def fitted(dtype: np.dtype[Any]) -> Callable[[Any], Array]:
    """Return a function that makes an array of a field's dtype and shape of a value.

    It raises `TypeError`, `ValueError` or `OverflowError` for what does not fit."""
    return lambda value: _fitting(dtype, value)


def _fitting(dtype: np.dtype[Any], value: Any) -> Array:
    return fitted_array(dtype.base, dtype.shape, value)


def fitted_array(base: np.dtype[Any], shape: tuple[int, ...], value: Any) -> Array:
    """Return an array of this dtype and shape of a value. Raises what `fitted` says."""
    given = np.asarray(value)
    if given.shape != shape:
        raise ValueError(f"shape {given.shape} instead of {shape}")
    if base.kind == "S" and given.dtype.kind in "US":
        return _fitting_bytes(base, given)
    if base.kind in "mM" and (given.dtype.kind == "O" or _has_units(value)):
        times = given.flat if given.dtype.kind == "O" else value
        return np.array([_fitting_time(base, time) for time in times], base).reshape(shape)
    if given.dtype == base:
        return given
    if base.kind == "b" and given.dtype.kind != "b":
        return np.asarray([as_bool(v) for v in given.ravel().tolist()]).reshape(given.shape)
    return converted(given, base)


def _fitting_bytes(base: np.dtype[Any], given: Array) -> Array:
    if given.dtype.kind == "U":
        raise TypeError(f"{given.ravel()[0].item()!r} is text, and this takes bytes: encode it, as in b'IBM'")
    return converted(given, base)


def _has_units(values: Any) -> bool:
    """Return whether these are times in several units: NumPy would pick the finest, which may not hold all of them."""
    return isinstance(values, list | tuple) and len({v.dtype for v in values if isinstance(v, np.generic)}) > 1


def _fitting_time(dtype: np.dtype[Any], value: Any) -> Array:
    time = as_time(value)
    if not isinstance(time, np.datetime64 | np.timedelta64):
        raise TypeError(f"{value!r} is no {dtype}")
    return converted(np.asarray(time), dtype)


def values_of(dtype: np.dtype[Any]) -> Callable[[Any], Iterable[Any]]:
    """Return a function that takes a record of this dtype apart, of whatever form. It raises `NoRecordError`."""
    names = dtype.names or ()
    learned: tuple[Any, Any, Any] = (None, None, None)  # in one piece: threads may share it

    def values(value: Any) -> Iterable[Any]:
        nonlocal learned
        record = value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value
        if isinstance(record, np.void):
            given = record.dtype
            seen, seen_names, take = learned
            if given is not seen or given.names is not seen_names:  # a dtype may be given other names
                take = taking_apart(given, names)
                learned = given, given.names, take
            if take is not None:
                return typing.cast("Iterable[Any]", take(record))
        elif isinstance(record, tuple) and (not isinstance(record, Record) or type(record).__dtype__.names == names):
            return record
        elif isinstance(record, Mapping):
            return values_by_name(record, names)
        raise NoRecordError(value, names)

    return values


def values_by_name(given: Mapping[Any, Any], names: tuple[str, ...]) -> Iterable[Any]:
    """Return the values of a dict in the order of the fields. Raises `NamesError`."""
    if len(given) != len(names) or not all(name in given for name in names):
        raise NamesError(given, names)
    return [given[name] for name in names]


def taking_apart(given: np.dtype[Any], names: tuple[str, ...]) -> Callable[[Any], Iterable[Any]] | None:
    """Return a function that takes NumPy's records of this dtype apart; None if they have other names."""
    if given.names != names:
        return None
    flat = struct_format(given)
    return (lambda value: tuple(value[name] for name in names)) if flat is None else struct.Struct(flat).unpack


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(repr, names))


_COMPLEX = np.dtype(complex)
