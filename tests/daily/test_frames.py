"""Frames of every library go in by the names of their columns, wherever a batch does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from daily_kernels import double, plus, relay
from frame_sources import COLUMNS, FRAMES, Exported, Quote, Tick, quote, table, ticks

import ringkernel as rk
from ringkernel.messages.arrays import as_array
from ringkernel.messages.types import MessageType

if TYPE_CHECKING:
    from collections.abc import Iterator


class Tensor:
    """What libraries of arrays have: an array for NumPy."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._values


TICK = MessageType(Tick)
FLOAT = MessageType(float)


@pytest.fixture
def session() -> Iterator[rk.Session]:
    with rk.Session(workers=1) as session:
        yield session


# --- what is taken -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FRAMES)
@pytest.mark.parametrize("declared", [Tick, Tick.dtype], ids=["class", "dtype"])  # type: ignore[attr-defined]
def test_every_frame_is_the_same_records(form: str, declared: Any) -> None:
    assert as_array(MessageType(declared), FRAMES[form](COLUMNS)).tobytes() == ticks().tobytes()


@pytest.mark.parametrize("form", FRAMES)
def test_a_frame_without_rows_is_an_empty_batch(form: str) -> None:
    empty = {name: values[:0] for name, values in COLUMNS.items()}
    assert as_array(TICK, FRAMES[form](empty)).shape == (0,)


@pytest.mark.parametrize("form", FRAMES)
def test_what_is_no_field_is_ignored_if_that_is_said(form: str) -> None:
    more = {**COLUMNS, "note": np.array(["a", "b", "c", "d"])}
    assert as_array(TICK, FRAMES[form](more), "ignore").tobytes() == ticks().tobytes()
    with pytest.raises(
        rk.MessageTypeError, match=r'no field is called \'note\'; leave them out, or say extra="ignore"'
    ):
        as_array(TICK, FRAMES[form](more))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1.0, 2.0]),
        pd.Index([1.0, 2.0]),
        pd.Series([1, 2], dtype="Int64"),
        pd.Series([1.0, 2.0], dtype="float[pyarrow]"),
        pl.Series([1.0, 2.0]),
        pa.array([1.0, 2.0]),
        pa.chunked_array([[1.0], [2.0]]),
        Exported(pa.chunked_array([[1.0], [2.0]])),
        xr.DataArray([1.0, 2.0]),
        {"value": (1, 2)},
        {"value": range(1, 3)},
        Tensor(np.array([1.0, 2.0])),
        {"value": Tensor(np.array([1.0, 2.0]))},
        pd.DataFrame({"value": [1.0, 2.0]}),
        [{"value": 1}, {"value": 2}],
    ],
    ids=lambda column: f"{type(column).__module__}.{type(column).__name__}",
)
def test_a_column_is_a_batch_of_scalars(column: Any) -> None:
    assert as_array(FLOAT, column)["value"].tolist() == [1.0, 2.0]


def test_a_column_of_the_type_is_read_in_place() -> None:
    values = np.arange(5.0)
    for column in (pd.Series(values, copy=False), pl.Series(values), pa.array(values), xr.DataArray(values)):
        taken = as_array(FLOAT, column)
        seen = np.asarray(column)
        assert np.shares_memory(taken, seen), type(column)


def test_nan_and_nat_are_values() -> None:
    columns = {**COLUMNS, "price": np.full(4, np.nan), "at": np.full(4, "NaT", "M8[us]")}
    for form in ("dict", "pandas", "pandas, index", "pandas, objects", "xarray", "rows"):
        assert as_array(TICK, FRAMES[form](columns)).tobytes() == ticks(columns).tobytes()
    columns["at"] = COLUMNS["at"]
    for form in ("polars", "table", "stream"):
        assert as_array(TICK, FRAMES[form](columns)).tobytes() == ticks(columns).tobytes()


NESTED = np.dtype(
    [
        ("leg", [("x", "f4"), ("at", "M8[s]")]),
        ("grid", "i2", (2, 3)),
        ("legs", [("x", "i8"), ("v", "f8", 2)], 2),
    ],
    align=True,
)


def nested() -> Any:
    records = np.zeros(3, NESTED)
    records["leg"]["x"] = [1, 2, 3]
    records["leg"]["at"] = np.arange(3).astype("M8[s]")
    records["grid"] = np.arange(18).reshape(3, 2, 3)
    records["legs"]["x"] = np.arange(6).reshape(3, 2)
    records["legs"]["v"] = np.arange(12).reshape(3, 2, 2)
    return records


