"""Records, instances and scalars go in and come out as they were declared."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import receive_all, start, within

from ringkernel import KernelContext, KernelState, MessageTypeError, Record, RingKernelRuntime, message, ring_kernel

if TYPE_CHECKING:
    from kinds import Kind

PACKED = np.dtype([("side", "i1"), ("price", "f8"), ("lots", "i4")])
assert PACKED.itemsize == 13, "the point of it is that its fields are not aligned"
NESTED = np.dtype([("n", "i2"), ("xs", "f8", 3)])


EVENT = np.dtype(
    [("at", "M8[ns]"), ("live", "?"), ("inner", [("n", "i2"), ("values", "f4", 2)]), ("took", "m8[ms]")], align=True
)


@message
class Tick:
    price: float
    size: np.int32
    live: bool = True


@message
class Quote:
    mean: float
    n: int


@message
class Wave:
    samples: Annotated[npt.NDArray[np.float32], 4]
    grid: Annotated[npt.NDArray[np.int64], (2, 3)]
    gain: float


@ring_kernel("ty_double", input_type=np.dtype(PACKED.descr, align=True), output_type=np.dtype(PACKED.descr, align=True))
def double(msg: Any, out: Any) -> None:
    out.side = msg.side
    out.price = 2.0 * msg.price
    out.lots = 2 * msg.lots


@ring_kernel("ty_packed", input_type=PACKED, output_type=PACKED, device="cpu")
def double_packed(msg: Any, out: Any) -> None:
    out.side = msg.side
    out.price = 2.0 * msg.price
    out.lots = 2 * msg.lots


@ring_kernel("ty_value", input_type=Tick, output_type=Quote)
def value_of(msg: Any, out: Any) -> None:
    out.mean = msg.price * msg.size
    if msg.live:
        out.n = 1


@ring_kernel("ty_amplify", input_type=Wave, output_type=Wave)
def amplify(msg: Any, out: Any) -> None:
    for i in range(4):
        out.samples[i] = msg.samples[i] * np.float32(msg.gain)
    for i in range(2):
        for j in range(3):
            out.grid[i, j] = msg.grid[i, j] + 1
    out.gain = msg.gain


@ring_kernel("ty_total", input_type=NESTED, output_type=np.float64)
def total(msg: Any, out: Any) -> None:
    for i in range(3):
        out.value += msg.xs[i]
    out.value += msg.n


@ring_kernel("ty_event", input_type=EVENT, output_type=EVENT)
def event_copy(msg: Any, out: Any) -> None:
    out.at = msg.at
    out.live = msg.live
    out.inner.n = msg.inner.n + np.int16(1)
    for i in range(2):
        out.inner.values[i] = msg.inner.values[i]
    out.took = msg.took


def identity(msg: Any, out: Any) -> None:
    out.value = msg.value


async def collect(runtime: RingKernelRuntime, kernel_id: str, messages: Any, count: int) -> Any:
    """Send a batch; its outputs as one array."""
    sending = asyncio.create_task(runtime.send_batch(kernel_id, messages))
    batches, got = [], 0
    while got < count:
        batches.append(await within(runtime.receive_batch(kernel_id)))
        got += len(batches[-1])
    await within(sending)
    assert got == count
    return np.concatenate(batches)


# --- records ------------------------------------------------------------------------------------------------------


async def test_a_record_comes_back_with_fields_and_attributes(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", double)
    await runtime.send("k", (1, 1.5, 7))
    got = await within(runtime.receive("k"))
    assert isinstance(got, Record)
    assert (got.side, got.price, got.lots) == (1, 3.0, 14)
    assert (got["side"], got["price"], got["lots"]) == (1, 3.0, 14)
    assert got == (1, 3.0, 14)


@pytest.mark.parametrize(
    "form",
    [
        lambda: (1, 1.5, 7),
        lambda: {"lots": 7, "side": 1, "price": 1.5},
        lambda: np.array((1, 1.5, 7), PACKED),
        lambda: np.array([(1, 1.5, 7)], PACKED)[0],
        lambda: np.rec.array([(1, 1.5, 7)], dtype=PACKED)[0],
        lambda: np.array((1, 1.5, 7), np.dtype(PACKED.descr, align=True)),
    ],
    ids=["tuple", "dict", "zero-dimensional", "void", "record", "aligned"],
)
async def test_a_record_goes_in_in_many_forms(runtime: RingKernelRuntime, form: Callable[[], Any]) -> None:
    await start(runtime, "k", double_packed)
    await runtime.send("k", form())
    got = await within(runtime.receive("k"))
    assert got == (1, 3.0, 14)
    await runtime.send("k", got)
    assert await within(runtime.receive("k")) == (1, 6.0, 28)


async def test_times_booleans_and_nested_records_come_back(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", event_copy)
    at = np.datetime64("2026-11-25T12:00:00.000000001")
    await runtime.send("k", (at, True, (2, [0.5, 1.5]), np.timedelta64(3, "ms")))
    got = await within(runtime.receive("k"))
    assert got == (at, True, (3, [0.5, 1.5]), np.timedelta64(3, "ms"))
    assert (got.at.dtype, got.took.dtype) == (EVENT["at"], EVENT["took"])
    assert got.live is True
    assert got.inner.values.dtype == np.float32
    for form in (got, got.to_numpy(), np.asarray(got), got.item()):
        await runtime.send("k", form)
        again = await within(runtime.receive("k"))
        assert again == got._replace(inner=(4, got.inner.values))
    await runtime.send_batch("k", [got, got.to_numpy()])
    assert (await within(runtime.receive_batch("k", 1)))["inner"]["n"].tolist() == [4]


async def test_a_time_comes_back_in_its_unit(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", ring_kernel("ty_time", input_type=EVENT["at"], output_type=EVENT["at"])(identity))
    at = np.datetime64("2026-11-25T12:00:00.000000001")
    for _ in range(2):
        await runtime.send("k", at)
        at = await within(runtime.receive("k"))
        assert (at, at.dtype) == (np.datetime64("2026-11-25T12:00:00.000000001"), EVENT["at"])


async def test_an_unaligned_array_goes_in_and_a_structured_array_comes_back(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", double_packed)
    messages = np.zeros(100, PACKED)
    messages["price"] = np.arange(100)
    messages["lots"] = np.arange(100)
    messages["side"] = -1
    got = await collect(runtime, "k", messages, 100)
    assert got.dtype.names == PACKED.names
    assert got.dtype.isalignedstruct
    np.testing.assert_array_equal(got["price"], 2.0 * np.arange(100))
    np.testing.assert_array_equal(got["lots"], 2 * np.arange(100))
    np.testing.assert_array_equal(got["side"], -1)


@pytest.mark.parametrize("step", [1, 2, -1])
async def test_a_strided_view_goes_in_as_what_it_shows(runtime: RingKernelRuntime, step: int) -> None:
    await start(runtime, "k", double)
    messages = np.zeros(20, np.dtype(PACKED.descr, align=True))
    messages["price"] = np.arange(20)
    got = await collect(runtime, "k", messages[::step], len(messages[::step]))
    np.testing.assert_array_equal(got["price"], 2.0 * np.arange(20)[::step])


async def test_nested_arrays_of_a_dtype(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", total)
    await runtime.send("k", (4, [1.0, 2.0, 3.0]))
    assert await within(runtime.receive("k")) == 10.0
    messages = np.zeros(50, NESTED)
    messages["xs"] = np.arange(150).reshape(50, 3)
    messages["n"] = 1
    got = await collect(runtime, "k", messages, 50)
    np.testing.assert_array_equal(got, messages["xs"].sum(axis=1) + 1)


# --- message classes ----------------------------------------------------------------------------------------------


async def test_an_instance_goes_in_and_an_instance_comes_back(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", value_of)
    await runtime.send("k", Tick(price=2.5, size=np.int32(4)))
    await runtime.send("k", Tick(price=2.5, size=np.int32(4), live=False))
    assert await within(runtime.receive("k")) == Quote(mean=10.0, n=1)
    got = await within(runtime.receive("k"))
    assert got == Quote(mean=10.0, n=0)
    assert type(got.mean) is float
    assert type(got.n) is int


async def test_a_dict_of_the_fields_is_a_message(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", value_of)
    tick = {"size": 4, "price": 2.5, "live": True}
    assert await within(runtime.call("k", tick)) == Quote(mean=10.0, n=1)
    runtime.send_nowait("k", tick)
    assert await within(runtime.receive("k")) == Quote(mean=10.0, n=1)


async def test_a_batch_of_instances_comes_back_as_records(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", value_of)
    got = await collect(runtime, "k", [Tick(1.0, np.int32(i)) for i in range(10)], 10)
    assert got.dtype == Quote.dtype  # type: ignore[attr-defined]
    np.testing.assert_array_equal(got["mean"], np.arange(10.0))


async def test_the_leftovers_of_a_message_class_are_records(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", value_of)
    await runtime.send_batch("k", [Tick(1.0, np.int32(2)), Tick(3.0, np.int32(4))])
    await runtime.terminate("k")
    assert runtime.unprocessed("k")["price"].tolist() == [1.0, 3.0]


async def test_nested_arrays_of_a_message_class(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", amplify)
    grid = np.arange(6).reshape(2, 3)
    await runtime.send("k", Wave(samples=np.array([1, 2, 3, 4], np.float32), grid=grid, gain=2.0))
    got = await within(runtime.receive("k"))
    assert isinstance(got, Wave)
    assert got.samples.dtype == np.float32
    np.testing.assert_array_equal(got.samples, [2, 4, 6, 8])
    np.testing.assert_array_equal(got.grid, grid + 1)
    assert got.gain == 2.0


async def test_what_was_received_is_not_overwritten_by_what_comes_later(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "waves", amplify, queue_size=2)
    await start(runtime, "records", double, queue_size=2)
    grid = np.zeros((2, 3), np.int64)
    await runtime.send("waves", Wave(np.full(4, 1, np.float32), grid, 1.0))
    await runtime.send("records", (1, 1.0, 1))
    wave = await within(runtime.receive("waves"))
    record = await within(runtime.receive("records"))
    for _ in range(8):
        await runtime.send("waves", Wave(np.full(4, 9, np.float32), grid, 1.0))
        await within(runtime.receive("waves"))
        await runtime.send("records", (9, 9.0, 9))
        await within(runtime.receive("records"))
    np.testing.assert_array_equal(wave.samples, 1)
    assert record == (1, 2.0, 2)


# --- scalars ------------------------------------------------------------------------------------------------------

SCALARS: list[Any] = [
    np.bool_,
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float32, np.float64, np.complex64, np.complex128),
]


def extremes(scalar: Any) -> list[Any]:
    if scalar is np.bool_:
        return [True, False]
    if issubclass(scalar, np.integer):
        return [int(np.iinfo(scalar).min), int(np.iinfo(scalar).max), 0, 1]
    info = np.finfo(scalar)
    reals = [float(v) for v in (info.max, info.min, info.tiny, info.smallest_subnormal, -0.0, np.inf, -np.inf)]
    if issubclass(scalar, np.complexfloating):
        return [complex(v, -v) for v in reals if math.isfinite(v)]
    return reals


def declare_identity(kind: Kind, scalar: Any) -> Any:
    """A kernel of one scalar type that gives back what it gets."""
    if kind.is_compiled:
        return ring_kernel("ty_scalar", input_type=scalar, output_type=scalar)(identity)

    @ring_kernel("ty_scalar", input_type=scalar, output_type=scalar)
    async def passes_on(ctx: KernelContext[Any, Any]) -> None:
        async for value in ctx:
            await ctx.send(value)

    return passes_on


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: scalar.__name__)
async def test_every_scalar_type_survives_at_its_extremes(
    runtime: RingKernelRuntime, typed_kind: Kind, scalar: Any
) -> None:
    await start(runtime, "k", declare_identity(typed_kind, scalar))
    values = extremes(scalar)
    for value in values:
        await runtime.send("k", value)
        got = await within(runtime.receive("k"))
        assert got == value
        assert type(got) is type(value)
        assert np.signbit(got) == np.signbit(value) if isinstance(value, float) else True
    if issubclass(scalar, np.floating):
        await runtime.send("k", math.nan)
        assert math.isnan(await within(runtime.receive("k")))
    array = np.array(values, scalar)
    got = await collect(runtime, "k", array, len(array))
    assert got.dtype == array.dtype
    assert got.dtype.fields is None
    assert got.tobytes() == array.tobytes()


async def test_a_foreign_byte_order_is_understood(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", ring_kernel("ty_scalar", input_type=np.dtype(">f8"), output_type=float)(identity))
    await runtime.send("k", 1.5)
    assert await within(runtime.receive("k")) == 1.5
    await runtime.send_batch("k", np.array([2.5], ">f8"))
    assert await within(runtime.receive("k")) == 2.5


async def test_a_coroutine_of_objects_takes_any_object(runtime: RingKernelRuntime) -> None:
    async def passes_on(ctx: KernelContext[Any, Any]) -> None:
        async for thing in ctx:
            await ctx.send(thing)

    await start(runtime, "k", passes_on)
    things = [None, object(), "text", {"a": 1}, [1, 2], lambda: 0, NotImplemented, Exception("as a value")]
    await runtime.send_batch("k", things[:4])
    for thing in things[4:]:
        await runtime.send("k", thing)
    received = await receive_all(runtime, "k", len(things))
    assert all(one is other for one, other in zip(received, things, strict=True))


# --- coroutines with types ----------------------------------------------------------------------------------------


@ring_kernel("ty_half", input_type=int, output_type=float, queue_size=8)
async def half(ctx: KernelContext[int, float]) -> None:
    async for value in ctx:
        assert isinstance(value, int)
        await ctx.send(value / 2)


async def test_a_typed_coroutine_checks_what_comes_in(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", half)
    with pytest.raises(MessageTypeError, match="int64"):
        await runtime.send("k", "x")
    with pytest.raises(MessageTypeError):
        await runtime.send_batch("k", [1, 2.5])
    assert runtime.statistics("k").accepted == 0
    await runtime.activate("k")
    await runtime.send("k", 3)
    assert await within(runtime.receive("k")) == 1.5


async def test_a_typed_coroutine_gives_arrays_for_batches(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", half)
    batch = await collect(runtime, "k", np.arange(8), 8)
    assert batch.dtype == np.float64
    np.testing.assert_array_equal(batch, np.arange(8) / 2)
    await runtime.deactivate("k")
    await runtime.send_batch("k", [1, 2])
    await runtime.terminate("k")
    left = runtime.unprocessed("k")
    assert left.dtype == np.int64
    np.testing.assert_array_equal(left, [1, 2])


async def test_a_typed_coroutine_that_emits_something_else_fails(runtime: RingKernelRuntime) -> None:
    @ring_kernel("ty_wrong", output_type=float)
    async def wrong(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send("x")

    await start(runtime, "k", wrong)
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert isinstance(runtime.kernels["k"].error, MessageTypeError)
