"""Whoever waits for what a coroutine kernel emits runs its task meanwhile; nobody can tell but by a clock."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest
from helpers import Ticker, check_books, eventually, start, turns, within
from kinds import echo

from ringkernel import KernelContext, KernelFailedError, RingKernelRuntime
from ringkernel.devices.event_loop.budget import MAX_OPERATIONS

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def test_a_message_there_and_back_takes_no_round_of_the_loop(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    await turns()
    rounds = 0

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())
    await turns()
    seen = rounds
    for value in range(40):
        await runtime.send("k", value)
        assert await runtime.receive("k") == value
    assert rounds - seen < 20  # some for other tasks; waiting would take two for each message
    counter.cancel()


async def test_but_others_run_now_and_then(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    done = 0
    async with Ticker(lambda: done) as ticker:
        for value in range(4000):
            await runtime.send("k", value)
            assert await runtime.receive("k") == value
            done += 1
    assert 0 < ticker.longest <= MAX_OPERATIONS
    assert check_books(runtime, "k").processed == 4000


async def test_each_task_is_the_current_one_in_its_own_context(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        who.set("kernel")
        async for _ in ctx:
            await ctx.send((asyncio.current_task(), who.get()))

    kernel_object = await start(runtime, "k", kernel)
    await turns()
    who.set("host")
    host = asyncio.current_task()
    await runtime.send("k", 1)
    assert await runtime.receive("k") == (kernel_object.task, "kernel")
    assert (asyncio.current_task(), who.get()) == (host, "host")


async def test_a_kernel_that_fails_then_fails_alone(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async for value in ctx:
            await ctx.send(1 // value)

    await start(runtime, "k", kernel)
    await turns()
    host = asyncio.current_task()
    await runtime.send_batch("k", [1, 0, 1])
    assert await runtime.receive("k") == 1
    with pytest.raises(KernelFailedError) as caught:
        await runtime.receive("k")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert asyncio.current_task() is host
    assert check_books(runtime, "k").failed == 1
    assert runtime.unprocessed("k") == [1]


async def test_a_kernel_that_has_to_wait_for_something_else_is_waited_for(runtime: RingKernelRuntime) -> None:
    gate = asyncio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async for value in ctx:
            await gate.wait()
            async with asyncio.timeout(5):
                await asyncio.sleep(0)
            await ctx.send(value)

    await start(runtime, "k", kernel)
    await turns()
    await runtime.send("k", 1)
    answer = asyncio.create_task(runtime.receive("k"))
    await turns()
    assert not answer.done()
    gate.set()
    assert await within(answer) == 1


async def test_kernels_that_ask_kernels(runtime: RingKernelRuntime) -> None:
    depth = 300

    def asking(below: str) -> Any:
        async def kernel(ctx: KernelContext[Any, Any]) -> None:
            async for value in ctx:
                await runtime.send(below, value + 1)
                await ctx.send(await runtime.receive(below))

        return kernel

    await start(runtime, "0", echo)
    for i in range(1, depth):
        await start(runtime, str(i), asking(str(i - 1)))
    await turns()
    for value in range(3):
        await runtime.send(str(depth - 1), value)
        assert await within(runtime.receive(str(depth - 1))) == value + depth - 1


async def test_a_kernel_that_was_paused_meanwhile_is_not_run(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    await turns()
    await runtime.send("k", 1)
    await runtime.deactivate("k")
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive("k", timeout=0.01)
    assert runtime.statistics("k").unprocessed == 1
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 1


@pytest.mark.parametrize("sent", [False, True], ids=["idle", "notified"])
async def test_a_kernel_that_is_cancelled_has_taken_nothing(runtime: RingKernelRuntime, sent: bool) -> None:
    seen: list[BaseException] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            await ctx.receive()
        except asyncio.CancelledError as error:
            seen.append(error)
        await ctx.send(await ctx.receive())

    kernel_object = await start(runtime, "k", kernel)
    await turns()
    if sent:
        await runtime.send("k", 1)
    assert kernel_object.task is not None
    kernel_object.task.cancel("stop that")
    if not sent:
        await eventually(lambda: seen)
        await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1
    assert [error.args for error in seen] == [("stop that",)]


async def test_several_tasks_of_a_kernel_take_turns(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        async def part(name: str) -> None:
            while True:
                await ctx.send((name, await ctx.receive()))

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(part(name))

    await start(runtime, "k", kernel)
    await turns()
    answers = []
    for value in range(6):
        await runtime.send("k", value)
        answers.append(await within(runtime.receive("k")))
    assert answers == [(name, value) for value, name in enumerate("abcabc")]


async def test_a_queue_of_a_kernel_is_served_as_well(runtime: RingKernelRuntime) -> None:
    kernel_object = await start(runtime, "k", echo)
    await turns()
    for value in range(5):
        await kernel_object.input_queue.put(value)
        assert await within(kernel_object.output_queue.get()) == value
