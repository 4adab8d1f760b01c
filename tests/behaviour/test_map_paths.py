"""A map has the kernels of its path to itself: others wait in line, or are told what holds the kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, partial_of, start_chain, turns, within
from inside import set_answer_timeout
from kinds import Gate, Kind, fails_at_13, gated, same

from ringkernel import (
    BatchTimeoutError,
    KernelContext,
    KernelFailedError,
    KernelState,
    KernelStateError,
    QueueEmptyError,
    QueueFullError,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.messages.types import MessageType
from ringkernel.ring.host.record_ring import RecordRing

SIZE = 64


async def stand_at(gate: Gate, operation: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task for an operation, once the gated kernel stands still."""
    task = asyncio.create_task(operation)
    await eventually(lambda: gate.entered)
    return task


@ring_kernel("mp_numbers", input_type=int, output_type=int, queue_size=SIZE)
async def numbers(ctx: KernelContext[int, int]) -> None:
    """Sends 1,000,000 and up without end, once it is asked."""
    await ctx.receive()
    value = 1_000_000
    while not ctx.should_terminate:
        await ctx.send(value)
        value += 1
        await asyncio.sleep(0)


@pytest.mark.parametrize("count", [1, 1000, 1024, 1025])
async def test_who_sends_to_a_kernel_of_the_path_waits_until_the_map_is_over(
    runtime: RingKernelRuntime, compiled_kind: Kind, count: int
) -> None:
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(gated), b=compiled_kind(same), c=compiled_kind(same))
    values = np.arange(count)
    values[0] = -1
    mapping = await stand_at(compiled_kind.gate(runtime, "a"), runtime.map(("a", "c"), values))
    sending = [asyncio.create_task(runtime.send(name, 7_000_000)) for name in "abc"]
    sending.append(asyncio.create_task(runtime.send_batch("c", np.full(5000, 7_000_000))))
    sending.append(asyncio.create_task(runtime.kernels["b"].input_queue.put(7_000_000)))
    await turns(50)
    assert not any(task.done() for task in sending)
    compiled_kind.gate(runtime, "a").open()
    np.testing.assert_array_equal(await within(mapping), values)
    received: list[int] = []
    while len(received) < 5004:
        received.extend((await within(runtime.receive_batch("c"))).tolist())
    assert received == [7_000_000] * 5004
    await within(asyncio.gather(*sending))
    for name in "abc":
        check_books(runtime, name)


async def test_who_cannot_wait_is_told_what_holds_the_kernel(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(gated), b=compiled_kind(same))
    mapping = await stand_at(compiled_kind.gate(runtime, "a"), runtime.map(("a", "b"), [-1]))
    for name in "ab":
        with pytest.raises(QueueFullError, match="a map over 'a' to 'b'"):
            runtime.send_nowait(name, 1)
        with pytest.raises(TimeoutError, match="a map over 'a' to 'b'"):
            await within(runtime.send(name, 1, timeout=0.01))
        with pytest.raises(TimeoutError) as caught:
            await within(runtime.send_batch(name, [1, 2], timeout=0.01))
        assert isinstance(caught.value, BatchTimeoutError)
        assert caught.value.sent == 0
    with pytest.raises(QueueEmptyError, match="a map over 'a' to 'b'"):
        runtime.receive_nowait("b")
    with pytest.raises(TimeoutError, match="a map over 'a' to 'b'"):
        await within(runtime.receive("b", timeout=0.01))
    compiled_kind.gate(runtime, "a").open()
    assert (await within(mapping)).tolist() == [-1]
    assert runtime.statistics("a").accepted == runtime.statistics("b").accepted == 1


