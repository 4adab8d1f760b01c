"""Arrays of records as frames of pandas, Polars or PyArrow: copies, each column of its field's own type."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.errors import ConfigurationError, MessageTypeError
from ringkernel.messages.conversion import converted

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.messages.types import MessageType

Array = npt.NDArray[Any]

LIBRARIES = {"pandas": "pandas", "polars": "polars", "arrow": "pyarrow"}
"""The package to install for each form."""
DATE_UNITS = {"pandas": (), "polars": ("D",), "arrow": ("D",)}
TIME_UNITS = {"pandas": ("s", "ms", "us", "ns"), "polars": ("ms", "us", "ns"), "arrow": ("s", "ms", "us", "ns")}
"""The units of each library, the coarsest first: a coarser one of a field becomes that, which is exact."""


def frame_maker(to: str | None, message_type: MessageType) -> Callable[[Array], Any] | None:
    """Return a function that makes a frame of an array of messages; None for `None` and "numpy", which leave it as it
    is.

    A scalar type becomes one column: a Series called "value", or a PyArrow Array.
    Raises `ConfigurationError` for another form, or one whose library is missing, and `MessageTypeError` for a field
    that has no counterpart there.
    """
    if to is None or to == "numpy":
        return None
    if to not in LIBRARIES:
        raise ConfigurationError(f"to={to!r}: it can be 'pandas', 'polars', 'arrow', or 'numpy'")
    try:
        library: Any = importlib.import_module(LIBRARIES[to])
    except ImportError:
        raise ConfigurationError(f"to={to!r} needs {LIBRARIES[to]}: pip install {LIBRARIES[to]}") from None
    _check(message_type.dtype, to, "")
    columns: dict[str, Callable[[Any, Array], Any]]
    columns = {"pandas": _pandas_column, "polars": _polars_column, "arrow": _arrow_column}
    column = functools.partial(columns[to], library)
    if message_type.is_scalar:
        return column if to == "arrow" else lambda values: column(values).rename("value")
    frame = library.table if to == "arrow" else library.DataFrame
    options = {"copy": False} if to == "pandas" else {}
    return lambda records: frame({name: column(records[name]) for name in records.dtype.names or ()}, **options)


def _check(dtype: np.dtype[Any], to: str, path: str) -> None:
    """Refuse a field that a library has no column for. Raises `MessageTypeError`."""
    for name in dtype.names or ():
        field = dtype[name].base
        if field.names is not None and to != "pandas":
            _check(field, to, f"{path}{name}.")
        elif not _fits(field, to):
            raise MessageTypeError(f"to={to!r}: there is no column for field {path + name!r}, which is of {field}")


def _fits(dtype: np.dtype[Any], to: str) -> bool:
    if dtype.names is not None:
        return False
    if dtype.kind in "mM":
        return _dtype_there(dtype, to) is not None
    return to == "pandas" or dtype.kind == "S" or (dtype.kind in "biuf" and dtype.itemsize <= 8)


def _dtype_there(dtype: np.dtype[Any], to: str) -> np.dtype[Any] | None:
    """Return the dtype of a field's column: of times the coarsest that holds them exactly, or None."""
    if dtype.kind not in "mM":
        return dtype
    units = (*DATE_UNITS[to], *TIME_UNITS[to]) if dtype.kind == "M" else TIME_UNITS[to]
    if np.datetime_data(dtype)[0] == "generic":
        return None
    there = (np.dtype(f"{dtype.kind}8[{unit}]") for unit in units)
    return next((unit for unit in there if np.can_cast(dtype, unit)), None)


def _values(values: Array, to: str) -> Array:
    """Return the values of a column in a row, of the dtype that it has there, in memory of their own."""
    dtype = _dtype_there(values.dtype, to)
    assert dtype is not None
    return values.copy().ravel() if dtype == values.dtype else converted(values, dtype).ravel()


def _pandas_column(pd: Any, values: Array) -> Any:
    made = _values(values, "pandas")
    if made.dtype.kind == "S":
        made = made.astype(object)
    if values.ndim > 1:
        items = np.empty(len(values), object)
        items[:] = [*made.reshape(values.shape)]
        made = items
    return pd.Series(made, copy=False)


def _polars_column(pl: Any, values: Array) -> Any:
    if values.dtype.names is not None:
        flat = values.reshape(-1)
        column = pl.DataFrame({name: _polars_column(pl, flat[name]) for name in values.dtype.names}).to_struct()
    else:
        column = pl.Series(_values(values, "polars"))
    return column.reshape(values.shape) if values.ndim > 1 else column


def _arrow_column(pa: Any, values: Array) -> Any:
    if values.dtype.names is not None:
        flat = values.reshape(-1)
        names = list(values.dtype.names)
        column = pa.StructArray.from_arrays([_arrow_column(pa, flat[name]) for name in names], names)
    else:
        column = pa.array(_values(values, "arrow"))
    for size in reversed(values.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column
