"""Makes a kernel from a declaration, on the device that was chosen for it."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.runtime.graph.closing import note_end
from ringkernel.runtime.graph.neighbours import dead_end, may_come_to_a_dead_end
from ringkernel.runtime.kernels.kernel import RingKernel
from ringkernel.runtime.kernels.message_queue import KernelQueue

from . import quiesce

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.device import Device
    from ringkernel.devices.event_loop.services import Services
    from ringkernel.runtime.kernels.loop_affinity import LoopAffinity


async def new_kernel(
    declaration: Declaration,
    device: Device,
    services: Services,
    affinity: LoopAffinity,
    others: Mapping[str, RingKernel],
) -> RingKernel:
    """Return a kernel that is not launched yet. Cancelled or failed, nothing has happened. See
    `RingKernelRuntime.launch`."""
    code = await device.compile(declaration)
    if not device.changes_at_rest:
        return _build(declaration, device, code, services, affinity)
    kernel: RingKernel | None = None
    try:
        async with quiesce.quiesced(others, device):
            kernel = _build(declaration, device, code, services, affinity)
    except BaseException:
        if kernel is not None:
            kernel.engine.release()
        raise
    return kernel


def _build(
    declaration: Declaration, device: Device, code: Any, services: Services, affinity: LoopAffinity
) -> RingKernel:
    """Build an engine, and make a kernel of it. Whatever fails, and wherever, all that was taken is given back: by
    `release`, and the memory at once. The device is at rest."""
    engine = device.new_engine(declaration, code)
    try:
        with services.parker.arena.trial() if declaration.is_typed else nullcontext():
            engine.build()
            kernel = RingKernel(
                kernel_id=engine.kernel_id,
                func=declaration.func,
                input_queue=KernelQueue(engine, affinity, output=False),
                output_queue=KernelQueue(engine, affinity, output=True),
                device=engine.device,
                engine=engine,
                runs_on=device,
            )
            engine.on_end = partial(_end, kernel)
            for outlet in engine.outlets.values():
                outlet.refuse = kernel.refusal
                outlet.dead_end = partial(dead_end, kernel)
                outlet.is_doubtful = partial(may_come_to_a_dead_end, kernel)
            device.reach_memory()
            return kernel
    except BaseException:
        engine.release()
        raise


def _end(kernel: RingKernel, error: BaseException | None) -> None:
    kernel.end(error)
    note_end(kernel)
