"""What does not fit is refused before anything changes: values of a state, batches, empty records, timeouts."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import eventually
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ringkernel import (
    ConfigurationError,
    KernelContext,
    KernelState,
    MessageQueue,
    MessageTypeError,
    RingKernelRuntime,
    message,
    ring_kernel,
)
from ringkernel.messages.conversion import converted

PAIR = np.dtype([("i", "i4"), ("f", "f4")])
POINT = np.dtype([("x", "f8"), ("y", "f8")])


@ring_kernel("va_echo", input_type=float, output_type=float)
def echo(msg: Any, out: Any) -> None:
    out.value = msg.value


@ring_kernel("va_point", input_type=POINT, output_type=POINT)
def point(msg: Any, out: Any) -> None:
    out.x, out.y = msg.x, msg.y


@ring_kernel("va_typed", input_type=float, output_type=float)
async def typed(ctx: KernelContext[float, float]) -> None:
    async for value in ctx:
        await ctx.send(value)


def counter(state: Any) -> Any:
    @ring_kernel("va_state", input_type=int, state=state)
    def count(msg: Any, state: Any) -> None:
        if msg.value < len(state):
            raise ValueError

    return count


async def launch_with(runtime: RingKernelRuntime, state: Any) -> None:
    await runtime.launch("k", counter(state))


# --- states ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "value", "reason"),
    [
        ("i4", [1, 2**31, 3], r"2147483648 at index 1 does not fit into int32"),
        ("i4", [1, -(2**40), 3], r"-1099511627776 at index 1 does not fit into int32"),
        ("i8", np.array([1, 2, 2**63], np.uint64), r"9223372036854775808 at index 2 does not fit into int64"),
        ("u1", [1, 2, -1], r"-1 at index 2 does not fit into uint8"),
        ("u8", [1, 2, -1], r"-1 at index 2 does not fit into uint64"),
        ("i4", [1.0, 2.0, 3.0], "float64 is no int32"),
        ("f8", [1j, 2, 3], "complex128 is no float64"),
        ("?", [1, 0, 2], "int64 is no bool"),
        ("f4", [1.0, 1e39, 2.0], r"1e\+39 at index 1 does not fit into float32"),
        ("c8", [1, 2, 1e39j], "does not fit into complex64"),
        ("i4", ["1", "2", "3"], "int32"),
        ("i4", [1, 2], r"shape \(2,\)"),
        ("m8[s]", np.array([1_000, 1_500, 2_000], "m8[ms]"), "at index 1 does not fit"),
        ("f8", np.ma.masked_array([1.0, 2.0, 3.0], [False, True, False]), r"filled\(value\).*compressed\(\)"),
        (
            PAIR,
            np.array([(1, 2), (2**40, 3), (4, 5)], [("i", "i8"), ("f", "f8")]),
            "1099511627776",
        ),
        (PAIR, np.array([(1, 2)] * 3, [("f", "i4"), ("i", "f4")]), "other fields"),
        ([("a", "i1", (2,))], np.array([((1, 300),)] * 3, [("a", "i4", (2,))]), r"300 at index \(0, 1\) does not fit"),
    ],
)
async def test_a_state_that_would_be_changed_is_refused(
    runtime: RingKernelRuntime, dtype: Any, value: Any, reason: str
) -> None:
    before = np.ones(3, dtype)
    await launch_with(runtime, before)
    with pytest.raises(MessageTypeError, match=rf"(?s)'k'.*{reason}"):
        await runtime.write_state("k", value)
    np.testing.assert_array_equal(await runtime.read_state("k"), before)


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("i4", [2**31 - 1, -(2**31), 0]),
        ("u1", [0, 255, 7]),
        ("u8", np.array([2**64 - 1, 0, 1], np.uint64)),
        ("f8", [1, 2, 3]),
        ("f4", [np.nan, np.inf, -np.inf]),
        ("f4", [0.1, 1e-300, 3e38]),
        ("c16", [1, 2.5, 3j]),
        ("i8", [True, False, True]),
        ("m8[ms]", np.array([1, 2, "NaT"], "m8[s]")),
        (PAIR, np.array([(1, 2.5)] * 3, [("i", "i8"), ("f", "f8")])),
    ],
)
async def test_a_state_whose_values_fit_is_taken(runtime: RingKernelRuntime, dtype: Any, value: Any) -> None:
    await launch_with(runtime, np.ones(3, dtype))
    await runtime.write_state("k", value)
    got = await runtime.read_state("k")
    assert got.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got, np.asarray(value).astype(dtype))


@given(
    hnp.arrays(st.sampled_from(["i1", "i4", "i8", "u1", "u4", "u8"]), st.integers(1, 4)),
    st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]),
)
def test_integers_are_converted_exactly_or_not_at_all(values: Any, dtype: Any) -> None:
    limits = np.iinfo(dtype)
    fits = all(limits.min <= value <= limits.max for value in values.tolist())
    if fits:
        assert converted(values, np.dtype(dtype)).tolist() == values.tolist()
    else:
        with pytest.raises(OverflowError, match="does not fit"):
            converted(values, np.dtype(dtype))


@message
class Nested:
    parts: Annotated[npt.NDArray[np.float32], 2]


def test_a_declared_state_that_would_be_changed_is_refused() -> None:
    with pytest.raises(MessageTypeError, match=r"1e\+39 at index 1 does not fit into float32"):
        counter(Nested(np.array([1.0, 1e39])))
    with pytest.raises(MessageTypeError, match=r"filled\(value\)"):
        counter(np.ma.masked_array([1.0, 2.0], [False, True]))


# --- records without a size --------------------------------------------------------------------------------------


EMPTY: list[tuple[Any, str]] = [
    (np.dtype([]), "holds nothing"),
    ("V0", "holds nothing"),
    ("S0", "holds nothing"),
    ("U0", "holds nothing"),
    (("f8", (0,)), "holds nothing"),
    (np.dtype([("a", "f8", (0,))]), "'a'"),
    (np.dtype([("a", "i4"), ("b", "f8", (2, 0))]), "'b'"),
    (np.dtype([("a", "i4"), ("s", "S0")]), "'s'"),
    (np.dtype([("a", "i4"), ("n", [("x", "f8", (0,))])]), r"'n\.x'"),
    (np.dtype([("a", "i4"), ("n", [])]), "'n'"),
]


@pytest.mark.parametrize(("dtype", "where"), EMPTY, ids=str)
def test_a_record_without_a_size_is_refused_everywhere(dtype: Any, where: str) -> None:
    for make in (
        lambda: ring_kernel("va_none", input_type=dtype)(lambda msg: None),
        lambda: ring_kernel("va_none", input_type=int, output_type=dtype)(lambda msg, out: None),
        lambda: MessageQueue(8, dtype=dtype),
    ):
        with pytest.raises(MessageTypeError, match=where):
            make()


@pytest.mark.parametrize(("dtype", "where"), [case for case in EMPTY if not isinstance(case[0], tuple | str)], ids=str)
def test_a_state_without_a_size_is_refused(dtype: Any, where: str) -> None:
    for state in (np.zeros(3, dtype), np.zeros((), dtype)):
        with pytest.raises(MessageTypeError, match=where):
            counter(state)


def test_a_message_class_without_a_size_is_refused() -> None:
    with pytest.raises(MessageTypeError, match="parts"):

        @message
        class Empty:
            parts: Annotated[npt.NDArray[np.float64], 0]


# --- batches -----------------------------------------------------------------------------------------------------

NO_BATCHES: list[tuple[Any, str]] = [
    (np.ma.masked_array([1.0, 2.0], [False, True]), r"filled\(value\).*compressed\(\)"),
    (np.ma.masked_array([1.0, 2.0]), r"filled\(value\).*compressed\(\)"),
    (b"12", r"np\.frombuffer"),
    (bytearray(b"12"), r"np\.frombuffer"),
    (memoryview(b"12"), r"np\.frombuffer"),
    ("12", "str"),
    ({1.0: 2.0}, "dict.*values"),
    (collections.OrderedDict({1.0: 2.0}), "values"),
    ({1.0, 2.0}, "set.*order"),
    (frozenset({1.0}), "order"),
    ({1.0: 2.0}.keys(), "order"),
]


@pytest.mark.parametrize(("batch", "remedy"), NO_BATCHES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("function", [echo, typed], ids=["compiled", "coroutine"])
async def test_what_only_looks_like_a_batch_is_refused(
    runtime: RingKernelRuntime, function: Any, batch: Any, remedy: str
) -> None:
    await runtime.launch("k", function)
    with pytest.raises(MessageTypeError, match=remedy):
        await runtime.send_batch("k", batch)
    queue = MessageQueue(8, dtype=float)
    with pytest.raises(MessageTypeError, match=remedy):
        await queue.put_batch(batch)
    assert queue.qsize() == runtime.kernels["k"].input_queue.qsize() == 0
    await runtime.activate("k")
    with pytest.raises(MessageTypeError):
        await runtime.map("k", batch)
    assert runtime.statistics("k").accepted == 0


async def test_records_that_are_masked_are_refused(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", point)
    masked = np.ma.masked_array(np.zeros(3, POINT), [(False, True), (False, False), (False, False)])
    with pytest.raises(MessageTypeError, match=r"filled\(value\)"):
        await runtime.send_batch("k", masked)
    await runtime.send_batch("k", masked.filled(7))
    assert runtime.statistics("k").accepted == 3


@pytest.mark.parametrize(
    "batch", [range(2), (1, 2), [1, 2], iter([1, 2]), collections.deque([1, 2]), {1: 2, 3: 4}.values()]
)
async def test_sequences_of_messages_are_batches(runtime: RingKernelRuntime, batch: Any) -> None:
    await runtime.launch("k", echo)
    await runtime.send_batch("k", batch)
    assert runtime.statistics("k").accepted == 2


# --- timeouts ----------------------------------------------------------------------------------------------------

NO_TIMEOUTS: list[Any] = [
    True,
    False,
    np.True_,
    10**400,
    10**5000,
    float("inf"),
    np.inf,
    float("nan"),
    -1,
    -0.5,
    "5",
    [1],
    1j,
]
TIMEOUTS: list[Any] = [0, 1, 0.5, np.float32(0.5), np.int64(1), Fraction(1, 2), 10**300]


def name_of(value: Any) -> str:
    return "10**5000" if isinstance(value, int) and value > 10**4000 else repr(value)[:12]


@pytest.mark.parametrize("timeout", NO_TIMEOUTS, ids=name_of)
@pytest.mark.parametrize("function", [echo, typed], ids=["compiled", "coroutine"])
async def test_a_timeout_that_is_none_is_refused_before_anything_changes(
    runtime: RingKernelRuntime, function: Any, timeout: Any
) -> None:
    await runtime.launch("k", function)
    await runtime.activate("k")
    await runtime.send("k", 1.0)
    kernel = runtime.kernels["k"]
    await eventually(lambda: not kernel.output_queue.empty())
    queue = MessageQueue(8)
    queue.put_nowait(1)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "send": lambda: runtime.send("k", 2.0, timeout=timeout),
        "send_batch": lambda: runtime.send_batch("k", [2.0], timeout=timeout),
        "receive": lambda: runtime.receive("k", timeout=timeout),
        "receive_batch": lambda: runtime.receive_batch("k", timeout=timeout),
        "wait": lambda: runtime.wait("k", timeout=timeout),
        "terminate": lambda: runtime.terminate("k", timeout=timeout),
        "input put": lambda: kernel.input_queue.put(2.0, timeout=timeout),
        "input put_batch": lambda: kernel.input_queue.put_batch([2.0], timeout=timeout),
        "output get": lambda: kernel.output_queue.get(timeout=timeout),
        "output get_batch": lambda: kernel.output_queue.get_batch(timeout=timeout),
        "put": lambda: queue.put(2, timeout=timeout),
        "put_batch": lambda: queue.put_batch([2], timeout=timeout),
        "get": lambda: queue.get(timeout=timeout),
        "get_batch": lambda: queue.get_batch(timeout=timeout),
    }
    for name, call in calls.items():
        with pytest.raises(ConfigurationError, match="timeout is .* finite number of seconds") as refusal:
            await call()
        assert ("None waits" in str(refusal.value)) is (name != "terminate")  # which has no such limit
    counts = runtime.statistics("k")
    assert (counts.accepted, counts.output_depth, counts.state) == (1, 1, KernelState.ACTIVE)
    assert queue.qsize() == 1
    await runtime.terminate("k")
    with pytest.raises(ConfigurationError, match="timeout"):
        await runtime.wait("k", timeout=timeout)


@pytest.mark.parametrize("timeout", NO_TIMEOUTS, ids=name_of)
async def test_a_coroutine_kernels_timeout_is_checked_before_it_takes_a_message(
    runtime: RingKernelRuntime, timeout: Any
) -> None:
    @ring_kernel("va_reads")
    async def reads(ctx: KernelContext[Any, Any]) -> None:
        with pytest.raises(ConfigurationError, match="timeout"):
            await ctx.receive(timeout=timeout)
        await ctx.send(await ctx.receive())

    await runtime.launch("k", reads)
    await runtime.send("k", "first")
    await runtime.activate("k")
    assert await runtime.receive("k", timeout=5) == "first"


@pytest.mark.both_loops
@pytest.mark.parametrize("timeout", TIMEOUTS, ids=name_of)
async def test_every_finite_number_is_a_timeout(runtime: RingKernelRuntime, timeout: Any) -> None:
    await runtime.launch("k", echo)
    await runtime.activate("k")
    await runtime.send("k", 1.0, timeout=timeout)
    await runtime.send_batch("k", [2.0], timeout=timeout)
    assert await runtime.receive("k", timeout=timeout or 1) == 1.0
    assert (await runtime.receive_batch("k", timeout=timeout or 1)).tolist() == [2.0]
    waiting = asyncio.create_task(runtime.wait("k", timeout=timeout or 1))
    await asyncio.sleep(0)
    await runtime.terminate("k", timeout=timeout)
    assert await waiting is KernelState.TERMINATED
