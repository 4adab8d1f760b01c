"""Waking: no ring is lost and none is linked twice, whoever rings when, whatever the sleeper sleeps on."""

from __future__ import annotations

import asyncio
import functools
import operator
import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import eventually
from numba import njit, types

from ringkernel.codegen.operations import fence, load, load_acquire, sleep_on, store, store_release
from ringkernel.codegen.targets.cpu import compile_entry, specializer
from ringkernel.devices.cpu.worker_loop import park
from ringkernel.devices.loop_parker import LoopParker
from ringkernel.memory import wait_handle
from ringkernel.memory.arenas import Arena
from ringkernel.memory.layout import (
    ARMED,
    BLOCK,
    BLOCK_DTYPE,
    DOORBELL,
    DOORBELL_DTYPE,
    FREE,
    LINE,
    NEVER,
    PARKER,
    PARKER_DTYPE,
    QUIET,
    RUN_ENTRY,
    RUN_ENTRY_DTYPE,
    RUNG,
)
from ringkernel.memory.wait_handle import Waker, new_waker
from ringkernel.messages.types import MessageType
from ringkernel.ring.doorbell import ring_doorbell, take_inbox
from ringkernel.ring.host_api import host_api
from ringkernel.ring.record_ring import RecordRing
from ringkernel.ring.turn import rest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE_S = 60.0
DOORBELL_SIZE = DOORBELL_DTYPE.itemsize
DOORBELL_STATE, DOORBELL_NEXT = DOORBELL.state, DOORBELL.next_address

_give_way = types.ExternalFunction("sched_yield", types.intc())


# --- a parker with doorbells, without an event loop -------------------------------------------------------------------


class Parker:
    """A parker and doorbells in plain memory. `cells` are words that say how often something has happened."""

    def __init__(self, n_doorbells: int, *, standing: bool = True, blocking: bool = False) -> None:
        self.arena = Arena()
        self.api = host_api()
        self.waker = new_waker(blocking=blocking)
        self.region = self.arena.allocate(PARKER_DTYPE.itemsize)
        self.address = self.region.address
        record = self.region.view(PARKER_DTYPE)[0]
        record["fd"], record["read_fd"] = self.waker.write_fd, self.waker.read_fd
        self.doorbells = self.arena.allocate(n_doorbells * DOORBELL_SIZE)
        self.n_doorbells = n_doorbells
        records = self.doorbells.view(DOORBELL_DTYPE, n_doorbells)
        records["parker_address"] = self.address
        records["tag"] = np.arange(n_doorbells)
        records["standing"] = int(standing)
        records["state"] = ARMED
        self.tags = np.zeros(n_doorbells + 8, np.int64)

    def doorbell(self, i: int) -> int:
        return self.doorbells.address + i * DOORBELL_SIZE

    def collect(self, room: int | None = None) -> list[int]:
        count = self.api.collect_tags(self.address, int(self.tags.ctypes.data), room or self.n_doorbells)
        return list(self.tags[:count].tolist())

    def close(self) -> None:
        self.waker.recycle()


@pytest.fixture
def new_parker() -> Iterator[Callable[..., Parker]]:
    made: list[Parker] = []

    def make(*args: Any, **options: Any) -> Parker:
        made.append(Parker(*args, **options))
        return made[-1]

    yield make
    for parker in made:
        parker.close()


