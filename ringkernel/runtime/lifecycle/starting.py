"""Launch, connect and activate the missing parts of a pipeline; and end its kernels, sources first."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.pipeline import Pipeline, pipeline
from ringkernel.errors import KernelStateError
from ringkernel.lifecycle import Command, KernelState
from ringkernel.runtime.graph.connect import connect

from .replacing import is_edited

if TYPE_CHECKING:
    from .supervisor import Supervisor


def as_pipeline(kernels: Any) -> Pipeline:
    """Return a pipeline, or the one of a single kernel."""
    return kernels if isinstance(kernels, Pipeline) else pipeline(kernels)


async def start(supervisor: Supervisor, kernels: Any) -> bool:
    """Launch, connect and activate what is not there yet, of a pipeline or a single kernel. Whether there was anything
    to do.

    A function that is named anew is an edit of a kernel's handler; one of a pipeline of before an edit is not.

    Raises what `launch`, `connect` and `activate` raise. Kernels that it has launched stay.
    """
    line = as_pipeline(kernels)
    known, changed = supervisor.kernels, False
    for kernel_id in line.kernel_ids:
        if kernel_id not in known:
            await supervisor.launch(kernel_id, line.functions.get(kernel_id), None, None, None)
            changed = True
        elif is_edited(known[kernel_id], func := line.functions.get(kernel_id)) and not (
            line is kernels and supervisor.replacements.is_earlier(func)
        ):
            await supervisor.replace(kernel_id, func)
    for source, target in line.connections:
        if known[target] not in known[source].targets:
            connect(known[source], known[target])
            changed = True
    for kernel_id in reversed(line.kernel_ids):
        if known[kernel_id].state is KernelState.LAUNCHED:
            await supervisor.start(kernel_id, Command.ACTIVATE)
            changed = True
    return changed


async def finish(supervisor: Supervisor, line: Pipeline, timeout: float) -> None:
    """End the kernels of a pipeline that are there, sources before targets, each in `timeout` seconds."""
    for kernel_id in line.kernel_ids:
        if kernel_id in supervisor.kernels:
            with suppress(KernelStateError):  # it ends by itself, or has ended
                await supervisor.terminate(kernel_id, timeout)
            await supervisor.wait(kernel_id, None)
