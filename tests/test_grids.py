"""Kernels on a device that runs grids, without a GPU: grids are threads here. What is the same as on a CPU worker is in
the other files, which run with `--grids`, too; here is what is different."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from typing import Any

import numpy as np
import pytest
from helpers import check_books, eventually, live_state, turns, within
from inside import (
    arena_of,
    control_arena_of,
    fill,
    grid_of,
    grids_of,
    has_poller,
    heartbeat,
    is_open,
    output_of,
    set_answer_timeout,
    set_beat_timeout,
    set_control_room,
    use_devices,
    worker_threads_of,
)
from numba import types
from thread_device import POISON, ThreadDevice, ThreadGrid

from ringkernel import (
    ConfigurationError,
    DeviceUnavailableError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.devices import selection
from ringkernel.devices.grid import cuda_probe
from ringkernel.devices.grid.device_rings import DeviceStorage
from ringkernel.memory.mailbox_layout import mailbox_nbytes

GATE = np.dtype([("open", "i8"), ("entered", "i8")])
usleep = types.ExternalFunction("usleep", types.intc(types.uint32))


@pytest.fixture
def device(monkeypatch):
    made = ThreadDevice()
    use_devices(monkeypatch, made)
    yield made
    made.join()


@pytest.fixture
async def runtime(device, loop_errors):
    """As the shared one; it is closed before the device looks whether its grids have ended."""
    async with RingKernelRuntime(workers=1) as entered:
        yield entered


@ring_kernel("gr_double", input_type=float, output_type=float)
def double(msg, out):
    out.value = 2 * msg.value


@ring_kernel("gr_double_int", input_type=int, output_type=int)
def double_int(msg, out):
    out.value = 2 * msg.value


@ring_kernel("gr_some", input_type=int, output_type=int)
def some(msg, out):
    if msg.value == 1_000:
        raise ValueError("a thousand")
    if msg.value % 3 == 0:
        return False
    out.value = msg.value + 7
    return True


@ring_kernel("gr_sum", input_type=int, output_type=int, state=np.zeros(2, np.int64))
def running_sum(msg, out, state):
    state[0] += msg.value
    state[1] += 1
    out.value = state[0]


@ring_kernel("gr_gate", input_type=int, output_type=int, state=np.zeros((), GATE))
def gated(msg, out, state):
    state.entered += 1
    while state.open == 0:
        usleep(100)
    out.value = msg.value


async def start(runtime: RingKernelRuntime, name: str, function: Any, device: str = "cuda", **options: Any) -> Any:
    kernel = await runtime.launch(name, function, device=device, **options)
    await runtime.activate(name)
    return kernel


# --- the same results --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_cooperative", [False, True])
async def test_a_grid_and_a_worker_give_the_same(runtime, device, is_cooperative):
    device.is_cooperative = is_cooperative
    values = np.random.default_rng(1).integers(-50, 900, 5_000)
    values[4_000] = 1_000
    got = {}
    for name in ("cpu", "cuda"):
        await start(runtime, name, some, name, queue_size=64)
        with pytest.raises(KernelFailedError) as failure:
            await runtime.map(name, values)
        error = runtime.kernels[name].error
        got[name] = (failure.value.partial.tolist(), type(error), str(error), check_books(runtime, name).failed)
    assert got["cuda"] == got["cpu"]
    assert got["cpu"][1:] == (ValueError, "a thousand", 1)
    assert runtime.kernels["cuda"].device == "cuda:0"


async def test_a_chain_over_all_kinds(runtime, device):
    @ring_kernel("co", input_type=float, output_type=float)
    async def plus_one(ctx):
        async for message in ctx:
            await ctx.send(message + 1)

    for name, function, where in [
        ("a", double, "cpu"),
        ("b", double, "cuda"),
        ("c", double, "cuda"),
        ("d", plus_one, "auto"),
        ("e", double, "cuda"),
        ("f", double, "cpu"),
    ]:
        await runtime.launch(name, function, device=where, queue_size=32)
    for source, target in zip("abcde", "bcdef", strict=True):
        runtime.connect(source, target)
    for name in "abcdef":
        await runtime.activate(name)
    values = np.arange(500.0)
    np.testing.assert_array_equal(await within(runtime.map(("a", "f"), values), 20), 4 * (8 * values + 1))


async def test_a_state_lives_on_the_device_and_comes_back(runtime, device):
    await start(runtime, "k", running_sum)
    await runtime.send_batch("k", np.arange(10))
    assert await within(runtime.receive_batch("k", 10)) is not None
    assert (await runtime.read_state("k")).tolist() == [45, 10]
    assert runtime.get_state("k") is KernelState.ACTIVE
    await runtime.deactivate("k")
    await runtime.write_state("k", [1_000, 0])
    await runtime.reactivate("k")
    await runtime.send("k", 1)
    while (last := await within(runtime.receive("k"))) < 1_000:
        pass
    assert last == 1_001


async def test_a_grid_that_is_full_goes_on_when_there_is_room(runtime, device):
    await start(runtime, "k", double, queue_size=4)
    sending = asyncio.create_task(runtime.send_batch("k", np.arange(100.0)))
    await eventually(lambda: runtime.statistics("k").output_depth == 4)
    got: list[float] = []
    while len(got) < 100:
        got += (await within(runtime.receive_batch("k"))).tolist()
    await within(sending)
    assert got == [2.0 * i for i in range(100)]


# --- starting and stopping ---------------------------------------------------------------------------------------


async def test_grids_stop_for_a_launch_and_go_on(runtime, device, monkeypatch):
    await start(runtime, "first", running_sum)
    await runtime.send("first", 5)
    assert await within(runtime.receive("first")) == 5
    running = device.grids[-1]
    seen = []
    monkeypatch.setattr(device, "load", lambda code: (seen.append(running.is_done()), code)[1])
    await start(runtime, "second", double)
    await runtime.send("first", 6)
    assert await within(runtime.receive("first")) == 11
    assert device.grids[-1] is not running
    await eventually(running.is_done)


async def test_memory_that_is_new_is_adopted_before_a_start(runtime, device):
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
def lingering(monkeypatch):
    """Grids that have ended are not known to be done, so that what they could reach does not come back."""
    with monkeypatch.context() as patch:
        patch.setattr(ThreadGrid, "is_done", lambda _: False)
        yield


async def check_doubles(runtime: RingKernelRuntime, *names: str) -> None:
    for name in names:
        await runtime.send(name, 1.0)
        assert await within(runtime.receive(name)) == 2.0


async def test_a_grid_that_stopped_for_another_goes_on_also_when_control_lines_are_scarce(runtime, device, lingering):
    for name in ("k", "other"):
        await runtime.launch(name, double, device="cuda")
    filled = fill(arena_of(runtime))
    await runtime.activate("k")  # the device checks that it reaches the control lines
    filled += fill(control_arena_of(runtime))
    await runtime.activate("other")
    await check_doubles(runtime, "k", "other")
    assert filled


async def test_a_start_for_which_no_control_lines_are_reached_can_be_tried_again(
    runtime, device, lingering, monkeypatch
):
    set_control_room(monkeypatch, 0)
    await start(runtime, "k", double)
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


async def test_a_grid_without_a_sign_of_life_ends_and_is_started_again(runtime, device, monkeypatch, caplog):
    set_beat_timeout(monkeypatch, 1_000_000)
    started = []
    start_one = device.start
    monkeypatch.setattr(device, "start", lambda *given: (started.append(given), start_one(*given))[1])
    await start(runtime, "k", running_sum)
    await eventually(lambda: len(started) > 2)  # the watcher rests, and gives a sign only every 100 ms
    set_beat_timeout(monkeypatch, 10_000_000_000)
    await runtime.send_batch("k", np.ones(50, np.int64))
    got: list[int] = []
    while len(got) < 50:
        got += (await within(runtime.receive_batch("k"))).tolist()
    assert got == list(range(1, 51))
    assert any("starts again" in record.getMessage() for record in caplog.records)


async def test_the_watcher_gives_a_sign_of_life_also_while_it_rests(runtime, device):
    await start(runtime, "k", double)
    await eventually(lambda: all(worker.parked for worker in grids_of(runtime).workers))
    before = heartbeat(runtime)
    await eventually(lambda: heartbeat(runtime) > before + 2)


async def test_closing_leaves_no_grid(device, loop_errors):
    async with RingKernelRuntime(workers=1) as runtime:
        for i in range(3):
            await start(runtime, f"k{i}", double)
        grids = list(device.grids)
    await eventually(lambda: all(grid.is_done() for grid in grids))


async def test_a_device_belongs_to_one_runtime_at_a_time(device, loop_errors):
    async with RingKernelRuntime(workers=1) as one, RingKernelRuntime(workers=1) as other:
        await start(one, "k", double)
        with pytest.raises(DeviceUnavailableError, match="another runtime of this process"):
            await start(other, "k", double)
        assert not other.kernels
        await start(other, "k", double, "cpu")
        await one.send("k", 1.0)
        assert await within(one.receive("k")) == 2.0
        await one.close()
        await start(other, "later", double)
        await other.send("later", 1.0)
        assert await within(other.receive("later")) == 2.0


async def test_a_device_reaches_nothing_of_a_runtime_that_is_closed(device, loop_errors):
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("never_started", double, device="cuda")
        assert device._reached
    assert not device._reached


async def test_a_device_that_makes_trouble_at_the_end_leaves_no_thread_behind(device, loop_errors, monkeypatch):
    def refuse(_arena: Any) -> None:
        raise DeviceUnavailableError("cuda:0: unpinning")

    monkeypatch.setattr(device, "forget", refuse)
    runtime = RingKernelRuntime(workers=1)
    await start(runtime, "grid", double)
    await start(runtime, "worker", double, "cpu")
    threads = worker_threads_of(runtime)
    assert threads
    with pytest.raises(DeviceUnavailableError, match="unpinning"):
        await runtime.close()
    assert not any(thread.is_alive() for thread in threads)
    assert not is_open(runtime)


# --- rings in device memory ---------------------------------------------------------------------------------------


async def chain(runtime: RingKernelRuntime, *kernels: tuple[str, Any, str], queue_size: int = 16) -> None:
    """Launch and connect, one after the other; nobody is started."""
    for name, function, where in kernels:
        await runtime.launch(name, function, device=where, queue_size=queue_size)
    for (source, *_), (target, *_) in itertools.pairwise(kernels):
        runtime.connect(source, target)


async def activate(runtime: RingKernelRuntime, *names: str) -> None:
    for name in names:
        await runtime.activate(name)


def is_on_device(runtime: RingKernelRuntime, name: str) -> bool:
    """Whether a kernel's output lies in device memory. If so, nobody has written its slots in host memory since."""
    ring = output_of(runtime, name)
    is_there = isinstance(ring.storage, DeviceStorage)
    assert not is_there or (ring._on_host.bytes == POISON).all()
    return is_there


