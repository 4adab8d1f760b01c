"""Kernels for tests of grids, and what such tests do with them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from helpers import start, within
from inside import is_in_device_memory, output_of
from thread_device import POISON, ThreadDevice

from ringkernel import RingKernel, RingKernelRuntime, ring_kernel

if TYPE_CHECKING:
    import pytest


@ring_kernel("gr_double", input_type=float, output_type=float)
def double(msg: Any, out: Any) -> None:
    out.value = 2 * msg.value


@ring_kernel("gr_double_int", input_type=int, output_type=int)
def double_int(msg: Any, out: Any) -> None:
    out.value = 2 * msg.value


@ring_kernel("gr_some", input_type=int, output_type=int)
def some(msg: Any, out: Any) -> Any:
    if msg.value == 1_000:
        raise ValueError("a thousand")
    if msg.value % 3 == 0:
        return False
    out.value = msg.value + 7
    return True


@ring_kernel("gr_sum", input_type=int, output_type=int, state=np.zeros(2, np.int64))
def running_sum(msg: Any, out: Any, state: Any) -> None:
    state[0] += msg.value
    state[1] += 1
    out.value = state[0]


@ring_kernel("gr_plus", input_type=int, output_type=int)
async def plus_one(ctx: Any) -> None:
    async for message in ctx:
        await ctx.send(message + 1)


@ring_kernel("gr_add", input_type=int, output_type=int, device="cpu")
def add_one(msg: Any, out: Any) -> None:
    out.value = msg.value + 1


async def start_grid(
    runtime: RingKernelRuntime, kernel_id: str, function: Any, device: str = "cuda", **options: Any
) -> RingKernel:
    """Launch on the device, and activate."""
    return await start(runtime, kernel_id, function, device=device, **options)


def starts_of(patch: pytest.MonkeyPatch, device: ThreadDevice) -> list[Any]:
    """What the device is asked to start from now on."""
    started: list[Any] = []
    start_one = device.start

    def start_and_note(*given: Any) -> Any:
        started.append(given)
        return start_one(*given)

    patch.setattr(device, "start", start_and_note)
    return started


async def check_doubles(runtime: RingKernelRuntime, *names: str) -> None:
    for name in names:
        await runtime.send(name, 1.0)
        assert await within(runtime.receive(name)) == 2.0


async def chain(runtime: RingKernelRuntime, *kernels: tuple[str, Any, str], queue_size: int = 16) -> None:
    """Launch and connect, one after the other; nobody is started."""
    for name, function, where in kernels:
        await runtime.launch(name, function, device=where, queue_size=queue_size)
    for (source, *_), (target, *_) in itertools.pairwise(kernels):
        runtime.connect(source, target)


def is_on_device(runtime: RingKernelRuntime, name: str) -> bool:
    """Whether a kernel's output lies in device memory."""
    return is_in_device_memory(output_of(runtime, name), POISON)
