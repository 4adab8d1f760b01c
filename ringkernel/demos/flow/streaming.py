"""The kernels at work: launched, connected, fed side by side by a replay, and read until they end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk

from . import kernels

if TYPE_CHECKING:
    from collections.abc import Callable

KERNELS = (kernels.priced, kernels.cost, kernels.bars, kernels.signal)


@dataclass(frozen=True)
class Outcome:
    """The results of a run."""

    costs: Any  # a trade each
    signals: Any  # a minute each
    statistics: dict[str, Any]
    running_s: float


async def stream(quotes: Any, trades: Any, queue_size: int, launched: Callable[[float], None]) -> Outcome:
    """Run a day through the kernels."""
    async with rk.RingKernelRuntime() as runtime:
        started = time.perf_counter()
        for kernel in KERNELS:
            await runtime.launch(kernel, queue_size=queue_size)
        runtime.connect("priced", "cost")
        runtime.connect("priced", "bars")
        runtime.connect("bars", "signal")
        for kernel in KERNELS:
            await runtime.activate(kernel)
        started, launching_s = time.perf_counter(), time.perf_counter() - started
        launched(launching_s)

        async with asyncio.TaskGroup() as tasks:
            costs = tasks.create_task(drain(runtime, "cost"))
            signals = await runtime.replay({"priced": quotes, ("priced", "trades"): trades}, until="signal")
        running_s = time.perf_counter() - started
        statistics = {kernel_id: runtime.statistics(kernel_id) for kernel_id in runtime.kernels}
        return Outcome(costs.result(), signals, statistics, running_s)


async def drain(runtime: rk.RingKernelRuntime, kernel_id: str) -> Any:
    """Receive all until the kernel has ended."""
    batches = [batch async for batch in runtime.stream(kernel_id)]
    return np.concatenate([np.zeros(0, kernels.COST), *batches])
