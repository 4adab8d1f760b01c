"""Commands that cross leave a kernel that can be ended, and books that balance."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
from fault_kernels import (
    slow_count,
)
from helpers import check_books, eventually, start, turns, within

from ringkernel import (
    KernelState,
    KernelStateError,
    RingKernelRuntime,
)


async def test_looking_at_the_state_of_a_kernel_that_is_ending_does_not_keep_it_from_ending(
    runtime: RingKernelRuntime,
) -> None:
    """A reader finds no gap between long calls; it must not take the drain's place."""
    await start(runtime, "k", slow_count)
    await runtime.send_batch("k", np.arange(20))
    await eventually(lambda: runtime.statistics("k").processed >= 1)
    ending = asyncio.create_task(runtime.terminate("k", timeout=5))
    await turns()
    with contextlib.suppress(KernelStateError):  # it may be refused
        await within(runtime.read_state("k"))
    await within(ending, 2.5)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed, runtime.kernels["k"].error) == (20, 0, None)
    assert (await runtime.read_state("k")).tolist() == [20]


COMMANDS: dict[str, Any] = {
    "activate": lambda rt: rt.activate("k"),
    "deactivate": lambda rt: rt.deactivate("k"),
    "terminate": lambda rt: rt.terminate("k", timeout=5),
    "read_state": lambda rt: rt.read_state("k"),
}


@pytest.mark.parametrize("order", list(itertools.permutations(["activate", "terminate", "read_state"])))
async def test_commands_that_cross_leave_a_kernel_that_can_be_ended(runtime: RingKernelRuntime, order: Any) -> None:
    await runtime.launch("k", slow_count)
    await runtime.send_batch("k", np.arange(3))
    results = await within(asyncio.gather(*(COMMANDS[name](runtime) for name in order), return_exceptions=True), 2.5)
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, KernelStateError), result
    assert runtime.get_state("k") is KernelState.TERMINATED
    counts = check_books(runtime, "k")
    assert counts.processed + counts.unprocessed == 3
    assert runtime.kernels["k"].error is None


@pytest.mark.parametrize("order", list(itertools.permutations(["deactivate", "terminate", "read_state"])))
async def test_commands_that_cross_a_running_kernel_leave_it_ended(runtime: RingKernelRuntime, order: Any) -> None:
    await start(runtime, "k", slow_count)
    await runtime.send_batch("k", np.arange(5))
    await eventually(lambda: runtime.statistics("k").processed >= 1)
    results = await within(asyncio.gather(*(COMMANDS[name](runtime) for name in order), return_exceptions=True), 2.5)
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, KernelStateError), result
    if runtime.get_state("k") is not KernelState.TERMINATED:
        await within(runtime.terminate("k"))
    counts = check_books(runtime, "k")
    assert counts.processed + counts.unprocessed == 5
    assert runtime.kernels["k"].error is None
