"""Where the system gives no thread, kernels wait for one or are refused, and nothing is lost."""

from __future__ import annotations

import threading
from typing import Any

import inside
import pytest
from fault_kernels import check_alive, echo, echo_on_worker, gated
from helpers import eventually, live_state, start, within
from inside import held_workers, retire_worker, workers_of

from ringkernel import DeviceUnavailableError, RingKernelRuntime
from ringkernel.memory import wait_handle

pytestmark = pytest.mark.workers


class Refusals:
    """Refuses the next `left` worker threads; how many it has refused."""

    def __init__(self) -> None:
        self.left = self.count = 0


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> Refusals:
    refusals, start = Refusals(), threading.Thread.start

    def start_or_refuse(thread: threading.Thread) -> None:
        if refusals.left > 0 and thread.name.startswith("ringkernel-worker"):
            refusals.left -= 1
            refusals.count += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_or_refuse)
    return refusals


async def neighbours(runtime: RingKernelRuntime, refusals: Refusals, times: int) -> Any:
    """Kernels "left" and "right" on the one worker, on which "k" stands in its handler, and its gate. So many threads
    are refused from there on."""
    for name in ("left", "right"):
        await start(runtime, name, echo_on_worker)
        await runtime.send(name, 1)
        assert await within(runtime.receive(name)) == 1
    await start(runtime, "k", gated)
    gate = live_state(runtime, "k")
    refusals.left = times
    await runtime.send("k", 7)
    await eventually(lambda: gate["entered"] == 1)
    return gate


@pytest.mark.parametrize("times", [1, 7])
async def test_neighbours_of_a_held_worker_move_as_soon_as_there_is_a_thread(
    runtime: RingKernelRuntime, refusals: Refusals, times: int
) -> None:
    gate = await neighbours(runtime, refusals, times)
    await check_alive(runtime, "left", "right")
    assert refusals.count == times
    await within(runtime.deactivate("left"))
    await within(runtime.reactivate("left"))
    gate["open"] = 1
    assert await within(runtime.receive("k")) == 7
    await check_alive(runtime, "left", "right", "k")


async def test_neighbours_of_a_kernel_that_was_abandoned_meanwhile_move_too(
    runtime: RingKernelRuntime, refusals: Refusals
) -> None:
    """Its worker is told to stop: it does not take them up again, whatever becomes of the handler."""
    gate = await neighbours(runtime, refusals, 10**9)
    for name in ("left", "right"):
        await runtime.send(name, 3)
    await within(runtime.terminate("k", timeout=0.05))
    assert "abandoned" in str(runtime.kernels["k"].error)
    gate["open"] = 1
    (lost,) = held_workers(runtime)
    await eventually(lambda: not lost.thread.is_alive())
    assert refusals.count > 1
    refusals.left = 0
    for name in ("left", "right"):
        assert await within(runtime.receive(name)) == 3
    await check_alive(runtime, "left", "right")


async def test_a_kernel_without_a_worker_can_be_ended_and_removed(
    runtime: RingKernelRuntime, refusals: Refusals
) -> None:
    gate = await neighbours(runtime, refusals, 10**9)
    await runtime.send("left", 3)
    await within(runtime.terminate("k", timeout=0.05))
    await within(runtime.terminate("left", timeout=0.05))
    assert runtime.kernels["left"].error is None
    assert runtime.unprocessed("left").tolist() == [3]
    runtime.remove("left")
    gate["open"] = 1
    refusals.left = 0
    await check_alive(runtime, "right")


async def test_no_memory_for_a_run_entry_leaves_the_kernel_with_the_one_that_it_has(
    runtime: RingKernelRuntime, refusals: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("left", "right"):
        await start(runtime, name, echo_on_worker)
    await start(runtime, "k", gated)
    failures = inside.fail_times(monkeypatch, inside.NEW_ENTRY, 2, MemoryError())
    gate = live_state(runtime, "k")
    await runtime.send("k", 7)
    await eventually(lambda: gate["entered"] == 1)
    await check_alive(runtime, "left", "right")
    assert len(failures) == 2
    gate["open"] = 1


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
async def test_a_start_without_a_thread_is_refused_and_changes_nothing(
    runtime: RingKernelRuntime, refusals: Refusals, again: bool
) -> None:
    await runtime.launch("k", echo)
    await runtime.send("k", 1)
    start = runtime.activate
    if again:
        await runtime.activate("k")
        assert await within(runtime.receive("k")) == 1
        await runtime.deactivate("k")
        await runtime.send("k", 1)
        start = runtime.reactivate
        retire_worker(runtime)
    before = runtime.get_state("k")
    wakers = len(wait_handle._free)
    refusals.left = 3
    for _ in range(3):
        with pytest.raises(DeviceUnavailableError, match=r"'k'.*can't start new thread"):
            await start("k")
        assert runtime.get_state("k") is before
    assert len(wait_handle._free) >= wakers  # the wait handles are there to be used again
    assert not workers_of(runtime)
    await start("k")
    assert await within(runtime.receive("k")) == 1
    await check_alive(runtime, "k")


async def test_a_refused_worker_gives_its_wait_handle_back(runtime: RingKernelRuntime, refusals: Refusals) -> None:
    """Also one that was made only for it."""
    await runtime.launch("k", echo)
    idle = wait_handle._free[:]
    wait_handle._free.clear()
    made: list[int] = []
    refusals.left = 20
    for _ in range(20):
        with pytest.raises(DeviceUnavailableError):
            await runtime.activate("k")
        made.extend(waker.read_fd for waker in wait_handle._free)
    wait_handle._free.extend(idle)
    assert len(set(made)) == 1
    await runtime.activate("k")
    await check_alive(runtime, "k")


async def test_fewer_threads_than_were_asked_for_are_enough(
    loop_errors: list[dict[str, Any]], refusals: Refusals
) -> None:
    async with RingKernelRuntime(workers=4) as runtime:
        await start(runtime, "one", echo)
        refusals.left = 10**9
        await start(runtime, "two", echo)
        await check_alive(runtime, "one", "two")
        assert len(workers_of(runtime)) == 1


async def test_a_thread_that_comes_after_all_is_told_to_leave(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for it to begin is interrupted."""
    start, wakers = threading.Thread.start, []

    def start_and_fail(thread: threading.Thread) -> None:
        start(thread)
        if thread.name.startswith("ringkernel-worker"):
            wakers.append(thread)
            raise MemoryError

    await runtime.launch("k", echo)
    monkeypatch.setattr(threading.Thread, "start", start_and_fail)
    with pytest.raises(DeviceUnavailableError, match="'k'"):
        await runtime.activate("k")
    monkeypatch.undo()
    await eventually(lambda: not wakers[0].is_alive())
    await runtime.activate("k")
    await check_alive(runtime, "k")
    assert len(workers_of(runtime)) == 1
