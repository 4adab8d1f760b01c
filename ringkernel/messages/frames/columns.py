"""Tables and columns of other libraries: a table as columns by name, a column as a NumPy array, in place where the
memory layout allows it.

A frame exists only once its library was imported, so nothing is imported to recognise one. An object that only exports
the Arrow C stream (DuckDB, nanoarrow, …) is read by PyArrow, or by Polars.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ringkernel.messages.times import check_zone

Array = npt.NDArray[Any]


class Frame(NamedTuple):
    """A table: what it is called in errors, the names of its columns, and a function that gets one by its name.

    `labels` are names that may be asked for, and need not be: an index, coordinates.
    """

    kind: str
    names: Sequence[Any]
    column: Callable[[Any], Any]
    labels: Sequence[Any] = ()


def frame_of(values: Any) -> Frame | None:
    """Return a table as a frame; None for anything else."""
    for library, classes, read in () if type(values) in _OWN else _TABLES:
        if is_of(values, library, *classes):
            return read(values)
    return Frame("dict", list(values), values.__getitem__) if isinstance(values, Mapping) else None


def is_endless(values: Any) -> bool:
    """Return whether an iterable has neither a length nor, like a reader of batches, an end."""
    if is_of(values, "polars", "LazyFrame"):  # what is wrong with that is said where frames are read
        return False
    return not any(hasattr(values, name) for name in ("__len__", "__arrow_c_stream__", "__arrow_c_array__"))


def is_of(values: Any, library: str, *classes: str) -> bool:
    """Return whether this is an instance of one of these classes of a library, which is not imported for it."""
    module = sys.modules.get(library)
    return module is not None and isinstance(values, tuple(getattr(module, name, ()) for name in classes))


def _of_pandas(frame: Any) -> Frame:
    columns, levels = list(frame.columns), frame.index.names

    def column(name: Any) -> Any:
        return frame[name] if name in columns else frame.index.get_level_values(name).to_series()

    return Frame("pandas DataFrame", columns, column, [name for name in levels if name is not None])


def _of_xarray(dataset: Any) -> Frame:
    rows: list[Any] = []

    def column(name: Any) -> Any:
        variable = dataset[name]
        if not variable.dims:
            raise ValueError("it is one value, without a dimension")
        rows.append(variable.dims[0])
        if rows[0] != rows[-1]:
            raise ValueError(f"it lies along {rows[-1]!r}, and those before it along {rows[0]!r}")
        return variable

    return Frame("xarray Dataset", list(dataset.data_vars), column, list(dataset.coords))


def _of_arrow(table: Any) -> Frame:
    return Frame(f"PyArrow {type(table).__name__}", table.schema.names, table.column)


def _of_batches(reader: Any) -> Frame:
    read = functools.cache(reader.read_all)  # not before its names are known to be the right ones
    return Frame("PyArrow RecordBatchReader", reader.schema.names, lambda name: read().column(name))


_TABLES: tuple[tuple[str, tuple[str, ...], Callable[[Any], Frame]], ...] = (
    ("pandas", ("DataFrame",), _of_pandas),
    ("polars", ("DataFrame",), lambda frame: Frame("Polars DataFrame", frame.columns, frame.get_column)),
    ("pyarrow", ("Table", "RecordBatch"), _of_arrow),
    ("pyarrow", ("RecordBatchReader",), _of_batches),
    ("xarray", ("Dataset",), _of_xarray),  # which is a mapping, too
)

_OWN = dict, list, tuple
"""Python's, of which no library has to be asked."""

FILLING = {
    "pandas": "`.dropna()` leaves such rows out, `.fillna(value)` fills them",
    "polars": "`.drop_nulls()` leaves such rows out, `.fill_null(value)` fills them",
    "arrow": "`Table.drop_null()` leaves such rows out, `pyarrow.compute.fill_null` fills them",
    "numpy": "`.compressed()` leaves them out, `.filled(value)` fills them",
    "python": "leave such rows out, or fill them",
}
"""The remedy for missing values, in each library's words."""


def plain(column: Any) -> Array | Frame | None:
    """Return a column as an array, or as a frame if it is one of records, or a table; None for plain sequences, and all
    else.

    Raises `ValueError` for values that are missing, for times of a zone, and for lazy frames.
    """
    if isinstance(column, np.ndarray):
        return _of_array(column)
    if type(column) in _OWN:
        return frame_of(column)
    for library, classes, read in _COLUMNS:
        if is_of(column, library, *classes):
            return read(column)
    frame = column if isinstance(column, Frame) else frame_of(column)
    if frame is not None:
        return frame
    if hasattr(column, "__arrow_c_stream__") or hasattr(column, "__arrow_c_array__"):
        return _imported(column)
    return _of_array(np.asarray(column)) if hasattr(column, "__array__") else None


def _of_array(column: Array) -> Array | Frame:
    if column.ndim and column.dtype.names is not None:
        return Frame("array of records", column.dtype.names, column.__getitem__)
    if isinstance(column, np.ma.MaskedArray):
        check_missing(np.ma.getmaskarray(column), "numpy")
        return np.asarray(column.data)
    return column


