"""A thread that parks is woken, whatever it sleeps on, and an idle worker sleeps."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ringkernel.codegen.operations import fence, load, load_acquire, sleep_on, store_release
from ringkernel.devices.compiled.worker_loop import park
from ringkernel.memory.layout import (
    ARMED,
    PARKER,
    PARKER_DTYPE,
)
from ringkernel.ring.host_api import host_api
from ringkernel.ring.protocol.doorbell import take_inbox

if TYPE_CHECKING:
    from collections.abc import Callable
from parking import DEADLINE_S, DOORBELL_STATE, MECHANISMS, Parker, Threads, compile_loop, rouser


def sleeper(parker: int, scratch: int, words: int, total: int, abort: int) -> int:
    """Park until the doorbell rings; answer each count. `words`: the count, on other lines answer and doorbell."""
    doorbell = load(words + 256)
    seen = 0
    while seen < total and load_acquire(abort) == 0:
        rung = take_inbox(parker)
        if rung != 0:
            store_release(doorbell + DOORBELL_STATE, ARMED)
            fence()
            seen = load_acquire(words)
            store_release(words + 128, seen)
        else:
            park(parker, scratch)
    return seen


def careless_sleeper(parker: int, scratch: int, words: int, total: int, abort: int) -> int:
    """One that looks, goes to sleep, and has forgotten to say so."""
    doorbell = load(words + 256)
    seen = 0
    while seen < total and load_acquire(abort) == 0:
        rung = take_inbox(parker)
        if rung != 0:
            store_release(doorbell + DOORBELL_STATE, ARMED)
            fence()
            seen = load_acquire(words)
            store_release(words + 128, seen)
        else:
            sleep_on(load(parker + 136), scratch)
    return seen


ROUNDS = {"eventfd": 5_000, "pipe": 5_000, "timed": 1_000}


def sleep_and_wake(parker: Parker, sleep: Any, wake: Any, total: int, patience_s: float) -> list[int | None]:
    """Run both loops to their end, or abort them after a while. What they returned."""
    words = np.zeros(64, np.int64)
    words[32] = parker.doorbell(0)
    scratch = np.zeros(1, np.int64)
    address = int(words.ctypes.data)
    threads = Threads(
        lambda abort: sleep(parker.address, int(scratch.ctypes.data), address, total, abort),
        lambda abort: wake(address, total, 4_000, abort),
    )
    deadline = time.monotonic() + patience_s
    for thread in threads.threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    host_api().write_word(int(threads._abort.ctypes.data), 1)
    if threads.alive():
        parker.waker.wake()
    threads.stop()
    return threads.results


@MECHANISMS
def test_no_wake_up_of_a_parked_thread_is_lost(mechanism: str, new_parker: Callable[..., Parker]) -> None:
    total = ROUNDS[mechanism]
    parker = new_parker(1, standing=False, blocking=True)
    timed = mechanism == "timed"
    sleep, wake = compile_loop(sleeper, mechanism), compile_loop(rouser, mechanism)
    assert sleep_and_wake(parker, sleep, wake, total, DEADLINE_S) == [total, total]
    parks = int(parker.region.view(PARKER_DTYPE)["parks"][0])
    assert parks > total // 100  # it did sleep, again and again
    assert timed or parks <= 2 * total + 10  # and it was woken, rather than looking again and again


def test_the_test_of_wake_ups_notices_a_lost_one(new_parker: Callable[..., Parker]) -> None:
    assert PARKER.fd == 136
    parker = new_parker(1, standing=False, blocking=True)
    sleep, wake = compile_loop(careless_sleeper), compile_loop(rouser)
    assert sleep_and_wake(parker, sleep, wake, 100_000, 0.5) != [100_000, 100_000]


KERNEL = """
import asyncio, sys
from ringkernel.memory import wait_handle
wait_handle.WAKE_MECHANISM = sys.argv[1]
sys.path.append(sys.argv[2])
import numpy as np
import ringkernel as rk
from inside import workers_of
from ringkernel.memory.layout import PARKER

@rk.ring_kernel("add", input_type=np.int64, output_type=np.int64)
def add(msg, out):
    out.value = msg.value + 1

async def main():
    async with rk.RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("add")
        await runtime.activate("add")
        (worker,) = workers_of(runtime)
        def parks():
            return worker._api.read_word(worker.address + PARKER.parks)
        for i in range(40):
            await runtime.send("add", i)
            assert await runtime.receive("add", timeout=10) == i + 1
            if i % 10 == 0:
                async with asyncio.timeout(10):
                    while not worker.parked:
                        await asyncio.sleep(0.001)
        async with asyncio.timeout(10):
            while True:  # until it has stayed asleep for a tenth of a second
                before = parks()
                await asyncio.sleep(0.1)
                if parks() - before <= (250 if sys.argv[1] == "timed" else 0):
                    break
                if parks() - before > 1000:
                    raise SystemExit(f"{parks() - before} parks in 0.1 s: it does not sleep")

asyncio.run(main())
"""


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["eventfd", "pipe", "timed"])
def test_an_idle_worker_sleeps_and_is_woken(kind: str) -> None:
    if kind == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    command = [sys.executable, "-c", KERNEL, kind, str(Path(__file__).parents[1] / "support")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
