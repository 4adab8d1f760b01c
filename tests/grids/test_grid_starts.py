"""Grids stop for what a device allows only while none runs, go on afterwards, and end with their runtime."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from grid_kernels import (
    check_doubles,
    double,
    running_sum,
    start_grid,
    starts_of,
)
from helpers import eventually, within
from inside import (
    arena_of,
    control_arena_of,
    fill,
    heartbeat,
    is_open,
    set_beat_timeout,
    set_control_room,
    watchers_of,
    worker_threads_of,
)
from thread_device import ThreadDevice, ThreadGrid

from ringkernel import (
    DeviceUnavailableError,
    KernelState,
    RingKernelRuntime,
)


async def test_grids_stop_for_a_launch_and_go_on(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_grid(runtime, "first", running_sum)
    await runtime.send("first", 5)
    assert await within(runtime.receive("first")) == 5
    running = device.grids[-1]
    seen = []

    def load_and_look(code: Any) -> Any:
        seen.append(running.is_done())
        return code

    monkeypatch.setattr(device, "load", load_and_look)
    await start_grid(runtime, "second", double)
    await runtime.send("first", 6)
    assert await within(runtime.receive("first")) == 11
    assert device.grids[-1] is not running
    await eventually(running.is_done)


async def test_memory_that_is_new_is_adopted_before_a_start(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await runtime.launch("k", double, device="cuda")
    await runtime.launch("big", double, device="cpu", queue_size=2**20)
    runtime.connect("big", "k")
    arena = arena_of(runtime)
    assert not device.reaches(arena)
    await runtime.activate("big")
    await runtime.activate("k")
    assert device.reaches(arena)
    await runtime.send("big", 3.0)
    assert await within(runtime.receive("k")) == 12.0


@pytest.fixture
def lingering(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Grids that have ended are not known to be done, so that what they could reach does not come back."""
    with monkeypatch.context() as patch:
        patch.setattr(ThreadGrid, "is_done", lambda _: False)
        yield


async def test_a_grid_that_stopped_for_another_goes_on_also_when_control_lines_are_scarce(
    runtime: RingKernelRuntime, device: ThreadDevice, lingering: None
) -> None:
    for name in ("k", "other"):
        await runtime.launch(name, double, device="cuda")
    filled = fill(arena_of(runtime))
    await runtime.activate("k")  # the device checks that it reaches the control lines
    filled += fill(control_arena_of(runtime))
    await runtime.activate("other")
    await check_doubles(runtime, "k", "other")
    assert filled


async def test_a_start_for_which_no_control_lines_are_reached_can_be_tried_again(
    runtime: RingKernelRuntime, device: ThreadDevice, lingering: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_control_room(monkeypatch, 0)
    await start_grid(runtime, "k", double)
    await runtime.launch(
        "other", double, device="cuda"
    )  # all grids stopped for it, and the device reaches all there is
    filled = fill(control_arena_of(runtime))
    with pytest.raises(DeviceUnavailableError, match="start the kernel again"):
        await runtime.activate("other")
    assert runtime.get_state("other") is KernelState.LAUNCHED
    await runtime.activate("other")
    await check_doubles(runtime, "k", "other")
    assert filled


async def test_a_grid_without_a_sign_of_life_ends_and_is_started_again(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    set_beat_timeout(monkeypatch, 1_000_000)
    started = starts_of(monkeypatch, device)
    await start_grid(runtime, "k", running_sum)
    await eventually(lambda: len(started) > 2)  # the watcher rests, and gives a sign only every 100 ms
    set_beat_timeout(monkeypatch, 10_000_000_000)
    await runtime.send_batch("k", np.ones(50, np.int64))
    got: list[int] = []
    while len(got) < 50:
        got += (await within(runtime.receive_batch("k"))).tolist()
    assert got == list(range(1, 51))
    assert any("starts again" in record.getMessage() for record in caplog.records)


async def test_the_watcher_gives_a_sign_of_life_also_while_it_rests(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    await start_grid(runtime, "k", double)
    await eventually(lambda: all(worker.parked for worker in watchers_of(runtime)))
    before = heartbeat(runtime)
    await eventually(lambda: heartbeat(runtime) > before + 2)


async def test_closing_leaves_no_grid(device: ThreadDevice, loop_errors: list[dict[str, Any]]) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        for i in range(3):
            await start_grid(runtime, f"k{i}", double)
        grids = list(device.grids)
        assert sum(not grid.is_done() for grid in grids) >= 3
    await eventually(lambda: all(grid.is_done() for grid in grids))


async def test_a_device_belongs_to_one_runtime_at_a_time(
    device: ThreadDevice, loop_errors: list[dict[str, Any]]
) -> None:
    async with RingKernelRuntime(workers=1) as one, RingKernelRuntime(workers=1) as other:
        await start_grid(one, "k", double)
        with pytest.raises(DeviceUnavailableError, match="another runtime of this process"):
            await start_grid(other, "k", double)
        assert not other.kernels
        await start_grid(other, "k", double, "cpu")
        await one.send("k", 1.0)
        assert await within(one.receive("k")) == 2.0
        await one.close()
        await start_grid(other, "later", double)
        await other.send("later", 1.0)
        assert await within(other.receive("later")) == 2.0


async def test_a_device_reaches_nothing_of_a_runtime_that_is_closed(
    device: ThreadDevice, loop_errors: list[dict[str, Any]]
) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("never_started", double, device="cuda")
        assert device._reached
    assert not device._reached


async def test_a_device_that_makes_trouble_at_the_end_leaves_no_thread_behind(
    device: ThreadDevice, loop_errors: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_arena: Any) -> None:
        raise DeviceUnavailableError("cuda:0: unpinning")

    monkeypatch.setattr(device, "forget", refuse)
    runtime = RingKernelRuntime(workers=1)
    await start_grid(runtime, "grid", double)
    await start_grid(runtime, "worker", double, "cpu")
    threads = worker_threads_of(runtime)
    assert threads
    with pytest.raises(DeviceUnavailableError, match="unpinning"):
        await runtime.close()
    assert not any(thread.is_alive() for thread in threads)
    assert not is_open(runtime)
