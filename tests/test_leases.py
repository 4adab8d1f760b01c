"""A map has the kernels of its path to itself, and nothing that it computed is lost, however it ends."""

from __future__ import annotations

import asyncio
import ctypes
import os
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, live_state, start_chain, turns, within

from ringkernel import (
    KernelFailedError,
    KernelState,
    KernelStateError,
    QueueEmptyError,
    QueueFullError,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.devices.compiled import handshake
from ringkernel.messages.types import MessageType
from ringkernel.ring.record_ring import RecordRing

if os.name != "posix":
    pytest.skip("the handler that stands still calls usleep", allow_module_level=True)

usleep = ctypes.CDLL(None).usleep
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int

GATE = np.dtype([("open", "i8"), ("entered", "i8")])


@ring_kernel("ls_same", input_type=int, output_type=int, queue_size=64)
def same(msg, out):
    out.value = msg.value


@ring_kernel("ls_gate", input_type=int, output_type=int, state=np.zeros((), GATE), queue_size=64)
def gated(msg, out, state):
    """Stands still at negative messages until the test opens it."""
    if msg.value < 0:
        state.entered += 1
        while state.open == 0:
            usleep(100)
    out.value = msg.value


@ring_kernel("ls_poisoned", input_type=int, output_type=int, queue_size=64)
def poisoned(msg, out):
    if msg.value < 0:
        raise ValueError("poison")
    out.value = msg.value


@ring_kernel("ls_relay", input_type=int, output_type=int, queue_size=4)
async def relay(ctx):
    async for value in ctx:
        await asyncio.sleep(0)
        await ctx.send(value)


async def stand_in_gate(runtime: RingKernelRuntime, name: str, operation: Any) -> asyncio.Task[Any]:
    """A task for an operation, once the gated kernel stands still."""
    task = asyncio.create_task(operation)
    await eventually(lambda: live_state(runtime, name)["entered"] >= 1)
    return task


def open_gate(runtime: RingKernelRuntime, name: str) -> None:
    live_state(runtime, name)["open"] = 1


@pytest.mark.parametrize("count", [1, 1000, 1024, 1025])
async def test_who_sends_to_a_kernel_of_the_path_waits_until_the_map_is_over(runtime, count):
    await start_chain(runtime, a=gated, b=same, c=same)
    values = np.arange(count)
    values[0] = -1
    mapping = await stand_in_gate(runtime, "a", runtime.map(("a", "c"), values))
    sending = [asyncio.create_task(runtime.send(name, 7_000_000)) for name in "abc"]
    sending.append(asyncio.create_task(runtime.send_batch("c", np.full(5000, 7_000_000))))
    sending.append(asyncio.create_task(runtime.kernels["b"].input_queue.put(7_000_000)))
    await turns(50)
    assert not any(task.done() for task in sending)
    open_gate(runtime, "a")
    np.testing.assert_array_equal(await within(mapping), values)
    received: list[int] = []
    while len(received) < 5004:
        received.extend((await within(runtime.receive_batch("c"))).tolist())
    assert received == [7_000_000] * 5004
    await within(asyncio.gather(*sending))
    for name in "abc":
        check_books(runtime, name)


async def test_who_cannot_wait_is_told_what_holds_the_kernel(runtime):
    await start_chain(runtime, a=gated, b=same)
    mapping = await stand_in_gate(runtime, "a", runtime.map(("a", "b"), [-1]))
    for name in "ab":
        with pytest.raises(QueueFullError, match="a map over 'a' to 'b'"):
            runtime.send_nowait(name, 1)
        with pytest.raises(TimeoutError, match="a map over 'a' to 'b'"):
            await within(runtime.send(name, 1, timeout=0.01))
        with pytest.raises(TimeoutError) as caught:
            await within(runtime.send_batch(name, [1, 2], timeout=0.01))
        assert caught.value.sent == 0
    with pytest.raises(QueueEmptyError, match="a map over 'a' to 'b'"):
        runtime.receive_nowait("b")
    with pytest.raises(TimeoutError, match="a map over 'a' to 'b'"):
        await within(runtime.receive("b", timeout=0.01))
    open_gate(runtime, "a")
    assert (await within(mapping)).tolist() == [-1]
    assert runtime.statistics("a").accepted == runtime.statistics("b").accepted == 1


@pytest.mark.parametrize("func", [same, relay])
async def test_receivers_that_wait_get_nothing_of_a_map(runtime, func):
    await start_chain(runtime, k=func)
    receiving = [asyncio.create_task(runtime.receive("k")), asyncio.create_task(runtime.receive_batch("k"))]
    await turns()
    assert list(await within(runtime.map("k", range(500)))) == list(range(500))
    assert not any(task.done() for task in receiving)
    await runtime.send("k", 7)
    assert await within(receiving[0]) == 7
    await runtime.send("k", 8)
    assert list(await within(receiving[1])) == [8]


@pytest.mark.parametrize("func", [same, relay])
async def test_maps_over_one_kernel_take_turns(runtime, func):
    await start_chain(runtime, k=func)
    arrays = [np.arange(i, i + 300) for i in range(0, 9000, 1000)]
    results = await within(asyncio.gather(*(runtime.map("k", array) for array in arrays)))
    for array, result in zip(arrays, results, strict=True):
        np.testing.assert_array_equal(result, array)


async def test_maps_over_overlapping_chains_take_turns(runtime):
    await start_chain(runtime, a=same, b=same, c=relay)
    paths = [("a", "c"), ("b", "c"), "c", ("a", "c"), "c"] * 3
    refused = 0
    for outcome in await within(
        asyncio.gather(*(runtime.map(path, range(200)) for path in paths), return_exceptions=True)
    ):
        if isinstance(outcome, KernelStateError):  # 'b' and 'c' are fed by others, too, and 'c' is a coroutine
            refused += 1
        else:
            assert outcome.tolist() == list(range(200))
    assert refused == 9


@ring_kernel("ls_numbers", input_type=int, output_type=int, queue_size=64)
async def numbers(ctx):
    """Sends 1,000,000 and up without end, once it is asked."""
    await ctx.receive()
    value = 1_000_000
    while not ctx.should_terminate:
        await ctx.send(value)
        value += 1
        await asyncio.sleep(0)


@pytest.mark.parametrize("fed", ["a", "b", "c"])
async def test_what_other_kernels_feed_to_the_path_waits_in_its_queue(runtime, fed):
    """A source that never stops, at each kernel of the path: the results are the maps' own, the rest is the others'."""
    await start_chain(runtime, a=same, b=same, c=same)
    await runtime.launch("other", numbers)
    await runtime.deactivate(fed)
    runtime.connect("other", fed)
    await runtime.reactivate(fed)
    await runtime.activate("other")
    received: list[int] = []

    async def receive() -> None:
        while True:
            received.extend((await runtime.receive_batch("c")).tolist())

    receiving = asyncio.create_task(receive())
    await runtime.send("other", 0)
    for count in (1, 10, 1000, 3000) * 5:
        before = len(received)
        np.testing.assert_array_equal(await within(runtime.map(("a", "c"), np.arange(count))), np.arange(count))
        await eventually(lambda before=before: len(received) > before)
    for count in range(0, 30, 3):
        mapping = asyncio.create_task(runtime.map(("a", "c"), np.arange(100)))
        await turns(count)
        mapping.cancel()
        await asyncio.gather(mapping, return_exceptions=True)
    before = len(received)
    await eventually(lambda: len(received) > before + 100)
    await within(runtime.terminate("other"))
    await eventually(lambda: runtime.statistics(fed).input_depth == 0)
    receiving.cancel()
    others = [value for value in received if value >= 1_000_000]
    assert others == list(range(1_000_000, 1_000_000 + len(others)))
    for name in "abc":
        await eventually(lambda name=name: runtime.statistics(name).in_flight == 0)
        check_books(runtime, name)


async def test_a_kernel_that_ends_in_a_map_keeps_what_others_have_fed(runtime):
    await start_chain(runtime, a=gated, b=poisoned)
    await runtime.launch("other", same)
    await runtime.deactivate("b")
    runtime.connect("other", "b")
    await runtime.reactivate("b")
    await runtime.activate("other")
    mapping = await stand_in_gate(runtime, "a", runtime.map(("a", "b"), [1, -1, 2]))
    await runtime.send_batch("other", [7, 8, 9])
    await eventually(lambda: runtime.statistics("other").emitted == 3)
    open_gate(runtime, "a")
    with pytest.raises(KernelFailedError) as caught:
        await within(mapping)
    assert caught.value.partial.tolist() == [1]
    assert sorted(runtime.unprocessed("b").tolist()) == [2, 7, 8, 9]
    check_books(runtime, "b")


async def test_a_map_that_is_cancelled_in_line_has_done_nothing(runtime):
    await start_chain(runtime, a=gated, b=same)
    first = await stand_in_gate(runtime, "a", runtime.map(("a", "b"), [-1]))
    waiting = [asyncio.create_task(runtime.map(("a", "b"), [i])) for i in range(4)]
    await turns()
    for task in waiting[1:3]:
        task.cancel()
    await asyncio.gather(*waiting[1:3], return_exceptions=True)
    open_gate(runtime, "a")
    assert [(await within(task)).tolist() for task in (first, waiting[0], waiting[3])] == [[-1], [0], [3]]
    assert runtime.statistics("a").accepted == 3


async def test_a_map_in_line_behind_one_that_fails_is_told(runtime):
    await start_chain(runtime, k=poisoned)
    outcomes = await within(asyncio.gather(*(runtime.map("k", [1, -1]) for _ in range(3)), return_exceptions=True))
    assert all(isinstance(outcome, KernelFailedError) for outcome in outcomes)
    assert outcomes[0].partial.tolist() == [1]
    with pytest.raises(KernelFailedError):
        await runtime.send("k", 1)


@pytest.mark.parametrize("answer_s", [0.1, 5.0])
async def test_a_map_is_cancelled_while_its_handler_does_not_return(runtime, monkeypatch, answer_s):
    """The cancellation goes through at once; the kernel is whole when the handler has returned; nothing is lost."""
    monkeypatch.setattr(handshake, "ANSWER_TIMEOUT_S", answer_s)
    await start_chain(runtime, k=gated)
    await start_chain(runtime, other=same)
    values = np.arange(1000)
    values[300] = -1
    mapping = await stand_in_gate(runtime, "k", runtime.map("k", values))
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await within(mapping, 1.0)
    sending = asyncio.create_task(runtime.send("k", 7_000_000))
    another = asyncio.create_task(runtime.map("k", [6]))
    np.testing.assert_array_equal(await within(runtime.map("other", np.arange(1000))), np.arange(1000))
    await asyncio.sleep(3 * min(answer_s, 0.1))
    assert not sending.done()
    open_gate(runtime, "k")
    await within(sending)
    received = caught.value.partial.tolist()
    while received[-1:] != [7_000_000]:
        received.append(await within(runtime.receive("k")))
    assert received == [*values[: len(received) - 1], 7_000_000]
    assert len(received) > 301
    with pytest.raises(KernelStateError, match="wait"):
        await within(another)
    assert (await within(runtime.map("k", [6]))).tolist() == [6]
    assert runtime.get_state("k") is KernelState.ACTIVE
    check_books(runtime, "k")


async def test_a_cancelled_map_over_a_handler_that_is_then_abandoned(runtime):
    await start_chain(runtime, k=gated)
    mapping = await stand_in_gate(runtime, "k", runtime.map("k", [1, 2, -1]))
    state = live_state(runtime, "k")
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await within(mapping, 1.0)
    partial = caught.value.partial.tolist()
    await within(runtime.terminate("k", timeout=0.05))
    assert "abandoned" in str(runtime.kernels["k"].error)
    state["open"] = 1  # the thread comes back to memory that must still be its own
    await start_chain(runtime, next=same)
    for _ in range(20):
        np.testing.assert_array_equal(await within(runtime.map("next", np.arange(3))), np.arange(3))
    assert partial + drain(runtime, "k") == [1, 2][: runtime.statistics("k").processed]


async def test_under_a_timeout_the_cause_has_what_came_out(runtime):
    await start_chain(runtime, k=gated)
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await runtime.map("k", [*range(100), -1])
    partial = caught.value.__cause__.partial.tolist()
    open_gate(runtime, "k")
    await eventually(lambda: not runtime.kernels["k"].leasing.locked())
    assert partial + drain(runtime, "k") == [*range(100), -1]


@pytest.mark.parametrize("moment_us", range(0, 4000, 250))
async def test_a_map_is_cancelled_as_its_handler_fails(runtime, moment_us):
    await start_chain(runtime, k=poisoned)
    values = np.arange(3000)
    values[2500] = -1
    mapping = asyncio.create_task(runtime.map("k", values))
    await asyncio.sleep(moment_us / 1e6)
    mapping.cancel()
    with pytest.raises((asyncio.CancelledError, KernelFailedError)) as caught:
        await within(mapping)
    received = ([] if caught.value.partial is None else caught.value.partial.tolist()) + drain(runtime, "k")
    assert received == values[: len(received)].tolist()
    if runtime.kernels["k"].error is None:  # it may still be on its way to fail
        await runtime.terminate("k")
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.emitted, counts.received) == (len(received),) * 3


