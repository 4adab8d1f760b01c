"""Tables of other libraries, as columns by name.

A frame exists only once its library was imported, so nothing is imported to recognise one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple


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
    for library, classes, read in _TABLES:
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