async def numbers(runtime: RingKernelRuntime, name: str, count: int) -> list[int]:
    got: list[int] = []
    while len(got) < count:
        got += (await within(runtime.receive_batch(name))).tolist()
    return got


async def test_a_ring_between_grids_lies_in_device_memory(runtime, device):
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
async def test_in_whatever_order_they_start_the_ring_is_in_device_memory(runtime, device, order):
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"), ("c", running_sum, "cuda"))
    await activate(runtime, *order)
    await runtime.send_batch("a", np.ones(40, np.int64))
    expected = np.ones(40, np.int64)
    for _ in range(3):
        expected = np.cumsum(expected)
    assert await numbers(runtime, "c", 40) == expected.tolist()
    assert is_on_device(runtime, "a")
    assert is_on_device(runtime, "b")


async def test_rings_move_while_the_device_is_quiesced_anyway(runtime, device, monkeypatch):
    await chain(runtime, *((name, double, "cuda") for name in "abcd"))
    started = []
    start_one = device.start
    monkeypatch.setattr(device, "start", lambda *given: (started.append(given), start_one(*given))[1])
    await activate(runtime, *"abcd")
    assert len(started) == 4  # nobody had to stop for the next one
    assert all(is_on_device(runtime, name) for name in "abc")


async def test_a_chain_that_is_started_all_at_once(runtime, device):
    await chain(runtime, *((name, double, "cuda") for name in "abcd"))
    await within(asyncio.gather(*(runtime.activate(name) for name in "dbca")))
    await runtime.send("a", 1.0)
    assert await within(runtime.receive("d")) == 16.0
    assert all(is_on_device(runtime, name) for name in "abc")


