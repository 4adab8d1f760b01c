"""Many kernels share a worker, and a worker that has too much to do hands kernels to an idle one."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import check_books, drain, receive_all, start, start_chain, within
from kinds import same, usleep

from ringkernel import RingKernelRuntime, ring_kernel

pytestmark = pytest.mark.workers


async def test_many_kernels_share_one_worker(runtime: RingKernelRuntime) -> None:
    names = [f"k{i}" for i in range(100)]
    for name in names:
        await start(runtime, name, same.handler, queue_size=4)
    for _ in range(3):
        for i, name in enumerate(names):
            await runtime.send(name, i)
        for i, name in enumerate(names):
            assert await within(runtime.receive(name)) == i
    for name in names:
        await runtime.terminate(name)
        runtime.remove(name)
    assert not runtime.kernels


@ring_kernel("cpu_step", input_type=int, output_type=int)
def slow_step(msg: Any, out: Any) -> None:
    usleep(200)
    out.value = msg.value + 1


async def test_a_saturated_worker_hands_kernels_to_an_idle_one_and_nothing_is_lost() -> None:
    """A chain starts on one worker; while it keeps that busy, half of it moves."""
    names = [f"k{i}" for i in range(4)]
    async with RingKernelRuntime(workers=2) as runtime:
        await start_chain(runtime, queue_size=64, **dict.fromkeys(names, slow_step))

        def workers() -> set[int]:
            engines: list[Any] = [runtime.kernels[name].engine for name in names]
            return {engine.executor.run_entry.worker.number for engine in engines}

        assert workers() == {0}
        sent = 0
        received: list[int] = []
        while len(workers()) == 1:
            assert sent < 100_000, "the worker was never relieved"
            await runtime.send_batch("k0", range(sent, sent + 16))
            sent += 16
            received.extend(drain(runtime, "k3"))
        assert workers() == {0, 1}
        received.extend(await receive_all(runtime, "k3", sent - len(received)))
        assert received == list(range(4, sent + 4))
        for name in names:
            assert check_books(runtime, name).processed == sent
