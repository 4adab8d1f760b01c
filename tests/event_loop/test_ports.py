"""A port does for plain code what send, receive and call do for coroutines, and never stops the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from fault_kernels import echo, echo_on_worker, gated
from helpers import check_books, eventually, live_state, start, turns, within

from ringkernel import KernelNotFoundError, KernelStateError, QueueEmptyError, QueueFullError, RingKernelRuntime


async def settle(runtime: RingKernelRuntime) -> None:
    """Call the kernel until the event loop's thread runs it."""

    async def runs_here() -> bool:
        await runtime.call("k", 1)
        await asyncio.sleep(0.001)
        return bool(runtime.kernels["k"].engine.runs_here(1))

    await eventually(runs_here)


async def test_in_the_loop_s_thread_a_call_returns_what_this_thread_computes(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    await settle(runtime)
    port = runtime.port("k")
    for i in range(1_000):
        assert port.call(i) == i
    port.put(5)
    assert port.get() == 5
    with pytest.raises(QueueEmptyError):
        port.get()
    check_books(runtime, "k")


async def test_in_the_loop_s_thread_nothing_is_waited_for(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo_on_worker, queue_size=2)
    port = runtime.port("k")
    with pytest.raises(KernelStateError, match="kernel 'k' cannot be called here: a worker would run it"):
        port.call(1)
    assert runtime.statistics("k").accepted == 0
    await runtime.deactivate("k")
    port.put(1)
    port.put(2)
    with pytest.raises(QueueFullError):
        port.put(3)


async def test_other_threads_wait_and_the_loop_goes_on(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo_on_worker)
    port = runtime.port("k")

    def work() -> list[Any]:
        answers = [port.call(i) for i in range(20)]
        port.put(20)
        return [*answers, port.get(timeout=5)]

    assert await within(asyncio.to_thread(work)) == list(range(21))


async def test_a_thread_gets_the_errors_of_the_call(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", gated)
    port = runtime.port("k")
    with pytest.raises(asyncio.TimeoutError):
        await within(asyncio.to_thread(port.call, 1, timeout=0.01))
    waiting = asyncio.create_task(asyncio.to_thread(port.call, 2))
    await turns()
    live_state(runtime, "k")["open"] = 1
    assert await within(waiting) == 2
    with pytest.raises(KernelNotFoundError):
        await within(asyncio.to_thread(runtime.port("nobody").call, 2))


def test_nobody_could_do_it_without_a_loop() -> None:
    async def make() -> Any:
        async with RingKernelRuntime(workers=1) as runtime:
            await start(runtime, "k", echo)
            return runtime.port("k")

    port = asyncio.run(make())
    raised: list[BaseException] = []

    def call() -> None:
        try:
            port.call(1)
        except KernelStateError as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "does not run: nobody could do this" in str(raised[0])
