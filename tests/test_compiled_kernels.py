"""Compiled kernels alone: types in and out, what is emitted, batches, state, and the ledger."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import check_books, drain, eventually, within

from ringkernel import (
    BatchTimeoutError,
    ConfigurationError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    QueueEmptyError,
    QueueFullError,
    RingKernelRuntime,
    message,
    ring_kernel,
)

# Handlers are shared: each costs a fifth of a second of compiling, once per process.


async def start(runtime: RingKernelRuntime, kernel_id: str, func: Any, **options: Any) -> Any:
    kernel = await runtime.launch(kernel_id, func, **options)
    await runtime.activate(kernel_id)
    return kernel


async def pump(runtime: RingKernelRuntime, kernel_id: str, messages: Any, count: int) -> Any:
    """Send everything, and receive `count` outputs meanwhile."""
    sending = asyncio.create_task(runtime.send_batch(kernel_id, messages))
    batches, got = [], 0
    while got < count:
        batch = await within(runtime.receive_batch(kernel_id))
        batches.append(batch)
        got += len(batch)
    await within(sending)
    assert got == count
    return np.concatenate(batches) if batches else np.empty(0)


# --- types --------------------------------------------------------------------------------------------------------

PACKED = np.dtype([("side", "i1"), ("price", "f8"), ("lots", "i4")])
assert PACKED.itemsize == 13, "the point of it is that its fields are not aligned"


@ring_kernel(kernel_id="ck_double", input_type=PACKED, output_type=PACKED)
def double(msg, out):
    out.side = msg.side
    out.price = 2.0 * msg.price
    out.lots = 2 * msg.lots


@message
class Tick:
    price: float
    size: np.int32
    live: bool = True


@message
class Quote:
    mean: float
    n: int


@ring_kernel(kernel_id="ck_value", input_type=Tick, output_type=Quote)
def value_of(msg, out):
    out.mean = msg.price * msg.size
    if msg.live:
        out.n = 1


@message
class Wave:
    samples: Annotated[npt.NDArray[np.float32], 4]
    grid: Annotated[npt.NDArray[np.int64], (2, 3)]
    gain: float


@ring_kernel(kernel_id="ck_amplify", input_type=Wave, output_type=Wave)
def amplify(msg, out):
    for i in range(4):
        out.samples[i] = msg.samples[i] * np.float32(msg.gain)
    for i in range(2):
        for j in range(3):
            out.grid[i, j] = msg.grid[i, j] + 1
    out.gain = msg.gain


NESTED = np.dtype([("n", "i2"), ("xs", "f8", 3)])


@ring_kernel(kernel_id="ck_total", input_type=NESTED, output_type=np.float64)
def total(msg, out):
    for i in range(3):
        out.value += msg.xs[i]
    out.value += msg.n


def identity(msg, out):
    out.value = msg.value


@ring_kernel(kernel_id="ck_identity", input_type=float, output_type=float)
def identity_f8(msg, out):
    out.value = msg.value


async def test_a_record_comes_back_with_fields_and_attributes(runtime):
    await start(runtime, "k", double)
    await runtime.send("k", (1, 1.5, 7))
    got = await within(runtime.receive("k"))
    assert isinstance(got, np.record)
    assert (got.side, got.price, got.lots) == (1, 3.0, 14)
    assert (got["side"], got["price"], got["lots"]) == (1, 3.0, 14)


@pytest.mark.parametrize(
    "form",
    [
        lambda: (1, 1.5, 7),
        lambda: np.array((1, 1.5, 7), PACKED),
        lambda: np.array([(1, 1.5, 7)], PACKED)[0],
        lambda: np.rec.array([(1, 1.5, 7)], dtype=PACKED)[0],
        lambda: np.array((1, 1.5, 7), np.dtype(PACKED.descr, align=True)),
    ],
    ids=["tuple", "zero-dimensional", "void", "record", "aligned"],
)
async def test_a_record_goes_in_in_many_forms(runtime, form):
    await start(runtime, "k", double)
    await runtime.send("k", form())
    assert (await within(runtime.receive("k"))).item() == (1, 3.0, 14)


async def test_an_unaligned_array_goes_in_and_a_structured_array_comes_back(runtime):
    await start(runtime, "k", double)
    messages = np.zeros(100, PACKED)
    messages["price"] = np.arange(100)
    messages["lots"] = np.arange(100)
    messages["side"] = -1
    await runtime.send_batch("k", messages)
    got = await pump(runtime, "k", messages[:0], 100)
    assert got.dtype.names == PACKED.names
    assert got.dtype.isalignedstruct
    np.testing.assert_array_equal(got["price"], 2.0 * np.arange(100))
    np.testing.assert_array_equal(got["lots"], 2 * np.arange(100))
    np.testing.assert_array_equal(got["side"], -1)


@pytest.mark.parametrize("step", [1, 2, -1])
async def test_a_strided_view_goes_in_as_what_it_shows(runtime, step):
    await start(runtime, "k", double)
    messages = np.zeros(20, np.dtype(PACKED.descr, align=True))
    messages["price"] = np.arange(20)
    await runtime.send_batch("k", messages[::step])
    got = await pump(runtime, "k", messages[:0], len(messages[::step]))
    np.testing.assert_array_equal(got["price"], 2.0 * np.arange(20)[::step])


async def test_an_instance_goes_in_and_an_instance_comes_back(runtime):
    await start(runtime, "k", value_of)
    await runtime.send("k", Tick(price=2.5, size=4))
    await runtime.send("k", Tick(price=2.5, size=4, live=False))
    assert await within(runtime.receive("k")) == Quote(mean=10.0, n=1)
    got = await within(runtime.receive("k"))
    assert got == Quote(mean=10.0, n=0)
    assert type(got.mean) is float
    assert type(got.n) is int


async def test_a_batch_of_instances_comes_back_as_records(runtime):
    await start(runtime, "k", value_of)
    await runtime.send_batch("k", [Tick(1.0, i) for i in range(10)])
    got = await pump(runtime, "k", [], 10)
    assert got.dtype == Quote.dtype
    np.testing.assert_array_equal(got["mean"], np.arange(10.0))


async def test_a_scalar_comes_back_as_a_python_scalar_and_a_plain_array(runtime):
    await start(runtime, "k", identity_f8)
    await runtime.send("k", np.float64(1.5))
    got = await within(runtime.receive("k"))
    assert type(got) is float
    assert got == 1.5
    await runtime.send_batch("k", np.arange(5))
    batch = await pump(runtime, "k", [], 5)
    assert batch.dtype == np.float64
    assert batch.dtype.fields is None
    np.testing.assert_array_equal(batch, np.arange(5.0))


SCALARS = [
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


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: scalar.__name__)
async def test_every_scalar_type_survives_at_its_extremes(runtime, scalar):
    declared = ring_kernel(kernel_id="ck_scalar", input_type=scalar, output_type=scalar)(identity)
    await start(runtime, "k", declared)
    values = extremes(scalar)
    for value in values:
        await runtime.send("k", value)
        got = await within(runtime.receive("k"))
        assert got == value
        assert type(got) is type(value)
        assert np.signbit(got) == np.signbit(value) if isinstance(value, float) else True
    array = np.array(values, scalar)
    got = await pump(runtime, "k", array, len(array))
    assert got.dtype == array.dtype
    assert got.tobytes() == array.tobytes()


@pytest.mark.parametrize("scalar", [np.float32, np.float64], ids=lambda scalar: scalar.__name__)
async def test_nan_survives(runtime, scalar):
    declared = ring_kernel(kernel_id="ck_scalar", input_type=scalar, output_type=scalar)(identity)
    await start(runtime, "k", declared)
    await runtime.send("k", math.nan)
    assert math.isnan(await within(runtime.receive("k")))


async def test_a_foreign_byte_order_is_understood(runtime):
    declared = ring_kernel(kernel_id="ck_scalar", input_type=np.dtype(">f8"), output_type=float)(identity)
    await start(runtime, "k", declared)
    await runtime.send("k", 1.5)
    assert await within(runtime.receive("k")) == 1.5
    await runtime.send_batch("k", np.array([2.5], ">f8"))
    assert await within(runtime.receive("k")) == 2.5


async def test_nested_arrays_of_a_message_class(runtime):
    await start(runtime, "k", amplify)
    grid = np.arange(6).reshape(2, 3)
    sent = Wave(samples=np.array([1, 2, 3, 4], np.float32), grid=grid, gain=2.0)
    await runtime.send("k", sent)
    got = await within(runtime.receive("k"))
    assert isinstance(got, Wave)
    assert got.samples.dtype == np.float32
    np.testing.assert_array_equal(got.samples, [2, 4, 6, 8])
    np.testing.assert_array_equal(got.grid, grid + 1)
    assert got.gain == 2.0


async def test_nested_arrays_of_a_dtype(runtime):
    await start(runtime, "k", total)
    await runtime.send("k", (4, [1.0, 2.0, 3.0]))
    assert await within(runtime.receive("k")) == 10.0
    messages = np.zeros(50, NESTED)
    messages["xs"] = np.arange(150).reshape(50, 3)
    messages["n"] = 1
    got = await pump(runtime, "k", messages, 50)
    np.testing.assert_array_equal(got, messages["xs"].sum(axis=1) + 1)


async def test_what_was_received_is_not_overwritten_by_what_comes_later(runtime):
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
    assert record.item() == (1, 2.0, 2)


# --- wrong messages ----------------------------------------------------------------------------------------------


@dataclass
class NotTick:
    price: float = 1.0
    size: int = 1
    live: bool = True


WRONG = [
    ("float", float, "1.5"),
    ("float-none", float, None),
    ("float-list", float, [1.0]),
    ("float-complex", float, 1j),
    ("int-float", np.int32, 1.5),
    ("int-text", np.int32, "1"),
    ("int-over", np.int32, 2**31),
    ("int-under", np.int32, -(2**31) - 1),
    ("int64-over", np.int64, 2**63),
    ("uint-negative", np.uint8, -1),
    ("uint-over", np.uint8, 256),
    ("bool-text", np.bool_, "yes"),
    ("complex-text", np.complex64, "1+2j"),
    ("float32-over", np.float32, 1e300),
    ("record-short", PACKED, (1, 2.0)),
    ("record-long", PACKED, (1, 2.0, 3, 4)),
    ("record-dict", PACKED, {"side": 1}),
    ("record-number", PACKED, 1.0),
    ("record-float-in-int", PACKED, (1, 2.0, 3.5)),
    ("record-other-fields", PACKED, np.zeros((), [("a", "i4"), ("b", "f8"), ("c", "i4")])),
    ("class-other", Tick, NotTick()),
    ("class-tuple", Tick, (1.0, 2, True)),
    ("class-field-text", Tick, Tick("x", 1)),
    ("class-field-over", Tick, Tick(1.0, 2**40)),
    ("nested-length", NESTED, (1, [1.0, 2.0])),
    ("nested-float-in-int", NESTED, (1.5, [1.0, 2.0, 3.0])),
    ("nested-over", NESTED, (2**20, [1.0, 2.0, 3.0])),
    ("nested-class-length", Wave, Wave([1.0, 2.0, 3.0], np.zeros((2, 3), int), 1.0)),
    ("nested-class-broadcast", Wave, Wave([1.0], np.zeros((2, 3), int), 1.0)),
    ("nested-class-float-in-int", Wave, Wave([1.0] * 4, np.full((2, 3), 0.5), 1.0)),
]


def swallow(msg):
    pass


@pytest.mark.parametrize(("kind", "wrong"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_a_wrong_message_is_refused_and_nothing_is_sent(runtime, kind, wrong):
    declared = ring_kernel(kernel_id="ck_sink", input_type=kind)(swallow)
    await runtime.launch("k", declared)
    with pytest.raises(MessageTypeError) as caught:
        await runtime.send("k", wrong)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(MessageTypeError):
        runtime.send_nowait("k", wrong)
    with pytest.raises(MessageTypeError):
        await runtime.send_batch("k", [wrong])
    assert runtime.statistics("k").accepted == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [1, 2, 3, 2.5],
        [1, 2**31],
        np.zeros((2, 2), np.int32),
        np.arange(3.0),
        np.arange(3, dtype=np.int64),
        np.array(["1"]),
        np.zeros(3, PACKED),
        5,
        None,
    ],
    ids=["last-is-float", "overflow", "2-d", "floats", "wider", "text", "records", "no-sequence", "none"],
)
async def test_a_batch_with_one_wrong_message_sends_nothing(runtime, wrong):
    declared = ring_kernel(kernel_id="ck_sink", input_type=np.int32)(swallow)
    await runtime.launch("k", declared)
    with pytest.raises(MessageTypeError):
        await runtime.send_batch("k", wrong)
    assert runtime.statistics("k").accepted == 0


async def test_the_error_names_the_type_and_the_message(runtime):
    await runtime.launch("k", value_of)
    with pytest.raises(MessageTypeError, match="Tick") as caught:
        await runtime.send("k", "a string")
    assert "a string" in str(caught.value)
    assert "price" in str(caught.value)


@pytest.mark.parametrize("wrong", [object, "no type", np.dtype("O"), np.dtype([("x", "O")]), np.str_, dict, 3.5])
def test_what_is_no_message_type_is_refused_at_the_declaration(wrong):
    with pytest.raises(MessageTypeError):
        ring_kernel(kernel_id="ck_bad", input_type=wrong)(swallow)


def test_a_message_class_says_which_field_it_cannot_hold():
    with pytest.raises(MessageTypeError, match="names"):

        @message
        class Bad:
            price: float
            names: list

    with pytest.raises(MessageTypeError, match="no fields"):

        @message
        class Empty:
            pass


# --- what is emitted ---------------------------------------------------------------------------------------------


@ring_kernel(kernel_id="ck_verdicts", input_type=int, output_type=int)
def verdicts(msg, out):
    """Drop, emit, or say nothing, which emits: all three in one handler."""
    out.value = msg.value
    if msg.value % 3 == 0:
        return False
    if msg.value % 3 == 1:
        return True
    return None


@ring_kernel(kernel_id="ck_even", input_type=int, output_type=int)
def only_even(msg, out):
    out.value = msg.value
    return msg.value % 2 == 0


@ring_kernel(kernel_id="ck_nothing", input_type=int, output_type=int)
def drop_all(msg, out):
    out.value = 1
    return False


PAIR = np.dtype([("a", "i8"), ("b", "i8")])


@ring_kernel(kernel_id="ck_pair", input_type=int, output_type=PAIR)
def partly_written(msg, out):
    """Writes only one field, or dirties the slot and drops it."""
    if msg.value % 3 == 0:
        out.a = -1
        out.b = -1
        return False
    if msg.value % 3 == 1:
        out.a = msg.value
        return True
    out.b += msg.value
    return True


@pytest.mark.parametrize(
    ("handler", "kept"),
    [(verdicts, lambda v: v % 3 != 0), (only_even, lambda v: v % 2 == 0), (drop_all, lambda v: v < 0)],
)
async def test_what_a_handler_returns_decides_what_is_emitted(runtime, handler, kept):
    await start(runtime, "k", handler)
    values = np.arange(1000)
    wanted = values[kept(values)]
    await runtime.send_batch("k", values)
    await eventually(lambda: runtime.statistics("k").processed == 1000)
    counts = check_books(runtime, "k")
    assert counts.emitted == len(wanted)
    assert counts.dropped == 1000 - len(wanted)
    assert drain(runtime, "k") == wanted.tolist()


async def test_out_is_zero_before_each_call_also_after_a_dropped_one_and_around_the_ring(runtime):
    await start(runtime, "k", partly_written, queue_size=4)
    values = np.arange(300)
    got = await pump(runtime, "k", values, 200)
    kept = values[values % 3 != 0]
    np.testing.assert_array_equal(got["a"], np.where(kept % 3 == 1, kept, 0))
    np.testing.assert_array_equal(got["b"], np.where(kept % 3 == 2, kept, 0))


LARGE = np.dtype([("a", "i8", (100,)), ("b", "i8")])


def write_one_of_two(msg, out):
    if msg.value % 2 == 0:
        for i in range(100):
            out.a[i] = msg.value
    else:
        out.b = msg.value


async def test_a_large_out_is_zero_before_each_call(runtime):
    await start(
        runtime, "k", ring_kernel("ck_large", input_type=int, output_type=LARGE)(write_one_of_two), queue_size=4
    )
    values = np.arange(1, 200)
    got = await pump(runtime, "k", values, 199)
    np.testing.assert_array_equal(got["a"], np.where(values % 2 == 0, values, 0)[:, None] * np.ones(100, int))
    np.testing.assert_array_equal(got["b"], np.where(values % 2 == 1, values, 0))


@pytest.mark.parametrize("dtype", [PAIR, LARGE])
async def test_out_is_what_the_slot_held_if_that_is_asked_for(runtime, dtype):
    def write_b(msg, out):
        out.b += msg.value

    await start(
        runtime, "k", ring_kernel("ck_b", input_type=int, output_type=dtype, zeroed=False)(write_b), queue_size=1
    )
    for value, wanted in ((1, 1), (2, 3), (3, 6)):
        await runtime.send("k", value)
        assert (await within(runtime.receive("k")))["b"] == wanted


@ring_kernel(kernel_id="ck_dirty", input_type=int, output_type=PAIR, batch=True, zeroed=False)
def add_to_all(msgs, outs):
    for i in range(len(msgs)):
        outs[i].b += msgs[i].value


async def test_the_outs_of_a_batch_are_what_the_slots_held_if_that_is_asked_for(runtime):
    await start(runtime, "k", add_to_all, queue_size=1)
    for value, wanted in ((1, 1), (2, 3), (3, 6)):
        await runtime.send("k", value)
        assert (await within(runtime.receive("k"))).b == wanted


@ring_kernel(kernel_id="ck_inverse", input_type=float, output_type=float)
def inverse(msg, out):
    out.value = 1.0 / msg.value


async def test_division_by_zero_is_infinite(runtime):
    await start(runtime, "k", inverse)
    for value, wanted in [(0.0, math.inf), (-0.0, -math.inf), (4.0, 0.25)]:
        await runtime.send("k", value)
        assert await within(runtime.receive("k")) == wanted
    assert runtime.get_state("k") is KernelState.ACTIVE


FACTOR = 3


def scaled(x):
    return FACTOR * plus_one(x)


def plus_one(x):
    return x + 1


def closure_over(offset: int) -> Any:
    def shift(x):
        return x + offset

    @ring_kernel(kernel_id="ck_closure", input_type=int, output_type=int)
    def shifted(msg, out):
        out.value = shift(msg.value)

    return shifted


@ring_kernel(kernel_id="ck_helped", input_type=int, output_type=int)
def helped(msg, out):
    out.value = scaled(msg.value)


async def test_a_handler_calls_ordinary_functions(runtime):
    await start(runtime, "k", helped)
    await runtime.send("k", 4)
    assert await within(runtime.receive("k")) == 15


async def test_handlers_made_by_one_function_keep_their_own_constants(runtime):
    await start(runtime, "seven", closure_over(7))
    await start(runtime, "nine", closure_over(9))
    for name, offset in [("seven", 7), ("nine", 9)]:
        await runtime.send(name, 1)
        assert await within(runtime.receive(name)) == 1 + offset


def test_the_decorated_function_is_the_function():
    out = SimpleNamespace()
    value_of(Tick(2.0, 3), out)
    assert (out.mean, out.n) == (6.0, 1)
    assert verdicts(SimpleNamespace(value=3), SimpleNamespace()) is False
    assert value_of.__name__ == "value_of"


# --- batches -----------------------------------------------------------------------------------------------------


@ring_kernel(kernel_id="ck_all", input_type=int, output_type=int, batch=True)
def batch_all(msgs, outs):
    if len(msgs) != len(outs):  # no `assert`: pytest rewrites it into something that does not compile
        raise ValueError
    for i in range(len(msgs)):
        outs[i].value = 2 * msgs[i].value


@ring_kernel(kernel_id="ck_some", input_type=int, output_type=PAIR, batch=True)
def batch_some(msgs, outs):
    """Keeps even numbers; leaves `b` as it finds it, and dirties what it does not emit."""
    n = 0
    for i in range(len(msgs)):
        if msgs[i].value % 2 == 0:
            outs[n].a = msgs[i].value
            n += 1
    for i in range(n, len(outs)):
        outs[i].a = -1
        outs[i].b = -1
    return n


@ring_kernel(kernel_id="ck_copies", input_type=int, output_type=int, batch=True, max_outputs=3)
def copies(msgs, outs):
    """`value % 4` copies of each, none to three."""
    n = 0
    for i in range(len(msgs)):
        for _ in range(msgs[i].value % 4):
            outs[n].value = msgs[i].value
            n += 1
    return n


@ring_kernel(kernel_id="ck_summed", input_type=int, batch=True, state=np.zeros(2, np.int64))
def batch_sum(msgs, state):
    for i in range(len(msgs)):
        state[0] += msgs[i].value
        state[1] += 1


@ring_kernel(kernel_id="ck_fields", input_type=PACKED, output_type=float, batch=True)
def batch_fields(msgs, outs):
    """Whole columns, as in NumPy."""
    outs["value"][:] = msgs["price"] * msgs["lots"]


async def test_a_batch_handler_that_returns_nothing_emits_all(runtime):
    await start(runtime, "k", batch_all, queue_size=64)
    got = await pump(runtime, "k", np.arange(1000), 1000)
    np.testing.assert_array_equal(got, 2 * np.arange(1000))


async def test_a_batch_handler_emits_what_it_counts(runtime):
    await start(runtime, "k", batch_some, queue_size=16)
    got = await pump(runtime, "k", np.arange(1000), 500)
    np.testing.assert_array_equal(got["a"], np.arange(0, 1000, 2))
    np.testing.assert_array_equal(got["b"], 0)
    assert check_books(runtime, "k").emitted == 500


@pytest.mark.parametrize("queue_size", [4, 8, 1024])
async def test_several_outputs_per_message_go_around_the_ring_in_order(runtime, queue_size):
    await start(runtime, "k", copies, queue_size=queue_size)
    values = np.arange(1, 501)
    wanted = np.repeat(values, values % 4)
    got = await pump(runtime, "k", values, len(wanted))
    np.testing.assert_array_equal(got, wanted)
    await eventually(lambda: runtime.statistics("k").processed == 500)
    counts = check_books(runtime, "k")
    assert counts.emitted == len(wanted)


async def test_a_batch_handler_without_output_keeps_state(runtime):
    await start(runtime, "k", batch_sum)
    await runtime.send_batch("k", np.arange(10_000))
    await eventually(lambda: runtime.statistics("k").processed == 10_000)
    np.testing.assert_array_equal(await runtime.read_state("k"), [np.arange(10_000).sum(), 10_000])


async def test_a_batch_handler_sees_columns(runtime):
    await start(runtime, "k", batch_fields)
    messages = np.zeros(300, PACKED)
    messages["price"] = np.arange(300)
    messages["lots"] = 2
    got = await pump(runtime, "k", messages, 300)
    np.testing.assert_array_equal(got, 2.0 * np.arange(300))


@pytest.mark.parametrize("queue_size", [1, 2, 1024])
async def test_random_batches_match_numpy(runtime, queue_size):
    """A running mean that drops what is below it, over batches of random sizes."""
    rng = np.random.default_rng(queue_size)
    await start(runtime, "k", above_mean, queue_size=queue_size)
    values = rng.normal(size=200 if queue_size < 8 else 20_000)
    means = np.cumsum(values) / np.arange(1, len(values) + 1)
    wanted = values[values >= means]

    async def feed() -> None:
        rest = values
        while len(rest):
            size = int(rng.integers(0, 3 * queue_size + 2))
            await runtime.send_batch("k", rest[:size])
            rest = rest[size:]

    feeding = asyncio.create_task(feed())
    got: list[float] = []
    while len(got) < len(wanted):
        most = int(rng.integers(1, 2 * queue_size + 2))
        batch = await within(runtime.receive_batch("k", most))
        assert 1 <= len(batch) <= most
        got.extend(batch.tolist())
    await within(feeding)
    await eventually(lambda: runtime.statistics("k").processed == len(values))
    np.testing.assert_array_equal(got, wanted)
    assert check_books(runtime, "k").dropped == len(values) - len(wanted)


# --- state -------------------------------------------------------------------------------------------------------


@message
class Mean:
    n: int = 0
    total: float = 0.0


@ring_kernel(kernel_id="ck_above", input_type=float, output_type=float, state=Mean())
def above_mean(msg, out, state):
    state.n += 1
    state.total += msg.value
    out.value = msg.value
    return msg.value >= state.total / state.n


INITIAL = Mean(10, 5.0)


@ring_kernel(kernel_id="ck_mean", input_type=float, state=INITIAL)
def keep_mean(msg, state):
    state.n += 1
    state.total += msg.value


RECORD = np.array((1, 2), PAIR)


@ring_kernel(kernel_id="ck_twin", input_type=int, state=RECORD)
def twins(msg, state):
    """Two fields that are equal between any two messages."""
    state.a += msg.value
    for _ in range(200):  # so that a reader has something to fall into
        state.b += 1
        state.b -= 1
    state.b += msg.value


TABLE = np.ones((3, 2), np.float32)


@ring_kernel(kernel_id="ck_table", input_type=int, output_type=float, state=TABLE)
def counted(msg, out, state):
    state[msg.value, 1] += np.float32(1.0)
    out.value = state[msg.value, 1]


@ring_kernel(kernel_id="ck_rows", input_type=int, state=np.zeros(4, PAIR))
def rows(msg, state):
    state[msg.value].a += 1


async def test_state_may_be_a_message_instance(runtime):
    await start(runtime, "k", keep_mean)
    await runtime.send_batch("k", np.array([1.0, 2.0]))
    await eventually(lambda: runtime.statistics("k").processed == 2)
    got = await runtime.read_state("k")
    assert got == Mean(12, 8.0)
    assert isinstance(got, Mean)


async def test_state_may_be_a_record(runtime):
    await start(runtime, "k", twins)
    await runtime.send("k", 5)
    await eventually(lambda: runtime.statistics("k").processed == 1)
    got = await runtime.read_state("k")
    assert isinstance(got, np.record)
    assert got.item() == (6, 7)


async def test_state_may_be_an_array(runtime):
    await start(runtime, "k", counted)
    got = await pump(runtime, "k", np.array([0, 2, 2]), 3)
    assert got.tolist() == [2.0, 2.0, 3.0]
    state = await runtime.read_state("k")
    assert state.dtype == np.float32
    np.testing.assert_array_equal(state, [[1, 2], [1, 1], [1, 3]])


async def test_state_may_be_an_array_of_records(runtime):
    await start(runtime, "k", rows)
    await runtime.send_batch("k", np.array([1, 3, 3]))
    await eventually(lambda: runtime.statistics("k").processed == 3)
    assert (await runtime.read_state("k"))["a"].tolist() == [0, 1, 0, 2]


async def test_each_launch_starts_from_a_fresh_copy(runtime):
    for _ in range(2):
        await start(runtime, "mean", keep_mean)
        await start(runtime, "table", counted)
        await runtime.send("mean", 1.0)
        await runtime.send("table", 1)
        await eventually(lambda: runtime.statistics("mean").processed == 1)
        assert await within(runtime.receive("table")) == 2.0
        assert await runtime.read_state("mean") == Mean(11, 6.0)
        for name in ("mean", "table"):
            await runtime.terminate(name)
            runtime.remove(name)
    assert Mean(10, 5.0) == INITIAL
    np.testing.assert_array_equal(TABLE, 1)


async def test_two_launches_of_one_function_do_not_share_state(runtime):
    await start(runtime, "one", keep_mean)
    await start(runtime, "two", keep_mean)
    await runtime.send("one", 1.0)
    await eventually(lambda: runtime.statistics("one").processed == 1)
    assert await runtime.read_state("one") == Mean(11, 6.0)
    assert await runtime.read_state("two") == Mean(10, 5.0)


async def test_state_reads_are_consistent_while_the_kernel_is_busy(runtime):
    await start(runtime, "k", twins, queue_size=1024)
    await runtime.deactivate("k")
    await runtime.write_state("k", (0, 0))
    await runtime.reactivate("k")

    async def feed() -> None:
        while True:
            await runtime.send_batch("k", np.ones(512, np.int64))

    feeding = asyncio.create_task(feed())
    seen = []
    for _ in range(300):
        state = await within(runtime.read_state("k"))
        assert state.a == state.b
        seen.append(int(state.a))
        await asyncio.sleep(0)
    await eventually(lambda: runtime.statistics("k").processed > 1024)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    assert seen == sorted(seen)
    assert len(set(seen)) > 2, "the kernel did not run meanwhile: the test shows nothing"
    await eventually(lambda: check_books(runtime, "k").unprocessed == 0)
    state, counts = await runtime.read_state("k"), runtime.statistics("k")
    assert state.a == counts.processed == counts.accepted


async def test_what_was_read_is_a_copy(runtime):
    await runtime.launch("k", counted)
    first = await runtime.read_state("k")
    first[:] = 99
    np.testing.assert_array_equal(await runtime.read_state("k"), 1)


async def test_state_is_written_while_the_kernel_is_at_rest_only(runtime):
    await runtime.launch("k", keep_mean)
    await runtime.write_state("k", Mean(100, 1.0))
    await runtime.activate("k")
    await runtime.send("k", 1.0)
    await eventually(lambda: runtime.statistics("k").processed == 1)
    assert await runtime.read_state("k") == Mean(101, 2.0)
    with pytest.raises(KernelStateError, match="ACTIVE"):
        await runtime.write_state("k", Mean(0, 0.0))
    await runtime.deactivate("k")
    await runtime.write_state("k", Mean(7, 7.0))
    await runtime.reactivate("k")
    await runtime.send("k", 1.0)
    await eventually(lambda: runtime.statistics("k").processed == 2)
    assert await runtime.read_state("k") == Mean(8, 8.0)
    await runtime.terminate("k")
    assert await runtime.read_state("k") == Mean(8, 8.0)
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.write_state("k", Mean(0, 0.0))


async def test_a_written_array_must_fit(runtime):
    await runtime.launch("k", counted)
    await runtime.write_state("k", np.full((3, 2), 5))
    np.testing.assert_array_equal(await runtime.read_state("k"), 5)
    for wrong in (np.zeros((2, 3)), np.zeros(6), np.zeros((3, 2), complex), 3.0, "x"):
        with pytest.raises(MessageTypeError):
            await runtime.write_state("k", wrong)
    np.testing.assert_array_equal(await runtime.read_state("k"), 5)


async def test_a_written_record_must_fit(runtime):
    await runtime.launch("k", keep_mean)
    for wrong in (Quote(1.0, 1), (1, 2.0), 3, None):
        with pytest.raises(MessageTypeError):
            await runtime.write_state("k", wrong)
    assert await runtime.read_state("k") == INITIAL


async def test_a_kernel_without_state_says_so(runtime):
    await runtime.launch("k", identity_f8)
    with pytest.raises(MessageTypeError, match="'k'"):
        await runtime.read_state("k")
    with pytest.raises(MessageTypeError, match="'k'"):
        await runtime.write_state("k", 1)


@pytest.mark.parametrize("wrong", [5, "x", [1, 2], {"a": 1}, np.array(3.0), np.array([object()])])
def test_what_is_no_state_is_refused_at_the_declaration(wrong):
    with pytest.raises(MessageTypeError):

        @ring_kernel(kernel_id="ck_bad_state", input_type=int, state=wrong)
        def bad(msg, state):
            pass


@ring_kernel(kernel_id="ck_unchecked", input_type=int, output_type=float, state=np.arange(4.0), check=False)
def unchecked(msg, out, state):
    out.value = state[msg.value]


async def test_a_handler_without_index_checks_computes_the_same(runtime):
    await start(runtime, "k", unchecked)
    got = await pump(runtime, "k", np.array([3, 0, 2]), 3)
    assert got.tolist() == [3.0, 0.0, 2.0]


# --- sending and receiving ---------------------------------------------------------------------------------------


async def test_order_is_kept_message_by_message_and_in_batches(runtime):
    await start(runtime, "k", identity_f8, queue_size=32)
    wanted, got = 0, []
    for size in (1, 5, 1, 31, 64, 1, 200):
        batch = np.arange(wanted, wanted + size, dtype=float)
        wanted += size
        if size == 1:
            await runtime.send("k", batch[0])
        else:
            sending = asyncio.create_task(runtime.send_batch("k", batch))
        while len(got) < wanted:
            if len(got) % 2:
                got.append(await within(runtime.receive("k")))
            else:
                got.extend((await within(runtime.receive_batch("k", 7))).tolist())
        if size > 1:
            await sending
    assert got == list(range(wanted))


async def test_stream_ends_with_the_kernel(runtime):
    await start(runtime, "k", identity_f8)
    await runtime.send_batch("k", np.arange(1000.0))
    sizes, got = [], []

    async def collect() -> None:
        async for batch in runtime.stream("k", max_messages=64):
            sizes.append(len(batch))
            got.extend(batch.tolist())

    collecting = asyncio.create_task(collect())
    await eventually(lambda: len(got) == 1000)
    await runtime.terminate("k")
    await within(collecting)
    assert got == list(range(1000))
    assert 1 <= min(sizes) <= max(sizes) <= 64


async def test_receive_nowait_and_send_nowait_do_not_wait(runtime):
    await runtime.launch("k", identity_f8, queue_size=2)
    with pytest.raises(QueueEmptyError):
        runtime.receive_nowait("k")
    runtime.send_nowait("k", 1.0)
    runtime.send_nowait("k", 2.0)
    with pytest.raises(QueueFullError, match="2"):
        runtime.send_nowait("k", 3.0)
    assert runtime.statistics("k").accepted == 2
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").emitted == 2)
    assert [runtime.receive_nowait("k"), runtime.receive_nowait("k")] == [1.0, 2.0]
    with pytest.raises(QueueEmptyError):
        runtime.receive_nowait("k")


async def test_a_full_queue_makes_send_wait_and_time_out(runtime):
    await runtime.launch("k", identity_f8, queue_size=4)
    await runtime.send_batch("k", np.arange(4.0))
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 4.0, timeout=0.02)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 4.0, timeout=0)
    waiting = asyncio.create_task(runtime.send("k", 4.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    await runtime.activate("k")
    await within(waiting)
    assert (await pump(runtime, "k", [], 5)).tolist() == [0, 1, 2, 3, 4]


async def test_a_timeout_says_what_was_wanted_and_what_to_start(runtime):
    await runtime.launch("k", identity_f8, queue_size=2)
    for receive in (runtime.receive, runtime.receive_batch):
        with pytest.raises(asyncio.TimeoutError, match=r"nothing came from kernel 'k' .*0 s; .*LAUNCHED: activate\(\)"):
            await receive("k", timeout=0)
    await runtime.send_batch("k", [1.0, 2.0])
    with pytest.raises(
        asyncio.TimeoutError, match=r"kernel 'k' had no room .*0 s: all 2 slots .*LAUNCHED: activate\(\)"
    ):
        await runtime.send("k", 3.0, timeout=0)
    with pytest.raises(asyncio.TimeoutError, match="'k' is still LAUNCHED after 0 s"):
        await runtime.wait("k", timeout=0)
    await runtime.activate("k")
    assert (await pump(runtime, "k", [], 2)).tolist() == [1, 2]
    with pytest.raises(asyncio.TimeoutError) as caught:
        await runtime.receive("k", timeout=0)
    assert str(caught.value) == "nothing came from kernel 'k' within 0 s"
    await runtime.deactivate("k")
    with pytest.raises(asyncio.TimeoutError, match=r"DEACTIVATED: reactivate\(\)"):
        await runtime.receive("k", timeout=0)


async def test_a_batch_that_times_out_says_how_much_was_sent(runtime):
    await runtime.launch("k", identity_f8, queue_size=4)
    await runtime.send("k", 0.0)
    with pytest.raises(BatchTimeoutError) as caught:
        await runtime.send_batch("k", np.arange(1.0, 9.0), timeout=0.02)
    assert isinstance(caught.value, asyncio.TimeoutError)
    assert caught.value.sent == 3
    assert runtime.statistics("k").accepted == 4


async def test_receive_times_out_and_has_taken_nothing(runtime):
    await start(runtime, "k", identity_f8)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive("k", timeout=0.02)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive_batch("k", timeout=0)
    await runtime.send("k", 1.0)
    assert await within(runtime.receive("k", timeout=5)) == 1.0


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3"])
async def test_a_batch_of_no_size_is_refused(runtime, wrong):
    await runtime.launch("k", identity_f8)
    with pytest.raises(ConfigurationError, match="max_messages"):
        await runtime.receive_batch("k", wrong)


@pytest.mark.parametrize("wrong", [-1, math.nan, "1"])
async def test_a_timeout_that_is_none_is_refused(runtime, wrong):
    await runtime.launch("k", identity_f8, queue_size=1)
    await runtime.send("k", 1.0)
    with pytest.raises(ConfigurationError, match="timeout"):
        await runtime.receive("k", timeout=wrong)
    with pytest.raises(ConfigurationError, match="timeout"):
        await runtime.send("k", 1.0, timeout=wrong)
    with pytest.raises(ConfigurationError, match="timeout"):
        await runtime.send_batch("k", [1.0], timeout=wrong)


async def test_there_is_nothing_to_receive_from_a_kernel_without_output(runtime):
    await runtime.launch("k", keep_mean)
    for attempt in (
        lambda: runtime.receive("k", timeout=0.02),
        lambda: runtime.receive_batch("k", timeout=0.02),
    ):
        with pytest.raises(MessageTypeError, match="'k'"):
            await attempt()
    with pytest.raises(MessageTypeError, match="'k'"):
        runtime.receive_nowait("k")


async def test_the_queues_of_a_kernel_can_be_looked_at(runtime):
    kernel = await runtime.launch("k", identity_f8, queue_size=8)
    assert kernel.input_queue.capacity == kernel.output_queue.capacity == 8
    await runtime.send_batch("k", np.arange(8.0))
    assert kernel.input_queue.qsize() == 8
    assert kernel.input_queue.full()
    await runtime.activate("k")
    await eventually(lambda: kernel.output_queue.qsize() == 8)
    assert kernel.input_queue.empty()
    assert await within(kernel.output_queue.get()) == 0.0


# --- the ledger --------------------------------------------------------------------------------------------------


async def test_the_books_are_exact_at_every_stop(runtime):
    await runtime.launch("k", only_even, queue_size=256)
    await runtime.send_batch("k", np.arange(100))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.unprocessed, counts.state) == (100, 0, 100, KernelState.LAUNCHED)
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").processed == 100)
    await runtime.deactivate("k")
    await runtime.send_batch("k", np.arange(10))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (110, 100, 10)
    assert (counts.emitted, counts.dropped, counts.received, counts.output_depth) == (50, 50, 0, 50)
    assert (counts.failed, counts.in_flight) == (0, 0)
    assert counts.peak_input_depth == 100
    assert counts.peak_output_depth == 50
    assert counts.device == runtime.kernels["k"].device
    assert 0 < counts.turns <= 100
    assert sum(n for _, n in counts.histogram_ns) == 100
    assert counts.busy_s > 0
    assert len(await within(runtime.receive_batch("k", 20))) == 20
    assert check_books(runtime, "k").received == 20
    await runtime.terminate("k")
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (110, 100, 10)
    assert runtime.unprocessed("k").tolist() == list(range(10))
    assert drain(runtime, "k") == list(range(40, 100, 2))


async def test_terminate_drains_what_was_queued(runtime):
    await runtime.launch("k", identity_f8)
    await runtime.send_batch("k", np.arange(1000.0))
    await runtime.activate("k")
    await runtime.terminate("k")
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed) == (1000, 0)
    assert drain(runtime, "k") == list(range(1000))
    assert len(runtime.unprocessed("k")) == 0


async def test_a_drain_that_waits_for_room_ends_early_and_loses_nothing(runtime):
    await start(runtime, "k", identity_f8, queue_size=8)
    await runtime.send_batch("k", np.arange(16.0))
    await within(runtime.terminate("k", timeout=60.0), 5.0)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed) == (8, 8)
    assert drain(runtime, "k") == list(range(8))
    assert runtime.unprocessed("k").tolist() == list(range(8, 16))


async def test_what_is_unprocessed_is_known_only_at_the_end(runtime):
    await start(runtime, "k", identity_f8)
    with pytest.raises(KernelStateError, match="ACTIVE"):
        runtime.unprocessed("k")


async def test_the_leftovers_of_a_message_class_are_records(runtime):
    await runtime.launch("k", value_of)
    await runtime.send_batch("k", [Tick(1.0, 2), Tick(3.0, 4)])
    await runtime.terminate("k")
    assert runtime.unprocessed("k")["price"].tolist() == [1.0, 3.0]


# --- declaring ---------------------------------------------------------------------------------------------------


async def test_declaring_an_id_again_replaces_the_declaration(runtime):
    for factor in (2, 3):

        @ring_kernel(kernel_id="ck_again", input_type=int, output_type=int)
        def again(msg, out):
            out.value = msg.value * factor  # noqa: B023 (a constant of this declaration)

        await runtime.launch("ck_again")
        await runtime.activate("ck_again")
        await runtime.send("ck_again", 10)
        assert await within(runtime.receive("ck_again")) == 10 * factor
        await runtime.terminate("ck_again")
        runtime.remove("ck_again")


async def test_a_parameter_with_a_default_keeps_it(runtime):
    @ring_kernel(kernel_id="ck_default", input_type=int, output_type=int)
    def with_default(msg, out, factor=3):
        out.value = msg.value * factor

    await start(runtime, "k", with_default)
    await runtime.send("k", 10)
    assert await within(runtime.receive("k")) == 30


async def test_one_function_runs_under_several_ids(runtime):
    for name in ("one", "two"):
        kernel = await start(runtime, name, identity_f8)
        assert kernel.kernel_id == name
        assert kernel.func is identity_f8
    await runtime.send("one", 1.0)
    await runtime.send("two", 2.0)
    assert await within(runtime.receive("two")) == 2.0
    assert await within(runtime.receive("one")) == 1.0


@pytest.mark.workers
async def test_many_kernels_share_one_worker(runtime):
    names = [f"k{i}" for i in range(100)]
    for name in names:
        await start(runtime, name, identity_f8, queue_size=4)
    for _ in range(3):
        for i, name in enumerate(names):
            await runtime.send(name, float(i))
        for i, name in enumerate(names):
            assert await within(runtime.receive(name)) == float(i)
    for name in names:
        await runtime.terminate(name)
        runtime.remove(name)
    assert not runtime.kernels
