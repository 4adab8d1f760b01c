"""Kernels that end by themselves: a handler raises StopIteration, or all inputs are closed and consumed."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, receive_all, start, start_chain, within
from inside import fuse, leave_turns_to_workers, take_turns_in_loop
from kinds import Kind, add_one, drops_thirds, same, sink

from ringkernel import KernelContext, KernelState, KernelStateError, RingKernelRuntime, on_input, ring_kernel


@ring_kernel("until_13", input_type=int, output_type=int)
def until_13(msg: Any, out: Any) -> None:
    if msg.value == 13:
        raise StopIteration
    out.value = msg.value


@ring_kernel("sum_until_13", input_type=int, output_type=int, state=np.zeros(1, int))
def sum_until_13(msg: Any, out: Any, state: Any) -> None:
    if msg.value == 13:
        raise StopIteration
    state[0] += msg.value
    out.value = state[0]


@ring_kernel("batches_until_13", input_type=int, output_type=int, batch=True)
def batches_until_13(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        if msgs[i].value == 13:
            raise StopIteration
        outs[i].value = msgs[i].value


@pytest.fixture(params=["coroutine", "typed_coroutine", "cpu", "loop"])
def kind_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each kind of kernel whose input can be closed."""
    if request.param == "loop":
        take_turns_in_loop(monkeypatch)
    elif request.param == "cpu":
        leave_turns_to_workers(monkeypatch)
    return str(request.param)


@pytest.fixture
def ending(kind_name: str) -> Kind:
    return Kind(kind_name)