@pytest.mark.parametrize(("source", "target"), [("cpu", "cuda"), ("cuda", "cpu")])
async def test_a_ring_that_the_host_uses_too_lies_in_host_memory(runtime, device, source, target):
    await chain(runtime, ("a", double, source), ("b", double, target))
    await activate(runtime, "a", "b")
    await runtime.send("a", 1.0)
    assert await within(runtime.receive("b")) == 4.0
    assert not is_on_device(runtime, "a")


async def test_grids_of_two_devices_meet_in_host_memory(runtime, device, monkeypatch):
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


async def test_what_waits_for_a_target_moves_with_its_ring(runtime, device):
    await start(runtime, "a", running_sum, queue_size=8)
    await runtime.send_batch("a", np.arange(1, 6))
    await eventually(lambda: runtime.statistics("a").output_depth == 5)
    await runtime.deactivate("a")
    assert await runtime.receive("a") == 1
    await runtime.launch("b", some, device="cuda")
    runtime.connect("a", "b")
    await runtime.reactivate("a")
    await runtime.activate("b")
    assert await numbers(runtime, "b", 1) == [10 + 7]  # of 3, 6, 10, 15
    assert is_on_device(runtime, "a")
    assert check_books(runtime, "a").received == 5


async def test_what_a_target_leaves_comes_back(runtime, device):
    """Also while its source is running, and goes on after it has nobody left."""
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"), queue_size=8)
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(3, np.int64))
    assert await numbers(runtime, "b", 3) == [1, 3, 6]
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


