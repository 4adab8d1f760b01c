"""A map into an array of the caller's: the outputs are in it, from its start on, and nothing else of it is touched."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, partial_of, start, start_chain, turns, within
from kinds import Kind, add_one, copies, drops_thirds, fails_at_13, gated, same, sink, slow

from ringkernel import (
    ConfigurationError,
    KernelContext,
    KernelFailedError,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    ring_kernel,
)

PAIR = np.dtype([("a", "i4"), ("b", "f8")], align=True)


@ring_kernel("mi_swap", input_type=PAIR, output_type=PAIR)
def swap_signs(msg: Any, out: Any) -> None:
    out.a, out.b = -msg.a, -msg.b


@pytest.mark.both_loops
@pytest.mark.parametrize("length", [1, 2, 1023, 1025, 10_000])
async def test_the_outputs_are_in_the_given_array(runtime: RingKernelRuntime, typed_kind: Kind, length: int) -> None:
    await start(runtime, "k", typed_kind(add_one))
    out = np.full(length + 3, -1)
    for first in (0, 100):  # reused
        result = await within(runtime.map("k", np.arange(first, first + length), out=out))
        assert result.base is out
        assert len(result) == length
        np.testing.assert_array_equal(out, [*range(first + 1, first + length + 1), -1, -1, -1])
    assert check_books(runtime, "k").received == 2 * length


async def test_records_are_written_in_place(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", swap_signs)
    pairs = np.zeros(1000, PAIR)
    pairs["a"], pairs["b"] = np.arange(1000), np.arange(1000) / 7
    out = np.empty(1000, PAIR)
    result = await runtime.map("k", pairs, out=out)
    assert result["a"].tolist() == (-pairs["a"]).tolist()
    assert out["b"].tolist() == (-pairs["b"]).tolist()


async def test_of_a_filter_a_part_is_filled(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start_chain(runtime, a=typed_kind(add_one), b=typed_kind(drops_thirds))
    out = np.full(100, -1)
    result = await within(runtime.map(("a", "b"), np.arange(100), out=out))
    wanted = [n for n in range(1, 101) if n % 3]
    assert result.tolist() == wanted
    assert typed_kind.name != "typed_coroutine" or set(out[len(wanted) :]) == {-1}


async def test_a_kernel_that_multiplies_needs_room_for_the_most_that_may_come(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", copies)
    with pytest.raises(ConfigurationError, match="room for 29 outputs; of 10 messages 30 may come"):
        await runtime.map("k", np.arange(10), out=np.empty(29, np.int64))
    result = await within(runtime.map("k", np.arange(10), out=np.empty(30, np.int64)))
    assert result.tolist() == [n for n in range(10) for _ in range(n % 4)]


async def test_a_map_of_nothing_fills_nothing(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start(runtime, "k", typed_kind(same))
    out = np.full(3, -1)
    assert len(await runtime.map("k", [], out=out)) == 0
    assert out.tolist() == [-1] * 3


async def test_sequences_and_slices_may_be_mapped_into_an_array(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start(runtime, "k", typed_kind(add_one))
    both = np.arange(12)
    assert (await runtime.map("k", [1, 2, 3], out=both[9:])).tolist() == [2, 3, 4]
    assert (await runtime.map("k", both[:4], out=both[4:8])).tolist() == [1, 2, 3, 4]
    assert both.tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 8, 2, 3, 4]


def read_only(length: int) -> np.ndarray[Any, Any]:
    array = np.empty(length, np.int64)
    array.flags.writeable = False
    return array


MESSAGES = np.arange(10)


@pytest.mark.parametrize(
    ("out", "error", "says"),
    [
        ([0] * 10, MessageTypeError, "no array"),
        (np.empty(10), MessageTypeError, "float64.*int64"),
        (np.empty((10, 1), np.int64), ConfigurationError, "one dimension"),
        (np.empty(20, np.int64)[::2], ConfigurationError, "contiguous"),
        (read_only(10), ConfigurationError, "read-only"),
        (np.empty(9, np.int64), ConfigurationError, "room for 9 outputs; of 10 messages 10 may come"),
        (np.empty(81, np.uint8)[1:].view(np.int64), ConfigurationError, "not aligned"),
        pytest.param(MESSAGES, ConfigurationError, "overlaps the messages", marks=pytest.mark.unguarded),
    ],
)
async def test_an_array_that_does_not_fit_is_refused_and_nothing_is_sent(
    runtime: RingKernelRuntime, typed_kind: Kind, out: Any, error: type[Exception], says: str
) -> None:
    await start(runtime, "k", typed_kind(same))
    with pytest.raises(error, match=says):
        await runtime.map("k", MESSAGES, out=out)
    assert check_books(runtime, "k").accepted == 0
    assert MESSAGES.tolist() == list(range(10))


async def test_objects_and_sinks_have_no_array(runtime: RingKernelRuntime) -> None:
    await start(runtime, "objects", Kind("coroutine")(same))
    await start(runtime, "sink", Kind("cpu")(sink))
    for kernel_id, says in (("objects", "emits Python objects"), ("sink", "no output_type")):
        with pytest.raises(MessageTypeError, match=says):
            await runtime.map(kernel_id, [1], out=np.empty(1, np.int64))


async def test_a_coroutine_that_emits_more_than_fits_keeps_it_all(runtime: RingKernelRuntime) -> None:
    @ring_kernel("twice", input_type=int, output_type=int)
    async def twice(ctx: KernelContext[Any, Any]) -> None:
        async for value in ctx:
            await ctx.send(value)
            await ctx.send(value)

    await start(runtime, "twice", twice)
    out = np.full(3, -1)
    with pytest.raises(ConfigurationError, match=r"room for 3 outputs, and 6 came; they are in \.partial") as refused:
        await runtime.map("twice", [1, 2, 3], out=out)
    assert partial_of(refused.value) == [1, 1, 2, 2, 3, 3]
    assert out.tolist() == [-1] * 3
    assert (await runtime.map("twice", [4], out=out)).tolist() == [4, 4]


async def test_of_a_map_that_fails_the_part_is_in_the_array(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start(runtime, "k", typed_kind(fails_at_13))
    out = np.full(20, -1)
    with pytest.raises(KernelFailedError) as failed:
        await within(runtime.map("k", np.arange(20), out=out))
    assert partial_of(failed.value) == list(range(13))
    assert out[:13].tolist() == list(range(13))


async def test_a_cancelled_map_gives_the_array_back(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    out = np.full(2000, -9)
    messages = np.arange(1, 2001)
    messages[7] = -1
    mapping = asyncio.create_task(runtime.map("k", messages, out=out))
    await eventually(lambda: gate.entered)
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await within(mapping)
    partial = partial_of(cancelled.value)
    assert partial == messages[: len(partial)].tolist()
    gate.open()
    again = await within(map_when_received(runtime, "k", np.arange(50), out, partial))
    assert again.tolist() == list(range(50))
    assert partial == messages[: len(partial)].tolist()
    assert check_books(runtime, "k").processed == len(partial) + 50


async def map_when_received(
    runtime: RingKernelRuntime, kernel_id: str, messages: Any, out: Any, received: list[int]
) -> Any:
    """A map into `out`, once everything that an earlier one has left is `received`."""
    while True:
        received.extend(drain(runtime, kernel_id))
        try:
            return await runtime.map(kernel_id, messages, out=out)
        except KernelStateError:
            await turns()


async def test_what_comes_after_a_cancelled_map_is_not_in_the_array(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    out = np.zeros(4, np.int64)
    mapping = asyncio.create_task(runtime.map("k", np.array([1, 2, -1, 3]), out=out))
    await eventually(lambda: gate.entered)
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await within(mapping)
    received = partial_of(cancelled.value)
    gate.open()
    await eventually(lambda: runtime.kernels["k"].engine.inlet.kept)
    out[:] = 77  # its owner's again
    while len(received) < 3:
        received += list(await within(runtime.receive_batch("k")))
    assert received == [1, 2, -1, 3][: len(received)]


async def test_the_array_may_be_let_go_of_and_is(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(slow))
    mapping = asyncio.create_task(runtime.map("k", np.arange(30), out=np.empty(30, np.int64)))
    await eventually(lambda: runtime.statistics("k").processed)
    gc.collect()  # the map alone holds it
    result = await within(mapping)
    assert result.tolist() == list(range(30))
    held = weakref.ref(result.base)
    del result, mapping
    await eventually(lambda: gc.collect() is not None and held() is None)


async def test_through_both_kinds_of_kernel_it_is_filled_as_well(runtime: RingKernelRuntime) -> None:
    await start_chain(runtime, a=Kind("cpu")(add_one), b=Kind("typed_coroutine").declare("b2", add_one))
    out = np.empty(500, np.int64)
    result = await within(runtime.map(("a", "b"), np.arange(500), out=out))
    assert result.base is out
    assert out.tolist() == list(range(2, 502))
