"""What may be done to a device's memory only while none of its grids runs.

`kernels` are those of a runtime, live; whoever calls holds no kernel's lock, unless it says so.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from ringkernel.devices.grid import device_rings
from ringkernel.errors import DeviceUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from ringkernel.devices.grid.device import GridDevice
    from ringkernel.devices.services import Services

    from .kernel import RingKernel


@asynccontextmanager
async def quiesced(kernels: Mapping[str, RingKernel], device: str) -> AsyncIterator[None]:
    """Hold the tokens of all kernels on a device."""
    async with AsyncExitStack() as stack:
        for kernel in list(kernels.values()):
            if kernel.device == device:
                await stack.enter_async_context(kernel.lock)
                if kernel.engine.is_running:
                    await stack.enter_async_context(kernel.engine.token())  # type: ignore[attr-defined]
        yield


async def reach(path: Iterable[RingKernel], kernels: Mapping[str, RingKernel], services: Services) -> None:
    """Let the devices of these kernels reach memory that the arena has grown by since."""
    for kernel in path:
        if not _is_reached(kernel, services):
            async with quiesced(kernels, kernel.device):
                services.grids.adopt(kernel.engine.grid_device)  # type: ignore[attr-defined]


async def prepare(kernel: RingKernel, kernels: Mapping[str, RingKernel], services: Services) -> None:
    """Have a kernel's device reach the memory that it needs, and its output lie where it should; and those of all
    others of the device where that can be, since they rest meanwhile."""
    await reach([kernel], kernels, services)
    if not device_rings.is_settled(kernel.engine.output):
        async with quiesced(kernels, kernel.device):
            if not kernel.engine.has_ended:
                device_rings.settle(kernel.engine.output)
            for one in kernels.values():
                if one.device == kernel.device and not one.engine.has_ended:
                    with suppress(DeviceUnavailableError):  # its own start will say so
                        device_rings.settle(one.engine.output)


def is_prepared(kernel: RingKernel, services: Services) -> bool:
    """Whether the kernel may start. It may be held."""
    return _is_reached(kernel, services) and device_rings.is_settled(kernel.engine.output)


def _is_reached(kernel: RingKernel, services: Services) -> bool:
    device: GridDevice | None = getattr(kernel.engine, "grid_device", None)
    return device is None or services.grids.reaches(device)
