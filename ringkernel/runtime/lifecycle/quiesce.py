"""Changes of a device's memory that need all of its kernels at rest.

`kernels` are those of a runtime, live; callers hold no kernel's lock, unless a function says so.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ringkernel.devices.engine import LendingEngine
from ringkernel.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from ringkernel.devices.device import Device
    from ringkernel.runtime.kernels.kernel import RingKernel


@asynccontextmanager
async def quiesced(kernels: Mapping[str, RingKernel], device: Device) -> AsyncIterator[None]:
    """Hold the tokens of all kernels on a device that has to be at rest for changes."""
    async with AsyncExitStack() as stack:
        for kernel in _on(device, kernels):
            await stack.enter_async_context(kernel.lock)
            if kernel.engine.is_running:
                assert isinstance(kernel.engine, LendingEngine)
                await stack.enter_async_context(kernel.engine.token())
        yield


def _on(device: Device, kernels: Mapping[str, RingKernel]) -> list[RingKernel]:
    return [kernel for kernel in kernels.values() if kernel.runs_on is device]


async def reach_memory(path: Iterable[RingKernel], kernels: Mapping[str, RingKernel]) -> None:
    """Let the devices of these kernels reach what the memory has grown by since."""
    for kernel in path:
        if not kernel.runs_on.reaches_memory():
            async with quiesced(kernels, kernel.runs_on):
                kernel.runs_on.reach_memory()


async def prepare(kernel: RingKernel, kernels: Mapping[str, RingKernel]) -> None:
    """Have a kernel's device reach the memory that it needs, and its output lie where it should; and those of all
    others of the device where that can be, since they rest meanwhile."""
    device = kernel.runs_on
    await reach_memory([kernel], kernels)
    if device.is_placed(kernel.engine):
        return
    async with quiesced(kernels, device):
        if not kernel.engine.has_ended:
            device.place_output(kernel.engine)
        for one in _on(device, kernels):
            if not one.engine.has_ended:
                with suppress(DeviceUnavailableError):  # its own start will say so
                    device.place_output(one.engine)


def is_prepared(kernel: RingKernel) -> bool:
    """Return whether the kernel may start. Its lock may be held."""
    return kernel.runs_on.reaches_memory() and kernel.runs_on.is_placed(kernel.engine)
