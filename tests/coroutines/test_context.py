"""What a coroutine kernel may do with its context: receive and send while paused, cancelled, in tasks of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest
from helpers import drain, eventually, receive_all, start, turns, within
from kinds import echo

from ringkernel import (
    KernelContext,
    KernelState,
    RingKernelRuntime,
)


async def test_the_body_begins_with_the_first_activation(runtime: RingKernelRuntime) -> None:
    begun: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        begun.append((ctx.kernel_id, ctx.state, ctx.is_active, ctx.should_terminate))
        await echo(ctx)

    launched = await runtime.launch("k", kernel)
    await turns()
    assert begun == []
    assert launched.task is None
    await runtime.activate("k")
    await eventually(lambda: begun)
    assert begun == [("k", KernelState.ACTIVE, True, False)]
    assert launched.task is not None
    await runtime.deactivate("k")
    await runtime.reactivate("k")
    await turns()
    assert len(begun) == 1


async def test_a_receive_that_was_already_notified_takes_nothing_once_paused(runtime: RingKernelRuntime) -> None:
    taken: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while True:
            taken.append(await ctx.receive())

    await start(runtime, "k", kernel)
    await turns()
    runtime.send_nowait("k", 1)  # wakes the kernel, which has not run yet
    await runtime.deactivate("k")
    await turns()
    assert taken == []
    await runtime.reactivate("k")
    await eventually(lambda: taken == [1])


async def test_the_timeout_of_receive_runs_on_while_paused(runtime: RingKernelRuntime) -> None:
    timeouts = 0
    taken: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal timeouts
        while not ctx.should_terminate:
            try:
                taken.append(await ctx.receive(timeout=0.01))
            except TimeoutError:
                timeouts += 1

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await runtime.send("k", 1)
    seen = timeouts
    await eventually(lambda: timeouts >= seen + 3)
    assert taken == []
    await runtime.reactivate("k")
    await eventually(lambda: taken == [1])


async def test_a_paused_kernel_may_still_send(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        value = await ctx.receive()
        while ctx.is_active:
            await asyncio.sleep(0)
        await ctx.send(value)
        await ctx.wait_active()

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await eventually(lambda: runtime.statistics("k").in_flight)
    await runtime.deactivate("k")
    assert await within(runtime.receive("k")) == 1


async def test_wait_active_releases_all_its_waiters(runtime: RingKernelRuntime) -> None:
    awake: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while ctx.is_active:
            await asyncio.sleep(0)

        async def wait(i: int) -> None:
            await ctx.wait_active()
            awake.append((i, ctx.state))

        await asyncio.gather(*(wait(i) for i in range(3)))
        await ctx.receive()

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await turns()
    assert awake == []
    await runtime.reactivate("k")
    await eventually(lambda: len(awake) == 3)
    assert awake == [(i, KernelState.ACTIVE) for i in range(3)]


async def test_wait_active_returns_when_the_kernel_is_told_to_end(runtime: RingKernelRuntime) -> None:
    seen: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while ctx.is_active:
            await asyncio.sleep(0)
        await ctx.wait_active()
        seen.append((ctx.is_active, ctx.should_terminate, ctx.state))

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await turns()
    await within(runtime.terminate("k"), 1.0)
    assert seen == [(False, True, KernelState.TERMINATING)]


@pytest.mark.parametrize("seed", range(5))
async def test_a_kernel_may_cancel_its_own_receives_and_sends(runtime: RingKernelRuntime, seed: int) -> None:
    chance = random.Random(seed)

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        outbox: list[Any] = []
        while not ctx.should_terminate:
            task = asyncio.create_task(ctx.receive() if chance.random() < 0.5 else ctx.receive(timeout=0.001))
            await turns(chance.randrange(4))
            task.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                outbox.append(await task)
            while outbox:
                task = asyncio.create_task(ctx.send(outbox[0]))
                await turns(chance.randrange(4))
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    continue
                outbox.pop(0)

    await start(runtime, "k", kernel, queue_size=1)

    async def feed() -> None:
        for i in range(300):
            await runtime.send("k", i)

    feeding = asyncio.create_task(feed())
    assert await within(receive_all(runtime, "k", 300), 20) == list(range(300))
    await feeding
    await turns()
    assert drain(runtime, "k") == []


async def test_a_waiting_kernel_whose_message_is_cancelled_twice_still_gets_the_next(
    runtime: RingKernelRuntime,
) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        for _ in range(3):
            task = asyncio.create_task(ctx.receive())
            await turns()
            task.cancel()
            await asyncio.wait([task])
        await ctx.send(await ctx.receive())

    await start(runtime, "k", kernel)
    await turns(50)
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1


async def test_a_kernel_may_await_its_own_runtimes_other_kernels(runtime: RingKernelRuntime) -> None:
    await start(runtime, "helper", echo)

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async for value in ctx:
            await runtime.send("helper", value)
            await ctx.send(await runtime.receive("helper"))

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1
