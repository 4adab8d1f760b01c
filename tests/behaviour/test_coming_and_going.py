"""Kernels are launched, connected, ended and removed, again and again, and nothing of them stays."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import start, within

if TYPE_CHECKING:
    from ringkernel import RingKernelRuntime

ROUNDS = 150


def passed_on(msg: float, out: float) -> None:
    out.value = msg.value  # type: ignore[attr-defined]


def held(runtime: RingKernelRuntime) -> tuple[int, int, int]:
    """Bytes of the arena, descriptors, tasks."""
    gc.collect()
    engine: Any = runtime.kernels["source"].engine
    arena, descriptors = sum(chunk.nbytes for chunk in engine.arena.grown), list(Path("/proc/self/fd").iterdir())
    return arena, len(descriptors), len(asyncio.all_tasks())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors there")
async def test_nothing_is_left_of_kernels_that_come_and_go(runtime: RingKernelRuntime) -> None:
    await start(runtime, "source", passed_on)
    before = None
    for number in range(ROUNDS):
        await runtime.launch("target", passed_on, queue_size=4096)
        await runtime.deactivate("source")
        runtime.connect("source", "target")
        await runtime.reactivate("source")
        await runtime.activate("target")
        await runtime.send("source", number)
        assert await within(runtime.receive("target")) == number
        await runtime.terminate("target")
        runtime.remove("target")
        if number == 20:
            before = held(runtime)
    assert held(runtime) == before
