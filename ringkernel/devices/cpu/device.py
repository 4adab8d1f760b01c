"""The CPU as a device: compiled kernels on worker threads."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.difference import difference
from ringkernel.devices.compiled import compiling
from ringkernel.devices.compiled.engine import CompiledEngine
from ringkernel.devices.device import Device

from .executor import WorkerExecutor
from .parallel import check_parallel, threads_for
from .pool import WorkerPool, compiled_loops

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.engine import Engine
    from ringkernel.devices.event_loop.services import Services


class CpuDevice(Device):
    """Runs compiled kernels on up to `workers` threads, which start when there is a kernel for them. `fuse`: connected
    ones may run as one."""

    def __init__(self, services: Services, workers: int, *, fuse: bool) -> None:
        self._services, self._workers, self._fuse = services, workers, fuse
        self._pool: WorkerPool | None = None

    async def compile(self, declaration: Declaration) -> Any:
        await self._services.prepare(compiled_loops)
        span = await compiling.compiled_span(declaration)
        check_parallel(declaration, span)
        end = await compiling.compiled_end(declaration)
        return span if end is None else replace(span, end=end)

    def new_engine(self, declaration: Declaration, code: Any) -> Engine:
        executor = WorkerExecutor(code, self.pool, threads_for(declaration, code))
        return CompiledEngine(declaration, self._services, executor)

    def cannot_replace(self, engine: Engine, declaration: Declaration) -> str | None:
        return difference(engine.declaration, declaration)

    async def replace(self, engine: Engine, declaration: Declaration, code: Any) -> None:
        assert isinstance(engine, CompiledEngine)
        executor = engine.executor
        assert isinstance(executor, WorkerExecutor)
        async with engine.alone():
            executor.run(code, threads_for(declaration, code))
            engine.run(declaration)

    @property
    def pool(self) -> WorkerPool:
        """Its workers."""
        if self._pool is None:
            self._pool = WorkerPool(self._services, self._workers, fuse=self._fuse)
            self._services.stops.append(self._pool.stop)
        return self._pool
