"""A call sends a message and returns its output: its own, whoever else calls, and whoever gives up meanwhile."""

from __future__ import annotations

import asyncio

import pytest
from helpers import Ticker, check_books, eventually, start, start_chain, turns, within
from kinds import Kind, add_one, copies, drops_thirds, fails_at_13, gated, same, sink

from ringkernel import ConfigurationError, KernelFailedError, KernelNotFoundError, KernelStateError, RingKernelRuntime
from ringkernel.devices.event_loop.budget import MAX_OPERATIONS


async def test_a_call_returns_the_output_of_its_message(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(add_one))
    for i in range(200):
        assert await within(runtime.call("k", i)) == i + 1
    check_books(runtime, "k")


async def test_a_chain_is_called_from_end_to_end(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, a=kind(add_one), b=kind(add_one), c=kind(add_one))
    for i in range(100):
        assert await within(runtime.call(("a", "c"), i)) == i + 3
    with pytest.raises(KernelStateError, match="'a' go to 'b'; call the whole chain"):
        await runtime.call("a", 1)
    with pytest.raises(KernelStateError, match="'b' is fed by 'a', too"):
        await runtime.call(("b", "c"), 1)


async def test_calls_at_the_same_time_get_each_its_own(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(add_one))

    async def caller(start: int) -> None:
        for i in range(start, start + 50):
            assert await runtime.call("k", i) == i + 1
            if i % 7 == 0:
                await asyncio.sleep(0)

    await within(asyncio.gather(*(caller(100 * n) for n in range(20))))
    check_books(runtime, "k")


async def test_a_full_input_makes_calls_wait_for_room(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=2)
    assert await within(asyncio.gather(*(runtime.call("k", i) for i in range(50)))) == list(range(50))


async def test_who_gives_up_gets_nobody_else_s_output(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(gated))
    with pytest.raises(asyncio.TimeoutError, match="nothing came from kernel 'k' within 0.01 s"):
        await runtime.call("k", -1, timeout=0.01)
    cancelled = asyncio.create_task(runtime.call("k", 1))
    waiting = asyncio.create_task(runtime.call("k", 2))
    await turns()
    cancelled.cancel()
    await turns()
    kind.gate(runtime, "k").open()
    assert await within(waiting) == 2
    assert await within(runtime.call("k", 3)) == 3
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    await eventually(lambda: runtime.statistics("k").received == 4)
    check_books(runtime, "k")


async def test_an_output_of_something_else_is_not_taken_for_an_answer(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    assert await within(runtime.call("k", 1)) == 1
    await runtime.send("k", 2)
    for _ in range(MAX_OPERATIONS + 1):  # also when it is time to let other tasks run
        with pytest.raises(KernelStateError, match="are on their way through kernel 'k', or their outputs wait"):
            await runtime.call("k", 3)
    assert await within(runtime.receive("k")) == 2
    assert await within(runtime.call("k", 4)) == 4


async def test_a_kernel_that_fails_fails_its_callers(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(fails_at_13))
    assert await within(runtime.call("k", 12)) == 12
    with pytest.raises(KernelFailedError):
        await within(runtime.call("k", 13))
    with pytest.raises(KernelStateError):
        await within(runtime.call("k", 14))


async def test_a_call_waits_while_the_kernel_is_paused(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    await runtime.deactivate("k")
    waiting = asyncio.create_task(runtime.call("k", 1))
    await turns()
    assert not waiting.done()
    await runtime.reactivate("k")
    assert await within(waiting) == 1


async def test_a_call_after_the_kernel_was_launched_again(runtime: RingKernelRuntime, kind: Kind) -> None:
    for _ in range(3):
        await start(runtime, "k", kind(same))
        assert await within(runtime.call("k", 1)) == 1
        await runtime.terminate("k")
        with pytest.raises(KernelStateError):
            await runtime.call("k", 2)
        runtime.remove("k")
    with pytest.raises(KernelNotFoundError):
        await runtime.call("k", 1)


async def test_calls_are_for_kernels_with_one_output_each(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "drops", compiled_kind(drops_thirds))
    await start(runtime, "sink", compiled_kind(sink))
    await start(runtime, "copies", copies)
    for name in ("drops", "sink", "copies"):
        with pytest.raises(ConfigurationError, match=f"'{name}' may have no output for a message, or several"):
            await runtime.call(name, 1)
        assert runtime.statistics(name).accepted == 0


async def test_other_tasks_run_between_calls(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    done = 0
    async with Ticker(lambda: done) as ticker:
        while done < 5_000 and ticker.runs <= 50:  # a grid is waited for each time, and that takes its time
            await runtime.call("k", done)
            done += 1
    assert ticker.runs > 5
    assert ticker.longest <= MAX_OPERATIONS
