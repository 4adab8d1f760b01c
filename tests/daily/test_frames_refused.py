"""What a frame lacks, has too much of, or has in another form is named, and nothing is sent."""

from __future__ import annotations

import datetime as dt
import decimal
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import xarray as xr
from frame_sources import COLUMNS, FRAMES, Tick, dataset, quote, table

import ringkernel as rk
from ringkernel.messages.arrays import as_array
from ringkernel.messages.types import MessageType

TICK = MessageType(Tick)
N = len(COLUMNS["at"])
FLEXIBLE = ["dict", "pandas", "polars", "table", "stream", "xarray"]
"""Forms that can have columns of any kind."""


def refusal(values: Any, declared: Any = Tick, extra: str = "refuse") -> str:
    with pytest.raises(rk.MessageTypeError) as caught:
        as_array(MessageType(declared), values, extra)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FRAMES)
def test_a_missing_column_is_named_with_the_one_that_may_be_meant(form: str) -> None:
    columns = dict(COLUMNS)
    columns["Price"] = columns.pop("price")
    assert "there is no column 'price' among" in (said := refusal(FRAMES[form](columns)))
    assert said.endswith("perhaps 'Price' is meant")
    assert "there is no column 'price'" in refusal(FRAMES[form](columns), extra="ignore")


@pytest.mark.parametrize("form", FRAMES)
def test_columns_that_are_no_fields_are_named(form: str) -> None:
    columns = {**COLUMNS, "note": COLUMNS["price"], "venue": COLUMNS["price"]}
    assert "no field is called 'note', 'venue'; leave them out, or say extra=\"ignore\"" in refusal(
        FRAMES[form](columns)
    )


def test_of_many_names_some_are_said() -> None:
    many = pd.DataFrame({**COLUMNS, **{f"more{i}": [0.0] * N for i in range(100)}})
    assert "'more11', …;" in refusal(many)


def test_a_name_that_two_columns_have_is_refused() -> None:
    frame = pd.DataFrame(COLUMNS)
    assert "2 columns are called 'price'" in refusal(pd.concat([frame, frame[["price"]]], axis=1))
    both = table(COLUMNS)
    assert "2 columns are called 'price'" in refusal(both.append_column("price", both["price"]))


def test_a_column_is_no_frame_and_a_frame_no_column() -> None:
    assert "it is one column; the fields are found by the names of several, 'at', 'price'" in refusal(pd.Series([1.0]))
    for frame in (pd.DataFrame({"price": [1.0]}), {"price": [1.0]}):
        said = refusal(frame, float)
        assert "there is no column 'value' among 'price'" in said
        assert said.endswith("float64 is no record: give one column, or a list of its values")


@pytest.mark.parametrize("extra", ["drop", None, True, "Ignore"])
def test_only_two_things_can_be_done_with_other_columns(extra: Any) -> None:
    with pytest.raises(rk.ConfigurationError, match="to 'refuse' or to 'ignore'"):
        as_array(TICK, COLUMNS, extra)


def test_names_within_a_record_are_said_with_it() -> None:
    declared = np.dtype([("leg", [("x", "f8"), ("y", "f8")])])
    assert "there is no column 'y' in 'leg' among 'x'" in refusal({"leg": {"x": [1.0]}}, declared)
    assert "no field is called 'z' in 'leg'" in refusal({"leg": {"x": [1.0], "y": [1.0], "z": [1.0]}}, declared)
    assert "column 'leg.y': " in refusal({"leg": {"x": [1.0], "y": ["a"]}}, declared)
    assert "column 'leg': the field is a record" in refusal({"leg": [1.0]}, declared)
    assert "column 'leg': the field is a record" in refusal({"leg": np.ones(1)}, declared)
    assert "it has records (dict), and the field has none" in refusal({"a": {"x": [1.0]}}, np.dtype([("a", "f8")]))
    assert "message 0: there is no column 'y' in 'leg'" in refusal([{"leg": {"x": 1.0}}], declared)


