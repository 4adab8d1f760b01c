"""A ring between grids of one device lies in its memory, and moves when somebody else joins or leaves."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from grid_kernels import (
    add_one,
    chain,
    double,
    is_on_device,
    plus_one,
    running_sum,
    some,
    start_grid,
    starts_of,
)
from helpers import activate, check_books, eventually, receive_all, within
from inside import (
    is_in_device_memory,
    output_of,
    use_devices,
)
from thread_device import POISON, ThreadDevice

from ringkernel import (
    KernelStateError,
    RingKernelRuntime,
)


async def test_a_ring_between_grids_lies_in_device_memory(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await chain(runtime, ("a", some, "cuda"), ("b", running_sum, "cuda"), ("c", some, "cuda"), queue_size=4)
    await activate(runtime, "a", "b", "c")
    values = np.random.default_rng(2).integers(0, 900, 3_000)
    got = asyncio.create_task(asyncio.wait_for(runtime.map(("a", "c"), values), 20))
    sums = np.cumsum(values[values % 3 != 0] + 7)
    sums = sums[sums != 1_000]
    np.testing.assert_array_equal(await got, sums[sums % 3 != 0] + 7)
    assert [is_on_device(runtime, name) for name in "abc"] == [True, True, False]
    for name in "abc":
        check_books(runtime, name)
    assert runtime.statistics("a").emitted == runtime.statistics("b").processed == len(sums)


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
async def test_in_whatever_order_they_start_the_ring_is_in_device_memory(
    runtime: RingKernelRuntime, device: ThreadDevice, order: Any
) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"), ("c", running_sum, "cuda"))
    await activate(runtime, *order)
    await runtime.send_batch("a", np.ones(40, np.int64))
    expected = np.ones(40, np.int64)
    for _ in range(3):
        expected = np.cumsum(expected)
    assert await receive_all(runtime, "c", 40) == expected.tolist()
    assert is_on_device(runtime, "a")
    assert is_on_device(runtime, "b")


async def test_rings_move_while_the_device_is_quiesced_anyway(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await chain(runtime, *((name, double, "cuda") for name in "abcd"))
    started = starts_of(monkeypatch, device)
    await activate(runtime, *"abcd")
    assert len(started) == 4  # nobody had to stop for the next one
    assert all(is_on_device(runtime, name) for name in "abc")


async def test_a_chain_that_is_started_all_at_once(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await chain(runtime, *((name, double, "cuda") for name in "abcd"))
    await within(asyncio.gather(*(runtime.activate(name) for name in "dbca")))
    await runtime.send("a", 1.0)
    assert await within(runtime.receive("d")) == 16.0
    assert all(is_on_device(runtime, name) for name in "abc")


@pytest.mark.parametrize(("source", "target"), [("cpu", "cuda"), ("cuda", "cpu")])
async def test_a_ring_that_the_host_uses_too_lies_in_host_memory(
    runtime: RingKernelRuntime, device: ThreadDevice, source: Any, target: Any
) -> None:
    await chain(runtime, ("a", double, source), ("b", double, target))
    await activate(runtime, "a", "b")
    await runtime.send("a", 1.0)
    assert await within(runtime.receive("b")) == 4.0
    assert not is_on_device(runtime, "a")


async def test_grids_of_two_devices_meet_in_host_memory(
    runtime: RingKernelRuntime, device: ThreadDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ThreadDevice("cuda:1")
    use_devices(monkeypatch, device, other)
    await chain(runtime, ("a", double, "cuda:0"), ("b", double, "cuda:1"), ("c", double, "cuda:1"))
    await activate(runtime, "a", "b", "c")
    await runtime.send("a", 1.0)
    assert await within(runtime.receive("c")) == 8.0
    assert [is_on_device(runtime, name) for name in "ab"] == [False, True]
    for name in "abc":
        await runtime.terminate(name)
    other.join()


async def test_what_waits_for_a_target_moves_with_its_ring(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await start_grid(runtime, "a", running_sum, queue_size=8)
    await runtime.send_batch("a", np.arange(1, 6))
    await eventually(lambda: runtime.statistics("a").output_depth == 5)
    await runtime.deactivate("a")
    assert await runtime.receive("a") == 1
    await runtime.launch("b", some, device="cuda")
    runtime.connect("a", "b")
    await runtime.reactivate("a")
    await runtime.activate("b")
    assert await receive_all(runtime, "b", 1) == [10 + 7]  # of 3, 6, 10, 15
    assert is_on_device(runtime, "a")
    assert check_books(runtime, "a").received == 5


async def test_what_a_target_leaves_comes_back(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    """Also while its source is running, and goes on after it has nobody left."""
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"), queue_size=8)
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(3, np.int64))
    assert await receive_all(runtime, "b", 3) == [1, 3, 6]
    await runtime.deactivate("b")
    await runtime.send_batch("a", np.ones(16, np.int64))
    await eventually(lambda: runtime.statistics("b").unprocessed == 8)
    await runtime.terminate("b")
    assert runtime.unprocessed("b").tolist() == list(range(4, 12))
    counts = check_books(runtime, "b")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (11, 3, 8)
    assert is_on_device(runtime, "a")
    runtime.remove("b")
    with pytest.raises(KernelStateError, match="'a'"):
        await runtime.receive("a")
    await runtime.terminate("a")
    assert runtime.unprocessed("a").tolist() == [1] * 8


@pytest.mark.parametrize("guest", [plus_one, add_one], ids=["coroutine", "cpu"])
async def test_a_host_kernel_that_joins_brings_the_ring_to_host_memory(
    runtime: RingKernelRuntime, device: ThreadDevice, guest: Any
) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"))
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(5, np.int64))
    assert await receive_all(runtime, "b", 5) == [1, 3, 6, 10, 15]
    await runtime.deactivate("b")
    await runtime.send_batch("a", np.ones(3, np.int64))
    await eventually(lambda: runtime.statistics("a").emitted == 8)
    await runtime.deactivate("a")
    assert is_on_device(runtime, "a")
    await runtime.launch("guest", guest)
    runtime.connect("a", "guest")
    await activate(runtime, "guest")
    await runtime.reactivate("a")
    assert not is_on_device(runtime, "a")
    await runtime.send_batch("a", np.ones(2, np.int64))
    assert await receive_all(runtime, "guest", 2) == [10, 11]
    await runtime.reactivate("b")  # what had waited for it moved with the ring
    assert await receive_all(runtime, "b", 5) == [21, 28, 36, 45, 55]
    await within(runtime.terminate("guest"))
    await runtime.deactivate("b")
    await runtime.deactivate("a")
    await runtime.reactivate("a")
    assert is_on_device(runtime, "a")  # the grids are among themselves again
    await runtime.send_batch("a", np.ones(16, np.int64))  # as many as there is room for
    await eventually(lambda: runtime.statistics("b").unprocessed == 16)
    await runtime.reactivate("b")
    assert await receive_all(runtime, "b", 16) == np.cumsum(np.arange(1, 27)).tolist()[10:]
    for name in ("a", "b", "guest"):
        check_books(runtime, name)


async def test_a_further_grid_joins(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"))
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(2, np.int64))
    assert await receive_all(runtime, "b", 2) == [1, 3]
    await runtime.deactivate("a")
    await runtime.launch("further", running_sum, device="cuda", queue_size=16)
    runtime.connect("a", "further")
    await activate(runtime, "further")
    await runtime.reactivate("a")
    await runtime.send_batch("a", np.ones(30, np.int64))
    heads = asyncio.gather(receive_all(runtime, "b", 30), receive_all(runtime, "further", 30))
    got, seen = await within(heads)
    assert seen == np.cumsum(np.arange(3, 33)).tolist()
    assert got == [3 + total for total in seen]
    assert is_on_device(runtime, "a")


async def test_a_target_reads_on_after_its_source_is_gone(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await chain(runtime, ("a", double, "cuda"), ("b", double, "cuda"))
    await activate(runtime, "a")
    await runtime.send_batch("a", np.arange(8.0))
    await eventually(lambda: runtime.statistics("a").emitted == 8)
    assert is_on_device(runtime, "a")
    ring = output_of(runtime, "a")
    await runtime.terminate("a")
    runtime.remove("a")
    await runtime.activate("b")
    assert (await within(runtime.receive_batch("b", 4))).tolist() == [0, 4, 8, 12]
    await runtime.deactivate("b")
    await runtime.launch("new", double, device="cuda")  # takes memory that is free
    await runtime.reactivate("b")
    assert await receive_all(runtime, "b", 4) == [16, 20, 24, 28]
    assert is_in_device_memory(ring, POISON)


async def test_a_drain_through_rings_in_device_memory_leaves_nothing(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    await chain(runtime, *((name, running_sum, "cuda") for name in "abc"), queue_size=64)
    await activate(runtime, "a", "b", "c")
    await runtime.send_batch("a", np.ones(60, np.int64))
    for name in "abc":
        await within(runtime.terminate(name))
    emitted = [check_books(runtime, name).emitted for name in "abc"]
    left = [len(runtime.unprocessed(name)) for name in "abc"]
    assert left == [0, 0, 0]
    assert emitted == [60, 60, 60]
