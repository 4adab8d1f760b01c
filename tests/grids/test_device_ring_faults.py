"""Nothing of a ring in device memory is lost with a kernel, and what is lost with its device is named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fault_kernels import gated
from grid_kernels import (
    add_one,
    chain,
    double_int,
    is_on_device,
    running_sum,
    some,
)
from helpers import activate, check_books, eventually, live_state, receive_all, within
from inside import (
    grid_of,
    output_of,
)

from ringkernel import (
    DeviceUnavailableError,
    KernelFailedError,
    KernelState,
    RingKernelRuntime,
)

if TYPE_CHECKING:
    from thread_device import ThreadDevice


async def test_a_map_that_fails_between_rings_in_device_memory(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", some, "cuda"), ("c", running_sum, "cuda"), queue_size=8)
    await activate(runtime, "a", "b", "c")
    with pytest.raises(KernelFailedError) as failure:
        await within(runtime.map(("a", "c"), np.full(500, 10)), 20)
    error = runtime.kernels["b"].error
    assert isinstance(error, ValueError)
    assert any("1000" in note for note in error.__notes__)  # the message that it failed on was read from the device
    assert error.__traceback__ is not None
    passed = np.arange(10, 1_000, 10)
    expected = np.cumsum(passed[passed % 3 != 0] + 7)
    np.testing.assert_array_equal(failure.value.partial, expected)
    counts = check_books(runtime, "b")
    assert (counts.processed, counts.failed) == (99, 1)
    left = runtime.unprocessed("b").tolist()
    assert left == list(range(1_010, 1_010 + 10 * len(left), 10))
    assert counts.accepted == 100 + len(left) == check_books(runtime, "a").emitted


async def test_an_abandoned_target_leaves_what_it_had_not_taken(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", gated, "cuda"), queue_size=8)
    await activate(runtime, "a", "b")
    gate = live_state(runtime, "b")
    await runtime.send_batch("a", np.ones(5, np.int64))
    await eventually(lambda: gate["entered"] == 1 and runtime.statistics("a").emitted == 5)
    assert is_on_device(runtime, "a")
    await within(runtime.terminate("b", timeout=0.1))
    counts = check_books(runtime, "b")
    assert (counts.processed, counts.in_flight, counts.unprocessed) == (0, 1, 4)
    assert runtime.unprocessed("b").tolist() == [2, 3, 4, 5]
    storage = output_of(runtime, "a").storage
    assert storage._is_quarantined
    gate["open"] = 1  # now it returns, late, and writes its cursors once more
    await eventually(lambda: sum(not grid.is_done() for grid in device.grids) <= 1)
    assert runtime.statistics("b") == counts
    await runtime.deactivate("a")
    await runtime.launch("c", running_sum, device="cuda")
    runtime.connect("a", "c")
    await activate(runtime, "c")
    await runtime.reactivate("a")
    assert output_of(runtime, "a").storage is not storage
    await runtime.send("a", 1)
    assert await receive_all(runtime, "c", 1) == [6]


async def test_an_abandoned_source_leaves_its_target_what_it_had_published(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    await chain(runtime, ("a", gated, "cuda"), ("b", double_int, "cuda"), queue_size=8)
    await activate(runtime, "a", "b")
    gate = live_state(runtime, "a")
    gate["open"] = 1
    await runtime.send_batch("a", np.arange(3))
    assert await receive_all(runtime, "b", 3) == [0, 2, 4]
    gate["open"] = gate["entered"] = 0
    await runtime.send("a", 3)
    await eventually(lambda: gate["entered"] == 1)
    await within(runtime.terminate("a", timeout=0.1))
    counts = check_books(runtime, "a")
    assert (counts.processed, counts.in_flight, counts.emitted) == (3, 1, 3)
    gate["open"] = 1  # what it publishes now is nobody's
    await eventually(lambda: sum(not grid.is_done() for grid in device.grids) <= 1)
    await runtime.send("b", 50)
    assert await receive_all(runtime, "b", 1) == [100]
    assert check_books(runtime, "b").accepted == 4


async def test_a_lost_device_takes_with_it_what_was_only_there(
    runtime: RingKernelRuntime, device: ThreadDevice, caplog: pytest.LogCaptureFixture
) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"), queue_size=8)
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(2, np.int64))
    assert await receive_all(runtime, "b", 2) == [1, 3]
    await runtime.deactivate("b")
    await runtime.send_batch("a", np.ones(5, np.int64))
    await runtime.send("b", 77)  # from the host: in host memory
    await eventually(lambda: runtime.statistics("b").unprocessed == 6)
    device.is_lost = True
    grid_of(runtime.kernels["a"]).reason = "an illegal address"
    assert await within(runtime.wait("a")) is KernelState.TERMINATED
    await within(runtime.terminate("b"))
    counts = check_books(runtime, "b")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (8, 2, 6)
    assert check_books(runtime, "a").emitted == 7
    for _ in range(2):
        with pytest.raises(DeviceUnavailableError, match="5 message.*'b'.*it is lost.*the other 1") as loss:
            runtime.unprocessed("b")
        assert loss.value.partial.tolist() == [77]
    assert any("5 message(s)" in record.getMessage() for record in caplog.records)


async def test_a_kernel_that_failed_on_what_is_lost(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await chain(runtime, ("a", double_int, "cuda"), ("b", some, "cuda"))
    await activate(runtime, "a", "b")
    device.is_lost = True
    await runtime.send_batch("a", np.array([1, 500]))
    assert await within(runtime.wait("b")) is KernelState.TERMINATED
    assert isinstance(runtime.kernels["b"].error, DeviceUnavailableError)
    counts = check_books(runtime, "b")
    assert (counts.processed, counts.failed, counts.unprocessed) == (1, 1, 0)


async def test_a_ring_that_cannot_be_brought_to_host_memory_stays(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"))
    await activate(runtime, "a", "b")
    await runtime.deactivate("a")
    await runtime.launch("guest", add_one)
    runtime.connect("a", "guest")
    device.is_lost = True
    with pytest.raises(DeviceUnavailableError, match="it is lost"):
        await runtime.reactivate("a")
    assert runtime.get_state("a") is KernelState.DEACTIVATED
    assert is_on_device(runtime, "a")
    device.is_lost = False
    await runtime.reactivate("a")
    await activate(runtime, "guest")
    await runtime.send("a", 1)
    assert (await receive_all(runtime, "guest", 1), await receive_all(runtime, "b", 1)) == ([2], [1])


async def test_a_device_without_memory_for_a_ring_says_so_and_the_ring_stays(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"))

    def refuse(nbytes: int, arena: Any) -> Any:
        raise DeviceUnavailableError(f"cuda:0: allocating {nbytes} bytes: the driver says out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(device, "allocate", refuse)
        with pytest.raises(DeviceUnavailableError, match="out of memory"):
            await runtime.activate("a")
    assert runtime.get_state("a") is KernelState.LAUNCHED
    await activate(runtime, "b", "a")
    await runtime.send("a", 1)
    assert await receive_all(runtime, "b", 1) == [1]
    assert is_on_device(runtime, "a")


async def test_a_ring_that_does_not_fit_is_nothing_to_another_kernels_start(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chain(runtime, ("large", double_int, "cuda"), ("b", double_int, "cuda"), queue_size=4096)
    await chain(runtime, ("small", double_int, "cuda"), ("d", double_int, "cuda"))
    allocate = device.allocate

    def allocate_little(nbytes: int, arena: Any) -> Any:
        if nbytes > 20_000:
            raise DeviceUnavailableError(f"cuda:0: allocating {nbytes} bytes: the driver says out of memory")
        return allocate(nbytes, arena)

    monkeypatch.setattr(device, "allocate", allocate_little)
    await activate(runtime, "b", "d", "small")
    assert is_on_device(runtime, "small")
    await runtime.send("small", 1)
    assert await receive_all(runtime, "d", 1) == [4]
    with pytest.raises(DeviceUnavailableError, match="out of memory"):
        await runtime.activate("large")