def check_missing(is_missing: Any, library: str) -> None:
    """Refuse a column with missing values: says how many, and what to do. Raises `ValueError`."""
    missing = np.asarray(is_missing)
    rows = missing.any(axis=tuple(range(1, missing.ndim))) if missing.ndim > 1 else missing
    if rows.any():
        raise ValueError(_missing(int(missing.sum()), int(rows.argmax()), library))


def _missing(count: int, first: int, library: str) -> str:
    where = f"{', in row' if count == 1 else ', the first in row'} {first}"
    values = "value is" if count == 1 else "values are"
    return f"{count} {values} missing{where}, and a message cannot leave one out; {FILLING[library]}"


def _pandas_column(series: Any) -> Array | Frame:
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return np.asarray(series.to_numpy())
    if hasattr(dtype, "pyarrow_dtype"):
        return _arrow_column(series.array.__arrow_array__(), "pandas")
    check_missing(series.isna(), "pandas")
    if hasattr(dtype, "tz"):
        check_zone(str(dtype.tz))
        return np.asarray(series.to_numpy(dtype.base))
    return np.asarray(series.to_numpy(getattr(dtype, "numpy_dtype", None)))


def _polars_column(series: Any, per_row: int = 1) -> Array | Frame:
    """Return a column, or the items of one that has so many in each row."""
    dtype = series.dtype
    if series.null_count():
        raise ValueError(_missing(series.null_count(), series.is_null().arg_max() // per_row, "polars"))
    check_zone(getattr(dtype, "time_zone", None))
    name = str(dtype.base_type())
    if name == "Struct":
        fields = series.struct.unnest()
        return Frame("Polars Struct", fields.columns, fields.get_column)
    if name == "List":
        return _polars_column(series.list.to_array(_common_length(series.list.len().to_numpy())), per_row)
    if name == "Array":  # its own nulls would become NaN
        return _in_rows(_polars_column(series.explode(), per_row * dtype.size), (len(series), dtype.size))
    if name.endswith("Int128"):
        raise TypeError(f"its values are of {dtype}, which NumPy does not have")
    return np.asarray(series.to_numpy())


def _arrow_column(column: Any, library: str = "arrow", per_row: int = 1) -> Array | Frame:
    """Return a column, or the items of one that has so many in each row."""
    kind: Any = column.type
    if column.null_count:
        first = int(np.argmax(_in_one(column.is_null()).to_numpy(zero_copy_only=False)))
        raise ValueError(_missing(column.null_count, first // per_row, library))
    check_zone(getattr(kind, "tz", None))
    pa: Any = sys.modules["pyarrow"]
    whole = _in_one(column)
    if pa.types.is_struct(kind):
        return Frame("Arrow struct", [field.name for field in kind], whole.field)
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        size = getattr(kind, "list_size", None) or _common_length(whole.value_lengths().to_numpy())
        return _in_rows(_arrow_column(whole.flatten(), library, per_row * size), (len(whole), size))
    try:
        return np.asarray(whole.to_numpy(zero_copy_only=False))
    except pa.ArrowNotImplementedError:
        raise TypeError(f"its values are of {kind}, which NumPy does not have") from None


def _in_rows(items: Array | Frame | None, shape: tuple[int, ...]) -> Array | Frame:
    """Return the items of lists, one after the other, as arrays of this shape."""
    if isinstance(items, Frame):
        return items._replace(column=lambda name: _in_rows(plain(items.column(name)), shape))
    assert items is not None
    return items.reshape(*shape, *items.shape[1:])


def _common_length(lengths: Array) -> int:
    if len(lengths) and (lengths != lengths[0]).any():
        raise ValueError(f"its lists are of several lengths, from {lengths.min()} to {lengths.max()}")
    return int(lengths[0]) if len(lengths) else 1


def _in_one(column: Any) -> Any:
    """Return a column of chunks as one array."""
    if not hasattr(column, "num_chunks"):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _imported(column: Any) -> Array | Frame:
    """Return an object that exports itself by the Arrow C interface as a column; a table is a column of structs."""
    for library, read in (("pyarrow", _by_pyarrow), ("polars", lambda pl, column: _polars_column(pl.Series(column)))):
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        return read(module, column)
    raise ValueError("it is read by the Arrow C interface, which needs PyArrow or Polars: `pip install pyarrow`")


def _by_pyarrow(pa: Any, column: Any) -> Array | Frame:
    has_stream = hasattr(column, "__arrow_c_stream__")
    return _arrow_column(pa.chunked_array(column) if has_stream else pa.array(column))


def _lazy(_: Any) -> Array:
    raise ValueError("it is a plan that has not been computed; `.collect()` makes a frame of it")


_COLUMNS: tuple[tuple[str, tuple[str, ...], Callable[[Any], Array | Frame]], ...] = (
    ("pandas", ("Series", "Index"), _pandas_column),
    ("polars", ("Series",), _polars_column),
    ("polars", ("LazyFrame",), _lazy),
    ("pyarrow", ("Array", "ChunkedArray"), _arrow_column),
    ("xarray", ("DataArray",), lambda variable: _of_array(variable.to_numpy())),
)
