"""The event loop as a parker: every ring becomes a callback, and none comes after its doorbell was retired."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
from helpers import eventually
from parking import (
    DEADLINE_S,
    MECHANISMS,
    Threads,
    compile_loop,
    rouser,
)

from ringkernel.devices.event_loop.loop_parker import LoopParker


@MECHANISMS
@pytest.mark.parametrize("standing", [True, False])
async def test_no_wake_up_of_the_event_loop_is_lost(mechanism: str, standing: bool) -> None:
    total = 300 if mechanism == "timed" else 2_000
    parker = LoopParker(asyncio.get_running_loop())
    api = parker.api
    words = np.zeros(64, np.int64)
    address = int(words.ctypes.data)
    done = asyncio.Event()
    answers: list[int] = []

    def answer() -> None:
        if not standing:
            doorbell.arm()
        count = api.read_word(address)
        answers.append(count)
        api.write_word(address + 128, count)
        if count == total:
            done.set()

    doorbell = parker.doorbell(answer, standing=standing)
    doorbell.arm()
    words[32] = doorbell.address
    wake = compile_loop(rouser, mechanism)
    threads = Threads(lambda abort: wake(address, total, 4_000, abort))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await done.wait()
    finally:
        threads.stop()
        doorbell.release()
        parker.close()
    assert threads.results == [total]
    assert answers == sorted(answers)


async def test_more_doorbells_than_fit_at_once_are_all_answered() -> None:
    parker = LoopParker(asyncio.get_running_loop())
    answered: list[int] = []
    doorbells = [parker.doorbell(partial(answered.append, i), standing=True) for i in range(600)]
    for doorbell in doorbells:
        parker.api.ring_doorbell(doorbell.address)
    await eventually(lambda: len(answered) >= 600)
    assert sorted(answered) == list(range(600))
    parker.close()


async def test_a_late_ring_of_a_retired_doorbell_runs_nothing() -> None:
    parker = LoopParker(asyncio.get_running_loop())
    answered: list[str] = []
    rung = parker.doorbell(lambda: answered.append("rung"), standing=True)
    quiet = parker.doorbell(lambda: answered.append("quiet"), standing=True)
    other = parker.doorbell(lambda: answered.append("other"), standing=True)
    parker.api.ring_doorbell(rung.address)
    rung.release()
    quiet.release()
    parker.api.ring_doorbell(quiet.address)
    fresh = [parker.doorbell(lambda: answered.append("fresh"), standing=True) for _ in range(3)]
    assert rung.address not in {doorbell.address for doorbell in fresh}  # it still hangs in the inbox
    parker.api.ring_doorbell(other.address)
    await eventually(lambda: "other" in answered)
    assert answered == ["other"]
    reused = [parker.doorbell(lambda: answered.append("reused"), standing=True) for _ in range(3)]
    assert rung.address in {doorbell.address for doorbell in reused}  # now it has come out
    parker.api.ring_doorbell(rung.address)
    await eventually(lambda: "reused" in answered)
    parker.close()


async def test_a_doorbell_that_is_retired_by_another_ones_callback_stays_silent() -> None:
    parker = LoopParker(asyncio.get_running_loop())
    answered: list[str] = []
    second = parker.doorbell(lambda: answered.append("second"), standing=True)

    def retire() -> None:
        answered.append("first")
        second.release()

    first = parker.doorbell(retire, standing=True)
    parker.api.ring_doorbell(first.address)
    parker.api.ring_doorbell(second.address)
    await eventually(lambda: answered)
    assert answered == ["first"]
    parker.close()


async def test_a_callback_that_raises_takes_no_other_ring_with_it() -> None:
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    parker = LoopParker(loop)
    answered: list[int] = []

    def fail() -> None:
        raise ValueError("a bug in a callback")

    doorbells = [parker.doorbell(fail, standing=True), parker.doorbell(lambda: answered.append(1), standing=True)]
    for doorbell in doorbells:
        parker.api.ring_doorbell(doorbell.address)
    try:
        await eventually(lambda: complaints)
        await eventually(lambda: answered == [1], timeout=1.0)
    finally:
        parker.close()


async def test_a_closed_parker_is_not_written_to() -> None:
    parker = LoopParker(asyncio.get_running_loop())
    doorbell = parker.doorbell(lambda: None, standing=True)
    waker = parker._waker
    parker.close()
    assert parker.api.ring_doorbell(doorbell.address) == 0
    with pytest.raises(BlockingIOError):
        waker.clear()
    parker.close()  # twice is fine


PARKER_FORK = """
import asyncio, os, sys
from ringkernel.devices.event_loop.loop_parker import LoopParker

async def main():
    parker = LoopParker(asyncio.get_running_loop())
    answered = asyncio.Event()
    doorbell = parker.doorbell(answered.set, standing=True)
    if sys.argv[1] == "wakes":
        parker.api.ring_doorbell(doorbell.address)
    child = os.fork()
    if child == 0:
        if sys.argv[1] == "wakes":
            parker.on_wake()  # as the child's copy of the loop does: both select on the same epoll
        parker.close()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    parker.api.ring_doorbell(doorbell.address)
    await asyncio.wait_for(answered.wait(), 10)
    parker.close()
    return code

sys.exit(asyncio.run(main()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("child", ["closes", "wakes"])
def test_a_parker_goes_on_in_the_parent_whatever_a_forked_child_does(child: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARKER_FORK, child], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
