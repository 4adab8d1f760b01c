"""A handler that was edited: its running kernel goes on with the new one."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ringkernel.errors import KernelStateError
from ringkernel.lifecycle import KernelState
from ringkernel.runtime.maps.lease import Lease

from .quiesce import quiesced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.runtime.kernels.kernel import RingKernel

logger = logging.getLogger("ringkernel")


class Replacements:
    """The kernels of a runtime that are being given another handler; `kernels` are all of them. `finishing` holds the
    tasks; `changed` is called after each."""

    def __init__(
        self,
        kernels: Mapping[str, RingKernel],
        finishing: set[asyncio.Task[None]],
        changed: Callable[[], None],
    ) -> None:
        self._kernels, self._finishing, self._changed = kernels, finishing, changed
        self._earlier: WeakSet[Callable[..., Any]] = WeakSet()
        self._wanted: dict[RingKernel, Declaration] = {}
        self._tasks: dict[RingKernel, asyncio.Task[None]] = {}

    def begin(self, kernel: RingKernel, declaration: Declaration) -> asyncio.Task[None]:
        """Let a kernel go on with the handler of a declaration, once that is compiled: what is sent to it from now on
        waits for that. Raises `KernelStateError` if it cannot be, and then nothing has changed."""
        engine = kernel.engine
        launched = engine.declaration
        new = declaration.with_options(
            kernel_id=kernel.kernel_id, device=launched.device, queue_size=launched.queue_size
        )
        reason = kernel.runs_on.cannot_replace(engine, new)
        if kernel.state in (KernelState.TERMINATING, KernelState.TERMINATED):
            reason = f"it is {kernel.state.name}"
        if reason is not None:
            raise KernelStateError(
                f"kernel {kernel.kernel_id!r} keeps the handler that it was launched with: {reason}; terminate() and "
                f"remove() it, and launch() it anew"
            )
        task = self._tasks.get(kernel)
        if (
            task is None
            or self._wanted[kernel].all_handlers[1:] != new.all_handlers[1:]
            or (self._wanted[kernel].func is not new.func)
        ):
            self._wanted[kernel] = new
        if task is None:
            lease = Lease.at_once([kernel], f"an edit of {kernel.kernel_id!r}")
            task = self._tasks[kernel] = asyncio.get_running_loop().create_task(self._replace(kernel, lease))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)
        return task

    def is_earlier(self, func: Callable[..., Any] | None) -> bool:
        """Return whether a kernel ran this handler before, and goes on with an edit of it."""
        return func in self._earlier

    async def _replace(self, kernel: RingKernel, lease: Lease | None) -> None:
        try:
            if lease is None:  # a map is going on
                lease = await Lease.of([kernel], f"an edit of {kernel.kernel_id!r}")
                lease.close_inputs()
            try:
                await self._compile_and_exchange(kernel)
            finally:
                lease.release()
        finally:
            del self._tasks[kernel], self._wanted[kernel]

    async def _compile_and_exchange(self, kernel: RingKernel) -> None:
        device = kernel.runs_on
        while True:
            wanted = self._wanted[kernel]
            code = await device.compile(wanted)
            if wanted is self._wanted[kernel]:  # it was not edited once more
                break
        async with quiesced(self._kernels, device) if device.changes_at_rest else kernel.lock:
            await device.replace(kernel.engine, wanted, code)
            if kernel.func.__code__ is not wanted.func.__code__:  # else they are two of one factory
                self._earlier.add(kernel.func)
            self._earlier.discard(wanted.func)
            kernel.func = wanted.func
        self._changed()
        logger.info("kernel %r goes on with the handler of its latest declaration", kernel.kernel_id)
