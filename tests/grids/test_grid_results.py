"""A grid gives what a worker gives, alone and in chains over all kinds of kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from grid_kernels import (
    double,
    some,
    start_grid,
)
from helpers import check_books, within

from ringkernel import (
    KernelFailedError,
    RingKernelRuntime,
    ring_kernel,
)

if TYPE_CHECKING:
    from thread_device import ThreadDevice


@pytest.mark.parametrize("is_built_in", [False, True])
async def test_a_grid_and_a_worker_give_the_same(
    runtime: RingKernelRuntime, device: ThreadDevice, is_built_in: Any
) -> None:
    device.is_built_in = is_built_in
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
