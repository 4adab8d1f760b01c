"""Kernels for tests of faults, and what such tests do with a kernel again and again."""

from __future__ import annotations

import ctypes
import os
import threading
import traceback
from typing import Any

import numpy as np
import pytest
from helpers import eventually, live_state, start, within

from ringkernel import KernelState, RingKernelRuntime, ring_kernel

if os.name != "posix":
    pytest.skip("the handlers that take their time call usleep", allow_module_level=True)

usleep = ctypes.CDLL(None).usleep
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int


def on_each_device(test: Any) -> Any:
    """Run a test with `on="cpu"`, on a worker, and with `on="cuda"`, as a grid: the same fault, the same outcome."""
    return pytest.mark.usefixtures("device")(pytest.mark.parametrize("on", ["cpu", "cuda"])(test))


@ring_kernel("fault_echo", input_type=int, output_type=int)
def echo(msg: Any, out: Any) -> None:
    out.value = msg.value


@ring_kernel("fault_echo_on_worker", input_type=int, output_type=int)
def echo_on_worker(msg: Any, out: Any) -> None:
    """Of what a C function does nothing is known, so the event loop never runs this itself."""
    usleep(0)
    out.value = msg.value


@ring_kernel("fault_slow", input_type=int, output_type=int)
def slow(msg: Any, out: Any) -> None:
    usleep(20_000)
    out.value = msg.value


@ring_kernel("fault_slow_count", input_type=int, state=np.zeros(1, np.int64))
def slow_count(msg: Any, state: Any) -> None:
    usleep(10_000)
    state[0] += 1


GATE = np.dtype([("open", "i8"), ("entered", "i8")])


@ring_kernel("fault_gated", input_type=int, output_type=int, state=np.zeros((), GATE))
def gated(msg: Any, out: Any, state: Any) -> None:
    """Does not return until the test opens it: to everybody else a handler that loops for ever."""
    state.entered += 1
    while state.open == 0:
        usleep(100)
    out.value = msg.value


class OwnError(Exception):
    """What handlers raise."""


@ring_kernel("fault_fail_at_57", input_type=int, output_type=int)
def fail_at_57(msg: Any, out: Any) -> bool:
    if msg.value == 57:
        raise OwnError("fifty-seven")  # the line that the traceback shows
    out.value = msg.value
    return bool(msg.value % 2 == 0)


@ring_kernel("fault_coroutine")
async def coroutine(ctx: Any) -> None:
    async for message in ctx:
        await ctx.send(message)


async def enter_gate(
    runtime: RingKernelRuntime, kernel_id: str = "k", messages: int = 1, *, on: str | None = None
) -> Any:
    """A gated kernel that stands in its first message. Its live state, which the test may write to."""
    await start(runtime, kernel_id, gated, device=on)
    gate = live_state(runtime, kernel_id)
    await runtime.send_batch(kernel_id, np.arange(messages))
    await eventually(lambda: gate["entered"] == 1)
    return gate


async def check_alive(runtime: RingKernelRuntime, *kernel_ids: str) -> None:
    """Each hands on what it is sent."""
    for kernel_id in kernel_ids:
        await runtime.send(kernel_id, 424_242)
        assert await within(runtime.receive(kernel_id)) == 424_242


async def failure(runtime: RingKernelRuntime, func: Any, messages: Any, **options: Any) -> BaseException:
    """Launch as "k", send, activate, and wait for the end. Its error."""
    await runtime.launch("k", func, **options)
    await runtime.send_batch("k", messages)
    await runtime.activate("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    error = runtime.kernels["k"].error
    assert error is not None
    return error


def shown(error: BaseException) -> str:
    """As Python prints it."""
    return "".join(traceback.format_exception(error))


def worker_threads() -> int:
    """How many there are in this process."""
    return sum(thread.name.startswith("ringkernel-worker") for thread in threading.enumerate())
