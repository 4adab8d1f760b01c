"""Kernels without input: called while there is room, until they stop, are paused, or are ended."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, receive_all, start, within
from inside import fuse
from kinds import add_one, drops_thirds

from ringkernel import (
    ConfigurationError,
    KernelFailedError,
    KernelState,
    MessageTypeError,
    RingKernelRuntime,
    on_end,
    ring_kernel,
)

COUNTER = np.zeros((), [("next", "i8"), ("stop", "i8")])


def until(stop: int) -> Any:
    state = COUNTER.copy()
    state["stop"] = stop
    return state


def counts(out: Any, state: Any) -> None:
    if state.next == state.stop:
        raise StopIteration
    out.value = state.next
    state.next += 1


def evens(out: Any, state: Any) -> bool:
    if state.next == state.stop:
        raise StopIteration
    state.next += 1
    out.value = state.next - 1
    return bool(out.value % 2 == 0)


def nothing(out: Any, state: Any) -> bool:
    state.next += 1
    return False


@ring_kernel("gated_evens", output_type=int, state=until(200_000), params=np.zeros((), [("is_open", "?")]))
def gated_evens(out: Any, state: Any, params: Any) -> bool:
    if not params.is_open:
        return False
    if state.next == state.stop:
        raise StopIteration
    state.next += 1
    out.value = state.next - 1
    return bool(out.value % 2 == 0)


def source(kernel_id: str, handler: Any, stop: int = -1) -> Any:
    def copy(out: Any, state: Any) -> Any:
        raise NotImplementedError

    copy.__code__ = handler.__code__
    return ring_kernel(kernel_id, output_type=int, state=until(stop))(copy)


async def test_it_is_called_until_it_stops(runtime: RingKernelRuntime) -> None:
    kernel = await start(runtime, "k", source("counts", counts, 1000), queue_size=16)
    assert await receive_all(runtime, "k", 1000) == list(range(1000))
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert kernel.error is None
    counted = check_books(runtime, "k")
    assert (counted.processed, counted.emitted, counted.dropped, counted.failed) == (1001, 1000, 1, 0)
    assert counted.unprocessed == counted.peak_input_depth == 0
    assert len(runtime.unprocessed("k")) == 0


async def test_false_emits_nothing_this_time(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", source("evens", evens, 100))
    await within(runtime.wait("k"))
    assert drain(runtime, "k") == list(range(0, 100, 2))
    assert check_books(runtime, "k").dropped == 51


async def test_it_is_called_only_while_there_is_room(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", source("counts", counts), queue_size=8)
    await eventually(lambda: runtime.statistics("k").emitted == 8)
    await asyncio.sleep(0.02)
    assert (await runtime.read_state("k")).next == 8
    assert await receive_all(runtime, "k", 8) == list(range(8))
    await eventually(lambda: runtime.statistics("k").emitted == 16)


async def test_it_is_paused_and_resumed(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", source("counts", counts), queue_size=8)
    await eventually(lambda: runtime.statistics("k").emitted == 8)
    await runtime.deactivate("k")
    assert drain(runtime, "k") == list(range(8))
    await asyncio.sleep(0.02)
    assert drain(runtime, "k") == []
    check_books(runtime, "k")
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 8


async def test_terminate_stops_it_and_runs_its_end(runtime: RingKernelRuntime) -> None:
    declared = source("ended", counts)

    @on_end("ended")
    def last(out: Any, state: Any) -> None:
        out.value = -state.next

    await start(runtime, "k", declared, queue_size=64)
    assert len(await within(runtime.receive_batch("k"))) > 0
    ending = asyncio.create_task(runtime.terminate("k"))
    received: list[int] = []
    async for batch in runtime.stream("k"):
        received += batch.tolist()
    await within(ending)
    assert runtime.kernels["k"].error is None
    assert received[-1] < 0
    assert check_books(runtime, "k").unprocessed == 0


@pytest.mark.parametrize("is_fused", [False, pytest.param(True, marks=pytest.mark.workers)])
async def test_it_feeds_others_and_its_end_goes_on(runtime: RingKernelRuntime, is_fused: bool) -> None:
    await runtime.launch("a", gated_evens)
    await runtime.launch("b", drops_thirds.handler)
    await runtime.launch("c", add_one.handler)
    runtime.connect("a", "b")
    runtime.connect("b", "c")
    for name in "cba":
        await runtime.activate(name)
    if is_fused:
        await eventually(lambda: fuse(runtime, "a", "b", "c"))
    await runtime.write_params("a", (True,))
    expected = [value + 1 for value in range(0, 200_000, 2) if value % 3]
    assert await receive_all(runtime, "c", len(expected)) == expected
    for name in "abc":
        await within(runtime.wait(name))
        assert runtime.kernels[name].error is None
        check_books(runtime, name)


@pytest.mark.workers
async def test_it_runs_as_one_with_a_sink(runtime: RingKernelRuntime) -> None:
    await runtime.launch("a", source("counts", counts))
    await runtime.launch("b", ring_kernel("counts_them", input_type=int, state=np.zeros(1, int))(counts_them))
    runtime.connect("a", "b")
    await runtime.activate("b")
    await runtime.activate("a")
    await eventually(lambda: fuse(runtime, "a", "b"))
    await eventually(lambda: runtime.statistics("b").processed > 10_000)
    await runtime.terminate("a")
    await runtime.terminate("b")
    assert check_books(runtime, "b").processed == check_books(runtime, "a").emitted


def counts_them(msg: Any, state: Any) -> None:
    state[0] += 1


@pytest.mark.workers
async def test_one_that_emits_nothing_is_named_and_burns_no_core(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", source("nothing", nothing))
    await runtime.launch("after", add_one.handler)
    await runtime.deactivate("k")
    with pytest.raises(TimeoutError, match="'k' is DEACTIVATED"):
        await runtime.receive("k", timeout=0.01)
    runtime.connect("k", "after")
    await runtime.activate("after")
    await runtime.reactivate("k")
    await eventually(lambda: runtime.statistics("k").processed > 10_000)
    with pytest.raises(TimeoutError, match=r"source 'k' was called \d+ times and emitted nothing"):
        await runtime.receive("after", timeout=0.01)

    await eventually(lambda: fuse(runtime, "k", "after"))

    async def naps() -> bool:
        used, began = time.process_time(), time.monotonic()
        await asyncio.sleep(0.1)
        return time.process_time() - used < 0.8 * (time.monotonic() - began)

    await eventually(naps)
    await within(runtime.deactivate("k"))  # it is not deaf meanwhile
    assert check_books(runtime, "k").emitted == check_books(runtime, "after").accepted == 0


async def test_a_failing_one_fails_its_kernel(runtime: RingKernelRuntime) -> None:
    def fails(out: Any, state: Any) -> None:
        if state.next == 5:
            raise ValueError("five")
        out.value = state.next
        state.next += 1

    kernel = await start(runtime, "k", source("fails", fails))
    await within(runtime.wait("k"))
    assert isinstance(kernel.error, ValueError)
    assert "kernel 'k' failed when its handler, that of a source, was called" in kernel.error.__notes__
    assert drain(runtime, "k") == list(range(5))
    counted = check_books(runtime, "k")
    assert (counted.processed, counted.failed, counted.unprocessed) == (5, 1, 0)
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")


async def test_nothing_can_be_sent_to_it(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", source("counts", counts))
    await runtime.launch("other", add_one.handler)
    refused: dict[str, Any] = {
        "send": lambda: runtime.send("k", 1),
        "send_batch": lambda: runtime.send_batch("k", [1]),
        "call": lambda: runtime.call("k", 1),
        "close_input": lambda: runtime.close_input("k"),
    }
    for call in refused.values():
        with pytest.raises(MessageTypeError, match="kernel 'k' is a source: it has no input"):
            await within(call())
    plainly: list[Any] = [lambda: runtime.send_nowait("k", 1), lambda: runtime.connect("other", "k")]
    for plain in plainly:
        with pytest.raises(MessageTypeError, match="kernel 'k' is a source: it has no input"):
            plain()
    await runtime.activate("k")
    with pytest.raises(MessageTypeError, match="kernel 'k' is a source: it has no input"):
        await runtime.map("k", [1])
    assert await within(runtime.receive("k")) == 0


def test_what_is_no_source_is_still_told_what_it_needs() -> None:
    with pytest.raises(MessageTypeError, match="needs a type: annotate its first parameter"):

        @ring_kernel("forgotten", output_type=int)
        def forgotten(msg: Any, out: Any) -> None:
            out.value = msg.value

    with pytest.raises(MessageTypeError, match="so it is a source and needs the type of its outputs"):

        @ring_kernel("untyped")
        def untyped(out: Any) -> None:
            out.value = 1

    with pytest.raises(ConfigurationError, match="batch=True does not go with a source"):

        @ring_kernel("batches", output_type=int, batch=True)
        def batches(out: Any) -> None:
            out[0].value = 1


async def test_the_annotation_of_out_is_its_type(runtime: RingKernelRuntime) -> None:
    def ones(out: float) -> None:
        out.value = 1.0  # type: ignore[attr-defined]

    await start(runtime, "ones", ones, queue_size=4)
    assert await receive_all(runtime, "ones", 4) == [1.0] * 4