# --- missing values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "count", "first", "remedy"),
    [
        (pd.Series([1.0, None, None, 2.0], dtype="Float64"), 2, 1, "dropna"),
        (pd.Series([1.0, None, None, 2.0], dtype="float[pyarrow]"), 2, 1, "dropna"),
        (pd.Series([1.0, None, pd.NA, 2.0], dtype=object), 2, 1, "fill them"),
        (pl.Series([1.0, None, None, 2.0]), 2, 1, "drop_nulls"),
        (pa.array([1.0, None, None, 2.0]), 2, 1, "drop_null"),
        (pa.chunked_array([[1.0], [None, None], [2.0]]), 2, 1, "drop_null"),
        (np.ma.masked_array([1.0, 2.0, 3.0, 4.0], np.array([0, 1, 1, 0], bool)), 2, 1, "compressed"),
        ([1.0, None, None, 2.0], 2, 1, "fill them"),
        (pl.Series([None] * 4), 4, 0, "drop_nulls"),
        (pa.nulls(4), 4, 0, "drop_null"),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}",
)
def test_missing_values_are_counted(column: Any, count: int, first: int, remedy: str) -> None:
    said = refusal({**COLUMNS, "price": column})
    assert f"column 'price': {count} values are missing, the first in row {first}, and a message cannot" in said
    assert remedy in said


def test_a_single_one_too() -> None:
    assert "column 'price': 1 value is missing, in row 2" in refusal(
        {**COLUMNS, "price": pl.Series([1.0, 2.0, None, 3])}
    )


def test_a_mask_that_masks_nothing_loses_nothing() -> None:
    column = np.ma.masked_array(COLUMNS["price"], [False] * N)
    assert as_array(TICK, {**COLUMNS, "price": column})["price"].tolist() == COLUMNS["price"].tolist()


def test_missing_items_of_arrays_are_found_too() -> None:
    declared = np.dtype([("v", "f8", 2)])
    rows = [[1.0, 2.0], [3.0, None], [None, 4.0]]
    for column in (
        pl.Series(rows, dtype=pl.Array(pl.Float64, 2)),
        pl.Series(rows),
        pa.array(rows, pa.list_(pa.float64(), 2)),
        pa.chunked_array([rows[:1], rows[1:]]),
        np.ma.masked_array(np.ones((3, 2)), np.array([[0, 0], [0, 1], [1, 0]], bool)),
    ):
        said = refusal({"v": column}, declared)
        assert "column 'v': 2 values are missing, the first in row 1" in said, type(column)
    structs = pl.Series([{"x": 1.0}, {"x": None}])
    assert "column 's.x': 1 value is missing, in row 1" in refusal({"s": structs}, np.dtype([("s", [("x", "f8")])]))


def test_missing_values_of_rows_are_named() -> None:
    rows = FRAMES["rows"](COLUMNS)
    rows[1]["price"] = rows[3]["price"] = None
    assert refusal(rows) == "message 1: field 'price' is None, here and in 1 more; leave such rows out, or fill them"


def test_a_date_that_is_missing_is_nat_only_where_it_is_a_value() -> None:
    at = pd.Series(COLUMNS["at"]).where(np.array([True, False, True, True]))
    assert np.isnat(as_array(TICK, {**COLUMNS, "at": at})["at"]).tolist() == [False, True, False, False]
    assert "1 value is missing" in refusal({**COLUMNS, "at": pl.Series(at.to_numpy())})


# --- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FLEXIBLE)
@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("volume", np.array([1, 2, 2**31, 3]), "column 'volume': 2147483648 at index 2 does not fit into int32"),
        ("volume", np.array([1, 2, 3, 4], "u4") + 2**31, "2147483649 at index 0 does not fit into int32"),
        ("volume", np.ones(4), "column 'volume': float64 is not made int32"),
        ("price", np.array(["1", "2", "3", "4"]), "column 'price': "),
        ("live", np.ones(4), "column 'live': float64 is not made bool"),
        ("live", np.ones(4, int), "column 'live': int64 is not made bool"),
        ("price", COLUMNS["at"], "column 'price': datetime64[us] is not made float64"),
        ("at", np.arange(4), "column 'at': int64 is not made datetime64[us]"),
        ("at", np.arange(4).astype("m8[us]"), "column 'at': timedelta64[us] is not made datetime64[us]"),
        (
            "at",
            COLUMNS["at"].astype("M8[ns]") + np.timedelta64(1, "ns"),
            "column 'at': 2026-01-02T03:04:05.678901001 at index 0 does not fit into datetime64[us]",
        ),
    ],
)
def test_what_would_change_is_refused(form: str, name: str, values: Any, reason: str) -> None:
    assert reason in refusal(FRAMES[form]({**COLUMNS, name: values}))