async def test_receivers_that_wait_get_nothing_of_a_map(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, k=kind(same))
    receiving = [asyncio.create_task(runtime.receive("k")), asyncio.create_task(runtime.receive_batch("k"))]
    await turns()
    assert list(await within(runtime.map("k", range(500)))) == list(range(500))
    assert not any(task.done() for task in receiving)
    await runtime.send("k", 7)
    assert await within(receiving[0]) == 7
    await runtime.send("k", 8)
    assert list(await within(receiving[1])) == [8]


async def test_maps_over_one_kernel_take_turns(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, k=kind(same))
    arrays = [np.arange(i, i + 300) for i in range(0, 9000, 1000)]
    results = await within(asyncio.gather(*(runtime.map("k", array) for array in arrays)))
    for array, result in zip(arrays, results, strict=True):
        np.testing.assert_array_equal(result, array)


async def test_a_map_that_comes_as_one_hands_over_to_another_waits_behind_both(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(gated))
    gate, leasing = compiled_kind.gate(runtime, "k"), runtime.kernels["k"].leasing

    async def map_in_between() -> list[int]:
        while leasing.locked():  # then the first has gone, and the second is on its way
            await asyncio.sleep(0)
        return list(await runtime.map("k", range(300)))

    first = await stand_at(gate, runtime.map("k", [-1]))
    second, third = asyncio.create_task(runtime.map("k", [1, 2])), asyncio.create_task(map_in_between())
    await turns()
    gate.open()
    assert [list(await within(mapping)) for mapping in (first, second, third)] == [[-1], [1, 2], [*range(300)]]
    assert check_books(runtime, "k").emitted == 303


async def test_maps_over_overlapping_chains_take_turns(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    coroutine = Kind("typed_coroutine")(same)
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(same), b=compiled_kind(same), c=coroutine)
    paths: list[Any] = [("a", "c"), ("b", "c"), "c", ("a", "c"), "c"] * 3
    refused = 0
    maps = asyncio.gather(*(runtime.map(path, range(200)) for path in paths), return_exceptions=True)
    for outcome in await within(maps):
        if isinstance(outcome, KernelStateError):  # 'b' and 'c' are fed by others, too, and 'c' is a coroutine
            refused += 1
        else:
            assert outcome.tolist() == list(range(200))
    assert refused == 9


@pytest.mark.parametrize("fed", ["a", "b", "c"])
async def test_what_other_kernels_feed_to_the_path_waits_in_its_queue(
    runtime: RingKernelRuntime, compiled_kind: Kind, fed: str
) -> None:
    """A source that never stops, at each kernel of the path: the results are the maps' own, the rest is the others'."""
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(same), b=compiled_kind(same), c=compiled_kind(same))
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
        await eventually(lambda: len(received) > before)  # noqa: B023 (awaited in this round)
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
        await eventually(lambda: not runtime.statistics(name).in_flight)  # noqa: B023 (awaited in this round)
        check_books(runtime, name)


async def test_a_kernel_that_ends_in_a_map_keeps_what_others_have_fed(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(gated), b=compiled_kind(fails_at_13))
    await runtime.launch("other", compiled_kind(same))
    await runtime.deactivate("b")
    runtime.connect("other", "b")
    await runtime.reactivate("b")
    await runtime.activate("other")
    mapping = await stand_at(compiled_kind.gate(runtime, "a"), runtime.map(("a", "b"), [1, -1, 13, 2]))
    await runtime.send_batch("other", [7, 8, 9])
    await eventually(lambda: runtime.statistics("other").emitted == 3)
    compiled_kind.gate(runtime, "a").open()
    with pytest.raises(KernelFailedError) as caught:
        await within(mapping)
    assert partial_of(caught.value) == [1, -1]
    assert sorted(runtime.unprocessed("b").tolist()) == [2, 7, 8, 9]
    check_books(runtime, "b")


