"""Threads of a block together give the CPU's results, in order: in numba's CUDA simulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from corpus import EACH, GAIN
from helpers import check_books, within
from inside import output_of

import ringkernel as rk
from ringkernel import DeviceUnavailableError, KernelFailedError, KernelState, RingKernelRuntime, ring_kernel
from ringkernel.devices.grid.device_rings import DeviceStorage

ROW = np.dtype([("id", "i4"), ("x", "f4")], align=True)


@ring_kernel("si_all", input_type=ROW, output_type=float)
def every(msg: Any, out: Any) -> None:
    out.value = msg.id + msg.x


@ring_kernel("si_some", input_type=int, output_type=ROW)
def some(msg: Any, out: Any) -> Any:
    if msg.value == 777:
        raise ValueError("seven")
    out.id = np.int32(msg.value)
    return msg.value % 3 != 0


@ring_kernel("si_sum", input_type=int, output_type=int, state=np.zeros(1, np.int64))
def running_sum(msg: Any, out: Any, state: Any) -> Any:
    state[0] += msg.value
    out.value = state[0]
    return state[0] % 2 == 0


@pytest.mark.parametrize("count", [1, 7, 8, 9, 61])
@pytest.mark.parametrize("handler", [every, some, running_sum], ids=lambda handler: handler.__name__)
async def test_the_results_are_the_cpus(loop_errors: list[dict[str, Any]], handler: Any, count: Any) -> None:
    values = np.arange(count)
    if handler is every:
        values = np.array([(i, i / 2) for i in range(count)], ROW)
    results = {}
    for device in ("cpu", "cuda"):
        async with RingKernelRuntime(workers=1) as runtime:
            await runtime.launch("k", handler, device=device)
            await runtime.activate("k")
            results[device] = (await within(runtime.map("k", values), 60)).tolist()
            check_books(runtime, "k")
    assert results["cuda"] == results["cpu"]


async def test_pause_resume_and_terminate(loop_errors: list[dict[str, Any]]) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", some, device="cuda")
        await runtime.activate("k")
        await runtime.deactivate("k")
        await runtime.send_batch("k", np.arange(20))
        assert check_books(runtime, "k").processed == 0
        await runtime.reactivate("k")
        await within(runtime.terminate("k", 20), 30)  # graceful: after what was queued
        assert runtime.get_state("k") is KernelState.TERMINATED
        got = (await runtime.receive_batch("k"))["id"].tolist()
        assert got == [i for i in range(20) if i % 3]


async def test_the_first_failure_counts_and_what_is_before_it_comes_out(loop_errors: list[dict[str, Any]]) -> None:
    values = np.arange(30)
    values[[13, 14, 27]] = 777
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", some, device="cuda")
        await runtime.send_batch("k", values)
        await runtime.activate("k")
        await within(runtime.wait("k"), 30)
        error = runtime.kernels["k"].error
        assert isinstance(error, ValueError)
        assert error.__traceback__ is not None
        counts = check_books(runtime, "k")
        assert (counts.processed, counts.failed, counts.unprocessed) == (13, 1, 16)
        got = (await runtime.receive_batch("k"))["id"].tolist()
        assert got == [i for i in range(13) if i % 3]
        with pytest.raises(KernelFailedError, match="seven"):
            await runtime.receive("k")


async def test_one_kernel_at_a_time(loop_errors: list[dict[str, Any]]) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        for name in ("a", "b"):
            await runtime.launch(name, some, device="cuda")
        await runtime.activate("a")
        with pytest.raises(DeviceUnavailableError, match="one kernel at a time"):
            await runtime.activate("b")
        await runtime.deactivate("a")
        await runtime.activate("b")
        assert runtime.get_state("b") is KernelState.ACTIVE


async def test_a_ring_between_two_grids(loop_errors: list[dict[str, Any]]) -> None:
    """One after the other: what the first leaves in device memory the second finds there."""
    async with RingKernelRuntime(workers=1) as runtime:
        for name in ("a", "b"):
            await runtime.launch(name, running_sum, device="cuda")
        runtime.connect("a", "b")
        await runtime.send_batch("a", np.arange(20))
        await runtime.activate("a")
        await within(runtime.terminate("a", 20), 30)
        assert isinstance(output_of(runtime, "a").storage, DeviceStorage)
        await runtime.activate("b")
        await within(runtime.terminate("b", 20), 30)
        evens = np.cumsum(np.arange(20))
        sums = np.cumsum(evens[evens % 2 == 0])
        assert (await runtime.receive_batch("b")).tolist() == sums[sums % 2 == 0].tolist()
        check_books(runtime, "a")
        check_books(runtime, "b")


# --- streams ----------------------------------------------------------------------------------------------------------

TICK = np.dtype([("time", "i8"), ("key", "i8"), ("x", "f8")], align=True)


@ring_kernel(
    "si_each", input_type=TICK, output_type=TICK, state=EACH, key="key", order_by="time", params=GAIN, rng=3, keys=40
)
def each(msg: Any, out: Any, state: Any, params: Any, rng: Any) -> None:
    state.n += 1
    state.sum += msg.x * params.factor
    out.time, out.key, out.x = msg.time, state.n, state.sum + rng.normal() + rng.integers(0, 9)


@rk.on_input("si_each", "quotes", TICK)
def each_quote(msg: Any, out: Any, state: Any, params: Any, rng: Any) -> Any:
    state.sum = msg.x
    return False


@rk.on_timer("si_each", every=7)
def each_timer(time: Any, out: Any, state: Any, params: Any, rng: Any) -> Any:
    out.time, out.x = time, state.sum * rng.random()
    return state.n > 1


@rk.on_end("si_each")
def each_end(out: Any, state: Any, params: Any, rng: Any) -> None:
    out.x = state.sum


@ring_kernel("si_scaled", input_type=float, output_type=float, params=GAIN)
def scaled(msg: Any, out: Any, params: Any) -> None:
    out.value = msg.value * params.factor


@rk.on_input("si_scaled", "ticks", TICK)
def scaled_ticks(msg: Any, out: Any, params: Any) -> Any:
    out.value = -msg.x * params.factor
    return msg.key % 2 == 0


async def test_streams_come_to_the_cpus_bits(loop_errors: list[dict[str, Any]]) -> None:
    """A join with keys, a timer, random numbers and an end, on one thread."""
    rng = np.random.default_rng(4)
    inputs = []
    for count in (60, 40):
        messages = np.zeros(count, TICK)
        messages["time"], messages["key"] = np.sort(rng.integers(-9, 40, count)), rng.integers(0, 9, count)
        messages["x"] = rng.random(count)
        inputs.append(messages)
    results = {}
    for device in ("cpu", "cuda"):
        async with RingKernelRuntime(workers=1) as runtime:
            await runtime.launch("k", each, device=device, queue_size=8)
            await runtime.activate("k")
            outputs = await within(runtime.replay({"k": inputs[0], ("k", "quotes"): inputs[1]}, until="k"), 60)
            results[device] = outputs.tolist(), (await runtime.read_state("k")).tolist()
            check_books(runtime, "k")
    assert results["cuda"] == results["cpu"]
    assert len(results["cpu"][0]) > 60


async def test_each_input_is_shared_by_the_threads_of_a_block(loop_errors: list[dict[str, Any]]) -> None:
    """Each with its own handler, with the parameters, and dropping; then the kernel ends with its inputs."""
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("k", scaled, device="cuda")
        ticks = np.zeros(21, TICK)
        ticks["key"], ticks["x"] = np.arange(21), np.arange(21)
        await runtime.send_batch("k", np.arange(19.0))
        await runtime.send_batch("k", ticks, input="ticks")
        await runtime.close_input("k")
        await runtime.close_input("k", input="ticks")
        await runtime.activate("k")
        await within(runtime.wait("k"), 30)
        got = (await runtime.receive_batch("k")).tolist()
        assert [one for one in got if one > 0] == [2.0 * i for i in range(1, 19)]
        assert [one for one in got if one < 0] == [-2.0 * i for i in range(2, 21, 2)]
        assert check_books(runtime, "k").dropped == 10
