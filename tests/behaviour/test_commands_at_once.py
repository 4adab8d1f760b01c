"""Commands that meet, or are cancelled, leave one state that all agree on, and lose no message."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest
from helpers import check_books, drain, eventually, start, turns, within
from kinds import Kind, gated, same

from ringkernel import KernelState, KernelStateError, RingKernelRuntime


async def test_terminate_twice_at_once(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    results = await asyncio.gather(runtime.terminate("k"), runtime.terminate("k"), return_exceptions=True)
    assert results[0] is None
    assert results[1] is None or isinstance(results[1], KernelStateError)
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_pauses_and_resumptions_at_once_are_taken_one_after_the_other(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    await start(runtime, "k", kind(same))
    results = await asyncio.gather(runtime.deactivate("k"), runtime.deactivate("k"), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, KernelStateError) for result in results) == 1
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    results = await asyncio.gather(runtime.reactivate("k"), runtime.reactivate("k"), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1


async def test_terminate_supersedes_a_pending_pause_and_releases_its_waiter(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    await runtime.send_batch("k", [-1, 1, 2])
    await eventually(lambda: gate.entered)
    pause = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    assert not pause.done()
    ending = asyncio.create_task(runtime.terminate("k"))
    with pytest.raises(KernelStateError, match="'k'"):
        await within(pause)
    assert runtime.get_state("k") is KernelState.TERMINATING
    gate.open()
    await within(ending)
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert drain(runtime, "k") == [-1, 1, 2]
    assert runtime.kernels["k"].error is None


async def test_a_pause_that_was_cancelled_is_not_obeyed_late(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    for i in range(5):
        await runtime.send("k", -1)
        wanted = i + 1
        await eventually(lambda: gate.entered == wanted)  # noqa: B023 (awaited in this round)
        pause = asyncio.create_task(runtime.deactivate("k"))
        await turns(2)
        pause.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pause
        assert runtime.get_state("k") is KernelState.ACTIVE
        gate.open()
        await runtime.send("k", i)
        assert await within(runtime.receive("k")) == -1
        assert await within(runtime.receive("k")) == i
        await within(runtime.deactivate("k"))  # a late answer to the first must not satisfy this one
        assert runtime.get_state("k") is KernelState.DEACTIVATED
        await runtime.send("k", 7)
        await turns()
        assert runtime.statistics("k").input_depth == 1
        await runtime.reactivate("k")
        assert await within(runtime.receive("k")) == 7
        compiled_kind.gate(runtime, "k").close()


async def test_a_pause_that_was_obeyed_and_cancelled_before_anybody_noticed(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", compiled_kind(gated))  # such as the event loop's thread does not run itself
    compiled_kind.gate(runtime, "k").open()
    first = asyncio.create_task(runtime.deactivate("k"))
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251 (the kernel obeys meanwhile, and the event loop cannot look)
    first.cancel()
    second = asyncio.create_task(runtime.deactivate("k"))
    await within(second, 2.0)
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    await asyncio.wait([first])
    await runtime.send("k", 1)
    await turns()
    assert runtime.statistics("k").input_depth == 1
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 1


async def test_a_cancelled_terminate_goes_on(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    await runtime.send_batch("k", list(range(100)))
    ending = asyncio.create_task(runtime.terminate("k"))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert drain(runtime, "k") == list(range(100))


@pytest.mark.parametrize("seed", range(4))
async def test_commands_from_many_tasks_at_once_leave_the_books_balanced(
    runtime: RingKernelRuntime, kind: Kind, seed: int
) -> None:
    await runtime.launch("k", kind(same))
    chance = random.Random(seed)
    sent: list[int] = []
    got: list[int] = []

    async def commander() -> None:
        for _ in range(40):
            command = chance.choice([runtime.activate, runtime.deactivate, runtime.reactivate])
            task = asyncio.create_task(command("k"))
            await turns(chance.randrange(4))
            if chance.random() < 0.3:
                task.cancel()
            with contextlib.suppress(KernelStateError, asyncio.CancelledError):
                await within(task)

    async def sender() -> None:
        for i in range(200):
            await runtime.send("k", i)
            sent.append(i)
            await turns(chance.randrange(2))

    async def receiver() -> None:
        while True:
            got.append(await runtime.receive("k"))

    receiving = asyncio.create_task(receiver())
    await within(asyncio.gather(*(commander() for _ in range(4)), sender()), 20)
    if runtime.get_state("k") is KernelState.DEACTIVATED:
        await runtime.reactivate("k")
    elif runtime.get_state("k") is KernelState.LAUNCHED:
        await runtime.activate("k")
    await within(runtime.terminate("k"))
    with pytest.raises(KernelStateError):
        await within(receiving)
    assert got == sent
    assert check_books(runtime, "k").processed == 200