async def test_a_map_that_is_cancelled_in_line_has_done_nothing(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(gated), b=compiled_kind(same))
    first = await stand_at(compiled_kind.gate(runtime, "a"), runtime.map(("a", "b"), [-1]))
    waiting = [asyncio.create_task(runtime.map(("a", "b"), [i])) for i in range(4)]
    await turns()
    for task in waiting[1:3]:
        task.cancel()
    await asyncio.gather(*waiting[1:3], return_exceptions=True)
    compiled_kind.gate(runtime, "a").open()
    assert [(await within(task)).tolist() for task in (first, waiting[0], waiting[3])] == [[-1], [0], [3]]
    assert runtime.statistics("a").accepted == 3


async def test_a_map_in_line_behind_one_that_fails_is_told(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(fails_at_13))
    outcomes = await within(asyncio.gather(*(runtime.map("k", [1, 13]) for _ in range(3)), return_exceptions=True))
    assert all(isinstance(outcome, KernelFailedError) for outcome in outcomes)
    assert partial_of(outcomes[0]) == [1]
    with pytest.raises(KernelFailedError):
        await runtime.send("k", 1)


@pytest.mark.parametrize("answer_s", [0.4, 5.0])
async def test_a_map_is_cancelled_while_its_handler_does_not_return(
    runtime: RingKernelRuntime, compiled_kind: Kind, monkeypatch: pytest.MonkeyPatch, answer_s: float
) -> None:
    """The cancellation goes through at once; the kernel is whole when the handler has returned; nothing is lost."""
    set_answer_timeout(monkeypatch, answer_s)
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(gated))
    await start_chain(runtime, queue_size=SIZE, other=compiled_kind(same))
    values = np.arange(1000)
    values[300] = -1
    mapping = await stand_at(compiled_kind.gate(runtime, "k"), runtime.map("k", values))
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await within(mapping, 1.0)
    sending = asyncio.create_task(runtime.send("k", 7_000_000))
    another = asyncio.create_task(runtime.map("k", [6]))
    np.testing.assert_array_equal(await within(runtime.map("other", np.arange(1000))), np.arange(1000))
    await asyncio.sleep(0.6 if answer_s < 1 else 0.05)  # the first: the answer is overdue
    assert not sending.done()
    compiled_kind.gate(runtime, "k").open()
    await within(sending)
    received = partial_of(caught.value)
    while received[-1:] != [7_000_000]:
        received.append(await within(runtime.receive("k")))
    assert received == [*values[: len(received) - 1], 7_000_000]
    assert len(received) > 301
    with pytest.raises(KernelStateError, match="wait"):
        await within(another)
    assert (await within(runtime.map("k", [6]))).tolist() == [6]
    assert runtime.get_state("k") is KernelState.ACTIVE
    check_books(runtime, "k")


async def test_a_cancelled_map_over_a_handler_that_is_then_abandoned(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(gated))
    mapping = await stand_at(compiled_kind.gate(runtime, "k"), runtime.map("k", [1, 2, -1]))
    gate = compiled_kind.gate(runtime, "k")
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await within(mapping, 1.0)
    partial = partial_of(caught.value)
    await within(runtime.terminate("k", timeout=0.05))
    assert "abandoned" in str(runtime.kernels["k"].error)
    gate.open()  # the thread comes back to memory that must still be its own
    await start_chain(runtime, queue_size=SIZE, next=compiled_kind(same))
    for _ in range(20):
        np.testing.assert_array_equal(await within(runtime.map("next", np.arange(3))), np.arange(3))
    assert partial + drain(runtime, "k") == [1, 2][: runtime.statistics("k").processed]


async def test_under_a_timeout_the_cause_has_what_came_out(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(gated))
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await runtime.map("k", [*range(100), -1])
    assert caught.value.__cause__ is not None
    partial = partial_of(caught.value.__cause__)
    compiled_kind.gate(runtime, "k").open()
    await eventually(lambda: not runtime.kernels["k"].leasing.locked())
    assert partial + drain(runtime, "k") == [*range(100), -1]


