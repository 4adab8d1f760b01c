"""A kernel for the length of a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.pipeline import pipeline
from ringkernel.devices.event_loop.interrupts import finish

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ringkernel.declaration.decorator import KernelId

    from .runtime import RingKernelRuntime


@asynccontextmanager
async def managed_kernel(
    runtime: RingKernelRuntime, kernel_id: KernelId, kernel_func: Callable[..., Any] | None = None
) -> AsyncIterator[str]:
    """Launch and activate a kernel, and terminate it on the way out; a kernel that has already ended is left as it is.

    Yields the kernel's id. Raises what `launch` and `activate` raise; a kernel that could not be activated is
    terminated.

    Example:
        >>> async with rk.managed_kernel(runtime, double):
        ...     await runtime.call(double, 3)
        6.0
        >>> runtime.get_state(double).name
        'TERMINATED'
    """
    kernel_id = (await runtime.launch(kernel_id, kernel_func)).kernel_id
    error: BaseException | None = None
    try:
        await runtime.activate(kernel_id)
        yield kernel_id
    except BaseException as caught:
        error = caught
        raise
    finally:
        await finish(runtime.terminate(pipeline(kernel_id)), error)
