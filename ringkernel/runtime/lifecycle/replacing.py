"""A handler that was edited: its running kernel goes on with the new one."""

from __future__ import annotations

import asyncio
import logging
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ringkernel.declaration.decorator import find_declaration, id_of, is_decorated
from ringkernel.declaration.registry import check_module
from ringkernel.declaration.together import with_companions
from ringkernel.errors import KernelStateError, RingKernelError
from ringkernel.lifecycle import KernelState
from ringkernel.runtime.attach.lease import Lease

from .quiesce import quiesced

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.runtime.kernels.kernel import RingKernel
    from ringkernel.runtime.kernels.loop_affinity import LoopAffinity

logger = logging.getLogger("ringkernel")


class Replacements:
    """The kernels of a runtime that are being given another handler; `kernels` are all of them. `finishing` holds the
    tasks; `changed` is called after each. Once `are_over` is set, ids that are declared again change nothing."""

    def __init__(
        self,
        kernels: Mapping[str, RingKernel],
        finishing: set[asyncio.Task[None]],
        affinity: LoopAffinity,
        changed: Callable[[], None],
    ) -> None:
        self._kernels, self._finishing, self._affinity, self._changed = kernels, finishing, affinity, changed
        self.are_over = False
        self._earlier: WeakSet[Callable[..., Any]] = WeakSet()
        self._wanted: dict[RingKernel, Declaration] = {}
        self._tasks: dict[RingKernel, asyncio.Task[None]] = {}

    def declared_again(self, declaration: Declaration) -> None:
        """Let kernels with the handler of this id go on with the new one, or log why they cannot. From any thread."""
        affinity = self._affinity
        if self.are_over or affinity.loop is None or not affinity.is_running():
            return
        for kernel in list(self._kernels.values()):
            if kernel.state is KernelState.TERMINATED or id_of(kernel.func) != declaration.kernel_id:
                continue
            new = with_companions(declaration)
            if _codes(kernel.engine.declaration) == _codes(new):
                continue  # not an edit: another function from the same place, as of a factory of handlers
            if affinity.thread == get_ident():
                self._begin_or_warn(kernel, new)
            else:
                affinity.loop.call_soon_threadsafe(self._begin_or_warn, kernel, new)

    def begin_unawaited(self, kernel: RingKernel, declaration: Declaration) -> None:
        """Do as `begin`, and log a failure later on."""
        self.begin(kernel, declaration).add_done_callback(_warn)

    def _begin_or_warn(self, kernel: RingKernel, declaration: Declaration) -> None:
        try:
            self.begin_unawaited(kernel, declaration)
        except RingKernelError as error:
            logger.warning("%s", error)

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


def is_edited(kernel: RingKernel, named: Any) -> bool:
    """Return whether a kernel, named by a function, runs another one: an edited function is declared anew by its
    decorator, and without one, when it is used."""
    return callable(named) and kernel.func is not named and not is_decorated(named)


def edited(kernel: RingKernel, func: Any) -> Declaration:
    """Return the declaration of an edited function for a kernel that runs an earlier version. Raises
    `ConfigurationError` for a function of another module."""
    check_module(kernel.kernel_id, kernel.func, func)
    return find_declaration(kernel.kernel_id, func)


def _codes(declaration: Declaration) -> list[object]:
    """Return the code of a kernel's handlers."""
    return [one.func.__code__ for one in declaration.all_handlers]


def _warn(replacing: asyncio.Task[None]) -> None:
    """Log why a kernel could not be given its edited handler."""
    error = None if replacing.cancelled() else replacing.exception()
    if error is not None:
        logger.warning("a kernel goes on with the handler that it had: %s", error)