def test_a_doorbell_is_collected_once_however_often_it_is_rung(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(3)
    for _ in range(5):
        parker.api.ring_doorbell(parker.doorbell(1))
    assert parker.collect() == [1]
    assert parker.collect() == []


def test_doorbells_are_collected_in_the_order_of_ringing(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(5)
    for i in (3, 0, 4, 1):
        parker.api.ring_doorbell(parker.doorbell(i))
    assert parker.collect() == [3, 0, 4, 1]


def test_a_standing_doorbell_rings_again_and_another_only_when_armed(new_parker: Callable[..., Parker]) -> None:
    standing, single = new_parker(1), new_parker(1, standing=False)
    for parker in (standing, single):
        parker.api.ring_doorbell(parker.doorbell(0))
        assert parker.collect() == [0]
        parker.api.ring_doorbell(parker.doorbell(0))
    assert standing.collect() == [0]
    assert single.collect() == []
    single.api.arm_doorbell(single.doorbell(0))
    assert single.collect() == []  # to arm is not to ring
    single.api.ring_doorbell(single.doorbell(0))
    assert single.collect() == [0]


def test_a_quiet_doorbell_does_not_ring(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(1)
    assert parker.api.quiet_doorbell(parker.doorbell(0)) == ARMED
    parker.api.ring_doorbell(parker.doorbell(0))
    assert parker.collect() == []
    parker.api.arm_doorbell(parker.doorbell(0))
    parker.api.ring_doorbell(parker.doorbell(0))
    assert parker.api.quiet_doorbell(parker.doorbell(0)) == RUNG  # too late: it is in the inbox
    assert parker.collect() == [0]


def test_arming_a_doorbell_that_waits_in_the_inbox_does_not_link_it_twice(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(2, standing=False)
    for i in (0, 1):
        parker.api.ring_doorbell(parker.doorbell(i))
    for i in (0, 1):
        parker.api.arm_doorbell(parker.doorbell(i))
        parker.api.ring_doorbell(parker.doorbell(i))
    assert parker.collect() == [0, 1]


def test_what_does_not_fit_is_collected_later(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(10)
    for i in range(10):
        parker.api.ring_doorbell(parker.doorbell(i))
    seen = [parker.collect(4) for _ in range(3)]
    assert [len(tags) for tags in seen] == [4, 4, 2]
    assert sorted(functools.reduce(operator.iadd, seen, [])) == list(range(10))


def test_a_doorbell_address_leads_to_the_doorbell_that_it_holds_now(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(2)
    doorbell_address = parker.arena.allocate(LINE)
    ring_doorbell_at, write = parker.api.ring_doorbell_at, parker.api.write_word
    assert ring_doorbell_at(0) == 0
    assert ring_doorbell_at(doorbell_address.address) == 0
    write(doorbell_address.address, parker.doorbell(0))
    ring_doorbell_at(doorbell_address.address)
    write(doorbell_address.address, parker.doorbell(1))
    ring_doorbell_at(doorbell_address.address)
    assert parker.collect() == [0, 1]


def test_only_a_sleeper_is_written_to(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(2)
    parker.api.write_word(parker.address + PARKER.parked, 0)
    assert parker.api.ring_doorbell(parker.doorbell(0)) == 0
    with pytest.raises(BlockingIOError):
        parker.waker.clear()
    parker.collect()  # which says that it sleeps from now on
    assert parker.api.ring_doorbell(parker.doorbell(0)) == 1
    assert parker.api.ring_doorbell(parker.doorbell(1)) == 0  # it is awake already
    parker.waker.clear()


# --- many threads ring -------------------------------------------------------------------------------------------


def ring_round(cells: int, doorbells: int, n_doorbells: int, rounds: int, abort: int) -> int:
    """Count up one cell per round, and ring the doorbell that belongs to it. The cells have this one writer."""
    for i in range(rounds):
        if load_acquire(abort) != 0:
            return i
        index = i % n_doorbells
        store_release(cells + 8 * index, load(cells + 8 * index) + 1)
        fence()
        ring_doorbell(doorbells + DOORBELL_SIZE * index)
        if i & 63 == 0:
            _give_way()
    return rounds


@pytest.fixture(scope="module")
def ring_loop() -> Any:
    return compile_entry(ring_round, 5, nogil=True)


class Threads:
    """Compiled loops in threads, that end by themselves or when `abort` is set."""

    def __init__(self, *calls: Callable[[int], int]) -> None:
        self._abort = np.zeros(1, np.int64)
        self.results: list[int | None] = [None] * len(calls)
        self.threads = [threading.Thread(target=self._run, args=(i, call)) for i, call in enumerate(calls)]
        for thread in self.threads:
            thread.start()

    def _run(self, i: int, call: Callable[[int], int]) -> None:
        self.results[i] = call(int(self._abort.ctypes.data))

    def alive(self) -> bool:
        return any(thread.is_alive() for thread in self.threads)

    def stop(self) -> None:
        host_api().write_word(int(self._abort.ctypes.data), 1)
        for thread in self.threads:
            thread.join()


@pytest.mark.parametrize(("n_doorbells", "room"), [(1, 1), (3, 3), (8, 3), (64, 64)])
def test_no_ring_of_many_threads_is_lost_or_linked_twice(
    new_parker: Callable[..., Parker], ring_loop: Any, n_doorbells: int, room: int
) -> None:
    """Allowed: a doorbell is reported at most once per collection, and what it stands for is complete at the last
    report.

    Not allowed: a cell that counted up after the last report of its doorbell; a list that does not end.
    """
    n_threads, rounds = 3, 60_000
    parker = new_parker(n_doorbells)
    cells = np.zeros((n_threads, max(16, n_doorbells)), np.int64)
    seen = np.zeros_like(cells)
    threads = Threads(
        *(
            lambda abort, row=row: ring_loop(int(row.ctypes.data), parker.doorbell(0), n_doorbells, rounds, abort)
            for row in cells
        )
    )
    deadline = time.monotonic() + DEADLINE_S
    reports = 0
    try:
        finished = False
        while True:
            tags = parker.collect(room)
            assert len(set(tags)) == len(tags)
            reports += len(tags)
            for tag in tags:
                seen[:, tag] = cells[:, tag]
            if finished and not tags:
                break
            finished = not threads.alive()
            assert time.monotonic() < deadline
    finally:
        threads.stop()
    assert threads.results == [rounds] * n_threads
    assert cells.sum() == n_threads * rounds
    assert (seen == cells).all()
    assert reports > n_doorbells


# --- sleeping and waking -----------------------------------------------------------------------------------------


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


def rouser(words: int, total: int, pause: int, abort: int) -> int:
    """Count up, ring, and wait for the answer; after a pause that varies, so that it meets the sleeper everywhere."""
    doorbell = load(words + 256)
    for i in range(1, total + 1):
        store_release(words, i)
        fence()
        ring_doorbell(doorbell)
        while load_acquire(words + 128) < i:
            if load_acquire(abort) != 0:
                return i - 1
            _give_way()
        idle = words + 384
        for _ in range(i * 37 % pause):
            store(idle, load(idle) + 1)
    return total


def compile_loop(function: Callable[..., Any], n_arguments: int, *, timed: bool) -> Any:
    """As `compile_entry` does it, for either kind of sleep."""
    signature = types.int64(*[types.int64] * n_arguments)
    dispatcher = njit(signature, error_model="numpy", nogil=True)(specializer(timed).rebind(function))
    return dispatcher.overloads[dispatcher.signatures[0]].entry_point


@pytest.fixture
def mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Sleep on this from now on."""
    kind = str(request.param)
    if kind == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    monkeypatch.setattr(wait_handle, "WAKE_MECHANISM", kind)
    monkeypatch.setattr(wait_handle, "_free", [])
    return kind


MECHANISMS = pytest.mark.parametrize("mechanism", ["eventfd", "pipe", "timed"], indirect=True)
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
    sleep, wake = compile_loop(sleeper, 5, timed=timed), compile_loop(rouser, 4, timed=timed)
    assert sleep_and_wake(parker, sleep, wake, total, DEADLINE_S) == [total, total]
    parks = int(parker.region.view(PARKER_DTYPE)["parks"][0])
    assert parks > total // 100  # it did sleep, again and again
    assert timed or parks <= 2 * total + 10  # and it was woken, rather than looking again and again


def test_the_test_of_wake_ups_notices_a_lost_one(new_parker: Callable[..., Parker]) -> None:
    assert PARKER.fd == 136
    parker = new_parker(1, standing=False, blocking=True)
    sleep, wake = compile_loop(careless_sleeper, 5, timed=False), compile_loop(rouser, 4, timed=False)
    assert sleep_and_wake(parker, sleep, wake, 100_000, 0.5) != [100_000, 100_000]


# --- the event loop as a parker -----------------------------------------------------------------------------------


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
    wake = compile_loop(rouser, 4, timed=mechanism == "timed")
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
    doorbells = [parker.doorbell(lambda i=i: answered.append(i), standing=True) for i in range(600)]
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


# --- a kernel that rests -----------------------------------------------------------------------------------------


class RestingKernel:
    """A run entry, a block, an input and an output of 4 slots, and the parker of a worker."""

    def __init__(self) -> None:
        self.arena = arena = Arena()
        message_type = MessageType(np.int64)
        self.input, self.output = RecordRing(arena, message_type, 4), RecordRing(arena, message_type, 4)
        edge, self.taker = self.input.add_edge(), self.output.add_edge()
        self.api = self.input.api
        self.parker = arena.allocate(PARKER_DTYPE.itemsize)
        self.parker.view(PARKER_DTYPE)["fd"] = -1
        self.block = arena.allocate(BLOCK_DTYPE.itemsize + LINE)
        record = self.block.view(BLOCK_DTYPE)[0]
        record["inputs"], record["n_inputs"] = BLOCK_DTYPE.itemsize, 1
        record["output"], record["max_outputs"] = self.output.address - self.block.address, 1
        self.block.view(np.dtype(np.int64), 1, BLOCK_DTYPE.itemsize)[0] = edge.address - self.block.address
        self.run_entry = arena.allocate(RUN_ENTRY_DTYPE.itemsize)
        run_entry = self.run_entry.view(RUN_ENTRY_DTYPE)[0]
        run_entry["state"], run_entry["owner"] = RUNG, FREE
        run_entry["parker_address"], run_entry["block_address"] = self.parker.address, self.block.address
        self.doorbell_address = arena.allocate(LINE)
        self.api.write_word(self.doorbell_address.address, self.run_entry.address)
        edge.set_doorbell(self.doorbell_address.address)
        self.output.set_doorbell(self.doorbell_address.address)

    def word(self, offset: int) -> int:
        return self.api.read_word(self.run_entry.address + offset)

    def is_rung(self) -> bool:
        inbox = self.api.read_word(self.parker.address + PARKER.inbox_address)
        return self.word(RUN_ENTRY.state) == RUNG and inbox == self.run_entry.address


@pytest.fixture(scope="module")
def compiled_rest() -> Any:
    return compile_entry(rest, 1)


def test_an_idle_kernel_rests_and_a_message_rings_it(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert compiled_rest(kernel.run_entry.address) == 1
    assert (kernel.word(RUN_ENTRY.state), kernel.word(RUN_ENTRY.owner)) == (ARMED, FREE)
    assert kernel.input.offer(7)
    assert kernel.is_rung()


def test_a_kernel_with_input_and_room_does_not_rest(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert kernel.input.offer(7)
    assert compiled_rest(kernel.run_entry.address) == 0
    assert (kernel.word(RUN_ENTRY.state), kernel.word(RUN_ENTRY.owner)) == (RUNG, FREE)


@pytest.mark.parametrize("blocked", [1, 0], ids=["found blocked", "message came between its turn and its rest"])
def test_a_kernel_that_rests_on_a_full_output_is_rung_by_room(compiled_rest: Any, blocked: int) -> None:
    """Its last turn saw no input, or saw that there was no room: both ways somebody has to tell it of room."""
    kernel = RestingKernel()
    kernel.api.publish(kernel.output.address, 4)
    kernel.api.write_word(kernel.block.address + BLOCK.blocked, blocked)
    assert kernel.input.offer(7)
    assert compiled_rest(kernel.run_entry.address) == 1
    assert not kernel.is_rung()
    assert kernel.taker.look() == 4
    kernel.taker.take_many(4)
    assert kernel.is_rung()


def test_a_command_rings_a_resting_kernel(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert compiled_rest(kernel.run_entry.address) == 1
    kernel.api.give_command(kernel.block.address, 1, 1, kernel.doorbell_address.address)
    assert kernel.is_rung()


def test_a_kernel_that_was_taken_away_does_not_rest(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert kernel.api.revoke(kernel.run_entry.address, 0) == FREE
    assert compiled_rest(kernel.run_entry.address) == 0


# --- whole kernels, on each mechanism ----------------------------------------------------------------------------

KERNEL = """
import asyncio, sys
from ringkernel.memory import wait_handle
wait_handle.WAKE_MECHANISM = sys.argv[1]
import numpy as np
import ringkernel as rk
from ringkernel.memory.layout import PARKER

@rk.ring_kernel("add", input_type=np.int64, output_type=np.int64)
def add(msg, out):
    out.value = msg.value + 1

async def main():
    async with rk.RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("add")
        await runtime.activate("add")
        worker = runtime._services_or_none.pool.workers[0]
        def parks():
            return worker._pool.api.read_word(worker.address + PARKER.parks)
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


@pytest.mark.parametrize("kind", ["eventfd", "pipe", "timed"])
def test_an_idle_worker_sleeps_and_is_woken(kind: str) -> None:
    if kind == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    command = [sys.executable, "-c", KERNEL, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- descriptors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["eventfd", "pipe"], indirect=True)
def test_a_recycled_waker_is_used_again_and_brings_no_old_wake_ups(mechanism: str) -> None:
    waker = new_waker(blocking=True)
    for _ in range(3):
        waker.wake()
    waker.recycle()
    again = new_waker(blocking=False)
    assert again is waker
    with pytest.raises(BlockingIOError):
        again.clear()
    again.wake()
    again.clear()
    os.fstat(again.read_fd)  # it was never closed
    os.fstat(again.write_fd)
    assert new_waker(blocking=False) is not again
    again.recycle()


@pytest.mark.parametrize("mechanism", ["eventfd", "pipe"], indirect=True)
@pytest.mark.parametrize("blocking", [True, False])
def test_a_waker_blocks_when_it_was_asked_to(mechanism: str, blocking: bool) -> None:
    waker = new_waker(blocking=not blocking)
    waker.recycle()
    waker = new_waker(blocking=blocking)
    assert os.get_blocking(waker.read_fd) is blocking
    waker.recycle()


def test_descriptors_are_not_inherited_by_programs_that_are_started() -> None:
    waker = new_waker(blocking=False)
    assert not os.get_inheritable(waker.read_fd)
    assert not os.get_inheritable(waker.write_fd)
    waker.recycle()


def test_timed_wakers_have_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_handle, "WAKE_MECHANISM", "timed")
    monkeypatch.setattr(wait_handle, "_free", [])
    waker = new_waker(blocking=True)
    waker.wake()
    waker.clear()
    waker.recycle()
    assert (waker.read_fd, waker.write_fd) == (-1, -1)
    assert isinstance(waker, Waker)


FORK = """
import os, sys
from ringkernel.memory import wait_handle
wait_handle.WAKE_MECHANISM = sys.argv[1]
from ringkernel.memory.wait_handle import new_waker
held, free = new_waker(blocking=False), new_waker(blocking=False)
free.recycle()
held.wake()
child = os.fork()
if child == 0:
    fresh = new_waker(blocking=False)
    mine = (fresh.read_fd, fresh.write_fd)
    inherited = {held.read_fd, held.write_fd, free.read_fd, free.write_fd}
    held.recycle()  # does nothing here
    os._exit(1 if inherited & set(mine) or new_waker(blocking=False) is held else 0)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
held.clear()  # raises if the child has taken the wake-up away
assert new_waker(blocking=False) is free
sys.exit(code)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("kind", ["eventfd", "pipe"])
def test_a_forked_child_leaves_its_parents_descriptors_alone(kind: str) -> None:
    if kind == "eventfd" and not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK, kind], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


PARKER_FORK = """
import asyncio, os, sys
from ringkernel.devices.loop_parker import LoopParker

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


def test_the_constants_that_compiled_loops_here_use() -> None:
    assert (DOORBELL_STATE, DOORBELL_NEXT) == (0, 8)
    assert QUIET not in (ARMED, RUNG)
    assert NEVER > 2**60
