"""Fixtures for tests of faults: a device whose grids are threads, and a runtime that cannot hang the whole run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from inside import use_devices
from thread_device import ThreadDevice

from ringkernel import RingKernelRuntime


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadDevice]:
    """The one device, "cuda:0". All its grids have ended after the test."""
    made = ThreadDevice()
    use_devices(monkeypatch, made)
    yield made
    made.join()


@pytest.fixture
async def runtime(device: ThreadDevice, loop_errors: list[dict[str, Any]]) -> AsyncIterator[RingKernelRuntime]:
    """As the shared one, but one that cannot be closed fails the test and not the whole run."""
    entered = RingKernelRuntime(workers=1)
    await entered.__aenter__()
    yield entered
    closing = asyncio.create_task(entered.close())
    await asyncio.wait({closing}, timeout=10)
    assert closing.done(), {name: kernel.state.name for name, kernel in entered.kernels.items()}
    await closing