@ring_kernel("gr_plus", input_type=int, output_type=int)
async def plus_one(ctx):
    async for message in ctx:
        await ctx.send(message + 1)


@ring_kernel("gr_add", input_type=int, output_type=int, device="cpu")
def add_one(msg, out):
    out.value = msg.value + 1


@pytest.mark.parametrize("guest", [plus_one, add_one], ids=["coroutine", "cpu"])
async def test_a_host_kernel_that_joins_brings_the_ring_to_host_memory(runtime, device, guest):
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"))
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(5, np.int64))
    assert await numbers(runtime, "b", 5) == [1, 3, 6, 10, 15]
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
    assert await numbers(runtime, "guest", 2) == [10, 11]
    await runtime.reactivate("b")  # what had waited for it moved with the ring
    assert await numbers(runtime, "b", 5) == [21, 28, 36, 45, 55]
    await within(runtime.terminate("guest"))
    await runtime.deactivate("b")
    await runtime.deactivate("a")
    await runtime.reactivate("a")
    assert is_on_device(runtime, "a")  # the grids are among themselves again
    await runtime.send_batch("a", np.ones(16, np.int64))  # as many as there is room for
    await eventually(lambda: runtime.statistics("b").unprocessed == 16)
    await runtime.reactivate("b")
    assert await numbers(runtime, "b", 16) == np.cumsum(np.arange(1, 27)).tolist()[10:]
    for name in ("a", "b", "guest"):
        check_books(runtime, name)


async def test_a_further_grid_joins(runtime, device):
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"))
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(2, np.int64))
    assert await numbers(runtime, "b", 2) == [1, 3]
    await runtime.deactivate("a")
    await runtime.launch("further", running_sum, device="cuda", queue_size=16)
    runtime.connect("a", "further")
    await activate(runtime, "further")
    await runtime.reactivate("a")
    await runtime.send_batch("a", np.ones(30, np.int64))
    heads = asyncio.gather(numbers(runtime, "b", 30), numbers(runtime, "further", 30))
    got, seen = await within(heads)
    assert seen == np.cumsum(np.arange(3, 33)).tolist()
    assert got == [3 + total for total in seen]
    assert is_on_device(runtime, "a")


async def test_a_target_reads_on_after_its_source_is_gone(runtime, device):
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
    assert await numbers(runtime, "b", 4) == [16, 20, 24, 28]
    assert isinstance(ring.storage, DeviceStorage)


async def test_a_drain_through_rings_in_device_memory_leaves_nothing(runtime, device):
    await chain(runtime, *((name, running_sum, "cuda") for name in "abc"), queue_size=64)
    await activate(runtime, "a", "b", "c")
    await runtime.send_batch("a", np.ones(60, np.int64))
    for name in "abc":
        await within(runtime.terminate(name))
    emitted = [check_books(runtime, name).emitted for name in "abc"]
    left = [len(runtime.unprocessed(name)) for name in "abc"]
    assert left == [0, 0, 0]
    assert emitted == [60, 60, 60]


