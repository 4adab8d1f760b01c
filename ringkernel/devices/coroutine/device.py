"""The event loop as a device: coroutine kernels are tasks of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.devices.device import Device

from .engine import CoroutineEngine

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.engine import Engine
    from ringkernel.devices.event_loop.services import Services


class CoroutineDevice(Device):
    """Runs coroutine kernels. Nothing is compiled, but for what record rings need."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def compile(self, declaration: Declaration) -> Any:
        if declaration.is_typed:
            await self._services.prepare()

    def new_engine(self, declaration: Declaration, code: Any) -> Engine:
        return CoroutineEngine(declaration, self._services)
