"""The event loop stays alive: a kernel or a host that never has to wait lets others run, after so many operations."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from helpers import SLACK_S, Ticker, eventually, start, within
from kinds import echo

from ringkernel import (
    KernelContext,
    KernelExit,
    KernelState,
    RingKernelRuntime,
)
from ringkernel.devices.event_loop.budget import MAX_OPERATIONS


async def longest_step(runtime: RingKernelRuntime, kernel: Any, taken: Callable[[], int], count: int) -> int:
    """How many of `count` messages, which wait for it, a kernel takes at most before others run."""
    await runtime.launch("k", kernel)
    await runtime.send_batch("k", list(range(count)))
    async with Ticker(taken) as ticker:
        await runtime.activate("k")
        await eventually(lambda: taken() == count)
    return ticker.longest


async def test_wait_active_returns_at_once_while_active_and_lets_others_run(runtime: RingKernelRuntime) -> None:
    rounds = 0

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal rounds
        while not ctx.should_terminate:
            await ctx.wait_active()
            rounds += 1

    async with Ticker(lambda: rounds) as ticker:
        await start(runtime, "k", kernel)
        await eventually(lambda: rounds > 500)
    assert 0 < ticker.longest <= MAX_OPERATIONS


async def test_a_kernel_that_only_receives_lets_others_run(runtime: RingKernelRuntime) -> None:
    taken = 0

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal taken
        while True:
            await ctx.receive()
            taken += 1

    assert 0 < await longest_step(runtime, kernel, lambda: taken, 4096) <= MAX_OPERATIONS


async def test_a_kernel_that_iterates_and_sends_lets_others_run(runtime: RingKernelRuntime) -> None:
    taken = 0

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal taken
        async for value in ctx:
            await ctx.send(value)
            taken += 1

    assert 0 < await longest_step(runtime, kernel, lambda: taken, 4096) <= MAX_OPERATIONS


async def test_a_slow_kernel_lets_others_run_every_millisecond_or_so(runtime: RingKernelRuntime) -> None:
    taken = 0

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal taken
        async for _ in ctx:
            until = time.monotonic() + 0.0006
            while time.monotonic() < until:
                pass
            taken += 1

    assert 0 < await longest_step(runtime, kernel, lambda: taken, 100) <= 4


@pytest.mark.parametrize("call", ["send", "receive"])
async def test_a_host_that_never_has_to_wait_lets_others_run(runtime: RingKernelRuntime, call: str) -> None:
    done = 0
    await runtime.launch("k", echo)
    if call == "receive":
        await runtime.send_batch("k", list(range(4000)))
        await runtime.activate("k")
        await eventually(lambda: runtime.statistics("k").emitted == 4000)
    async with Ticker(lambda: done) as ticker:
        for i in range(4000):
            await (runtime.send("k", i) if call == "send" else runtime.receive("k"))
            done += 1
    assert 0 < ticker.longest <= MAX_OPERATIONS


async def test_polling_with_a_timeout_of_zero_lets_others_run(runtime: RingKernelRuntime) -> None:
    polls = 0
    taken: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal polls
        while not ctx.should_terminate:
            try:
                taken.append(await ctx.receive(timeout=0))
            except TimeoutError:
                polls += 1

    async with Ticker(lambda: polls) as ticker:
        await start(runtime, "k", kernel)
        await eventually(lambda: polls > 300)
        await runtime.send("k", 1)
        await eventually(lambda: taken == [1])
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await runtime.receive("k", timeout=0)
    assert 0 < ticker.longest <= MAX_OPERATIONS
    await within(runtime.terminate("k"), 1.0)


async def test_polling_while_paused_lets_others_run(runtime: RingKernelRuntime) -> None:
    polls = 0

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal polls
        while not ctx.should_terminate:
            try:
                await ctx.receive(timeout=0)
            except TimeoutError:
                polls += 1

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await runtime.send("k", 1)
    async with Ticker(lambda: polls) as ticker:
        await eventually(lambda: polls > 300)
    assert 0 < ticker.longest <= MAX_OPERATIONS
    assert runtime.statistics("k").unprocessed == 1


@pytest.mark.parametrize("timeout", [None, 0, 0.001])
async def test_a_kernel_that_ignores_its_end_does_not_freeze_the_loop(
    runtime: RingKernelRuntime, timeout: float | None
) -> None:
    ignored = 0

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        nonlocal ignored
        while True:
            try:
                await ctx.receive(timeout=timeout)
            except (TimeoutError, KernelExit):
                ignored += 1

    loop = asyncio.get_running_loop()
    kernel_object = await start(runtime, "k", kernel)
    async with Ticker(lambda: ignored) as ticker:
        begun = loop.time()
        await within(runtime.terminate("k", timeout=0.1))
        assert loop.time() - begun < 0.1 + 0.1 + SLACK_S
    assert ignored > 1
    assert ticker.longest <= MAX_OPERATIONS
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert kernel_object.task is not None
    assert kernel_object.task.cancelled()