async def test_a_cancelled_map_through_coroutines_keeps_what_came_out(runtime):
    await start_chain(runtime, a=same, b=relay, c=same)
    for count in range(0, 200, 7):
        mapping = asyncio.create_task(runtime.map(("a", "c"), range(200)))
        await turns(count)
        mapping.cancel()
        try:
            received = (await within(mapping)).tolist()
        except asyncio.CancelledError as error:
            received = [] if getattr(error, "partial", None) is None else error.partial.tolist()
        while runtime.statistics("c").received < runtime.statistics("a").accepted:
            received.append(await within(runtime.receive("c")))
        assert received == list(range(len(received)))
    assert runtime.statistics("c").received == runtime.statistics("a").accepted


async def test_a_kernel_with_outputs_of_a_cancelled_map_is_not_connected(runtime):
    await start_chain(runtime, k=gated)
    await runtime.launch("next", same)
    mapping = await stand_in_gate(runtime, "k", runtime.map("k", [-1, 2]))
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(mapping)
    open_gate(runtime, "k")
    await eventually(lambda: not runtime.kernels["k"].leasing.locked())
    await runtime.deactivate("k")
    with pytest.raises(KernelStateError, match="receive them first"):
        runtime.connect("k", "next")
    assert await within(runtime.receive("k")) == -1
    drain(runtime, "k")
    runtime.connect("k", "next")


async def test_nothing_is_published_beyond_the_end_of_lent_memory(runtime):
    """Whatever happens in the layers above: the ring itself has no room there."""
    await start_chain(runtime, k=same)
    engine = runtime.kernels["k"].engine
    number = MessageType(int)
    memory = np.full(8, 99, np.int64).view(number.dtype)
    lent = RecordRing(engine.arena, number, 8, lent=memory[:5])
    lent.add_edge()
    assert lent.room() == 5
    async with engine.token():
        engine.lend(None, lent)
    await runtime.send_batch("k", range(10))
    await eventually(lambda: lent.position() == 5)
    await turns(50)
    assert memory["value"].tolist() == [0, 1, 2, 3, 4, 99, 99, 99]
    assert runtime.statistics("k").processed == 5
    async with engine.token():
        engine.take_back()
    assert [await within(runtime.receive("k")) for _ in range(5)] == [5, 6, 7, 8, 9]