@pytest.mark.parametrize("moment_us", range(0, 4000, 250))
async def test_a_map_is_cancelled_as_its_handler_fails(
    runtime: RingKernelRuntime, compiled_kind: Kind, moment_us: int
) -> None:
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(fails_at_13))
    values = np.arange(100, 3100)
    values[2500] = 13
    mapping = asyncio.create_task(runtime.map("k", values))
    await asyncio.sleep(moment_us / 1e6)
    mapping.cancel()
    with pytest.raises((asyncio.CancelledError, KernelFailedError)) as caught:
        await within(mapping)
    received = partial_of(caught.value) + drain(runtime, "k")
    assert received == values[: len(received)].tolist()
    if runtime.kernels["k"].error is None:  # it may still be on its way to fail
        await runtime.terminate("k")
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.emitted, counts.received) == (len(received),) * 3


async def test_a_cancelled_map_through_coroutines_keeps_what_came_out(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    coroutine = Kind("typed_coroutine")(same)
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(same), b=coroutine, c=compiled_kind(same))
    for count in range(0, 200, 7):
        mapping = asyncio.create_task(runtime.map(("a", "c"), range(200)))
        await turns(count)
        mapping.cancel()
        try:
            received = (await within(mapping)).tolist()
        except asyncio.CancelledError as error:
            received = partial_of(error)
        while runtime.statistics("c").received < runtime.statistics("a").accepted:
            received.append(await within(runtime.receive("c")))
        assert received == list(range(len(received)))
    assert runtime.statistics("c").received == runtime.statistics("a").accepted


async def test_a_kernel_with_outputs_of_a_cancelled_map_is_not_connected(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(gated))
    await runtime.launch("next", compiled_kind(same))
    mapping = await stand_at(compiled_kind.gate(runtime, "k"), runtime.map("k", [-1, 2]))
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(mapping)
    compiled_kind.gate(runtime, "k").open()
    await eventually(lambda: not runtime.kernels["k"].leasing.locked())
    await runtime.deactivate("k")
    with pytest.raises(KernelStateError, match="receive them first"):
        runtime.connect("k", "next")
    assert await within(runtime.receive("k")) == -1
    drain(runtime, "k")
    runtime.connect("k", "next")


async def test_what_a_second_cancelled_map_leaves_can_be_received_too(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    """Whatever the first has left is received, and nobody has looked since whether there is more."""
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    for times in range(2):
        mapping = asyncio.create_task(runtime.map("k", [1, -1, 2]))
        await eventually(lambda: gate.entered > times)  # noqa: B023 (awaited in this round)
        mapping.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await within(mapping)
        gate.open()
        await eventually(lambda: not runtime.kernels["k"].leasing.locked())
        gate.close()
        received = partial_of(caught.value)
        while runtime.statistics("k").output_depth:
            received.append(await within(runtime.receive("k")))
        assert received == [1, -1, 2][: len(received)]
        counts = check_books(runtime, "k")
        assert counts.received == counts.processed


async def test_nothing_is_published_beyond_the_end_of_lent_memory(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    """Whatever happens in the layers above: the ring itself has no room there."""
    await start_chain(runtime, queue_size=SIZE, k=compiled_kind(same))
    engine: Any = runtime.kernels["k"].engine
    number = MessageType(int)
    memory = np.full(8, 99, np.int64).view(number.dtype)
    lent = RecordRing(engine.arena, number, 8, lent=memory[:5])
    lent.add_edge()
    assert lent.room() == 5
    async with engine.token():
        engine.attach({}, lent, alone=True)
    await runtime.send_batch("k", range(10))
    await eventually(lambda: lent.position() == 5)
    await turns(50)
    assert memory["value"].tolist() == [0, 1, 2, 3, 4, 99, 99, 99]
    assert runtime.statistics("k").processed == 5
    async with engine.token():
        engine.detach()
    assert [await within(runtime.receive("k")) for _ in range(5)] == [5, 6, 7, 8, 9]
