"""What CPU workers do while they have nothing to do."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from helpers import eventually, within

from ringkernel import RingKernelRuntime, ring_kernel
from ringkernel.devices import workers
from ringkernel.ring.layout import PARTY

if TYPE_CHECKING:
    from collections.abc import Iterator

if sys.platform != "linux":
    pytest.skip("threads are put on CPUs as Linux does it", allow_module_level=True)

PATIENCE_NS = 20_000_000_000


@ring_kernel("wk_echo", input_type=int, output_type=int)
def echo(msg, out):
    out.value = msg.value


@pytest.fixture
def cpus() -> Iterator[list[int]]:
    allowed = os.sched_getaffinity(0)
    yield sorted(allowed)
    os.sched_setaffinity(0, allowed)


async def woken_on(runtime: RingKernelRuntime, cpu: int) -> Any:
    """The runtime's one worker, after a message that has woken it on a CPU."""
    (worker,) = runtime._host_or_none.pool.workers
    await eventually(lambda: worker.parked)
    os.sched_setaffinity(worker.thread.native_id, {cpu})
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1
    return worker


async def test_a_worker_that_shares_its_wakers_cpu_parks_at_once_and_another_one_watches(monkeypatch, cpus):
    monkeypatch.setattr(workers, "MIN_PATIENCE_NS", 1)  # so that it is parked before the test begins
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", echo)
        await runtime.activate("k")
        os.sched_setaffinity(0, {cpus[0]})
        worker = await woken_on(runtime, cpus[0])
        read = worker._pool.api.read_word
        assert read(worker.address + PARTY.crowded) == 1
        patience = worker._pool.party.clock.ticks_of(PATIENCE_NS)
        for word in (PARTY.min_patience, PARTY.max_patience, PARTY.patience):
            worker._pool.api.write_word(worker.address + word, patience)
        await woken_on(runtime, cpus[0])  # it has parked, for all its patience, and does again
        await eventually(lambda: worker.parked)
        if len(cpus) > 1:
            parks = read(worker.address + PARTY.parks)
            await woken_on(runtime, cpus[1])
            assert read(worker.address + PARTY.crowded) == 0
            for _ in range(100):
                await runtime.send("k", 2)
                assert await within(runtime.receive("k")) == 2
            assert read(worker.address + PARTY.parks) == parks + 1
            assert not worker.parked
