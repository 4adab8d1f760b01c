"""Makes a kernel from a declaration, for the CPU's workers, for a device, or for the event loop."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from ringkernel.devices import compiling, selection
from ringkernel.devices.coroutine.engine import CoroutineEngine

from . import quiesce
from .graph import dead_end, may_come_to_a_dead_end
from .kernel import RingKernel
from .message_queue import KernelQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ringkernel.codegen.span_types import Span
    from ringkernel.declaration.decorator import Declaration
    from ringkernel.devices.engine import Engine
    from ringkernel.devices.services import Services

    from .loop_affinity import LoopAffinity


async def new_kernel(
    declaration: Declaration, device: str, services: Services, affinity: LoopAffinity, others: Mapping[str, RingKernel]
) -> RingKernel:
    """A kernel that is not launched yet. Cancelled or failed, nothing has happened. See `RingKernelRuntime.launch`."""
    compiled = not declaration.is_coroutine
    if compiled or _is_typed(declaration):
        await services.prepare(workers=compiled)
    if not compiled:
        return _kernel_of(CoroutineEngine(declaration, services), services, affinity)
    span = await compiling.compiled_span(declaration)
    if device != "cpu":
        return await _new_grid(declaration, span, device, services, affinity, others)
    from ringkernel.devices.cpu.engine import CompiledEngine

    return _kernel_of(CompiledEngine(declaration, span, services), services, affinity)


async def _new_grid(
    declaration: Declaration,
    span: Span,
    name: str,
    services: Services,
    affinity: LoopAffinity,
    others: Mapping[str, RingKernel],
) -> RingKernel:
    """A kernel on a device where nothing may be loaded or allocated while a grid runs: those that do stop for a
    moment, between two spans."""
    from ringkernel.devices.grid.engine import GridEngine

    device = selection.open_device(name)
    await services.prepare_grids()
    compiled = await compiling.compiled_grid(device, declaration, span)
    services.grids.claim(device)
    kernel: RingKernel | None = None
    try:
        async with quiesce.quiesced(others, name):
            engine = GridEngine(declaration, span, services, device, device.load(compiled))
            kernel = _kernel_of(engine, services, affinity, lambda: services.grids.adopt(device))
    except BaseException:
        if kernel is not None:
            kernel.engine.release()
        raise
    return kernel


def _kernel_of(
    engine: Engine, services: Services, affinity: LoopAffinity, reach: Callable[[], None] = lambda: None
) -> RingKernel:
    """Build an engine, and make a kernel of it. Whatever fails, and wherever, all that was taken is given back: by
    `release`, and the memory at once. `reach` lets the device reach it. Nobody else may run meanwhile."""
    try:
        with services.parker.arena.trial() if _is_typed(engine.declaration) else nullcontext():
            engine.build()
            kernel = RingKernel(
                kernel_id=engine.kernel_id,
                func=engine.declaration.func,
                input_queue=KernelQueue(engine, affinity, output=False),
                output_queue=KernelQueue(engine, affinity, output=True),
                device=engine.device,
                engine=engine,
            )
            engine.on_end = kernel.end
            engine.outlet.refuse = kernel.refusal
            engine.outlet.dead_end = partial(dead_end, kernel)
            engine.outlet.is_doubtful = partial(may_come_to_a_dead_end, kernel)
            reach()
            return kernel
    except BaseException:
        engine.release()
        raise


def _is_typed(declaration: Declaration) -> bool:
    return declaration.input_type is not None or declaration.output_type is not None
