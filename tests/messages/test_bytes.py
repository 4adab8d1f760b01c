"""Bytes of a fixed size are fields of messages: zeros at the end are not counted, nothing is cut off on the way in."""

from __future__ import annotations

import importlib.util
from typing import Annotated, Any

import numpy as np
import pytest
from helpers import start, within

import ringkernel as rk
from ringkernel import KernelCompileError, MessageTypeError, RingKernelRuntime, ring_kernel, testing
from ringkernel.messages.arrays import as_array, as_messages, from_array
from ringkernel.messages.frames.making import frame_maker
from ringkernel.messages.types import MessageType

TRADE = np.dtype([("symbol", "S8"), ("price", "f8"), ("venue", "S3")])
TRADES = MessageType(TRADE)


@rk.message
class Order:
    symbol: Annotated[bytes, 8]
    side: np.dtype("S1") = b"B"  # type: ignore[valid-type]


# --- in and out ----------------------------------------------------------------------------------------------


def test_messages_of_any_form_hold_them() -> None:
    packed = np.array([(b"AMD", 1.0, b"abc")], TRADE)[0]
    shorter = np.array([(b"XY", 1.0, b"abc")], [("symbol", "S4"), ("price", "f4"), ("venue", "S3")])[0]
    rows = [
        (b"IBM", 1.0, b""),
        (np.bytes_(b"IBM"), 1, b"a"),
        packed,
        shorter,
        {"symbol": b"", "price": 1, "venue": b"b"},
    ]
    records = as_array(TRADES, rows)
    assert records["symbol"].tolist() == [b"IBM", b"IBM", b"AMD", b"XY", b""]
    assert records["venue"].tolist() == [b"", b"a", b"abc", b"abc", b"b"]
    assert as_messages(TRADES, records) == [tuple(row) for row in records.tolist()]
    assert all(type(one.symbol) is bytes for one in as_messages(TRADES, records))


def test_a_class_may_have_them() -> None:
    assert Order.dtype == np.dtype([("symbol", "S8"), ("side", "S1")], align=True)  # type: ignore[attr-defined]
    orders = MessageType(Order)
    assert as_messages(orders, as_array(orders, [Order(b"IBM"), Order(b"12345678", b"S")])) == [
        Order(b"IBM"),
        Order(b"12345678", b"S"),
    ]


def test_zeros_at_the_end_are_not_counted_and_others_are() -> None:
    scalar = MessageType("S4")
    assert as_messages(scalar, as_array(scalar, [b"a\0", b"\0a", b"", b"abcd"])) == [b"a", b"\0a", b"", b"abcd"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("IBM", 1.0, b""), "field 'symbol': 'IBM' is text, and this takes bytes: encode it, as in b'IBM'"),
        ((b"123456789", 1.0, b""), "field 'symbol': b'123456789' does not fit into S8"),
        ((b"a", 1.0, b"abcd"), "field 'venue': b'abcd' does not fit into S3"),
        ((5, 1.0, b""), "field 'symbol': int64 is no S8"),
        ((None, 1.0, b""), "field 'symbol': object is no S8"),
    ],
)
def test_what_does_not_fit_is_refused(row: Any, reason: str) -> None:
    with pytest.raises(MessageTypeError, match=reason):
        as_array(TRADES, [row])


@pytest.mark.parametrize("values", [np.arange(2), np.array(["a"]), np.array([b"abcde"]), [1], ["a"], [b"abcde"], [1.5]])
def test_what_is_no_such_bytes_is_no_batch(values: Any) -> None:
    with pytest.raises(MessageTypeError, match="S4"):
        as_array(MessageType("S4"), values)


def test_shorter_bytes_are_a_batch_of_longer_ones() -> None:
    scalar = MessageType("S4")
    assert from_array(scalar, as_array(scalar, np.array([b"a", b"bc"]))).tolist() == [b"a", b"bc"]


@pytest.mark.parametrize("declared", ["S0", [("names", "S4", (2,))], "U4", [("name", "U4")]])
def test_what_has_no_compiled_form_is_no_message(declared: Any) -> None:
    with pytest.raises(MessageTypeError, match="is no message type"):
        MessageType(declared)


