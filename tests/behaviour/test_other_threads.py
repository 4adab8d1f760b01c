"""A loop that is never idle leaves other Python threads their part of the time."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ringkernel as rk

if TYPE_CHECKING:
    from collections.abc import Callable

NAPS = 40
MOST = 100_000
"""Messages that the loop may send and receive during a nap of 1 ms: two seconds' worth, where it was ten."""


@rk.ring_kernel("doubled_beside", input_type=np.int64, output_type=np.int64)
def doubled(msg: Any, out: Any) -> None:
    out.value = 2 * msg.value


@rk.ring_kernel("echo_beside")
async def echo(ctx: rk.KernelContext[int, int]) -> None:
    async for message in ctx:
        await ctx.send(message)


@pytest.mark.parametrize("functions", [[doubled], [echo], [doubled, echo]], ids=["compiled", "coroutine", "both"])
def test_a_thread_that_naps_gets_the_interpreter_soon(functions: list[Callable[..., Any]]) -> None:
    sent, ends, is_busy = 0, threading.Event(), threading.Event()

    async def pump(runtime: rk.RingKernelRuntime, kernel_id: str) -> None:
        nonlocal sent
        while not ends.is_set():
            await runtime.send(kernel_id, 1)
            await runtime.receive(kernel_id)
            sent += 1
            is_busy.set()

    async def main() -> None:
        async with rk.RingKernelRuntime() as runtime:
            kernels = [await runtime.launch(function) for function in functions]
            ids = [kernel.kernel_id for kernel in kernels]
            await asyncio.gather(*(runtime.activate(kernel_id) for kernel_id in ids))
            await asyncio.gather(*(pump(runtime, kernel_id) for kernel_id in ids))

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    try:
        assert is_busy.wait(60)
        for _ in range(NAPS):
            before = sent
            time.sleep(0.001)
            assert sent - before < MOST
    finally:
        ends.set()
        thread.join()
