"""A loop that is never idle leaves other Python threads their part of the time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import ringkernel as rk

NAPS = 40
MOST = 1_000_000
"""How often the loop may do what it does during a nap of 1 ms: a second's worth of messages, where it was ten."""


@rk.ring_kernel("doubled_beside", input_type=np.int64, output_type=np.int64)
def doubled(msg: Any, out: Any) -> None:
    out.value = 2 * msg.value


@rk.ring_kernel("echo_beside")
async def echo(ctx: rk.KernelContext[int, int]) -> None:
    async for message in ctx:
        await ctx.send(message)


Pump = Callable[[rk.RingKernelRuntime, str], Awaitable[None]]


async def call(runtime: rk.RingKernelRuntime, kernel_id: str) -> None:
    await runtime.send(kernel_id, 1)
    await runtime.receive(kernel_id)


async def poll(runtime: rk.RingKernelRuntime, kernel_id: str) -> None:
    with pytest.raises(rk.QueueEmptyError):
        runtime.receive_nowait(kernel_id)
    await asyncio.sleep(0)


async def pause(runtime: rk.RingKernelRuntime, kernel_id: str) -> None:
    await runtime.deactivate(kernel_id)
    await runtime.reactivate(kernel_id)


@pytest.mark.parametrize("pump", [call, poll, pause])
@pytest.mark.parametrize("functions", [[doubled], [echo], [doubled, echo]], ids=["compiled", "coroutine", "both"])
def test_a_thread_that_naps_gets_the_interpreter_soon(functions: list[Callable[..., Any]], pump: Pump) -> None:
    done, ends, is_busy = 0, threading.Event(), threading.Event()

    async def use(runtime: rk.RingKernelRuntime, kernel_id: str) -> None:
        nonlocal done
        while not ends.is_set():
            await pump(runtime, kernel_id)
            done += 1
            is_busy.set()

    async def main() -> None:
        async with rk.RingKernelRuntime() as runtime:
            kernels = [await runtime.launch(function) for function in functions]
            ids = [kernel.kernel_id for kernel in kernels]
            await asyncio.gather(*(runtime.activate(kernel_id) for kernel_id in ids))
            await asyncio.gather(*(use(runtime, kernel_id) for kernel_id in ids))

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert is_busy.wait(60)
        for _ in range(NAPS):
            before = done
            time.sleep(0.001)
            assert done - before < MOST
    finally:
        ends.set()
        thread.join()