@pytest.mark.parametrize("size", [0, -1, 2.5, "8"])
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    with pytest.raises(MessageTypeError, match=r"Bad\.x.*Annotated\[bytes, length\]"):
        rk.message(type("Bad", (), {"__annotations__": {"x": Annotated[bytes, size]}}))


# --- frames --------------------------------------------------------------------------------------------------


def frames_of(columns: dict[str, Any]) -> list[Any]:
    made: list[Any] = [columns]
    for library, maker in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        if importlib.util.find_spec(library) is not None:
            made.append(getattr(importlib.import_module(library), maker)(columns))
    return made


def test_columns_of_bytes_come_in() -> None:
    for frame in frames_of({"symbol": [b"IBM", b""], "price": [1.0, 2.0], "venue": [b"abc", b"a"]}):
        assert as_array(TRADES, frame).tolist() == [(b"IBM", 1.0, b"abc"), (b"", 2.0, b"a")]


@pytest.mark.parametrize("symbols", [["IBM"], [b"123456789"], [1]])
def test_columns_of_others_do_not(symbols: Any) -> None:
    for frame in frames_of({"symbol": symbols, "price": [1.0], "venue": [b"a"]}):
        with pytest.raises(MessageTypeError, match="column 'symbol'"):
            as_array(TRADES, frame)


@pytest.mark.parametrize("to", ["pandas", "polars", "arrow"])
def test_columns_of_bytes_go_out(to: str) -> None:
    pytest.importorskip({"arrow": "pyarrow"}.get(to, to))
    made: Any = frame_maker(to, TRADES)
    frame = made(np.array([(b"IBM", 1.0, b""), (b"", 2.0, b"abc")], TRADES.dtype))
    column = frame["symbol"]
    assert (column.to_pylist() if to == "arrow" else column.to_list()) == [b"IBM", b""]
    assert as_array(TRADES, frame)["venue"].tolist() == [b"", b"abc"]


# --- in handlers ---------------------------------------------------------------------------------------------


@ring_kernel("by_compared", input_type=TRADE, output_type=Order)
def compared(msg: Any, out: Any) -> bool:
    out.symbol = msg.symbol
    if msg.venue == b"abc":
        out.side = b"S"
    return bool(msg.symbol != b"IBM" and len(msg.symbol) > 0)


async def test_handlers_compare_and_copy_them(runtime: RingKernelRuntime) -> None:
    rows = [(b"IBM", 1.0, b""), (b"IBMX", 1.0, b"abc"), (b"", 1.0, b""), (b"12345678", 1.0, b"ab")]
    await start(runtime, "k", compared)
    got = await runtime.map("k", np.array(rows, TRADE))
    assert got.tolist() == [(b"IBMX", b"S"), (b"12345678", b"")]
    await runtime.send("k", rows[1])
    assert await within(runtime.receive("k")) == Order(b"IBMX", b"S")
    testing.check(compared)


def setattr_of(out: Any, msg: Any) -> None:
    out.side = msg.symbol


def adds(msg: Any, out: Any) -> None:
    out.symbol = msg.symbol + 1


def numbers(msg: Any, out: Any) -> None:
    out.symbol = 5


@pytest.mark.compiles
@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (lambda msg, out: setattr_of(out, msg), r"bytes \(S8\) cannot be assigned where bytes \(S1\) is"),
        (adds, r"`\+` of bytes \(S8\) and an int64 has no compiled form"),
        (numbers, r"an int64 cannot be assigned where bytes \(S8\) is"),
    ],
)
async def test_a_mistake_with_them_is_named(runtime: RingKernelRuntime, handler: Any, reason: str) -> None:
    with pytest.raises(KernelCompileError, match=reason):
        await runtime.launch("k", ring_kernel("by_bad", input_type=TRADE, output_type=Order)(handler))


async def test_on_a_gpu_they_are_refused(device: Any, runtime: RingKernelRuntime) -> None:
    with pytest.raises(MessageTypeError, match="in its input_type, field 'symbol' is bytes, which only handlers"):
        await runtime.launch("k", compared, device="cuda")
    assert device.grids == []
    assert (await runtime.launch("k", compared)).device == "cpu"
