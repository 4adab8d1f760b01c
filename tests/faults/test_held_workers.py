"""A handler that is slow, or never returns, holds up nobody else: it is given up, and its neighbours go on."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fault_kernels import (
    check_alive,
    echo,
    echo_on_worker,
    enter_gate,
    gated,
    on_each_device,
    slow,
    worker_threads,
)
from helpers import check_books, eventually, live_state, start, within
from inside import never_runs, set_answer_timeout, set_hold

from ringkernel import (
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelError,
    RingKernelRuntime,
)

if TYPE_CHECKING:
    from thread_device import ThreadDevice


async def test_a_slow_kernel_does_not_hold_up_a_fast_one_on_the_same_worker(runtime: RingKernelRuntime) -> None:
    await start(runtime, "slow", slow)
    await start(runtime, "fast", echo)
    await runtime.send_batch("slow", np.arange(1000))
    await eventually(lambda: runtime.statistics("slow").processed >= 1)
    waits: list[float] = []
    until = time.monotonic() + 0.6
    while time.monotonic() < until or len(waits) < 20:
        begin = time.perf_counter()
        await check_alive(runtime, "fast")
        waits.append(time.perf_counter() - begin)
    assert np.percentile(waits, 95) < 0.05
    assert runtime.statistics("slow").processed >= 2
    assert runtime.statistics("slow").unprocessed > 0
    await within(runtime.terminate("slow", timeout=0.0))
    assert runtime.kernels["slow"].error is None


@on_each_device
async def test_a_handler_that_never_returns_is_cut_off_and_its_neighbours_go_on(
    runtime: RingKernelRuntime, device: ThreadDevice, caplog: pytest.LogCaptureFixture, on: str
) -> None:
    before = worker_threads()
    for name in ("left", "right"):
        await start(runtime, name, echo, device=on)
    gate = await enter_gate(runtime, messages=3, on=on)
    await check_alive(runtime, "left")
    begin = time.monotonic()
    await within(runtime.terminate("k", timeout=0.1))
    assert time.monotonic() - begin < 1.0
    assert runtime.get_state("k") is KernelState.TERMINATED
    error = runtime.kernels["k"].error
    assert isinstance(error, RingKernelError)
    outcome = "did not return from its handler" if on == "cpu" else "did not acknowledge the stop"
    assert f"'k' on {runtime.kernels['k'].device} {outcome}" in str(error)
    assert any("'k'" in record.getMessage() for record in caplog.records)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.in_flight, counts.unprocessed) == (0, 0, 1, 2)
    assert runtime.unprocessed("k").tolist() == [1, 2]
    with pytest.raises(KernelFailedError, match="'k'"):
        await runtime.receive("k")
    for name in ("left", "right"):
        await check_alive(runtime, name)
        assert runtime.kernels[name].error is None

    threads, grids = worker_threads(), list(device.grids)
    assert on == "cuda" or threads > before
    gate["open"] = 1  # now it returns, late
    if on == "cpu":
        await eventually(lambda: worker_threads() < threads)
    else:
        await eventually(lambda: sum(not grid.is_done() for grid in grids) <= 2)
    assert gate["entered"] == 1
    assert runtime.statistics("k") == counts
    with pytest.raises(KernelFailedError, match="'k'"):
        await runtime.receive("k")
    for name in ("left", "right"):
        await check_alive(runtime, name)
    runtime.remove("k")
    await start(runtime, "k", echo, device=on)
    await check_alive(runtime, "k")


async def test_a_stuck_stage_is_cut_out_of_its_chain(runtime: RingKernelRuntime) -> None:
    kernels: list[tuple[str, Any]] = [("source", echo), ("stuck", gated), ("beside", echo)]
    for name, func in kernels:
        await runtime.launch(name, func, queue_size=8)
    runtime.connect("source", "stuck")
    runtime.connect("source", "beside")
    gate = live_state(runtime, "stuck")
    for name in ("source", "stuck", "beside"):
        await runtime.activate(name)
    sending = asyncio.create_task(runtime.send_batch("source", np.arange(40)))
    await eventually(lambda: gate["entered"] == 1)
    await eventually(lambda: runtime.statistics("beside").emitted == 8)
    await within(runtime.terminate("stuck", timeout=0.05))
    got: list[int] = []
    while len(got) < 40:
        got.extend((await within(runtime.receive_batch("beside"))).tolist())
    assert got == list(range(40))
    await within(sending)
    counts = check_books(runtime, "stuck")
    assert counts.in_flight == 1
    assert runtime.unprocessed("stuck").tolist() == list(range(1, counts.accepted))
    gate["open"] = 1
    await eventually(lambda: worker_threads() <= 2)
    await runtime.send("source", 99)
    assert await within(runtime.receive("beside")) == 99
    assert runtime.statistics("stuck") == counts


@pytest.mark.workers
async def test_who_only_waits_for_the_worker_is_not_called_the_culprit(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_hold(monkeypatch, 1_000.0)  # the monitor does not come to the rescue
    await start(runtime, "innocent", echo_on_worker)
    gate = await enter_gate(runtime, "stuck")
    await runtime.send("innocent", 5)
    await within(runtime.terminate("innocent", timeout=0.05))
    assert runtime.kernels["innocent"].error is None
    counts = check_books(runtime, "innocent")
    assert (counts.in_flight, counts.unprocessed) == (0, 1)
    gate["open"] = 1
    assert await within(runtime.receive("stuck")) == 0


@pytest.mark.workers
async def test_two_stuck_handlers_do_not_stop_a_third_kernel(runtime: RingKernelRuntime) -> None:
    gates = [await enter_gate(runtime, name) for name in ("one", "two")]
    await start(runtime, "third", echo)
    await check_alive(runtime, "third")
    for gate in gates:
        gate["open"] = 1
    for name in ("one", "two"):
        assert await within(runtime.receive(name)) == 0
        await within(runtime.deactivate(name))
        await within(runtime.reactivate(name))
    await check_alive(runtime, "third")


@pytest.mark.workers
async def test_threads_do_not_pile_up(runtime: RingKernelRuntime) -> None:
    """A worker that a slow kernel kept for itself ends with it."""
    await start(runtime, "other", echo)
    before = worker_threads()
    for _ in range(4):
        gate = await enter_gate(runtime)
        await check_alive(runtime, "other")
        gate["open"] = 1
        await within(runtime.terminate("k"))
        runtime.remove("k")
    await eventually(lambda: worker_threads() <= before + 1)


async def test_kernels_that_move_between_workers_lose_nothing(loop_errors: list[dict[str, Any]]) -> None:
    async with RingKernelRuntime(workers=2) as runtime:
        names = [f"k{i}" for i in range(6)]
        for name in names:
            await start(runtime, name, echo, queue_size=32)
        await start(runtime, "slow", slow)
        await runtime.send_batch("slow", np.arange(20))

        async def round_trip(name: str) -> list[int]:
            sending = asyncio.create_task(runtime.send_batch(name, np.arange(5000)))
            got: list[int] = []
            while len(got) < 5000:
                got.extend((await runtime.receive_batch(name)).tolist())
            await sending
            return got

        results = await within(asyncio.gather(*map(round_trip, names)), 20)
        assert all(result == list(range(5000)) for result in results)
        await eventually(lambda: runtime.statistics("slow").processed == 20)
        for name in (*names, "slow"):
            check_books(runtime, name)


@pytest.mark.workers
async def test_an_activation_that_no_worker_answers_is_given_up(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not wait for ever, and leaves the kernel as it was."""
    await runtime.launch("k", gated)
    set_answer_timeout(monkeypatch, 0.05)
    with monkeypatch.context() as stuck:
        never_runs(stuck)
        with pytest.raises(KernelStateError, match="'k' did not answer"):
            await within(runtime.activate("k"), 2.0)
    assert runtime.get_state("k") is KernelState.LAUNCHED