def test_arrays_and_records_within_records_are_columns_too() -> None:
    records = nested()
    leg, legs = records["leg"], records["legs"]
    rows = [
        {
            "leg": {"x": float(row["leg"]["x"]), "at": row["leg"]["at"].item()},
            "grid": row["grid"].tolist(),
            "legs": [{"x": int(one["x"]), "v": one["v"].tolist()} for one in row["legs"]],
        }
        for row in records
    ]
    leg_type = pa.struct({"x": pa.float32(), "at": pa.timestamp("s")})
    legs_type = pa.list_(pa.struct({"x": pa.int64(), "v": pa.list_(pa.float64(), 2)}), 2)
    grid_type = pa.list_(pa.list_(pa.int16()), 2)
    arrow = pa.Table.from_pylist(rows, pa.schema({"leg": leg_type, "grid": grid_type, "legs": legs_type}))
    arrow = pa.concat_tables([arrow.slice(0, 1), arrow.slice(1)])
    resolved = MessageType(NESTED)
    for frame in (
        {"leg": leg, "grid": records["grid"], "legs": legs},
        {"leg": {"x": leg["x"], "at": leg["at"]}, "grid": records["grid"].tolist(), "legs": {n: legs[n] for n in "xv"}},
        {"leg": pd.DataFrame({"x": leg["x"], "at": leg["at"]}), "grid": records["grid"], "legs": legs},
        arrow,
        pl.DataFrame(arrow),
        Exported(arrow),
        pd.DataFrame(
            {name: pd.Series(pd.array(arrow[name], pd.ArrowDtype(arrow[name].type))) for name in arrow.schema.names}
        ),
    ):
        assert as_array(resolved, frame).tobytes() == records.tobytes()


def test_rows_have_dicts_for_records_within_them() -> None:
    resolved = MessageType(np.dtype([("leg", [("x", "f8"), ("at", "M8[D]")]), ("v", "i4", 2)]))
    rows = [
        {"v": [1, 2], "leg": {"at": np.datetime64("2026-01-01"), "x": 0.5}},
        {"leg": (1.5, np.datetime64("NaT", "D")), "v": (3, 4)},
    ]
    expected = np.array([((0.5, "2026-01-01"), [1, 2]), ((1.5, "NaT"), [3, 4])], resolved.dtype)
    assert as_array(resolved, rows).tobytes() == expected.tobytes()


def test_objects_in_a_column_are_taken_one_by_one() -> None:
    resolved = MessageType(np.dtype([("v", "f8", 2), ("b", "?"), ("t", "m8[s]")]))
    times = [pd.Timedelta("1s"), np.timedelta64(2000, "ms")]
    frame = pd.DataFrame({"v": [[1.0, 2.0], np.array([3.0, 4.0])], "b": [1, False], "t": times}, dtype=object)
    expected = np.array(
        [([1, 2], True, np.timedelta64(1, "s")), ([3, 4], False, np.timedelta64(2, "s"))], resolved.dtype
    )
    np.testing.assert_array_equal(as_array(resolved, frame), expected)


def test_a_dataset_has_the_rows_along_its_first_dimension() -> None:
    resolved = MessageType(np.dtype([("v", "f4", 3), ("t", "f8")]))
    frame = xr.Dataset({"v": (("t", "axis"), np.ones((2, 3), "f4"))}, coords={"t": [0.5, 1.5], "axis": list("xyz")})
    np.testing.assert_array_equal(as_array(resolved, frame), np.array([([1] * 3, 0.5), ([1] * 3, 1.5)], resolved.dtype))


# --- where it is taken ---------------------------------------------------------------------------------------

FORMS = ["dict", "pandas", "polars", "reader", "xarray", "rows"]


@pytest.mark.parametrize("form", FORMS)
async def test_a_runtime_takes_it_everywhere(runtime: rk.RingKernelRuntime, form: str) -> None:
    make = FRAMES[form]
    expected = await runtime.map(quote, ticks())
    assert expected["volume"].tolist() == COLUMNS["volume"].tolist()
    assert (await runtime.map(quote, make(COLUMNS))).tobytes() == expected.tobytes()
    await runtime.send_batch(quote, make(COLUMNS))
    got = await runtime.receive_batch(quote, 4, timeout=20)
    while len(got) < 4:
        got = np.concatenate([got, await runtime.receive_batch(quote, timeout=20)])
    assert got.tobytes() == expected.tobytes()
    more = {**COLUMNS, "more": COLUMNS["at"]}
    assert (await runtime.map(quote, make(more), extra="ignore")).tobytes() == expected.tobytes()
    await runtime.send_batch(quote, make(more), extra="ignore")
    assert runtime.statistics("quote").accepted == 20
    queue = rk.MessageQueue(8, dtype=Tick)
    await queue.put_batch(make(COLUMNS))
    await queue.put_batch(make(more), extra="ignore")
    assert (await queue.get_batch()).tobytes() == ticks().tobytes() * 2


