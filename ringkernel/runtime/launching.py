"""Makes a kernel from a declaration, for the CPU's workers, for a device, or for the event loop."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ringkernel.devices import choosing, compiling
from ringkernel.devices.coroutine import CoroutineEngine

from . import resting
from .graph import dead_end, may_come_to_a_dead_end
from .kernel import RingKernel
from .message_queue import KernelQueue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringkernel.declaration import Declaration
    from ringkernel.devices.engine import Engine
    from ringkernel.devices.host import Host
    from ringkernel.ring.span_types import Span

    from .home import Home


async def new_kernel(
    declaration: Declaration, device: str, host: Host, home: Home, others: Mapping[str, RingKernel]
) -> RingKernel:
    """A kernel that is not launched yet. Cancelled or failed, nothing has happened. See `RingKernelRuntime.launch`."""
    engine = await _new_engine(declaration, device, host, others)
    kernel = RingKernel(
        kernel_id=declaration.kernel_id,
        func=declaration.func,
        input_queue=KernelQueue(engine, home, output=False),
        output_queue=KernelQueue(engine, home, output=True),
        device=engine.device,
        engine=engine,
    )
    engine.on_end = kernel.end
    engine.outlet.refuse = kernel.refusal
    engine.outlet.dead_end = partial(dead_end, kernel)
    engine.outlet.is_doubtful = partial(may_come_to_a_dead_end, kernel)
    return kernel


async def _new_engine(declaration: Declaration, device: str, host: Host, others: Mapping[str, RingKernel]) -> Engine:
    compiled = not declaration.is_coroutine
    if compiled or declaration.input_type is not None or declaration.output_type is not None:
        await host.prepare(workers=compiled)
    if not compiled:
        return CoroutineEngine(declaration, host)
    span = await compiling.compiled_span(declaration)
    if device != "cpu":
        return await _new_grid(declaration, span, device, host, others)
    from ringkernel.devices.compiled import CompiledEngine

    return CompiledEngine(declaration, span, host)


async def _new_grid(
    declaration: Declaration, span: Span, name: str, host: Host, others: Mapping[str, RingKernel]
) -> Engine:
    """A kernel on a device where nothing may be loaded or allocated while a grid runs: those that do stop for a
    moment, between two spans."""
    from ringkernel.devices.grid import GridEngine

    device = choosing.open_device(name)
    await host.prepare_grids()
    compiled = await compiling.compiled_grid(device, declaration, span)
    host.grids.claim(device)
    engine: Engine | None = None
    try:
        async with resting.at_rest(others, name):
            engine = GridEngine(declaration, span, host, device, device.load(compiled))
            host.grids.adopt(device)
    except BaseException:
        if engine is not None:
            engine.release()
        raise
    return engine
