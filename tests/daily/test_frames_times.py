"""Times of Python, pandas, Polars and Arrow keep their value, or are refused with the unit, or the zone."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ringkernel as rk
from ringkernel.messages.arrays import as_array
from ringkernel.messages.types import MessageType

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
UNITS = ["s", "ms", "us", "ns"]
EVENT = np.dtype([("at", "M8[us]"), ("took", "m8[ms]")])


def naive(*parts: int) -> dt.datetime:
    return dt.datetime(*parts)  # type: ignore[arg-type]  # noqa: DTZ001 (as most times in data are)


def taken(declared: Any, value: Any) -> Any:
    """What becomes of a value in a message by itself, in a list, and in a column: the same."""
    resolved = MessageType(np.dtype([("t", declared)]))
    ways = [[(value,)], [{"t": value}], {"t": [value]}, {"t": pd.Series([value])}]
    results = [as_array(resolved, way)["t"] for way in ways]
    for result in results:
        np.testing.assert_array_equal(result, results[0])
    return results[0][0]


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("M8[us]", naive(2026, 1, 2, 3, 4, 5, 678901), "2026-01-02T03:04:05.678901"),
        ("M8[ns]", naive(2026, 1, 2, 3, 4, 5, 678901), "2026-01-02T03:04:05.678901000"),
        ("M8[s]", naive(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        ("M8[us]", dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00.000000"),
        ("M8[us]", dt.datetime(2026, 1, 2, tzinfo=zoneinfo.ZoneInfo("UTC")), "2026-01-02T00:00:00.000000"),
        ("M8[D]", dt.date(2026, 1, 2), "2026-01-02"),
        ("M8[D]", naive(2026, 1, 2), "2026-01-02"),
        ("M8[ms]", dt.date(2026, 1, 2), "2026-01-02T00:00:00.000"),
        ("M8[ns]", pd.Timestamp("2026-01-02T03:04:05.678901234"), "2026-01-02T03:04:05.678901234"),
        ("M8[us]", pd.Timestamp("2026-01-02", tz="UTC"), "2026-01-02T00:00:00.000000"),
        ("M8[ns]", pd.NaT, "NaT"),
    ],
)
def test_a_moment_is_what_it_was(declared: str, value: Any, expected: str) -> None:
    assert str(taken(declared, value)) == expected


@pytest.mark.parametrize(
    ("declared", "value", "expected"),
    [
        ("m8[us]", dt.timedelta(seconds=1, microseconds=1), 1_000_001),
        ("m8[s]", dt.timedelta(days=1), 86_400),
        ("m8[ns]", pd.Timedelta("1ns"), 1),
        ("m8[h]", pd.Timedelta("2h"), 2),
    ],
)
def test_a_duration_is_what_it_was(declared: str, value: Any, expected: int) -> None:
    assert taken(declared, value).view("i8") == expected


@pytest.mark.parametrize(
    ("declared", "value", "reason"),
    [
        ("M8[ms]", naive(2026, 1, 1, 0, 0, 0, 1), r"2026-01-01T00:00:00.000001.*fit into datetime64\[ms\]"),
        ("M8[us]", pd.Timestamp("2026-01-01T00:00:00.000000001"), r"00.000000001.*fit into datetime64\[us\]"),
        ("M8[ns]", naive(3000, 1, 1), r"3000-01-01.*fit into datetime64\[ns\]"),
        ("M8[us]", dt.datetime(2026, 1, 1, tzinfo=PARIS), "zone (CET|Europe/Paris),.*convert them to UTC first"),
        ("M8[us]", pd.Timestamp("2026-07-01", tz="Europe/Paris"), "convert them to UTC first"),
        ("M8[us]", dt.timedelta(1), "datetime64"),
        ("m8[us]", naive(2026, 1, 1), "timedelta64"),
        ("m8[s]", dt.timedelta(microseconds=1), "(1 micro|1000 nano)seconds.*fit into timedelta64"),
        ("M8[us]", dt.time(1), "no datetime64"),
        ("M8[us]", "2026-01-01", "no datetime64"),
        ("f8", naive(2026, 1, 1), "float"),
        ("i8", dt.timedelta(1), "integer|int64"),
    ],
)
def test_a_time_that_would_change_is_refused(declared: str, value: Any, reason: str) -> None:
    resolved = MessageType(np.dtype([("t", declared)]))
    for batch in ([(value,)], [{"t": value}], {"t": [value]}, {"t": pd.Series([value])}):
        with pytest.raises(rk.MessageTypeError, match=rf"'t'.*({reason})"):
            as_array(resolved, batch)


def test_times_of_several_units_in_one_list_stay_what_they_are() -> None:
    mixed = [np.datetime64("3000-01-01", "D"), np.datetime64(0, "ns")]
    for values in (mixed, [dt.date(3000, 1, 1), naive(1970, 1, 1)]):
        assert as_array(MessageType("M8[us]"), {"value": values})["value"].tolist() == [
            naive(3000, 1, 1),
            naive(1970, 1, 1),
        ]
    nested = MessageType(np.dtype([("t", "M8[us]", 2)]))
    assert as_array(nested, [(mixed,)])["t"].astype("M8[D]").astype(str).tolist() == [["3000-01-01", "1970-01-01"]]
    with pytest.raises(rk.MessageTypeError, match="3000-01-01"):
        as_array(MessageType("M8[ns]"), {"value": mixed})


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("kind", ["M", "m"])
@settings(max_examples=25, deadline=None)
@given(ticks=st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5))
def test_any_unit_into_any_other_is_exact_or_refused(kind: str, unit: str, ticks: list[int]) -> None:
    per_s = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    values = np.array(ticks).astype(f"{kind}8[{unit}]")
    columns = [pa.array(values), values]
    if unit != "s":
        columns.append(pl.Series(values))
    for to in UNITS:
        exact = [tick * per_s[to] for tick in ticks]
        fits = all(tick % per_s[unit] == 0 and abs(tick // per_s[unit]) < 2**63 for tick in exact)
        for column in columns:
            if fits:
                made = as_array(MessageType(f"{kind}8[{to}]"), {"value": column})["value"]
                assert made.view("i8").tolist() == [tick // per_s[unit] for tick in exact]
            else:
                with pytest.raises(rk.MessageTypeError, match=rf"fit into \w+64\[{to}\]"):
                    as_array(MessageType(f"{kind}8[{to}]"), {"value": column})


def test_zones_are_refused_by_their_name_but_for_utc() -> None:
    local = pd.Series(pd.to_datetime(["2026-01-01", "2026-07-01"]))
    expected = local.to_numpy().astype("M8[us]")
    for zone in ("UTC", "Etc/UTC"):
        for column in (
            local.dt.tz_localize(zone),
            pl.Series(local.to_numpy()).dt.replace_time_zone(zone),
            pa.array(local.dt.tz_localize(zone)),
        ):
            np.testing.assert_array_equal(as_array(MessageType("M8[us]"), column)["value"], expected)
    for column in (
        local.dt.tz_localize("Europe/Paris"),
        pl.Series(local.to_numpy()).dt.replace_time_zone("Europe/Paris"),
        pa.array(local.dt.tz_localize("Europe/Paris")),
    ):
        with pytest.raises(rk.MessageTypeError, match="its times are of zone Europe/Paris"):
            as_array(MessageType("M8[us]"), column)


def test_dates_are_days() -> None:
    days = [dt.date(2026, 1, 1), dt.date(1969, 12, 31)]
    for column in (pl.Series(days), pa.array(days), pa.array(days, pa.date64()), pd.Series(days), days):
        assert as_array(MessageType("M8[D]"), {"value": column})["value"].tolist() == days


async def test_single_messages_take_them_too(runtime: rk.RingKernelRuntime) -> None:
    await runtime.launch(late)
    await runtime.activate(late)
    at = pd.Timestamp("2026-01-02T03:04:05.678901")
    for message in ((at, dt.timedelta(seconds=1)), (at.to_pydatetime(), pd.Timedelta("1s"))):
        got = await runtime.call(late, message, timeout=20)
        assert (str(got.at), got.took) == ("2026-01-02T03:04:06.678901", np.timedelta64(1000, "ms"))
    with pytest.raises(rk.MessageTypeError, match=r"field 'took': 1 microseconds does not fit into timedelta64\[ms\]"):
        await runtime.send(late, (at, dt.timedelta(microseconds=1)))


@rk.ring_kernel("frames_late", input_type=EVENT, output_type=EVENT)
def late(msg: Any, out: Any) -> None:
    out.at = msg.at + msg.took
    out.took = msg.took
