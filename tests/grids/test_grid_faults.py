"""A grid that does not answer, is lost, or cannot be started ends its kernel alone, or nothing has happened."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from grid_kernels import (
    double,
    start_grid,
)
from helpers import eventually, turns, within
from inside import (
    has_poller,
    set_answer_timeout,
    use_devices,
)
from thread_device import ThreadDevice, ThreadGrid

from ringkernel import (
    ConfigurationError,
    DeviceUnavailableError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
)
from ringkernel.memory.mailbox_layout import places


async def test_a_device_that_is_lost(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await start_grid(runtime, "k", double)
    device.grids[-1].reason = "an illegal address"
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    error = runtime.kernels["k"].error
    assert isinstance(error, DeviceUnavailableError)
    assert "an illegal address" in str(error)
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")


async def test_a_grid_that_ends_without_a_word(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "start", lambda code, control, nbytes: ThreadGrid(lambda _control: None, control, None))
    await runtime.launch("k", double, device="cuda")
    with pytest.raises(KernelFailedError, match="without an answer"):
        await within(runtime.activate("k"))
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_a_grid_that_cannot_be_started(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await runtime.launch("k", double, device="cuda")

    def refuse(*given: Any) -> Any:
        raise DeviceUnavailableError("cuda:0 runs 31 kernels")

    monkeypatch.setattr(device, "start", refuse)
    with pytest.raises(DeviceUnavailableError, match="31 kernels"):
        await runtime.activate("k")
    assert runtime.get_state("k") is KernelState.LAUNCHED
    monkeypatch.undo()
    use_devices(monkeypatch, device)
    await runtime.activate("k")
    await runtime.send("k", 1.0)
    assert await within(runtime.receive("k")) == 2.0


@pytest.fixture
def gate(device: ThreadDevice, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Grids begin when this is set."""
    opened = threading.Event()

    def begin(code: Any, control: int, nbytes: int) -> ThreadGrid:
        def entry(control: int) -> None:
            opened.wait()
            code.entry(control)

        grid = ThreadGrid(entry, control, (device._chunks, code))
        device.grids.append(grid)
        return grid

    monkeypatch.setattr(device, "start", begin)
    yield opened
    opened.set()


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_an_activation_that_is_cancelled_has_happened_or_not(
    runtime: RingKernelRuntime, gate: Any, times: int
) -> None:
    kernel = await runtime.launch("k", double, device="cuda")
    activating = asyncio.create_task(runtime.activate("k"))
    await eventually(lambda: has_poller(kernel))
    for _ in range(times):
        activating.cancel()
        await turns()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await within(activating)
    assert kernel.state is KernelState.ACTIVE
    await runtime.send("k", 1.0)
    assert await within(runtime.receive("k")) == 2.0


async def test_a_grid_that_begins_too_late_rests(
    runtime: RingKernelRuntime, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = await runtime.launch("k", double, device="cuda")
    with monkeypatch.context() as patch:
        set_answer_timeout(patch, 0.05)
        with pytest.raises(KernelStateError, match="nothing was changed"):
            await runtime.activate("k")
    assert kernel.state is KernelState.LAUNCHED
    gate.set()
    await eventually(lambda: not has_poller(kernel))
    await runtime.activate("k")
    await runtime.send("k", 1.0)
    assert await within(runtime.receive("k")) == 2.0


async def test_a_grid_that_cannot_go_on_after_a_launch_has_ended(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await start_grid(runtime, "one", double)

    def refuse(*given: Any) -> Any:
        raise DeviceUnavailableError("cuda:0 runs 31 kernels")

    with monkeypatch.context() as patch:
        patch.setattr(device, "start", refuse)
        await runtime.launch("two", double, device="cuda")
    assert one.state is KernelState.TERMINATED
    assert "31 kernels" in str(one.error)
    await runtime.activate("two")
    await runtime.send("two", 1.0)
    assert await within(runtime.receive("two")) == 2.0


async def test_a_launch_does_not_mind_that_another_grid_is_told_to_end_before_it_goes_on(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start_grid(runtime, "one", double)
    begin, ends = device.start, []

    def start_and_end(*given: Any) -> Any:
        ends.append(asyncio.ensure_future(runtime.terminate("one")))
        return begin(*given)

    with monkeypatch.context() as patch:
        patch.setattr(device, "start", start_and_end)
        await runtime.launch("two", double, device="cuda")
    await within(asyncio.gather(*ends))
    assert runtime.get_state("one") is KernelState.TERMINATED
    assert runtime.get_state("two") is KernelState.LAUNCHED


async def test_more_inputs_than_a_mailbox_holds(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    device.max_mailbox_nbytes = places(2, 1, 1, by_time=False).nbytes
    await runtime.launch("k", double, device="cuda")
    for name in ("a", "b"):
        await runtime.launch(name, double, device="cpu")
    runtime.connect("a", "k")
    with pytest.raises(ConfigurationError, match="3 inputs"):
        runtime.connect("b", "k")
