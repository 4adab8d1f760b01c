"""Outputs as frames: each column of its field's own type, in memory of its own."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from daily_kernels import double, relay
from frame_sources import COLUMNS, Quote, quote, ticks
from helpers import eventually
from hypothesis import given, settings
from hypothesis import strategies as st

import ringkernel as rk
from ringkernel.messages.arrays import as_array, from_array
from ringkernel.messages.frames.making import frame_maker
from ringkernel.messages.types import MessageType

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMS = ["pandas", "polars", "arrow"]
FRAME = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.Table}
COLUMN = {"pandas": pd.Series, "polars": pl.Series, "arrow": pa.Array}


def made(to: str, declared: Any, values: Any) -> Any:
    make = frame_maker(to, MessageType(declared))
    assert make is not None
    return make(values)


@pytest.fixture
def session() -> Iterator[rk.Session]:
    with rk.Session(workers=1) as session:
        yield session


# --- where frames come out -----------------------------------------------------------------------------------


@pytest.mark.parametrize("to", FORMS)
async def test_a_runtime_gives_frames(runtime: rk.RingKernelRuntime, to: Any) -> None:
    expected = await runtime.map(quote, ticks())
    back = MessageType(Quote)

    def check(frame: Any) -> None:
        assert isinstance(frame, FRAME[to])
        assert as_array(back, frame).tobytes() == expected.tobytes()

    check(await runtime.map(quote, ticks(), to=to))
    check(await runtime.map(quote, COLUMNS, to=to))
    check(await runtime.map(quote, ticks(), to=to, progress=True))
    await runtime.send_batch(quote, ticks())
    await eventually(lambda: runtime.kernels["quote"].output_queue.qsize() == 4)
    check(await runtime.receive_batch(quote, to=to, timeout=20))
    await runtime.send_batch(quote, ticks())
    await runtime.terminate(quote)
    frames = [frame async for frame in runtime.stream(quote, to=to)]
    assert sum(map(len, frames)) == 4
    assert all(isinstance(frame, FRAME[to]) for frame in frames)


@pytest.mark.parametrize("to", FORMS)
async def test_so_do_a_running_pipeline_and_scalars(runtime: rk.RingKernelRuntime, to: Any) -> None:
    async with runtime.run(double) as running:
        column = await running.map([1.0, 2.0], to=to)
        assert isinstance(column, COLUMN[to])
        assert np.asarray(column).tolist() == [2.0, 4.0]
        assert to == "arrow" or column.name == "value"
        await running.send_batch([1.0])
        assert np.asarray(await running.receive_batch(to=to, timeout=20)).tolist() == [2.0]
        await running.send_batch([1.0])
        await running.finish()
        assert [np.asarray(batch).tolist() async for batch in running.stream(to=to)] == [[2.0]]


@pytest.mark.parametrize("to", FORMS)
def test_so_do_map_and_a_session(session: rk.Session, to: Any) -> None:
    assert isinstance(rk.map(quote, ticks(), to=to), FRAME[to])
    assert isinstance(session.map(quote, ticks(), to=to), FRAME[to])
    session.send_batch(quote, ticks())
    assert isinstance(session.receive_batch(quote, to=to, timeout=20), FRAME[to])
    session.send_batch(quote, ticks())
    session.terminate("quote")
    assert all(isinstance(batch, FRAME[to]) for batch in session.stream(quote, to=to))


@pytest.mark.parametrize("to", [None, "numpy"])
async def test_numpy_is_what_there_is_otherwise(runtime: rk.RingKernelRuntime, to: Any) -> None:
    assert isinstance(await runtime.map(quote, ticks(), to=to), np.ndarray)
    await runtime.send_batch(quote, ticks())
    assert isinstance(await runtime.receive_batch(quote, to=to, timeout=20), np.ndarray)
    await runtime.launch(relay)
    await runtime.activate(relay)
    assert await runtime.map(relay, [1], to=to) == [1]


@pytest.mark.parametrize("to", FORMS)
async def test_a_frame_is_a_copy(runtime: rk.RingKernelRuntime, to: Any) -> None:
    out = np.empty(4)
    column = await runtime.map(double, [1.0, 2.0, 3.0], out=out, to=to)
    out[:] = 0
    assert np.asarray(column).tolist() == [2.0, 4.0, 6.0]
    await runtime.send_batch(double, [5.0])
    column = await runtime.receive_batch(double, out=out, to=to, timeout=20)
    out[:] = 0
    assert np.asarray(column).tolist() == [10.0]
    records = np.zeros(3, [("x", "f8")])
    frame = made(to, records.dtype, records)
    records["x"] = 1
    assert np.asarray(frame["x"]).tolist() == [0.0] * 3


# --- what is refused -----------------------------------------------------------------------------------------


async def test_a_form_that_there_is_not_is_refused_before_anything_is_sent(
    runtime: rk.RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runtime.launch(quote)
    await runtime.activate(quote)
    wrong: Any = "Pandas"
    with pytest.raises(rk.ConfigurationError, match="to='Pandas': it can be 'pandas', 'polars', 'arrow', or 'numpy'"):
        await runtime.map(quote, ticks(), to=wrong)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(rk.ConfigurationError, match="to='polars' needs polars: pip install polars"):
        await runtime.map(quote, ticks(), to="polars")
    assert runtime.statistics("quote").accepted == 0
    await runtime.send_batch(quote, ticks())
    with pytest.raises(rk.ConfigurationError):
        await runtime.receive_batch(quote, to=wrong)
    assert len(await runtime.receive_batch(quote, timeout=20)) >= 1


async def test_outputs_that_are_no_records_are_no_frame(runtime: rk.RingKernelRuntime) -> None:
    await runtime.launch(relay)
    await runtime.activate(relay)
    with pytest.raises(rk.MessageTypeError, match="emits Python objects, and to='polars' needs records"):
        await runtime.map(relay, [1], to="polars")


@pytest.mark.parametrize(
    ("to", "declared", "reason"),
    [
        ("pandas", [("leg", [("x", "f8")])], "field 'leg'"),
        ("polars", [("leg", [("x", "c16")])], "field 'leg.x', which is of complex128"),
        ("polars", "c8", "field 'value', which is of complex64"),
        ("arrow", [("x", "c16", 2)], "field 'x', which is of complex128"),
        ("pandas", "M8[ps]", r"field 'value', which is of datetime64\[ps\]"),
        ("polars", "m8[fs]", "field 'value'"),
        ("arrow", "m8[M]", "field 'value'"),
        ("arrow", "M8", "field 'value'"),
    ],
)
def test_a_field_without_a_counterpart_is_named(to: str, declared: Any, reason: str) -> None:
    with pytest.raises(rk.MessageTypeError, match=f"to='{to}': there is no column for {reason}"):
        frame_maker(to, MessageType(declared))


async def test_what_does_not_become_a_frame_is_not_lost(runtime: rk.RingKernelRuntime) -> None:
    await runtime.launch(far)
    await runtime.activate(far)
    await runtime.send_batch(far, np.array([2**62], "m8[s]"))
    with pytest.raises(OverflowError, match="does not fit") as caught:
        await runtime.receive_batch(far, to="polars", timeout=20)
    assert caught.value.partial.view("i8").tolist() == [2**62]  # type: ignore[attr-defined]


@rk.ring_kernel("far", input_type="m8[s]", output_type="m8[s]")
def far(msg: Any, out: Any) -> None:
    out.value = msg.value


# --- types ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "pandas", "polars", "arrow"),
    [
        *[(kind, kind, kind, kind) for kind in ("int8", "int64", "uint8", "uint16", "uint64", "float32", "float64")],
        ("bool", "bool", "bool", "bool"),
        ("complex64", "complex64", None, None),
        ("M8[ns]", "datetime64[ns]", "datetime[ns]", "timestamp[ns]"),
        ("M8[us]", "datetime64[us]", "datetime[us]", "timestamp[us]"),
        ("M8[s]", "datetime64[s]", "datetime[ms]", "timestamp[s]"),
        ("M8[D]", "datetime64[s]", "date", "date32[day]"),
        ("M8[25us]", "datetime64[us]", "datetime[us]", "timestamp[us]"),
        ("m8[ms]", "timedelta64[ms]", "duration[ms]", "duration[ms]"),
        ("m8[h]", "timedelta64[s]", "duration[ms]", "duration[s]"),
    ],
)
def test_types_are_those_of_the_fields(declared: str, pandas: str, polars: str | None, arrow: str | None) -> None:
    values = np.array([1, 0], declared)
    column = made("pandas", declared, values)
    assert str(column.dtype) == pandas
    assert (column.to_numpy() == values).all()
    for to, expected in (("polars", polars), ("arrow", arrow)):
        if expected is not None:
            column = made(to, declared, values)
            assert (np.asarray(column) == values).all()
            name = str(column.type if to == "arrow" else column.dtype).lower().replace("boolean", "bool")
            short = {"float": "float32", "double": "float64", "datetime(time_unit='": "datetime["}
            name = short.get(name, name).replace("(time_unit='", "[").replace("', time_zone=none)", "]")
            assert name.replace("')", "]").replace("μ", "u") == expected


def test_nan_stays_nan_and_nat_is_what_the_library_has() -> None:
    records = np.array([(np.nan, "NaT")], [("x", "f8"), ("t", "M8[us]")])
    frame = made("pandas", records.dtype, records)
    assert frame.isna().to_numpy().tolist() == [[True, True]]
    frame = made("polars", records.dtype, records)
    assert (frame["x"].is_nan().all(), frame["x"].null_count(), frame["t"].null_count()) == (True, 0, 1)
    frame = made("arrow", records.dtype, records)
    assert (frame["x"].null_count, frame["t"].null_count) == (0, 1)


SIMPLE = ["?", "i1", "u2", "i4", "u8", "i8", "f4", "f8", "M8[us]", "M8[ns]", "M8[D]", "m8[ms]", "m8[ns]"]


@st.composite
def dtypes(draw: st.DrawFn, depth: int = 1) -> Any:
    """Records of one to four fields, with arrays, and records, in them."""
    fields = []
    for i in range(draw(st.integers(1, 4))):
        kind = draw(dtypes(depth - 1)) if depth and draw(st.booleans()) else draw(st.sampled_from(SIMPLE))
        shape = draw(st.sampled_from([(), (), (3,), (1, 2)]))
        fields.append((f"f{i}", kind, shape) if shape else (f"f{i}", kind))
    return fields


def fill(records: Any, random: np.random.Generator) -> None:
    if records.dtype.names is not None:
        for name in records.dtype.names:
            fill(records[name], random)
    elif records.dtype.kind in "biu":
        records[...] = random.integers(0, 2 if records.dtype.kind == "b" else 127, records.shape)
    else:  # whole seconds, and days that are in range
        records[...] = random.integers(-1000, 1000, records.shape).astype(records.dtype)


@pytest.mark.parametrize("to", FORMS)
@settings(max_examples=60, deadline=None)
@given(declared=dtypes(), count=st.integers(0, 5), seed=st.integers(0, 99))
def test_what_comes_out_goes_in_again(to: str, declared: Any, count: int, seed: int) -> None:
    resolved = MessageType(np.dtype(declared))
    records = np.zeros(count, resolved.dtype)
    fill(records, np.random.default_rng(seed))
    try:
        frame = made(to, np.dtype(declared), records)
    except rk.MessageTypeError:
        assert to == "pandas"
        assert any(resolved.dtype[name].base.names for name in resolved.dtype.names or ())
        return
    assert as_array(resolved, frame).tobytes() == records.tobytes()


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("kind", SIMPLE)
def test_scalars_too(to: str, kind: str) -> None:
    resolved = MessageType(np.dtype(kind))
    values = np.arange(2).astype(kind)
    for given_values in (values, values[:0]):
        taken = as_array(resolved, made(to, np.dtype(kind), given_values))
        assert from_array(resolved, taken).tobytes() == given_values.tobytes()
