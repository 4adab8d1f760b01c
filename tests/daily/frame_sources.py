"""One table in every form that is taken as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import xarray as xr

import ringkernel as rk

if TYPE_CHECKING:
    from collections.abc import Callable


@rk.message
class Tick:
    at: np.dtype("M8[us]")  # type: ignore[valid-type]
    price: float
    volume: np.int32
    live: bool


@rk.message
class Quote:
    at: np.dtype("M8[us]")  # type: ignore[valid-type]
    value: float
    volume: np.int32


def quote(msg: Tick, out: Quote) -> None:
    out.at = msg.at
    out.value = msg.price * msg.volume
    out.volume = msg.volume


COLUMNS: dict[str, Any] = {
    "live": np.array([True, False, True, True]),
    "price": np.array([1.5, -0.0, 5e-324, 1e15]),
    "volume": np.array([1, -(2**31), 0, 2**31 - 1], np.int64),
    "at": np.array(["2026-01-02T03:04:05.678901", "2100-01-01", "1969-12-31", "2262-04-11"], "M8[us]"),
}


def ticks(columns: dict[str, Any] = COLUMNS) -> Any:
    """As NumPy has them."""
    records: Any = np.zeros(len(columns["at"]), Tick.dtype)  # type: ignore[attr-defined]
    for name, values in columns.items():
        records[name] = values
    return records


class Exported:
    """A table, or a column, of a library that nobody knows, but for the Arrow C stream."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_stream__(requested_schema)


class ExportedArray:
    """The same for the C array."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self._table.__arrow_c_array__(requested_schema)


def table(columns: dict[str, Any]) -> Any:
    """As an Arrow table of two chunks."""
    whole = pa.table({name: pa.array(values) for name, values in columns.items()})
    return pa.concat_tables([whole.slice(0, 1), whole.slice(1)])


def dataset(columns: dict[str, Any]) -> Any:
    return xr.Dataset({name: ("row", values) for name, values in columns.items()})


FRAMES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "dict": dict,
    "dict of lists": lambda columns: {name: list(values) for name, values in columns.items()},
    "dict of series": lambda columns: {name: pd.Series(values) for name, values in columns.items()},
    "pandas": pd.DataFrame,
    "pandas, index": lambda columns: pd.DataFrame(columns).set_index("at"),
    "pandas, two indices": lambda columns: pd.DataFrame(columns).set_index(["at", "live"]),
    "pandas, objects": lambda columns: pd.DataFrame(columns).astype({"at": object, "live": object}),
    "polars": pl.DataFrame,
    "table": table,
    "batch": pa.record_batch,
    "reader": lambda columns: table(columns).to_reader(),
    "stream": lambda columns: Exported(table(columns)),
    "xarray": dataset,
    "xarray, coordinate": lambda columns: dataset(columns).set_coords(["at", "live"]),
    "rows": lambda columns: pd.DataFrame(columns).to_dict("records"),
    "pandas, nullable": lambda columns: pd.DataFrame(columns).convert_dtypes(),
    "pandas, arrow": lambda columns: pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"),
    "array stream": lambda columns: ExportedArray(pa.record_batch(columns)),
}
