"""Kernels on a device that runs grids, without a GPU: grids are threads here. What is the same as on a CPU worker is in
the other files, which run with `--grids`, too; here is what is different."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest
from helpers import check_books, eventually, live_state, within
from numba import types
from thread_device import ThreadDevice, ThreadGrid

from ringkernel import (
    ConfigurationError,
    DeviceUnavailableError,
    KernelFailedError,
    KernelState,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.devices import choosing, cuda_probe, grid_pool
from ringkernel.ring.desk_layout import HEART, desk_nbytes

GATE = np.dtype([("open", "i8"), ("entered", "i8")])
usleep = types.ExternalFunction("usleep", types.intc(types.uint32))


@pytest.fixture
def device(monkeypatch):
    made = ThreadDevice()
    monkeypatch.setattr(choosing, "_opened", {made.name: made})
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


@pytest.mark.parametrize("spread", [False, True])
async def test_a_grid_and_a_worker_give_the_same(runtime, device, spread):
    device.spread = spread
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


async def test_a_state_lives_on_the_device_and_comes_home(runtime, device):
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
    arena = runtime._host_or_none.party.arena
    assert not device.reaches(arena)
    await runtime.activate("big")
    await runtime.activate("k")
    assert device.reaches(arena)
    await runtime.send("big", 3.0)
    assert await within(runtime.receive("k")) == 12.0


async def test_a_grid_without_a_sign_of_life_ends_and_is_started_again(runtime, device, monkeypatch, caplog):
    monkeypatch.setattr(grid_pool, "BEAT_TIMEOUT_NS", 1_000_000)
    started = []
    start_one = device.start
    monkeypatch.setattr(device, "start", lambda *given: (started.append(given), start_one(*given))[1])
    await start(runtime, "k", running_sum)
    await eventually(lambda: len(started) > 2)  # the watcher rests, and gives a sign only every 100 ms
    monkeypatch.setattr(grid_pool, "BEAT_TIMEOUT_NS", 10_000_000_000)
    await runtime.send_batch("k", np.ones(50, np.int64))
    got: list[int] = []
    while len(got) < 50:
        got += (await within(runtime.receive_batch("k"))).tolist()
    assert got == list(range(1, 51))
    assert any("starts again" in record.getMessage() for record in caplog.records)


async def test_the_watcher_gives_a_sign_of_life_also_while_it_rests(runtime, device):
    await start(runtime, "k", double)
    grids = runtime._host_or_none.grids
    await eventually(lambda: all(worker.parked for worker in grids.workers))
    beat = grids._heart.address + HEART.beat
    before = grids.api.read_word(beat)
    await eventually(lambda: grids.api.read_word(beat) > before + 2)


async def test_closing_leaves_no_grid(device, loop_errors):
    async with RingKernelRuntime(workers=1) as runtime:
        for i in range(3):
            await start(runtime, f"k{i}", double)
        grids = list(device.grids)
    await eventually(lambda: all(grid.is_done() for grid in grids))


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
    monkeypatch.setattr(device, "start", lambda code, book, nbytes: ThreadGrid(lambda _book: None, book, None))
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
    monkeypatch.setattr(choosing, "_opened", {device.name: device})
    await runtime.activate("k")
    await runtime.send("k", 1.0)
    assert await within(runtime.receive("k")) == 2.0


async def test_more_inputs_than_a_desk_holds(runtime, device):
    device.max_desk_nbytes = desk_nbytes(2, 1, 1)
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
        (facts(GPU), double, "cuda:0", "A GPU"),
        (facts(cuda_probe.GpuFacts("Old", (7, 0), 80, "too old"), GPU), double, "cuda:1", "A GPU"),
        (facts(GPU), running_sum, "cpu", "state"),
        (facts(simulator=True), double, "cpu", "simulator"),
    ],
)
async def test_auto_says_what_it_chose_and_why(runtime, monkeypatch, caplog, found, handler, device, reason):
    monkeypatch.setattr(choosing, "cuda_facts", lambda: found)
    one = ThreadDevice(device)
    monkeypatch.setattr(choosing, "_opened", {device: one})
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
    monkeypatch.setattr(choosing, "cuda_facts", lambda: found)
    monkeypatch.setattr(choosing, "_opened", {})
    with pytest.raises(DeviceUnavailableError, match=reason):
        await runtime.launch("k", double, device=asked)


async def test_a_batch_handler_is_refused_with_what_to_write_instead(runtime, device):
    batch = ring_kernel("k", input_type=int, output_type=int, batch=True)(lambda msgs, outs: None)
    with pytest.raises(ConfigurationError, match="Write the handler for one message"):
        await runtime.launch("k", batch, device="cuda")


@pytest.mark.parametrize("size", [0, 31, 48, 2048, "128", True])
def test_a_bad_block_size(size):
    with pytest.raises(ConfigurationError, match="multiple of 32"):
        ring_kernel("k", input_type=int, block_size=size)(lambda msg: None)
