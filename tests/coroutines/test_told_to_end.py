"""A coroutine that is told to end drains and reaches its last line; one that does not is cancelled, then abandoned."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from helpers import SLACK_S, check_books, drain, eventually, start, turns, within
from kinds import echo

from ringkernel import (
    KernelContext,
    KernelExit,
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
)


async def test_async_for_drains_what_was_queued_and_reaches_its_last_line(runtime: RingKernelRuntime) -> None:
    lines: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        lines.append("first")
        async for value in ctx:
            await ctx.send(value)
        lines.append((ctx.should_terminate, ctx.is_active, ctx.state))

    kernel_object = await start(runtime, "k", kernel)
    await runtime.send_batch("k", list(range(500)))
    await within(runtime.terminate("k"))
    assert lines == ["first", (True, False, KernelState.TERMINATING)]
    assert drain(runtime, "k") == list(range(500))
    assert kernel_object.error is None
    assert kernel_object.task is not None
    assert kernel_object.task.done()
    assert runtime.unprocessed("k") == []


async def test_a_blocked_receive_with_a_timeout_ends_at_once_by_a_timeout(runtime: RingKernelRuntime) -> None:
    seen: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            await ctx.receive(timeout=60)
        except TimeoutError:
            seen.append(ctx.should_terminate)

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k"), 1.0)
    assert seen == [True]


async def test_a_blocked_receive_without_a_timeout_ends_the_kernel_by_kernel_exit(runtime: RingKernelRuntime) -> None:
    seen: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            while True:
                try:
                    await ctx.receive()
                except Exception as error:  # noqa: BLE001
                    seen.append(error)
        except KernelExit:
            seen.append("exit")
            raise
        finally:
            seen.append("finally")

    kernel_object = await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k"), 1.0)
    assert seen == ["exit", "finally"]
    assert kernel_object.error is None
    assert not issubclass(KernelExit, Exception)


async def test_terminate_waits_for_the_end_of_a_pause_of_the_kernels_own(runtime: RingKernelRuntime) -> None:
    lines: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        while not ctx.should_terminate:
            await ctx.wait_active()
            try:
                await ctx.send(await ctx.receive(timeout=0.05))
            except TimeoutError:
                lines.append("timeout")
        lines.append("last")

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await runtime.send("k", 1)
    await within(runtime.terminate("k"), 1.0)
    assert lines[-1] == "last"
    assert runtime.unprocessed("k") == [1]
    assert drain(runtime, "k") == []


async def test_finally_may_await_and_send(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            while True:
                await ctx.receive()
        finally:
            await asyncio.sleep(0.01)
            await ctx.send("goodbye")

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k"))
    assert await runtime.receive("k") == "goodbye"


async def test_a_kernel_that_waits_for_something_else_is_cancelled_after_the_timeout(
    runtime: RingKernelRuntime,
) -> None:
    seen: list[Any] = []

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    loop = asyncio.get_running_loop()
    await start(runtime, "k", kernel)
    await turns()
    begun = loop.time()
    await within(runtime.terminate("k", timeout=0.1))
    assert 0.1 <= loop.time() - begun < 0.1 + 0.1 + SLACK_S
    assert seen == ["cancelled"]
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_terminate_without_patience(runtime: RingKernelRuntime) -> None:
    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await asyncio.Event().wait()

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k", timeout=0), 0.1 + SLACK_S)
    assert runtime.get_state("k") is KernelState.TERMINATED


@pytest.fixture
async def stubborn(runtime: RingKernelRuntime) -> AsyncIterator[str]:
    """A kernel that swallows every exception until the test is over."""
    over = False
    task = None

    async def stubborn(ctx: KernelContext[Any, Any]) -> None:
        nonlocal task
        task = asyncio.current_task()
        await ctx.receive()
        while not over:
            try:
                await asyncio.sleep(0.01)
            except BaseException:  # noqa: BLE001
                continue

    await runtime.launch("stubborn", stubborn)
    yield "stubborn"
    over = True
    if task is not None:
        await asyncio.wait([task])


async def test_a_kernel_that_refuses_to_die_is_abandoned_and_reported(
    stubborn: str, runtime: RingKernelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    await start(runtime, "sibling", echo)
    kernel = runtime.kernels[stubborn]
    await runtime.activate(stubborn)
    await runtime.send_batch(stubborn, ["in hand", "waiting"])
    await eventually(lambda: runtime.statistics(stubborn).in_flight == 1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with caplog.at_level(logging.WARNING, "ringkernel"):
        await within(runtime.terminate(stubborn, timeout=0.1))
    assert 0.1 <= loop.time() - begun < 0.1 + 0.1 + SLACK_S
    assert runtime.get_state(stubborn) is KernelState.TERMINATED
    assert any("'stubborn'" in record.getMessage() and "abandoned" in record.getMessage() for record in caplog.records)
    assert isinstance(kernel.error, KernelStateError)
    assert "'stubborn'" in str(kernel.error)
    assert kernel.task is not None
    assert not kernel.task.done()
    with pytest.raises(KernelFailedError, match="abandoned"):
        await within(runtime.receive(stubborn))
    counts = check_books(runtime, stubborn)
    assert counts.in_flight + counts.failed + counts.unprocessed + counts.processed == 2
    assert counts.processed == 0
    assert runtime.unprocessed(stubborn)[-1] == "waiting"
    await runtime.send("sibling", 1)
    assert await within(runtime.receive("sibling")) == 1


async def wait_whatever_comes(event: asyncio.Event) -> None:
    """Wait for it, and ignore every cancellation."""
    while not event.is_set():
        try:
            await event.wait()
        except asyncio.CancelledError:
            continue


async def test_an_abandoned_kernel_can_do_nothing_more(runtime: RingKernelRuntime) -> None:
    outcome: list[Any] = []
    go_on, done = asyncio.Event(), asyncio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await wait_whatever_comes(go_on)
        try:
            await ctx.send("late")
        except BaseException as error:  # noqa: BLE001
            outcome.append(type(error))
        try:
            outcome.append(await ctx.receive(timeout=0.01))
        except BaseException as error:  # noqa: BLE001
            outcome.append(type(error))
        done.set()

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await turns()
    await within(runtime.terminate("k", timeout=0.02))
    assert runtime.unprocessed("k") == [1]
    emitted = runtime.statistics("k").emitted
    go_on.set()
    await within(done.wait())
    assert runtime.statistics("k").emitted == emitted
    assert len(outcome) == 2
    assert issubclass(outcome[0], (KernelStateError, KernelExit))
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_a_receive_in_an_abandoned_kernel_ends_instead_of_waiting_for_ever(runtime: RingKernelRuntime) -> None:
    outcome: list[Any] = []
    go_on, done = asyncio.Event(), asyncio.Event()

    async def kernel(ctx: KernelContext[Any, Any]) -> None:
        await wait_whatever_comes(go_on)
        try:
            await ctx.receive()
        except (KernelExit, KernelStateError) as error:
            outcome.append(error)
        finally:
            done.set()

    kernel_object = await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k", timeout=0.02))
    go_on.set()
    try:
        await within(done.wait(), 1.0)
    finally:
        assert kernel_object.task is not None
        kernel_object.task.cancel()
        await asyncio.wait([kernel_object.task])
    assert len(outcome) == 1