@pytest.mark.parametrize("form", FORMS)
def test_so_do_map_and_a_session(session: rk.Session, form: str) -> None:
    make = FRAMES[form]
    more = {**COLUMNS, "more": COLUMNS["at"]}
    expected = rk.map(quote, ticks())
    assert rk.map(quote, make(COLUMNS)).tobytes() == expected.tobytes()
    assert rk.map(quote, make(more), extra="ignore").tobytes() == expected.tobytes()
    assert session.map(quote, make(more), extra="ignore").tobytes() == expected.tobytes()
    session.send_batch(quote, make(more), extra="ignore")
    assert len(session.receive_batch(quote, timeout=20)) >= 1


async def test_so_do_a_running_pipeline_and_a_coroutine(runtime: rk.RingKernelRuntime) -> None:
    seen = []

    @rk.ring_kernel("watch", input_type=Tick)
    async def watch(ctx: Any) -> None:
        async for tick in ctx:
            seen.append(tick)
            await ctx.send(tick.price)

    async with runtime.run(watch) as running:
        assert await running.map(FRAMES["polars"](COLUMNS)) == COLUMNS["price"].tolist()
        await running.send_batch(FRAMES["polars"]({**COLUMNS, "x": COLUMNS["at"]}), extra="ignore")
        for price in COLUMNS["price"]:
            assert await running.receive(timeout=20) == price
    assert [tick.volume for tick in seen] == COLUMNS["volume"].tolist() * 2
    assert isinstance(seen[0], Tick)
    async with runtime.run(rk.pipeline(double, plus)) as running:
        assert (await running.map(pd.Series([1.0, 2.0]))).tolist() == [2.5, 4.5]


async def test_a_column_that_is_read_only_is_mapped(runtime: rk.RingKernelRuntime) -> None:
    values = np.arange(20_000.0)
    values.flags.writeable = False
    assert (await runtime.map(double, pa.array(values))).tolist() == (2 * values).tolist()


async def test_a_kernel_without_a_type_takes_rows_not_names(runtime: rk.RingKernelRuntime) -> None:
    await runtime.launch(relay)
    for form in ("pandas", "polars", "table", "xarray"):
        with pytest.raises(rk.MessageTypeError, match="declare an input_type, whose fields its columns are"):
            await runtime.send_batch(relay, FRAMES[form](COLUMNS))
    await runtime.send_batch(relay, FRAMES["rows"](COLUMNS))
    await runtime.activate(relay)
    assert (await runtime.receive(relay, timeout=20))["price"] == 1.5


# --- the libraries -------------------------------------------------------------------------------------------

NOTHING_IMPORTED = """
import sys
import numpy as np
from ringkernel.messages.arrays import as_array
from ringkernel.messages.types import MessageType

resolved = MessageType(np.dtype([("a", "f8"), ("b", "i8")]))
assert as_array(resolved, {"a": [1.0], "b": np.array([2])}).tolist() == [(1.0, 2)]
assert as_array(resolved, [{"a": 1.0, "b": 2}]).tolist() == [(1.0, 2)]
heavy = {"pandas", "polars", "pyarrow", "xarray"} & set(sys.modules)
assert not heavy, heavy
"""


def test_no_library_is_imported_for_what_needs_none() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", NOTHING_IMPORTED], check=True, timeout=60)


def test_what_exports_itself_is_read_by_whichever_library_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = Exported(table(COLUMNS))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert as_array(TICK, exported).tobytes() == ticks().tobytes()
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(rk.MessageTypeError, match="needs PyArrow or Polars"):
        as_array(TICK, exported)


def test_a_map_over_a_frame_ends_in_a_frame() -> None:
    """As in a notebook: nothing but names of columns."""
    prices = pd.DataFrame({"at": pd.date_range("2026-01-01", periods=3, unit="us"), "price": [1.0, 2.0, 3.0]})
    made = rk.map(quote, prices.assign(volume=[1, 2, 3], live=True), to="pandas")
    assert made.value.tolist() == [1.0, 4.0, 9.0]
    assert made.at.equals(prices["at"]) if hasattr(made.at, "equals") else made["at"].equals(prices["at"])
    assert list(made) == list(Quote.dtype.names)  # type: ignore[attr-defined]


def test_the_loop_goes_on_after_a_refusal() -> None:
    async def main() -> None:
        async with rk.RingKernelRuntime(workers=1) as runtime:
            for wrong in ({"at": [1]}, pd.DataFrame(COLUMNS)[["at"]], table(COLUMNS).select(["at"]).to_reader()):
                with pytest.raises(rk.MessageTypeError):
                    await runtime.map(quote, wrong)
            assert runtime.statistics("quote").accepted == 0
            assert len(await runtime.map(quote, COLUMNS)) == 4

    asyncio.run(main())