async def test_a_map_that_fails_between_rings_in_device_memory(runtime, device):
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


async def test_an_abandoned_target_leaves_what_it_had_not_taken(runtime, device):
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
    assert await numbers(runtime, "c", 1) == [6]


async def test_an_abandoned_source_leaves_its_target_what_it_had_published(runtime, device):
    await chain(runtime, ("a", gated, "cuda"), ("b", double_int, "cuda"), queue_size=8)
    await activate(runtime, "a", "b")
    gate = live_state(runtime, "a")
    gate["open"] = 1
    await runtime.send_batch("a", np.arange(3))
    assert await numbers(runtime, "b", 3) == [0, 2, 4]
    gate["open"] = gate["entered"] = 0
    await runtime.send("a", 3)
    await eventually(lambda: gate["entered"] == 1)
    await within(runtime.terminate("a", timeout=0.1))
    counts = check_books(runtime, "a")
    assert (counts.processed, counts.in_flight, counts.emitted) == (3, 1, 3)
    gate["open"] = 1  # what it publishes now is nobody's
    await eventually(lambda: sum(not grid.is_done() for grid in device.grids) <= 1)
    await runtime.send("b", 50)
    assert await numbers(runtime, "b", 1) == [100]
    assert check_books(runtime, "b").accepted == 4


async def test_a_lost_device_takes_with_it_what_was_only_there(runtime, device, caplog):
    await chain(runtime, ("a", running_sum, "cuda"), ("b", running_sum, "cuda"), queue_size=8)
    await activate(runtime, "a", "b")
    await runtime.send_batch("a", np.ones(2, np.int64))
    assert await numbers(runtime, "b", 2) == [1, 3]
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


async def test_a_kernel_that_failed_on_what_is_lost(runtime, device):
    await chain(runtime, ("a", double_int, "cuda"), ("b", some, "cuda"))
    await activate(runtime, "a", "b")
    device.is_lost = True
    await runtime.send_batch("a", np.array([1, 500]))
    assert await within(runtime.wait("b")) is KernelState.TERMINATED
    assert isinstance(runtime.kernels["b"].error, DeviceUnavailableError)
    counts = check_books(runtime, "b")
    assert (counts.processed, counts.failed, counts.unprocessed) == (1, 1, 0)


async def test_a_ring_that_cannot_be_brought_to_host_memory_stays(runtime, device):
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
    assert (await numbers(runtime, "guest", 1), await numbers(runtime, "b", 1)) == ([2], [1])


async def test_a_device_without_memory_for_a_ring_says_so_and_the_ring_stays(runtime, device, monkeypatch):
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
    assert await numbers(runtime, "b", 1) == [1]
    assert is_on_device(runtime, "a")


async def test_a_ring_that_does_not_fit_is_nothing_to_another_kernels_start(runtime, device, monkeypatch):
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
    assert await numbers(runtime, "d", 1) == [4]
    with pytest.raises(DeviceUnavailableError, match="out of memory"):
        await runtime.activate("large")


# --- faults ------------------------------------------------------------------------------------------------------


async def test_a_stop_that_is_not_acknowledged(runtime, device, caplog):
    await start(runtime, "beside", double)
    await start(runtime, "k", gated)
    gate = live_state(runtime, "k")
    await runtime.send_batch("k", np.arange(3))
    await eventually(lambda: gate["entered"] == 1)
    await within(runtime.terminate("k", timeout=0.1))
    error = runtime.kernels["k"].error
    assert "'k' on cuda:0 did not acknowledge the stop" in str(error)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.in_flight, counts.unprocessed) == (0, 1, 2)
    assert runtime.unprocessed("k").tolist() == [1, 2]
    gate["open"] = 1  # now it returns, late
    await eventually(lambda: sum(not grid.is_done() for grid in device.grids) <= 1)
    assert runtime.statistics("k") == counts
    with pytest.raises(KernelFailedError, match="'k'"):
        await runtime.receive("k")
    await runtime.send("beside", 4.0)
    assert await within(runtime.receive("beside")) == 8.0


async def test_a_device_that_is_lost(runtime, device):
    await start(runtime, "k", double)
    device.grids[-1].reason = "an illegal address"
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    error = runtime.kernels["k"].error
    assert isinstance(error, DeviceUnavailableError)
    assert "an illegal address" in str(error)
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")


