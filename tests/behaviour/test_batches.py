"""Batches go in as arrays and come out as arrays, into one that is given, too, whatever the ring's length."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, eventually, in_line, start, within
from kinds import Kind, kernel, same, sink

from ringkernel import ConfigurationError, KernelContext, KernelStateError, MessageTypeError, RingKernelRuntime

POINT = np.dtype([("x", "f8"), ("n", "i4"), ("v", "f4", 3)], align=True)


async def _send_back(_: Kind, ctx: KernelContext[Any, Any]) -> None:
    async for point in ctx:
        await ctx.send(point)


@kernel(_send_back, input_type=POINT, output_type=POINT)
def same_point(msg: Any, out: Any) -> None:
    out.x, out.n = msg.x, msg.n
    for i in range(3):
        out.v[i] = msg.v[i]


async def is_out(runtime: RingKernelRuntime, kernel_id: str, count: int) -> None:
    """Wait until so many outputs wait."""
    await eventually(lambda: runtime.statistics(kernel_id).output_depth == count)


@pytest.mark.both_loops
@pytest.mark.parametrize("given", [False, True])
async def test_arrays_of_every_length_go_round_the_ring(
    runtime: RingKernelRuntime, typed_kind: Kind, *, given: bool
) -> None:
    await start(runtime, "k", typed_kind(same), queue_size=16)
    out = np.full(20, -1)
    wanted = 0
    for size in [*range(1, 17), 7, 16, 3, 11]:
        batch = np.arange(wanted, wanted + size)
        wanted += size
        await runtime.send_batch("k", batch)
        await is_out(runtime, "k", size)
        received = await within(runtime.receive_batch("k", out=out) if given else runtime.receive_batch("k"))
        assert received.dtype == np.int64
        assert received.tolist() == batch.tolist()
        assert not given or np.shares_memory(received, out)
        assert received.flags.writeable
    assert check_books(runtime, "k").processed == wanted


async def test_records_with_nested_fields_come_out_as_they_went_in(
    runtime: RingKernelRuntime, typed_kind: Kind
) -> None:
    await start(runtime, "k", typed_kind(same_point), queue_size=8)
    rng = np.random.default_rng(1)
    for size in (8, 5, 8, 3):
        points = np.zeros(size, POINT)
        points["x"], points["n"], points["v"] = rng.random(size), rng.integers(0, 9, size), rng.random((size, 3))
        await runtime.send_batch("k", points)
        await is_out(runtime, "k", size)
        received = await within(runtime.receive_batch("k", out=np.empty(size, POINT)))
        for name in POINT.names or ():
            assert received[name].tolist() == points[name].tolist()


async def test_what_has_gaps_or_another_dtype_is_converted_on_its_way_in(
    runtime: RingKernelRuntime, typed_kind: Kind
) -> None:
    await start(runtime, "k", typed_kind(same))
    numbers = np.arange(12)
    forms: list[Any] = [
        numbers[::2],
        numbers[::-1][:6],
        numbers.astype(np.int16)[:6],
        numbers[:6].astype(">i8"),
        list(range(6)),
        numbers[:6].view([("value", "i8")]),
    ]
    for form in forms:
        await runtime.send_batch("k", form)
        await is_out(runtime, "k", 6)
        plain = form if isinstance(form, list) else form.view("i8") if form.dtype.names else form
        assert (await within(runtime.receive_batch("k"))).tolist() == list(plain)


async def test_no_more_is_taken_than_fits_into_the_given_array(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start(runtime, "k", typed_kind(same))
    await runtime.send_batch("k", np.arange(10))
    await is_out(runtime, "k", 10)
    out = np.full(4, -1)
    assert (await runtime.receive_batch("k", out=out)).tolist() == [0, 1, 2, 3]
    assert (await runtime.receive_batch("k", 2, out=out)).tolist() == [4, 5]
    assert (await runtime.receive_batch("k", 9, out=out)).tolist() == [6, 7, 8, 9]
    assert out.tolist() == [6, 7, 8, 9]


async def test_what_waits_for_a_given_array_is_first_in_first_out(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    kernel = await start(runtime, "k", typed_kind(same))
    outs = [np.full(2, -1) for _ in range(3)]
    tasks = [await in_line(kernel.output_queue, runtime.receive_batch("k", out=out)) for out in outs]
    tasks[1].cancel()
    await runtime.send_batch("k", np.arange(4))
    parts = [await within(tasks[0]), await within(tasks[2])]
    assert np.concatenate(parts).tolist() == list(range(sum(map(len, parts))))
    assert outs[1].tolist() == [-1, -1]


async def test_a_timeout_leaves_the_given_array_as_it_was(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start(runtime, "k", typed_kind(same))
    out = np.full(4, -1)
    for timeout in (0, 0.02):
        with pytest.raises(asyncio.TimeoutError):
            await runtime.receive_batch("k", out=out, timeout=timeout)
    await runtime.send_batch("k", [1, 2])
    assert out.tolist() == [-1] * 4
    taken: list[int] = []
    while len(taken) < 2:
        taken.extend(await within(runtime.receive_batch("k", out=out)))
    assert taken == [1, 2]


def read_only() -> np.ndarray[Any, Any]:
    array = np.empty(4, np.int64)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("out", "error", "says"),
    [
        ([1, 2], MessageTypeError, "no array"),
        (np.empty(4), MessageTypeError, "float64.*int64"),
        (np.empty(4, ">i8"), MessageTypeError, "int64"),
        (np.ma.masked_array(np.empty(4, np.int64)), MessageTypeError, "masked"),
        (np.empty((2, 2), np.int64), ConfigurationError, "one dimension"),
        (np.empty(8, np.int64)[::2], ConfigurationError, "contiguous"),
        (read_only(), ConfigurationError, "read-only"),
        (np.empty(0, np.int64), ConfigurationError, "length is 0"),
    ],
)
async def test_an_array_that_does_not_fit_is_refused_and_nothing_is_taken(
    runtime: RingKernelRuntime, typed_kind: Kind, out: Any, error: type[Exception], says: str
) -> None:
    await start(runtime, "k", typed_kind(same))
    await runtime.send_batch("k", [5])
    await is_out(runtime, "k", 1)
    with pytest.raises(error, match=says):
        await runtime.receive_batch("k", out=out)
    assert (await runtime.receive_batch("k")).tolist() == [5]


async def test_objects_fill_no_array(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", Kind("coroutine")(same))
    with pytest.raises(MessageTypeError, match=r"'k' emits Python objects.*output_type"):
        await runtime.receive_batch("k", out=np.empty(4, np.int64))
    with pytest.raises(MessageTypeError, match=r"'k' emits Python objects.*output_type"):
        runtime.peek("k")


async def test_a_kernel_without_outputs_fills_no_array(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(sink))
    with pytest.raises(MessageTypeError, match="no output_type"):
        await runtime.receive_batch("k", out=np.empty(4, np.int64))
    with pytest.raises(MessageTypeError, match="no output_type"):
        runtime.peek("k")


async def test_an_ended_kernel_takes_no_batch_and_gives_its_last(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start(runtime, "k", typed_kind(same))
    await runtime.send_batch("k", np.arange(3))
    await is_out(runtime, "k", 3)
    await runtime.terminate("k")
    for batch in (np.arange(3), np.arange(0)):
        with pytest.raises(KernelStateError):
            await runtime.send_batch("k", batch)
    out = np.empty(8, np.int64)
    assert (await runtime.receive_batch("k", out=out)).tolist() == [0, 1, 2]
    with pytest.raises(KernelStateError, match="nothing is left"):
        await runtime.receive_batch("k", out=out)


async def test_batches_that_never_wait_let_other_tasks_run(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await runtime.launch("k", typed_kind(same), queue_size=4096)
    ran = 0

    async def other() -> None:
        nonlocal ran
        while True:
            await asyncio.sleep(0)
            ran += 1

    task = asyncio.create_task(other())
    one = np.zeros(1, np.int64)
    for _ in range(4096):
        await runtime.send_batch("k", one)
    task.cancel()
    assert ran >= 4
