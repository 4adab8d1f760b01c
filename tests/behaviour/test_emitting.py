"""What a compiled handler returns and writes decides what is emitted, alone and in batches; `out` is zero before each
call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, receive_all, start, within
from kinds import copies

from ringkernel import KernelState, RingKernelRuntime, ring_kernel

if TYPE_CHECKING:
    from kinds import Kind

PAIR = np.dtype([("a", "i8"), ("b", "i8")])
LARGE = np.dtype([("a", "i8", (100,)), ("b", "i8")])


async def pump(runtime: RingKernelRuntime, kernel_id: str, messages: Any, count: int) -> Any:
    """Send everything, and receive `count` outputs meanwhile."""
    sending = asyncio.create_task(runtime.send_batch(kernel_id, messages))
    received = await receive_all(runtime, kernel_id, count)
    await within(sending)
    return np.array(received)


# --- what is emitted ----------------------------------------------------------------------------------------------


@ring_kernel("em_verdicts", input_type=int, output_type=int)
def verdicts(msg: Any, out: Any) -> bool | None:
    """Drop, emit, or say nothing, which emits: all three in one handler."""
    out.value = msg.value
    if msg.value % 3 == 0:
        return False
    if msg.value % 3 == 1:
        return True
    return None


@ring_kernel("em_even", input_type=int, output_type=int)
def only_even(msg: Any, out: Any) -> bool:
    out.value = msg.value
    return msg.value % 2 == 0  # type: ignore[no-any-return]


@ring_kernel("em_nothing", input_type=int, output_type=int)
def drop_all(msg: Any, out: Any) -> bool:
    out.value = 1
    return False


@pytest.mark.parametrize(
    ("handler", "kept"),
    [(verdicts, lambda v: v % 3 != 0), (only_even, lambda v: v % 2 == 0), (drop_all, lambda v: v < 0)],
)
async def test_what_a_handler_returns_decides_what_is_emitted(
    runtime: RingKernelRuntime, compiled_kind: Kind, handler: Any, kept: Callable[[Any], Any]
) -> None:
    await start(runtime, "k", handler)
    values = np.arange(1000)
    wanted = values[kept(values)]
    await runtime.send_batch("k", values)
    await eventually(lambda: runtime.statistics("k").processed == 1000)
    counts = check_books(runtime, "k")
    assert counts.emitted == len(wanted)
    assert counts.dropped == 1000 - len(wanted)
    assert drain(runtime, "k") == wanted.tolist()


@ring_kernel("em_inverse", input_type=float, output_type=float)
def inverse(msg: Any, out: Any) -> None:
    out.value = 1.0 / msg.value


async def test_division_by_zero_is_infinite(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", inverse)
    for value, wanted in [(0.0, math.inf), (-0.0, -math.inf), (4.0, 0.25)]:
        await runtime.send("k", value)
        assert await within(runtime.receive("k")) == wanted
    assert runtime.get_state("k") is KernelState.ACTIVE


FACTOR = 3


def scaled(x: int) -> int:
    return FACTOR * plus_one(x)


def plus_one(x: int) -> int:
    return x + 1


@ring_kernel("em_helped", input_type=int, output_type=int)
def helped(msg: Any, out: Any, offset: int = 2) -> None:
    out.value = scaled(msg.value) + offset


async def test_a_handler_calls_ordinary_functions_and_keeps_its_defaults(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", helped)
    await runtime.send("k", 4)
    assert await within(runtime.receive("k")) == 17


def closure_over(offset: int) -> Any:
    def shift(x: int) -> int:
        return x + offset

    @ring_kernel("em_closure", input_type=int, output_type=int)
    def shifted(msg: Any, out: Any) -> None:
        out.value = shift(msg.value)

    return shifted


async def test_handlers_made_by_one_function_keep_their_own_constants(runtime: RingKernelRuntime) -> None:
    await start(runtime, "seven", closure_over(7))
    await start(runtime, "nine", closure_over(9))
    for name, offset in [("seven", 7), ("nine", 9)]:
        await runtime.send(name, 1)
        assert await within(runtime.receive(name)) == 1 + offset


def test_the_decorated_function_is_the_function() -> None:
    out = SimpleNamespace()
    assert verdicts(SimpleNamespace(value=3), out) is False
    assert out.value == 3
    assert verdicts.__name__ == "verdicts"


# --- what `out` is before the call --------------------------------------------------------------------------------


@ring_kernel("em_pair", input_type=int, output_type=PAIR)
def partly_written(msg: Any, out: Any) -> bool:
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


async def test_out_is_zero_before_each_call_also_after_a_dropped_one_and_around_the_ring(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", partly_written, queue_size=4)
    values = np.arange(300)
    got = await pump(runtime, "k", values, 200)
    kept = values[values % 3 != 0]
    np.testing.assert_array_equal(got["a"], np.where(kept % 3 == 1, kept, 0))
    np.testing.assert_array_equal(got["b"], np.where(kept % 3 == 2, kept, 0))


@ring_kernel("em_large", input_type=int, output_type=LARGE)
def write_one_of_two(msg: Any, out: Any) -> None:
    if msg.value % 2 == 0:
        for i in range(100):
            out.a[i] = msg.value
    else:
        out.b = msg.value


async def test_a_large_out_is_zero_before_each_call(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", write_one_of_two, queue_size=4)
    values = np.arange(1, 200)
    got = await pump(runtime, "k", values, 199)
    np.testing.assert_array_equal(got["a"], np.where(values % 2 == 0, values, 0)[:, None] * np.ones(100, int))
    np.testing.assert_array_equal(got["b"], np.where(values % 2 == 1, values, 0))


def add_to_b(msg: Any, out: Any) -> None:
    out.b += msg.value


def add_to_all(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        outs[i].b += msgs[i].value


async def adds_to_what_the_slot_held(runtime: RingKernelRuntime, handler: Any, dtype: Any, *, batch: bool) -> None:
    declare = ring_kernel("em_dirty", input_type=int, output_type=dtype, zeroed=False, batch=batch)
    await start(runtime, "k", declare(handler), queue_size=1)
    for value, wanted in ((1, 1), (2, 3), (3, 6)):
        await runtime.send("k", value)
        assert (await within(runtime.receive("k")))["b"] == wanted


@pytest.mark.parametrize("dtype", [PAIR, LARGE], ids=["pair", "large"])
async def test_out_is_what_the_slot_held_if_that_is_asked_for(
    runtime: RingKernelRuntime, compiled_kind: Kind, dtype: Any
) -> None:
    await adds_to_what_the_slot_held(runtime, add_to_b, dtype, batch=False)


async def test_the_outs_of_a_batch_are_what_the_slots_held_if_that_is_asked_for(runtime: RingKernelRuntime) -> None:
    await adds_to_what_the_slot_held(runtime, add_to_all, PAIR, batch=True)


# --- batches ------------------------------------------------------------------------------------------------------


@ring_kernel("em_some", input_type=int, output_type=PAIR, batch=True)
def batch_some(msgs: Any, outs: Any) -> int:
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


@ring_kernel("em_fields", input_type=np.dtype([("price", "f8"), ("lots", "i4")]), output_type=float, batch=True)
def batch_fields(msgs: Any, outs: Any) -> None:
    """Whole columns, as in NumPy."""
    outs["value"][:] = msgs["price"] * msgs["lots"]


@ring_kernel("em_summed", input_type=int, batch=True, state=np.zeros(2, np.int64))
def batch_sum(msgs: Any, state: Any) -> None:
    for i in range(len(msgs)):
        state[0] += msgs[i].value
        state[1] += 1


async def test_a_batch_handler_that_returns_nothing_emits_all_and_sees_columns(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", batch_fields, queue_size=64)
    messages = np.zeros(300, np.dtype([("price", "f8"), ("lots", "i4")], align=True))
    messages["price"] = np.arange(300)
    messages["lots"] = 2
    got = await pump(runtime, "k", messages, 300)
    np.testing.assert_array_equal(got, 2.0 * np.arange(300))


async def test_a_batch_handler_emits_what_it_counts(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", batch_some, queue_size=16)
    got = await pump(runtime, "k", np.arange(1000), 500)
    np.testing.assert_array_equal(got["a"], np.arange(0, 1000, 2))
    np.testing.assert_array_equal(got["b"], 0)
    assert check_books(runtime, "k").emitted == 500


@pytest.mark.parametrize("queue_size", [4, 8, 1024])
async def test_several_outputs_per_message_go_around_the_ring_in_order(
    runtime: RingKernelRuntime, queue_size: int
) -> None:
    await start(runtime, "k", copies, queue_size=queue_size)
    values = np.arange(1, 501)
    wanted = np.repeat(values, values % 4)
    got = await pump(runtime, "k", values, len(wanted))
    np.testing.assert_array_equal(got, wanted)
    await eventually(lambda: runtime.statistics("k").processed == 500)
    counts = check_books(runtime, "k")
    assert counts.emitted == len(wanted)


async def test_a_batch_handler_without_output_keeps_state(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", batch_sum)
    await runtime.send_batch("k", np.arange(10_000))
    await eventually(lambda: runtime.statistics("k").processed == 10_000)
    np.testing.assert_array_equal(await runtime.read_state("k"), [np.arange(10_000).sum(), 10_000])