async def test_a_grid_that_ends_without_a_word(runtime, device, monkeypatch):
    monkeypatch.setattr(device, "start", lambda code, control, nbytes: ThreadGrid(lambda _control: None, control, None))
    await runtime.launch("k", double, device="cuda")
    with pytest.raises(KernelFailedError, match="without an answer"):
        await within(runtime.activate("k"))
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_a_grid_that_cannot_be_started(runtime, device, monkeypatch):
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
def gate(device, monkeypatch):
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
async def test_an_activation_that_is_cancelled_has_happened_or_not(runtime, gate, times):
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


async def test_a_grid_that_begins_too_late_rests(runtime, gate, monkeypatch):
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


async def test_a_grid_that_cannot_go_on_after_a_launch_has_ended(runtime, device, monkeypatch):
    one = await start(runtime, "one", double)

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


async def test_a_launch_does_not_mind_that_another_grid_is_told_to_end_before_it_goes_on(runtime, device, monkeypatch):
    await start(runtime, "one", double)
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


async def test_more_inputs_than_a_mailbox_holds(runtime, device):
    device.max_mailbox_nbytes = mailbox_nbytes(2, 1, 1)
    await runtime.launch("k", double, device="cuda")
    for name in ("a", "b"):
        await runtime.launch(name, double, device="cpu")
    runtime.connect("a", "k")
    with pytest.raises(ConfigurationError, match="3 inputs"):
        runtime.connect("b", "k")


# --- choosing ----------------------------------------------------------------------------------------------------


async def test_who_chooses_the_device(device, loop_errors):
    async with RingKernelRuntime(workers=1, device="cuda") as runtime:
        assert (await runtime.launch("a", double)).device == "cuda:0"
        assert (await runtime.launch("b", double, device="cpu")).device == "cpu"
        on_the_cpu = ring_kernel("c", input_type=int, device="cpu")(lambda msg: None)
        assert (await runtime.launch("c", on_the_cpu)).device == "cpu"
        assert (await runtime.launch("d", on_the_cpu, device="cuda:0")).device == "cuda:0"


GPU = cuda_probe.GpuFacts("A GPU", (9, 0), 132, None)


def facts(*gpus: cuda_probe.GpuFacts, problem: str | None = None, simulator: bool = False) -> cuda_probe.CudaFacts:
    return cuda_probe.CudaFacts({}, simulator, gpus, problem)


@pytest.mark.workers
@pytest.mark.parametrize(
    ("found", "handler", "device", "reason"),
    [
        (facts(problem="no driver"), double, "cpu", "no driver"),
        (facts(GPU), double, "cpu", "A GPU is there, but no measurement has shown yet"),
        (facts(cuda_probe.GpuFacts("Old", (7, 0), 80, "too old"), GPU), double, "cpu", 'device="cuda:1" asks for it'),
        (facts(GPU), running_sum, "cpu", "state"),
        (facts(simulator=True), double, "cpu", "simulator"),
    ],
)
async def test_auto_says_what_it_chose_and_why(runtime, monkeypatch, caplog, found, handler, device, reason):
    monkeypatch.setattr(selection, "cuda_facts", lambda: found)
    one = ThreadDevice(device)
    use_devices(monkeypatch, one)
    caplog.set_level(logging.INFO, "ringkernel")
    assert (await runtime.launch("k", handler)).device == device
    said = [record.getMessage() for record in caplog.records]
    assert any(f'chose "{device}"' in text and reason in text for text in said)


@pytest.mark.workers
@pytest.mark.parametrize(
    ("found", "asked", "reason"),
    [
        (facts(problem='numba-cuda not installed: pip install "numba-ringkernel[cuda]"'), "cuda", "pip install"),
        (facts(GPU), "cuda:3", "there is no GPU 3; found are 1: A GPU"),
        (facts(cuda_probe.GpuFacts("Screen", (9, 0), 80, "watchdog")), "cuda", "watchdog"),
    ],
)
async def test_a_device_that_is_not_there_says_what_is_missing(runtime, monkeypatch, found, asked, reason):
    monkeypatch.setattr(selection, "cuda_facts", lambda: found)
    use_devices(monkeypatch)
    with pytest.raises(DeviceUnavailableError, match=reason):
        await runtime.launch("k", double, device=asked)


