"""The kernels of a runtime, and their way through the lifecycle.

`RingKernelRuntime` says what each command promises, and what it raises.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.decorator import find_declaration, id_of
from ringkernel.declaration.registry import declared, registry
from ringkernel.devices.event_loop import interrupts
from ringkernel.devices.event_loop.budget import Budget
from ringkernel.devices.event_loop.services import Services
from ringkernel.devices.selection import Devices
from ringkernel.errors import KernelExistsError, KernelNotFoundError, KernelStateError
from ringkernel.lifecycle import Command, KernelState
from ringkernel.runtime.access.calls import Calls
from ringkernel.runtime.kernels import timeouts
from ringkernel.runtime.kernels.loop_affinity import LoopAffinity
from ringkernel.runtime.maps.map_path import MapPath
from ringkernel.runtime.maps.path import PathTable

from . import quiesce
from .launch import new_kernel
from .replacing import Replacements, edited, is_edited

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.declaration.decorator import KernelId
    from ringkernel.runtime.kernels.kernel import RingKernel

logger = logging.getLogger("ringkernel")

TERMINATE_TIMEOUT_S = 5.0


class Supervisor:
    """Launches kernels, gives them commands, and ends them. `kernels` has all of them until they are removed, `found`
    those that were asked for, by what they were called then; `finishing` what goes on after its caller was cancelled.

    `workers`, `device` and `fuse` are those of the runtime.
    """

    def __init__(self, workers: int | None, device: str, *, fuse: bool) -> None:
        self._workers, self._device, self._fuse = workers, device, fuse
        self.kernels: dict[str, RingKernel] = {}
        self.found: dict[Any, RingKernel] = {}
        self.finishing: set[asyncio.Task[None]] = set()
        self.affinity = LoopAffinity("this runtime")
        self.budget = Budget()
        self._launching: set[str] = set()
        self._services: Services | None = None
        self._devices: Devices | None = None
        self._closed = False
        self.calls, self.paths = PathTable(self.kernel, Calls), PathTable(self.kernel, MapPath)
        self.replacements = Replacements(self.kernels, self.finishing, self.affinity, self.forget_paths)
        registry.watch(self)

    def bind(self) -> tuple[Services, Devices]:
        """Return the services and devices of the running loop, made at the first use. Raises `KernelStateError` in any
        other loop."""
        loop = self.affinity.bind()
        if self._services is None or self._devices is None:
            self._services = Services(loop, self.budget)
            self._devices = Devices(self._services, self._workers, fuse=self._fuse)
        return self._services, self._devices

    def forsake(self) -> None:
        """The runtime was collected without having been closed."""
        self._log_failures()
        if self._services is not None:
            self._services.forsake(" was collected")

    def _log_failures(self) -> None:
        for kernel in self.kernels.values():
            kernel.log_failure()

    def kernel(self, kernel_id: KernelId, action: str = "use") -> RingKernel:
        """Return a kernel, in the loop's thread. Raises when there is none. Named by a function without a decorator, of
        which it runs an earlier version, it goes on with that."""
        self.bind()
        kernel = self.known(kernel_id, action)
        if not is_edited(kernel, kernel_id):
            self.found[kernel_id] = kernel
        elif not kernel.engine.has_ended:
            self.replacements.begin_unawaited(kernel, edited(kernel, kernel_id))
        return kernel

    def known(self, kernel_id: KernelId, action: str = "use") -> RingKernel:
        """Return the kernel, from whatever thread, by its id or its function; raises when there is none."""
        kernel_id = id_of(kernel_id)
        if isinstance(kernel_id, str):
            if kernel_id in self.kernels:
                return self.kernels[kernel_id]
            if declared(kernel_id) is not None:
                raise KernelStateError(
                    f"cannot {action} kernel {kernel_id!r} while it is CREATED: declared, not launched; "
                    f"allowed is launch()"
                )
        known = ", ".join(map(repr, self.kernels)) or "none"
        raise KernelNotFoundError(f"cannot {action} kernel {kernel_id!r}: it is unknown; launched here are {known}")

    # --- the lifecycle ---------------------------------------------------------------------------------------

    async def launch(
        self,
        named: KernelId,
        kernel_func: Callable[..., Any] | None,
        device: str | None,
        queue_size: int | None,
        parallel: int | None,
    ) -> RingKernel:
        """Make a kernel that is LAUNCHED."""
        if kernel_func is None and callable(named):
            kernel_func = named
        kernel_id = id_of(named)
        services, devices = self.bind()
        if self._closed:
            raise KernelStateError(f"cannot launch kernel {kernel_id!r}: this runtime is closed; make a new one")
        self._check_free(kernel_id)
        declaration = find_declaration(kernel_id, kernel_func).with_options(
            kernel_id=kernel_id, device=device, queue_size=queue_size, parallel=parallel
        )
        runs_on = devices.of(declaration, self._device)
        self._launching.add(kernel_id)
        try:
            kernel = await new_kernel(declaration, runs_on, services, self.affinity, self.kernels)
        finally:
            self._launching.discard(kernel_id)
        if self._closed:
            kernel.engine.release()
            services.close()  # again: what the launch has made since then
            raise KernelStateError(f"the runtime was closed while kernel {kernel_id!r} was being launched")
        self.kernels[kernel_id] = kernel
        kernel.enter(Command.LAUNCH)
        return kernel

    def _check_free(self, kernel_id: str) -> None:
        existing = self.kernels.get(kernel_id)
        if kernel_id in self._launching or (existing is not None and existing.state is not KernelState.TERMINATED):
            state = existing.state.name if existing is not None else "being launched"
            raise KernelExistsError(
                f"kernel {kernel_id!r} exists and is {state}; terminate() and remove() it, or use another id"
            )
        if existing is not None:
            raise KernelStateError(
                f"kernel {kernel_id!r} has TERMINATED and cannot be restarted; remove() it to launch the id anew"
            )

    async def start(self, kernel_id: KernelId, command: Command) -> None:
        """ACTIVATE or REACTIVATE."""
        kernel = self.kernel(kernel_id, command.name.lower())
        kernel.check(command)
        while not await self._started(kernel, command):
            await quiesce.prepare(kernel, self.kernels)  # without the kernel's lock: it takes those of others

    async def _started(self, kernel: RingKernel, command: Command) -> bool:
        """Start a kernel, unless there is something to prepare first: then False, and nothing was done."""
        async with kernel.lock:
            kernel.check(command)
            kernel.engine.make_room()
            if not quiesce.is_prepared(kernel):
                return False
            before = kernel.state
            try:
                await kernel.engine.start()
            finally:
                if kernel.state is before and kernel.engine.was_started:
                    kernel.enter(command)
                kernel.task = kernel.engine.task
        return True

    async def pause(self, kernel_id: KernelId) -> None:
        """DEACTIVATE."""
        kernel = self.kernel(kernel_id, "deactivate")
        kernel.check(Command.DEACTIVATE)
        async with kernel.lock:
            kernel.check(Command.DEACTIVATE)
            await kernel.engine.pause()
            kernel.enter(Command.DEACTIVATE)

    async def terminate(self, kernel_id: KernelId, timeout: float) -> None:
        """TERMINATE. Cancelled, it goes on by itself."""
        kernel = self.kernel(kernel_id, "terminate")
        kernel.check(Command.TERMINATE)
        task = asyncio.ensure_future(self._terminate(kernel, timeout))
        self.finishing.add(task)
        task.add_done_callback(self.finishing.discard)
        await asyncio.shield(task)

    async def _terminate(self, kernel: RingKernel, timeout: float) -> None:
        if kernel.state in (KernelState.TERMINATING, KernelState.TERMINATED):
            await kernel.engine.wait_end()
            return
        drain = kernel.state is KernelState.ACTIVE
        kernel.enter(Command.TERMINATE)
        kernel.engine.close_outlets()
        try:
            await kernel.engine.finish(timeout, drain=drain)
        except Exception as error:
            logger.exception("kernel %r could not be ended properly", kernel.kernel_id)
            await kernel.engine.end_by_force(error)  # whatever it was: nobody may wait for this kernel for ever
        await kernel.engine.wait_end()

    async def wait(self, kernel_id: KernelId, timeout: float | None) -> KernelState:
        """Wait for the end."""
        kernel = self.kernel(kernel_id)
        try:
            await kernel.engine.wait_end(timeout)
        except TimeoutError:
            raise timeouts.still_alive(kernel, timeout) from None
        return kernel.state

    def remove(self, kernel_id: KernelId) -> None:
        """Forget a kernel that has TERMINATED."""
        kernel = self.kernel(kernel_id, "remove")
        if kernel.state is not KernelState.TERMINATED:
            raise KernelStateError(
                f"cannot remove kernel {kernel_id!r} while it is {kernel.state.name}; terminate() it first"
            )
        kernel.log_failure()
        del self.kernels[kernel.kernel_id]
        for other in (*kernel.sources, *kernel.targets):
            other.sources = tuple(source for source in other.sources if source is not kernel)
            other.targets = tuple(target for target in other.targets if target is not kernel)
        kernel.engine.release()
        self.forget_paths()

    def forget_paths(self) -> None:
        """Kernels have gone, are connected in another way, or have other handlers."""
        self.found.clear()
        self.calls.forget()
        self.paths.forget()

    # --- what is declared meanwhile, in any thread -----------------------------------------------------------

    def declared_again(self, declaration: Declaration) -> None:
        """Let kernels go on with the handler that their id means now."""
        self.replacements.declared_again(declaration)

    def renamed(self, func: Callable[..., Any]) -> None:
        """Look up anew what the function means. Nothing else is forgotten: calls may wait."""
        self.found.pop(func, None)
        self.calls.forget_name(func)
        self.paths.forget_name(func)

    # --- other handlers --------------------------------------------------------------------------------------

    async def replace(self, kernel_id: KernelId, func: Callable[..., Any] | None) -> None:
        """Give a kernel another handler. Cancelled, it goes on by itself."""
        self.bind()
        kernel = self.known(kernel_id, "replace the handler of")
        new = func if func is not None or isinstance(kernel_id, str) else kernel_id
        declaration = find_declaration(kernel.kernel_id, None) if new is None else edited(kernel, new)
        await asyncio.shield(self.replacements.begin(kernel, declaration))

    # --- the end ---------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End all kernels side by side, sources before targets, and the threads."""
        if self._closed or os.getpid() != self.affinity.pid:
            return  # a forked child has none of the threads, and must not touch what it inherited
        self.bind()
        self._closed = self.replacements.are_over = True
        ending = asyncio.ensure_future(self._end_all())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await interrupts.wait_out(ending)  # bounded by the timeout; a runtime that is half closed helps nobody
            raise

    async def _end_all(self) -> None:
        try:
            await self._end_kernels()
        finally:
            self._log_failures()
            if self._services is not None:
                self._services.close()

    async def _end_kernels(self) -> None:
        deadline = asyncio.get_running_loop().time() + TERMINATE_TIMEOUT_S
        alive = [kernel for kernel in self.kernels.values() if kernel.state is not KernelState.TERMINATED]
        while alive:
            ready = [k for k in alive if not any(source in alive for source in k.sources)] or alive
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            await asyncio.gather(*(self._end(kernel, left) for kernel in ready))
            alive = [kernel for kernel in alive if kernel not in ready]
        if self.finishing:  # what cancelled maps have lent comes back now
            await asyncio.wait(set(self.finishing), timeout=1.0)

    async def _end(self, kernel: RingKernel, timeout: float) -> None:
        if kernel.state is not KernelState.TERMINATED and kernel.state is not KernelState.TERMINATING:
            await self._terminate(kernel, timeout)
        await kernel.engine.wait_end()