@pytest.mark.parametrize(
    ("declared", "values"),
    [
        ("i4", np.array([1, 2], "i8")),
        ("u1", np.array([1, 255], "i8")),
        ("u8", np.array([1, 2], "i1")),
        ("f8", np.array([1, 2], "i8")),
        ("f8", np.array([1, 2], "f4")),
        ("f4", np.array([1, 2], "i2")),
        ("f8", np.array([True, False])),
        ("M8[ns]", np.array([1, 2], "M8[s]")),
        ("M8[s]", np.array([1000, 2000], "M8[ms]")),
        ("m8[h]", np.array([3600, 7200], "m8[s]")),
        ("i4", np.array([1, 2], ">i4")),
    ],
)
def test_what_stays_as_it_is_is_converted(declared: str, values: Any) -> None:
    taken = as_array(MessageType(declared), {"value": values})["value"]
    assert taken.dtype == np.dtype(declared)
    assert (taken == values).all()


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b", "c", "d"]),
        pd.Series(["a", "b", "c", "d"], dtype="category"),
        pd.Series(pd.period_range("2026", periods=4)),
        pd.Series(pd.interval_range(0, 4)),
        pl.Series(["a", "b", "c", "d"]),
        pl.Series([dt.time(1)] * 4),
        pl.Series([decimal.Decimal("1.5")] * 4),
        pl.Series([1] * 4, dtype=pl.Int128),
        pl.Series([[1.0]] * 4),
        pa.array([decimal.Decimal("1.5")] * 4),
        pa.array(["a"] * 4),
        pa.UnionArray.from_sparse(pa.array([0] * 4, pa.int8()), [pa.array([1.0] * 4), pa.array(["a"] * 4)]),
        pa.array([[1.0], [1.0, 2.0], [], [3.0]]),
        pl.Series([[1.0], [1.0, 2.0], [], [3.0]]),
        pl.Series([{"x": 1.0}] * 4),
        xr.DataArray(np.ones((4, 2))),
        xr.DataArray(1.0),
        np.float64(1),
        np.ones((4, 1)),
        1.0,
        "abcd",
        b"abcd",
        [[1.0], [1.0, 2.0], [], [3.0]],
    ],
    ids=lambda column: f"{type(column).__module__}.{type(column).__name__}",
)
def test_a_column_of_something_else_is_named(column: Any) -> None:
    assert "column 'price': " in refusal({**COLUMNS, "price": column})


def test_columns_are_of_one_length_and_lie_along_one_dimension() -> None:
    assert "column 'price' has length 1, and 'at' 4" in refusal({**COLUMNS, "price": [1.0]})
    frame = dataset(COLUMNS)
    frame["price"] = ("other", COLUMNS["price"])
    assert "column 'price': it lies along 'other', and those before it along 'row'" in refusal(frame)
    assert "column 'price': it is one value, without a dimension" in refusal(frame.assign(price=1.0))


def test_rows_have_their_place_in_the_refusal() -> None:
    rows = FRAMES["rows"](COLUMNS)
    assert "message 2: 5 is no dict" in refusal([*rows[:2], 5])
    assert "message 1: " in (said := refusal([rows[0], {**rows[1], "volume": 1.5}]))
    assert "field 'volume': required argument is not an integer" in said


def test_a_plan_is_to_be_computed_first() -> None:
    plan = pl.DataFrame(COLUMNS).lazy()
    assert "it is a plan that has not been computed; `.collect()`" in refusal(plan)
    with pytest.raises(rk.MessageTypeError, match=r"`\.collect\(\)`"):
        rk.map(quote, plan)


async def test_a_refused_reader_has_not_been_read(runtime: rk.RingKernelRuntime) -> None:
    reader = table(COLUMNS).to_reader()
    with pytest.raises(rk.MessageTypeError):
        await runtime.map(lonely, reader)
    assert len(reader.read_all()) == N


@rk.ring_kernel("lonely", input_type=np.dtype([("nothing", "f8")]), output_type=float)
def lonely(msg: Any, out: Any) -> None:
    out.value = msg.nothing


async def test_nothing_is_sent(runtime: rk.RingKernelRuntime) -> None:
    await runtime.launch(quote)
    await runtime.activate(quote)
    wrong = pd.DataFrame(COLUMNS).assign(volume=1.5)
    for sending in (runtime.map, runtime.send_batch):
        with pytest.raises(rk.MessageTypeError, match="no batch of Tick .*pandas DataFrame: column 'volume'"):
            await sending(quote, wrong)
    assert runtime.statistics("quote").accepted == 0
    assert "pandas" in sys.modules