async def test_a_batch_handler_is_refused_with_what_to_write_instead(runtime, device):
    batch = ring_kernel("k", input_type=int, output_type=int, batch=True)(lambda msgs, outs: None)
    with pytest.raises(ConfigurationError, match="Write the handler for one message"):
        await runtime.launch("k", batch, device="cuda")


INNER = np.dtype([("n", "i4"), ("x", "f8")])


class Packed:
    dtype = np.dtype([("flag", "?"), ("price", "f8")])


class Nested:
    dtype = np.dtype([("id", "i8"), ("part", INNER)])


class Odd:
    dtype = np.dtype([("price", "f8"), ("flag", "?")])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"input_type": Packed}, r"input_type, field 'price' lies at byte 1 .* no multiple of 8"),
        ({"input_type": int, "output_type": Nested}, r"output_type, field 'part\.x' lies at byte 12 .* multiple of 8"),
        ({"input_type": Odd}, r"input_type, field 'price' lies at byte 0 of a record of 9 bytes, .* at byte 9, "),
        ({"input_type": int, "state": np.zeros(3, INNER)}, r"state, field 'x' lies at byte 4 .* multiple of 8"),
        (
            {"input_type": int, "state": np.zeros(3, [("k", "i8"), ("parts", INNER, (4,))])},
            r"state, field 'parts\.x' lies at byte 12 ",
        ),
    ],
)
async def test_records_that_are_not_aligned_are_refused(runtime, device, options, reason):
    has_out, has_state = "output_type" in options, "state" in options
    handler = {(False, False): lambda msg: None, (True, False): lambda msg, out: None}.get(
        (has_out, has_state), lambda msg, state: None
    )
    declared = ring_kernel("k", **options)(handler)
    for _ in range(2):
        with pytest.raises(MessageTypeError, match=rf"'k'.*\"cuda:0\".*{reason}.*align=True\) would be right"):
            await runtime.launch("k", declared, device="cuda:0")
    assert "k" not in runtime.kernels
    assert device.grids == []
    assert (await runtime.launch("k", declared, device="cpu")).device == "cpu"


async def test_auto_keeps_what_is_not_aligned_on_the_cpu(runtime, device, monkeypatch, caplog):
    monkeypatch.setattr(selection, "cuda_facts", lambda: facts(GPU))
    caplog.set_level(logging.INFO, "ringkernel")
    assert (await runtime.launch("k", ring_kernel("k", input_type=Packed)(lambda msg: None))).device == "cpu"
    assert any("'price' lies at byte 1" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "dtype",
    [
        [("a", "i4"), ("b", "i4"), ("c", "f8")],  # as it happens
        [("flag", "?"), ("part", INNER), ("many", "i1", (3,)), ("x", "c16")],  # aligned by the message type
    ],
)
async def test_records_that_are_aligned_need_not_say_so(runtime, device, dtype):
    function = ring_kernel("k", input_type=np.dtype(dtype))(lambda msg: None)
    assert (await runtime.launch("k", function, device="cuda")).device == "cuda:0"


@pytest.mark.parametrize("fma", [1, None, "yes"])
def test_fma_is_yes_or_no(fma):
    with pytest.raises(ConfigurationError, match="'k'.*fma is .*True or False"):
        ring_kernel("k", input_type=int, fma=fma)(lambda msg: None)


async def test_a_grid_is_compiled_for_each_choice_of_fma(runtime, device, monkeypatch):
    asked, compile_ = [], device.compile

    def compile_and_note(declaration: Any, span: Any) -> Any:
        asked.append(declaration.fma)
        return compile_(declaration, span)

    monkeypatch.setattr(device, "compile", compile_and_note)

    def twice(msg, out):
        out.value = msg.value * 2.0 + 1.0

    for i, fma in enumerate((False, True, False)):
        function = ring_kernel("k", input_type=float, output_type=float, fma=fma)(twice)
        await runtime.launch(f"k{i}", function, device="cuda")
    assert asked == [False, True]


@pytest.mark.parametrize("size", [0, 31, 48, 2048, "128", True])
def test_a_bad_block_size(size):
    with pytest.raises(ConfigurationError, match="multiple of 32"):
        ring_kernel("k", input_type=int, block_size=size)(lambda msg: None)