# --- raise StopIteration --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who_runs_it", [leave_turns_to_workers, take_turns_in_loop])
async def test_a_handler_ends_its_kernel_well(
    runtime: RingKernelRuntime, who_runs_it: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message it stops on is processed and emits nothing; what comes after it was never taken."""
    who_runs_it(monkeypatch)
    kernel = await runtime.launch("k", sum_until_13)
    await runtime.send_batch("k", [1, 2, 13, 3, 4])
    await runtime.activate("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert kernel.error is None
    assert drain(runtime, "k") == [1, 3]
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.failed, counts.dropped) == (5, 3, 0, 1)
    assert list(runtime.unprocessed("k")) == [3, 4]
    assert list(await runtime.read_state("k")) == [3]
    with pytest.raises(KernelStateError, match="'k': its handler has raised StopIteration"):
        await runtime.send("k", 5)


async def test_a_batch_in_which_a_handler_stops_counts_as_processed(runtime: RingKernelRuntime) -> None:
    kernel = await runtime.launch("k", batches_until_13)
    await runtime.send_batch("k", [1, 2, 13, 3])
    await runtime.activate("k")
    await within(runtime.wait("k"))
    assert kernel.error is None
    counts = check_books(runtime, "k")
    assert counts.failed == 0
    before = drain(runtime, "k")
    assert before == [1, 2][: len(before)]
    assert counts.processed + counts.unprocessed == 4
    assert 13 not in list(runtime.unprocessed("k"))


async def test_a_span_that_several_threads_share_ends_where_one_thread_would() -> None:
    async with RingKernelRuntime(workers=2) as runtime:
        values = np.arange(200_000) + 100
        values[150_000] = 13
        kernel = await start(runtime, "k", until_13, queue_size=2**18, parallel=2)
        await runtime.send_batch("k", values)
        await within(runtime.wait("k"))
        assert kernel.error is None
        assert np.array_equal(await receive_all(runtime, "k", 150_000), values[:150_000])
        assert np.array_equal(runtime.unprocessed("k"), values[150_001:])
        assert check_books(runtime, "k").failed == 0


async def test_an_iterator_that_is_exhausted_ends_no_kernel_well(
    runtime: RingKernelRuntime,
) -> None:
    """Only `raise StopIteration` does."""

    @ring_kernel("next_of_none", input_type=int, output_type=int)
    def next_of_none(msg: Any, out: Any) -> None:
        numbers = iter(range(msg.value))
        out.value = next(numbers)

    kernel = await start(runtime, "k", next_of_none)
    await runtime.send("k", 3)
    assert await within(runtime.receive("k")) == 0
    await runtime.send("k", 0)
    await within(runtime.wait("k"))
    assert isinstance(kernel.error, StopIteration)


# --- close_input ----------------------------------------------------------------------------------------------------


async def test_a_closed_input_is_consumed_and_then_the_kernel_ends(runtime: RingKernelRuntime, ending: Kind) -> None:
    kernel = await start(runtime, "k", ending(same))
    await runtime.send_batch("k", range(100))
    await runtime.close_input("k")
    with pytest.raises(KernelStateError, match="'k': close_input"):
        await runtime.send("k", 100)
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert kernel.error is None
    assert drain(runtime, "k") == list(range(100))
    assert len(runtime.unprocessed("k")) == 0
    check_books(runtime, "k")
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.close_input("k")


async def test_a_kernel_that_is_paused_holds_its_end(runtime: RingKernelRuntime, ending: Kind) -> None:
    await runtime.launch("k", ending(same))
    await runtime.send_batch("k", range(3))
    await runtime.close_input("k")
    assert runtime.get_state("k") is KernelState.LAUNCHED
    await runtime.activate("k")
    await within(runtime.wait("k"))
    assert drain(runtime, "k") == [0, 1, 2]

    await start(runtime, "l", ending(same))
    await runtime.deactivate("l")
    await runtime.send_batch("l", range(3))
    await runtime.close_input("l")
    with pytest.raises(TimeoutError):
        await runtime.wait("l", timeout=0.02)
    assert runtime.get_state("l") is KernelState.DEACTIVATED
    await runtime.reactivate("l")
    await within(runtime.wait("l"))
    assert drain(runtime, "l") == [0, 1, 2]


async def test_an_end_goes_on_to_what_the_kernel_feeds(runtime: RingKernelRuntime, ending: Kind) -> None:
    await start_chain(runtime, a=ending(add_one), b=ending(drops_thirds), c=ending(add_one))
    await runtime.send_batch("a", range(1000))
    await runtime.close_input("a")
    for name in "abc":
        assert await within(runtime.wait(name)) is KernelState.TERMINATED
        assert runtime.kernels[name].error is None
        assert check_books(runtime, name).unprocessed == 0
    assert drain(runtime, "c") == [value + 1 for value in range(1, 1001) if value % 3]


async def test_a_kernel_with_several_sources_ends_with_the_last_of_them(runtime: RingKernelRuntime) -> None:
    for name in ("left", "right", "both"):
        await runtime.launch(name, same.handler)
    for name in ("left", "right"):
        runtime.connect(name, "both")
    for name in ("left", "right", "both"):
        await runtime.activate(name)
    await runtime.send("left", 1)
    await runtime.close_input("left")
    await within(runtime.wait("left"))
    await runtime.send("right", 2)
    await eventually(lambda: runtime.statistics("both").processed == 2)
    assert runtime.get_state("both") is KernelState.ACTIVE
    await runtime.close_input("right")
    await within(runtime.wait("both"))
    assert sorted(drain(runtime, "both")) == [1, 2]


async def test_a_kernel_to_which_the_host_has_sent_lives_on_until_its_input_is_closed(
    runtime: RingKernelRuntime, ending: Kind
) -> None:
    await start_chain(runtime, source=ending(add_one), target=ending(add_one))
    await runtime.send("target", 10)
    await runtime.send("source", 20)
    await runtime.close_input("source")
    await within(runtime.wait("source"))
    await eventually(lambda: runtime.statistics("target").processed == 2)
    await runtime.send("target", 30)
    await runtime.close_input("target")
    await within(runtime.wait("target"))
    assert sorted(drain(runtime, "target")) == [11, 22, 31]


@pytest.mark.parametrize("closed", [False, True])
async def test_terminate_ends_those_that_it_is_told_to(runtime: RingKernelRuntime, ending: Kind, closed: bool) -> None:
    """A target whose own input was closed before ends with its source, however that ends."""
    await start_chain(runtime, source=ending(add_one), target=ending(add_one))
    if closed:
        await runtime.close_input("target")
    await runtime.send("source", 1)
    await eventually(lambda: runtime.statistics("target").processed == 1)
    await runtime.terminate("source")
    if closed:
        await within(runtime.wait("target"))
        assert runtime.kernels["target"].error is None
    else:
        await runtime.send("target", 5)
        assert await receive_all(runtime, "target", 2) == [3, 6]
        assert runtime.get_state("target") is KernelState.ACTIVE


async def test_who_waits_for_room_is_told_of_the_end(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", same.handler, queue_size=2)
    await runtime.send_batch("k", [1, 2])
    waiting = asyncio.create_task(runtime.send("k", 3))
    await eventually(lambda: runtime.kernels["k"].input_queue.statistics().waiting_putters == 1)
    await runtime.close_input("k")
    with pytest.raises(KernelStateError, match="close_input"):
        await within(waiting)


async def test_a_map_over_a_kernel_with_a_closed_input_is_refused(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", same.handler)
    await runtime.map("k", [1, 2])
    await runtime.launch("source", same.handler)
    await runtime.deactivate("k")
    runtime.connect("source", "k")  # so it does not end at once
    await runtime.reactivate("k")
    await runtime.close_input("k")
    with pytest.raises(KernelStateError, match="map: kernel 'k' is about to end"):
        await runtime.map("k", [1, 2])


async def test_an_unknown_input_is_named(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", same.handler)
    with pytest.raises(ValueError, match="kernel 'k' has no input 'quotes'; its inputs are ''"):
        await runtime.close_input("k", input="quotes")


# --- fused chains ---------------------------------------------------------------------------------------------------


@pytest.mark.workers
@pytest.mark.parametrize("place", ["a", "b", "c"])
async def test_a_stage_of_a_fused_chain_ends_well(runtime: RingKernelRuntime, place: str) -> None:
    """What it stopped on is processed, nothing is lost, and the stages behind it end, too."""
    handlers: dict[str, Any] = {name: until_13 if name == place else same.handler for name in "abc"}
    await start_chain(runtime, **handlers)
    await runtime.send_batch("a", range(100, 200))
    await receive_all(runtime, "c", 100)
    assert await fuse(runtime, "a", "b", "c")
    await runtime.send_batch("a", [1, 13, 2])
    assert await within(runtime.wait(place)) is KernelState.TERMINATED
    assert runtime.kernels[place].error is None
    for name in "abc"["abc".index(place) :]:
        await within(runtime.wait(name))
        counts = check_books(runtime, name)
        assert counts.failed == 0
    assert drain(runtime, "c") == [1]
    counts = check_books(runtime, place)
    assert (counts.processed, counts.dropped) == (102, 1)
    assert list(runtime.unprocessed(place)) == [2] or place != "a"


@pytest.mark.workers
async def test_a_fused_chain_ends_stage_by_stage_when_its_input_is_closed(runtime: RingKernelRuntime) -> None:
    await start_chain(runtime, a=add_one.handler, b=drops_thirds.handler, c=sink.handler)
    await runtime.send_batch("a", range(99, 200))
    assert await fuse(runtime, "a", "b", "c")
    await runtime.send_batch("a", range(99, 200))
    await runtime.close_input("a")
    for name in "abc":
        await within(runtime.wait(name))
        assert check_books(runtime, name).unprocessed == 0
    assert runtime.statistics("b").processed == 202


# --- coroutine kernels ----------------------------------------------------------------------------------------------


async def test_a_coroutine_kernel_is_told_as_in_a_drain(runtime: RingKernelRuntime) -> None:
    async def last_words(ctx: KernelContext[Any, Any]) -> None:
        async for message in ctx:
            await ctx.send(message)
        await ctx.send("end")

    await start(runtime, "k", last_words)
    await runtime.send_batch("k", ["a", "b"])
    await runtime.close_input("k")
    await within(runtime.wait("k"))
    assert drain(runtime, "k") == ["a", "b", "end"]


async def test_a_compiled_kernel_ends_with_the_coroutine_that_feeds_it_if_its_input_is_closed(
    runtime: RingKernelRuntime,
) -> None:
    async def three(ctx: KernelContext[Any, Any]) -> None:
        for value in range(3):
            await ctx.send(value)

    await start_chain(runtime, source=ring_kernel("three", output_type=int)(three), target=add_one.handler)
    await runtime.close_input("target")
    await within(runtime.wait("target"))
    assert drain(runtime, "target") == [1, 2, 3]


async def test_a_kernel_with_an_input_that_the_host_alone_feeds_waits_for_that_one(runtime: RingKernelRuntime) -> None:
    """Also if nothing was sent there by the time when what feeds its other input has ended."""

    @ring_kernel("two_inputs", input_type=int, output_type=int)
    def two_inputs(msg: Any, out: Any) -> None:
        out.value = msg.value

    @on_input("two_inputs", "other", int)
    def other(msg: Any, out: Any) -> None:
        out.value = -msg.value

    await runtime.launch("first", until_13)
    await runtime.launch("two", two_inputs)
    runtime.connect("first", "two")
    for kernel_id in ("first", "two"):
        await runtime.activate(kernel_id)
    await runtime.close_input("first")
    await within(runtime.wait("first"))
    await runtime.send("two", 5, input="other")
    assert await within(runtime.receive("two")) == -5
    for name in ("", "other"):
        await runtime.close_input("two", input=name)
    await within(runtime.wait("two"))
