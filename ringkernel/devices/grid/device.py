"""Grids as a device: their code, their memory, and who may use the hardware."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.difference import difference
from ringkernel.devices.compiled import compiling
from ringkernel.devices.compiled.engine import CompiledEngine
from ringkernel.devices.device import Device
from ringkernel.devices.event_loop import background
from ringkernel.errors import DeviceUnavailableError, KernelCompileError, KernelStateError
from ringkernel.tracebacks import without_frames

from . import device_rings
from .executor import GridExecutor
from .handlers import Handlers
from .pool import GridPool, compiled_watcher

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.engine import Engine
    from ringkernel.devices.event_loop.services import Services

    from .hardware import Hardware

_users: weakref.WeakKeyDictionary[Hardware, weakref.ref[GridDevice]] = weakref.WeakKeyDictionary()
_claiming = threading.Lock()
"""Runtimes may live in several threads."""
_compiled: dict[Any, Any] = {}


class GridDevice(Device):
    """Hardware that runs grids, for one event loop. While it loads code, or allocates or maps memory, no grid runs."""

    changes_at_rest = True

    def __init__(self, services: Services, hardware: Hardware) -> None:
        self._services, self._hardware = services, hardware
        self._pool_or_none: GridPool | None = None
        services.stops.append(self._stop)

    async def compile(self, declaration: Declaration) -> Any:
        await self._services.prepare()
        span = await compiling.compiled_span(declaration)
        end = await compiling.compiled_end(declaration)
        await self._services.prepare(compiled_watcher)
        span = replace(span, end=end)
        grid = await self._compiled_grid(declaration, span)
        self._claim()
        return span, grid

    async def _compiled_grid(self, declaration: Declaration, span: Any) -> Any:
        """Return what the hardware makes of a declaration: compiled once per device, function, types and options in
        this process."""
        key = self._hardware.name, Handlers.of(declaration, span), declaration.block_size, declaration.fma
        if key not in _compiled:
            _compiled[key] = await background.in_thread(lambda: self._compile_grid(declaration, span))
        return _compiled[key]

    def _compile_grid(self, declaration: Declaration, span: Any) -> Any:
        try:
            return self._hardware.compile(declaration, span)
        except KernelCompileError:
            raise
        except Exception as error:  # noqa: BLE001 (numba raises all sorts)
            reason = compiling.explain(declaration, error)
            raise KernelCompileError(
                f"it compiles for the CPU, but not for {self._hardware.name}: {reason}"
            ) from without_frames(error)

    def _claim(self) -> None:
        """Have the hardware for this runtime alone: nobody else's grids would stop while it loads and allocates."""
        with _claiming:
            user = _users[self._hardware]() if self._hardware in _users else None
            if user is not None and user is not self:
                raise DeviceUnavailableError(
                    f"{self._hardware.name} is in use by another runtime of this process, whose kernels would not stop "
                    f"while this one loads; launch there, close it, or choose another device"
                )
            _users[self._hardware] = weakref.ref(self)

    @property
    def _pool(self) -> GridPool:
        if self._pool_or_none is None:
            self._pool_or_none = GridPool(self._services.parker, self._hardware)
        return self._pool_or_none

    def _stop(self, timeout: float) -> None:
        if self._pool_or_none is not None:
            self._pool_or_none.stop(timeout)
        with _claiming:
            if self._hardware in _users and _users[self._hardware]() is self:
                del _users[self._hardware]

    def new_engine(self, declaration: Declaration, code: Any) -> Engine:
        span, grid = code
        executor = GridExecutor(span, self._hardware.load(grid), self._services.parker.arena, self._pool)
        return CompiledEngine(declaration, self._services, executor)

    def cannot_replace(self, engine: Engine, declaration: Declaration) -> str | None:
        if declaration.batch:
            return f"it takes batches now, and kernels on {engine.device} take one message at a time"
        before, after = engine.declaration.block_size, declaration.block_size
        if before != after:
            return f"its block_size was {before}, and is {after} now"
        return difference(engine.declaration, declaration)

    async def replace(self, engine: Engine, declaration: Declaration, code: Any) -> None:
        assert isinstance(engine, CompiledEngine)
        assert isinstance(engine.executor, GridExecutor)
        span, grid = code
        if engine.is_ending:
            raise engine.ended_reason() or KernelStateError(f"kernel {engine.kernel_id!r} is TERMINATING")
        engine.executor.run(span, self._hardware.load(grid))
        engine.run(declaration)

    # --- memory ----------------------------------------------------------------------------------------------

    def reaches_memory(self) -> bool:
        return self._pool.reaches_memory()

    def reach_memory(self) -> None:
        self._pool.reach_memory()

    def is_placed(self, engine: Engine) -> bool:
        return device_rings.is_placed(engine.output)

    def place_output(self, engine: Engine) -> None:
        device_rings.place(engine.output)
