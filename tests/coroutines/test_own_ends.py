"""A coroutine that returns has ended without error; one that raises, wherever it stands, has failed with that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from helpers import check_books, drain, eventually, receive_all, start, turns, within
from kinds import echo

from ringkernel import (
    KernelContext,
    KernelExit,
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    managed_kernel,
)


async def test_a_kernel_that_returns_has_terminated_without_error(runtime: RingKernelRuntime) -> None:
    async def takes_two(ctx: KernelContext[Any, Any]) -> None:
        for _ in range(2):
            await ctx.send(await ctx.receive())

    kernel = await start(runtime, "k", takes_two)
    await runtime.send_batch("k", [1, 2, 3, 4])
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert kernel.state is KernelState.TERMINATED
    assert kernel.error is None
    assert runtime.unprocessed("k") == [3, 4]
    assert await receive_all(runtime, "k", 2) == [1, 2]
    with pytest.raises(KernelStateError) as caught:
        await within(runtime.receive("k"))
    assert not isinstance(caught.value, KernelFailedError)
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.send("k", 5)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (2, 0, 2)


async def test_a_kernel_may_return_while_paused(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while ctx.is_active:
            await asyncio.sleep(0)

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.reactivate("k")


async def test_a_producer_that_waits_for_room_when_its_consumer_ends(runtime: RingKernelRuntime) -> None:
    async def takes_one(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        while len(senders) < 3:
            await asyncio.sleep(0)

    senders: list[Any] = []
    await start(runtime, "k", takes_one, queue_size=1)
    await runtime.send("k", 0)
    await eventually(lambda: runtime.statistics("k").in_flight)
    await runtime.send("k", 1)
    senders.extend(asyncio.create_task(runtime.send("k", 2 + i)) for i in range(3))
    for sender in senders:
        with pytest.raises(KernelStateError, match=r"'k'.*TERMINATED"):
            await within(sender, 1.0)
    assert runtime.unprocessed("k") == [1]
    assert check_books(runtime, "k").accepted == 2


async def test_request_termination_leaves_the_state_to_the_kernels_return(runtime: RingKernelRuntime) -> None:
    seen: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            value = await ctx.receive()
            await ctx.send(value)
            if value == 2:
                ctx.request_termination()
                seen.append((ctx.should_terminate, ctx.state, ctx.is_active))
        seen.append("last")

    kernel_object = await start(runtime, "k", kernel)
    await runtime.send_batch("k", [1, 2, 3])
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert seen == [(True, KernelState.ACTIVE, True), "last"]
    assert kernel_object.error is None
    assert runtime.unprocessed("k") == [3]
    assert drain(runtime, "k") == [1, 2]


async def test_request_termination_ends_an_async_for(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async for value in ctx:
            await ctx.send(value)
            ctx.request_termination()

    await start(runtime, "k", kernel)
    await runtime.send_batch("k", [1, 2])
    await within(runtime.wait("k"))
    assert drain(runtime, "k") == [1]
    assert runtime.unprocessed("k") == [2]


async def test_request_termination_from_a_task_of_the_kernel_ends_an_async_for_that_waits(
    runtime: RingKernelRuntime,
) -> None:
    lines: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async def watchdog() -> None:
            await turns()
            ctx.request_termination()

        task = asyncio.create_task(watchdog())
        async for value in ctx:
            lines.append(value)
        await task
        lines.append("last")

    await start(runtime, "k", kernel)
    await within(runtime.wait("k"), 1.0)
    assert lines == ["last"]


async def test_raising_kernel_exit_is_a_normal_return(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(1)
        raise KernelExit

    kernel_object = await start(runtime, "k", kernel)
    await within(runtime.wait("k"))
    assert kernel_object.error is None
    assert await runtime.receive("k") == 1


@pytest.mark.parametrize("ends", ["returns", "raises"])
async def test_a_kernel_that_ends_while_it_is_being_terminated_is_terminated(
    runtime: RingKernelRuntime, ends: str
) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()
        await asyncio.sleep(0)
        if ends == "raises":
            raise ValueError

    await start(runtime, "k", kernel)
    await turns()
    await runtime.send("k", 1)
    await asyncio.gather(runtime.terminate("k"), runtime.wait("k"))
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert (runtime.kernels["k"].error is None) == (ends == "returns")


async def test_managed_kernel_does_not_mind_a_kernel_that_has_returned(runtime: RingKernelRuntime) -> None:
    async def once(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(await ctx.receive())

    async with managed_kernel(runtime, "k", once) as kernel_id:
        await runtime.send(kernel_id, 1)
        await within(runtime.wait(kernel_id))


async def test_a_crash_before_the_first_message(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        raise ValueError("at once")

    await runtime.launch("k", kernel)
    await runtime.send("k", 1)
    await runtime.activate("k")
    await within(runtime.wait("k"))
    assert isinstance(runtime.kernels["k"].error, ValueError)
    assert runtime.unprocessed("k") == [1]
    assert check_books(runtime, "k").failed == 0


async def test_a_crash_while_paused(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while ctx.is_active:
            await asyncio.sleep(0)
        raise ValueError("paused")

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert isinstance(runtime.kernels["k"].error, ValueError)


async def test_a_crash_after_a_receive_that_timed_out_counts_no_failed_message(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await ctx.send(await ctx.receive())
        try:
            await ctx.receive(timeout=0.01)
        except TimeoutError:
            raise ValueError("nothing in hand") from None

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await within(runtime.wait("k"))
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed) == (1, 0)


async def test_an_exception_in_finally_is_the_kernels_error(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            await echo(ctx)
        finally:
            raise RuntimeError("closing")

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await within(runtime.terminate("k"))
    assert isinstance(runtime.kernels["k"].error, RuntimeError)
    assert await runtime.receive("k") == 1
    with pytest.raises(KernelFailedError, match="closing"):
        await runtime.receive("k")


async def test_an_exception_in_finally_after_a_cancellation_is_the_kernels_error(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("closing")

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k", timeout=0.02))
    assert isinstance(runtime.kernels["k"].error, RuntimeError)
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_a_task_that_somebody_cancels_is_a_failure(runtime: RingKernelRuntime) -> None:
    kernel = await start(runtime, "k", echo)
    await turns()
    assert kernel.task is not None
    kernel.task.cancel()
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert isinstance(kernel.error, asyncio.CancelledError)
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")
