"""A grid gives what a worker gives, alone and in chains over all kinds of kernel."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from grid_kernels import (
    double,
    running_sum,
    some,
    start_grid,
)
from helpers import check_books, eventually, within

from ringkernel import (
    KernelFailedError,
    KernelState,
    RingKernelRuntime,
    ring_kernel,
)

if TYPE_CHECKING:
    from thread_device import ThreadDevice


@pytest.mark.parametrize("is_cooperative", [False, True])
async def test_a_grid_and_a_worker_give_the_same(
    runtime: RingKernelRuntime, device: ThreadDevice, is_cooperative: Any
) -> None:
    device.is_cooperative = is_cooperative
    values = np.random.default_rng(1).integers(-50, 900, 5_000)
    values[4_000] = 1_000
    got = {}
    for name in ("cpu", "cuda"):
        await start_grid(runtime, name, some, name, queue_size=64)
        with pytest.raises(KernelFailedError) as failure:
            await runtime.map(name, values)
        error = runtime.kernels[name].error
        got[name] = (failure.value.partial.tolist(), type(error), str(error), check_books(runtime, name).failed)
    assert got["cuda"] == got["cpu"]
    assert got["cpu"][1:] == (ValueError, "a thousand", 1)
    assert runtime.kernels["cuda"].device == "cuda:0"


async def test_a_chain_over_all_kinds(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    @ring_kernel("co", input_type=float, output_type=float)
    async def plus_one(ctx: Any) -> None:
        async for message in ctx:
            await ctx.send(message + 1)

    kernels: list[tuple[str, Any, str]] = [
        ("a", double, "cpu"),
        ("b", double, "cuda"),
        ("c", double, "cuda"),
        ("d", plus_one, "auto"),
        ("e", double, "cuda"),
        ("f", double, "cpu"),
    ]
    for name, function, where in kernels:
        await runtime.launch(name, function, device=where, queue_size=32)
    for source, target in zip("abcde", "bcdef", strict=True):
        runtime.connect(source, target)
    for name in "abcdef":
        await runtime.activate(name)
    values = np.arange(500.0)
    np.testing.assert_array_equal(await within(runtime.map(("a", "f"), values), 20), 4 * (8 * values + 1))


async def test_a_state_lives_on_the_device_and_comes_back(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await start_grid(runtime, "k", running_sum)
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


async def test_a_grid_that_is_full_goes_on_when_there_is_room(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await start_grid(runtime, "k", double, queue_size=4)
    sending = asyncio.create_task(runtime.send_batch("k", np.arange(100.0)))
    await eventually(lambda: runtime.statistics("k").output_depth == 4)
    got: list[float] = []
    while len(got) < 100:
        got += (await within(runtime.receive_batch("k"))).tolist()
    await within(sending)
    assert got == [2.0 * i for i in range(100)]
