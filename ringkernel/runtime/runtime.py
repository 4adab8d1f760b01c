"""The runtime: what its user awaits."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from threading import get_ident
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ringkernel.declaration.decorator import check_device, declared, find_declaration
from ringkernel.devices.event_loop.services import Services
from ringkernel.devices.event_loop.waiting_line import Budget, check_timeout
from ringkernel.devices.selection import Devices
from ringkernel.errors import (
    ConfigurationError,
    KernelExistsError,
    KernelNotFoundError,
    KernelStateError,
    MessageTypeError,
)
from ringkernel.lifecycle import Command, KernelState
from ringkernel.messages.arrays import from_array
from ringkernel.ring.waiting import NOTHING

from . import quiesce, state_access, timeouts
from .connect import connect
from .launch import new_kernel
from .loop_affinity import LoopAffinity
from .map import check_array, map_over
from .message_queue import as_batch
from .path import ends_of, find_path
from .statistics import KernelStatistics, statistics_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from .kernel import RingKernel


logger = logging.getLogger("ringkernel")

TERMINATE_TIMEOUT_S = 5.0


class RingKernelRuntime:
    """Launches kernels and drives them through their lifecycle.

    Belongs to the event loop, and the thread, in which it is first used; from anywhere else its methods raise
    `KernelStateError`. `async with` ends all kernels on the way out; a runtime that is dropped, or outlives its loop,
    without that warns (`ResourceWarning`), and ends its threads. Every method that takes a `kernel_id` raises
    `KernelNotFoundError` for one that is not known.

    Args:
        workers: CPU worker threads for compiled kernels; by default the cores that the process may use, minus one.
        device: for kernels that are declared, and launched, with "auto": "auto" (the CPU, so far), "cpu", "cuda" or
            "cuda:N".
    """

    def __init__(self, *, workers: int | None = None, device: str = "auto") -> None:
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise ConfigurationError(f"workers is {workers!r}; it must be 1 or more, or None")
        self._workers = workers
        self._device = check_device(device)
        self._kernels: dict[str, RingKernel] = {}
        self._launching: set[str] = set()
        self._finishing: set[asyncio.Task[None]] = set()  # what goes on after its caller was cancelled
        self._affinity = LoopAffinity("this runtime")
        self._services_or_none: Services | None = None
        self._budget = Budget()
        self._closed = False

    def __del__(self) -> None:
        services = getattr(self, "_services_or_none", None)  # there is no such attribute where `__init__` has refused
        if services is not None:
            services.forsake(" was collected")

    # --- belonging to a loop ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all kernels side by side, sources before targets, and the worker threads. Closing twice is fine."""
        if self._closed or os.getpid() != self._affinity.pid:
            return  # a forked child has none of the threads, and must not touch what it inherited
        self._bind()
        self._closed = True
        ending = asyncio.ensure_future(self._end_all())
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            while not ending.done():  # bounded by the timeout; a runtime that is half closed helps nobody
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(ending)
            raise
        finally:
            if self._services_or_none is not None:
                self._services_or_none.close()

    async def _end_all(self) -> None:
        deadline = asyncio.get_running_loop().time() + TERMINATE_TIMEOUT_S
        alive = [kernel for kernel in self._kernels.values() if kernel.state is not KernelState.TERMINATED]
        while alive:
            ready = [k for k in alive if not any(source in alive for source in k.sources)] or alive
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            await asyncio.gather(*(self._end(kernel, left) for kernel in ready))
            alive = [kernel for kernel in alive if kernel not in ready]
        if self._finishing:  # what cancelled maps have lent comes back now
            await asyncio.wait(set(self._finishing), timeout=1.0)

    async def _end(self, kernel: RingKernel, timeout: float) -> None:
        if kernel.state is not KernelState.TERMINATED and kernel.state is not KernelState.TERMINATING:
            await self._terminate(kernel, timeout)
        await kernel.engine.wait_end()

    def _bind(self) -> Services:
        loop = self._affinity.settle()
        if self._services_or_none is None:
            self._services_or_none = Services(loop, self._budget)
            self._devices = Devices(self._services_or_none, self._workers)
        return self._services_or_none

    def _kernel(self, kernel_id: str, action: str = "use") -> RingKernel:
        self._bind()
        return self._known(kernel_id, action)

    def _known(self, kernel_id: str, action: str = "use") -> RingKernel:
        """The kernel, from whatever thread; raises when there is none."""
        if isinstance(kernel_id, str):
            if kernel_id in self._kernels:
                return self._kernels[kernel_id]
            if declared(kernel_id) is not None:
                raise KernelStateError(
                    f"cannot {action} kernel {kernel_id!r} while it is CREATED: declared, not launched; "
                    f"allowed is launch()"
                )
        known = ", ".join(map(repr, self._kernels)) or "none"
        raise KernelNotFoundError(f"cannot {action} kernel {kernel_id!r}: it is unknown; launched here are {known}")

    # --- lifecycle -------------------------------------------------------------------------------------------

    async def launch(
        self,
        kernel_id: str,
        kernel_func: Callable[..., Any] | None = None,
        *,
        device: str | None = None,
        queue_size: int | None = None,
    ) -> RingKernel:
        """Allocate and compile what a kernel needs. Nothing of the user's runs yet.

        Args:
            kernel_id: a declared id, or with `kernel_func` any id that is free.
            kernel_func: a decorated function, or a plain coroutine function.
            device: instead of the declared one: "auto", "cpu", "cuda", "cuda:N".
            queue_size: slots per ring instead of the declared number, a power of two.

        Raises:
            KernelExistsError: a kernel of that id is alive.
            KernelStateError: one of that id has ended and was not removed, or the runtime is closed.
            KernelCompileError: the handler cannot be compiled.
            DeviceUnavailableError: the device is not there; the message says what is missing.
            ConfigurationError, MessageTypeError: the device cannot run such a handler, or read such records.

        Cancelled or failed, it has launched nothing.
        """
        services = self._bind()
        if self._closed:
            raise KernelStateError(f"cannot launch kernel {kernel_id!r}: this runtime is closed; make a new one")
        self._check_free(kernel_id)
        declaration = find_declaration(kernel_id, kernel_func).with_options(
            kernel_id=kernel_id, device=device, queue_size=queue_size
        )
        device_of = self._devices.of(declaration, self._device)
        self._launching.add(kernel_id)
        try:
            kernel = await new_kernel(declaration, device_of, services, self._affinity, self._kernels)
        finally:
            self._launching.discard(kernel_id)
        if self._closed:
            kernel.engine.release()
            raise KernelStateError(f"the runtime was closed while kernel {kernel_id!r} was being launched")
        self._kernels[kernel_id] = kernel
        kernel.enter(Command.LAUNCH)
        return kernel

    def _check_free(self, kernel_id: str) -> None:
        existing = self._kernels.get(kernel_id)
        if kernel_id in self._launching or (existing is not None and existing.state is not KernelState.TERMINATED):
            state = existing.state.name if existing is not None else "being launched"
            raise KernelExistsError(
                f"kernel {kernel_id!r} exists and is {state}; terminate() and remove() it, or use another id"
            )
        if existing is not None:
            raise KernelStateError(
                f"kernel {kernel_id!r} has TERMINATED and cannot be restarted; remove() it to launch the id anew"
            )

    async def activate(self, kernel_id: str) -> None:
        """LAUNCHED to ACTIVE: the kernel takes messages from now on. Raises `KernelStateError` in other states.

        Raises `DeviceUnavailableError` when there is no thread, or no place on the device, to run it: nothing has
        changed then. Cancelled, it has either happened or not: the state says which.
        """
        await self._start(self._kernel(kernel_id, "activate"), Command.ACTIVATE)

    async def reactivate(self, kernel_id: str) -> None:
        """DEACTIVATED to ACTIVE: go on with what has queued up. Raises `KernelStateError` in other states.

        Raises `DeviceUnavailableError` as `activate` does. Cancelled, it has either happened or not: the state says
        which.
        """
        await self._start(self._kernel(kernel_id, "reactivate"), Command.REACTIVATE)

    async def _start(self, kernel: RingKernel, command: Command) -> None:
        kernel.check(command)
        while not await self._started(kernel, command):
            # without the kernel's lock: it takes those of others
            await quiesce.prepare(kernel, self._kernels)

    async def _started(self, kernel: RingKernel, command: Command) -> bool:
        """Start a kernel, unless there is something to prepare first: then False, and nothing was done."""
        async with kernel.lock:
            kernel.check(command)
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

    async def deactivate(self, kernel_id: str) -> None:
        """ACTIVE to DEACTIVATED: when this returns, no further message is taken. They queue up, and wait.

        Raises `KernelStateError` in other states, or when a handler does not return within 5 s: then nothing has
        changed. Cancelled, the kernel runs on.
        """
        kernel = self._kernel(kernel_id, "deactivate")
        kernel.check(Command.DEACTIVATE)
        async with kernel.lock:
            kernel.check(Command.DEACTIVATE)
            await kernel.engine.pause()
            kernel.enter(Command.DEACTIVATE)

    async def terminate(self, kernel_id: str, timeout: float = TERMINATE_TIMEOUT_S) -> None:
        """End a kernel gracefully; when this returns it is TERMINATED, at the latest 0.1 s after `timeout` seconds.

        From ACTIVE it may take what is queued now, and no more; from LAUNCHED or DEACTIVATED it takes nothing more.
        A drain that can do nothing but wait for room ends early. After the timeout a coroutine kernel is cancelled,
        and a handler that does not return is abandoned: `kernel.error` then says so. What was not taken is in
        `unprocessed()`, what was emitted can still be received.

        Raises `KernelStateError` in other states. Cancelled, the termination goes on by itself.
        """
        kernel = self._kernel(kernel_id, "terminate")
        timeout = check_timeout(timeout, remedy="how long the kernel has to end")
        kernel.check(Command.TERMINATE)
        task = asyncio.ensure_future(self._terminate(kernel, timeout))
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        await asyncio.shield(task)

    async def _terminate(self, kernel: RingKernel, timeout: float) -> None:
        if kernel.state in (KernelState.TERMINATING, KernelState.TERMINATED):
            await kernel.engine.wait_end()
            return
        drain = kernel.state is KernelState.ACTIVE
        kernel.enter(Command.TERMINATE)
        kernel.engine.outlet.close()
        try:
            await kernel.engine.finish(timeout, drain=drain)
        except Exception as error:
            logger.exception("kernel %r could not be ended properly", kernel.kernel_id)
            await kernel.engine.end_by_force(error)  # whatever it was: nobody may wait for this kernel for ever
        await kernel.engine.wait_end()

    async def wait(self, kernel_id: str, *, timeout: float | None = None) -> KernelState:
        """Wait until the kernel has ended, by itself or by `terminate`; its final state. Does not raise its error.

        Raises `asyncio.TimeoutError` after `timeout` seconds.
        """
        kernel = self._kernel(kernel_id)
        try:
            await kernel.engine.wait_end(timeout)
        except TimeoutError:
            raise timeouts.still_alive(kernel, timeout) from None
        return kernel.state

    def remove(self, kernel_id: str) -> None:
        """Forget a kernel that has TERMINATED, with its outputs and leftovers; its id may be launched anew.

        Raises `KernelStateError` in other states.
        """
        kernel = self._kernel(kernel_id, "remove")
        if kernel.state is not KernelState.TERMINATED:
            raise KernelStateError(
                f"cannot remove kernel {kernel_id!r} while it is {kernel.state.name}; terminate() it first"
            )
        del self._kernels[kernel_id]
        for other in (*kernel.sources, *kernel.targets):
            other.sources = tuple(source for source in other.sources if source is not kernel)
            other.targets = tuple(target for target in other.targets if target is not kernel)
        kernel.engine.release()

    # --- looking ---------------------------------------------------------------------------------------------

    @property
    def kernels(self) -> Mapping[str, RingKernel]:
        """All kernels by id, a live read-only view; those that have ended, too, until they are removed."""
        return MappingProxyType(self._kernels)

    def get_state(self, kernel_id: str) -> KernelState:
        """The state; CREATED for a kernel that is declared and not launched. From any thread."""
        if isinstance(kernel_id, str) and kernel_id not in self._kernels and declared(kernel_id) is not None:
            return KernelState.CREATED
        return self._known(kernel_id, "get the state of").state

    def statistics(self, kernel_id: str) -> KernelStatistics:
        """The kernel's counts and times, consistent with each other. From any thread."""
        kernel = self._known(kernel_id)
        return statistics_of(kernel.kernel_id, kernel.state, kernel.engine)

    def unprocessed(self, kernel_id: str) -> Any:
        """What a kernel that has TERMINATED never took, in order, input by input: an array, or a list of objects.

        Raises `KernelStateError` while the kernel lives, and `DeviceUnavailableError` if some of it was in the memory
        of a device that was lost; `.partial` is the rest.
        """
        kernel = self._known(kernel_id)
        if kernel.state is not KernelState.TERMINATED:
            raise KernelStateError(
                f"kernel {kernel_id!r} is {kernel.state.name}; what it leaves unprocessed is known once it has ended"
            )
        return state_access.leftovers_of(kernel)

    async def read_state(self, kernel_id: str) -> Any:
        """A consistent copy of a compiled kernel's state, as it was between two messages; also while it runs.

        A message instance, a record or an array, as declared. Raises `MessageTypeError` for a kernel without state, and
        `KernelStateError` for one whose handler does not return within 5 s. Cancelled, the kernel runs on.
        """
        return await state_access.read_state(self._kernel(kernel_id))

    async def write_state(self, kernel_id: str, value: Any) -> None:
        """Replace the state of a compiled kernel that is LAUNCHED or DEACTIVATED.

        Raises `KernelStateError` in other states, and `MessageTypeError` for a value that its type would change: of
        another shape, out of range, a float for an integer.
        """
        await state_access.write_state(self._kernel(kernel_id), value)

    # --- messages --------------------------------------------------------------------------------------------

    async def send(self, kernel_id: str, message: Any, *, timeout: float | None = None) -> None:
        """Put a message into the kernel's input, waiting for room. Allowed in LAUNCHED, ACTIVE and DEACTIVATED.

        Raises `asyncio.TimeoutError` after `timeout` seconds, `KernelStateError` in other states (also when the kernel
        ends meanwhile), `MessageTypeError` for a message of another type. Cancelled, it has either been sent or not.
        """
        # `outlet.put` written out: this is the call that is made once per message
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._bind()
        try:
            kernel = self._kernels[kernel_id]
        except (KeyError, TypeError):
            kernel = self._known(kernel_id, "send to")
        if timeout is not None:
            check_timeout(timeout)
        outlet = kernel.engine.outlet
        budget = self._budget
        budget.left = left = budget.left - 1
        try:
            if left <= 0 and budget.due():
                await outlet.wait_put(message, timeout, yielding=True)
            elif outlet.line.waiters or not outlet.offer(message):
                await outlet.wait_put(message, timeout)
        except TimeoutError:
            raise timeouts.no_room(kernel, timeout) from None

    def send_nowait(self, kernel_id: str, message: Any) -> None:
        """Put a message into the kernel's input. Raises `QueueFullError`, and what `send` raises."""
        self._kernel(kernel_id).engine.outlet.put_nowait(message)

    async def send_batch(self, kernel_id: str, messages: Any, *, timeout: float | None = None) -> None:
        """Put many messages into the input, in order: an array of the kernel's type, or a sequence of messages.

        Raises `BatchTimeoutError` (an `asyncio.TimeoutError`) after `timeout` seconds, with `.sent`, the number that
        was sent by then; `KernelStateError` as `send` does; `MessageTypeError` if one of them is of another type, and
        then nothing was sent. Cancelled, a prefix has been sent.
        """
        engine = self._kernel(kernel_id).engine
        batch = as_batch(engine.declaration.input_type, messages)
        await engine.outlet.put_many(batch, timeout)

    async def receive(self, kernel_id: str, *, timeout: float | None = None) -> Any:
        """Take the next output, in every state. A Python scalar, a message instance, or an `np.record`.

        Raises `asyncio.TimeoutError` after `timeout` seconds; `KernelStateError` when nothing more can come, or when
        the outputs go to a connected kernel; `KernelFailedError` with the cause when the kernel has failed, after its
        last output; `MessageTypeError` for a kernel without outputs. Cancelled or timed out, it has taken nothing.
        """
        # `inlet.get` written out: this is the call that is made once per message
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._bind()
        try:
            kernel = self._kernels[kernel_id]
        except (KeyError, TypeError):
            kernel = self._known(kernel_id, "receive from")
        if timeout is not None:
            check_timeout(timeout)
        inlet = kernel.engine.inlet
        budget = self._budget
        budget.left = left = budget.left - 1
        try:
            if left <= 0 and budget.due():
                return await inlet.wait_get(timeout, yielding=True)
            line = inlet.line
            if not line.waiters:
                message = inlet.take()
                if message is NOTHING and inlet.over:
                    message = inlet.try_get()
                if message is not NOTHING:
                    return message
            return await line.wait(inlet.try_get, timeout)
        except TimeoutError:
            raise timeouts.nothing_came(kernel, timeout) from None

    def receive_nowait(self, kernel_id: str) -> Any:
        """Take the next output. Raises `QueueEmptyError`, and what `receive` raises."""
        return self._consumer(kernel_id).get_nowait()

    async def receive_batch(
        self, kernel_id: str, max_messages: int | None = None, *, timeout: float | None = None
    ) -> Any:
        """Take all outputs that wait, at least one and at most `max_messages`, waiting for the first.

        An array for typed outputs (1-D; of the scalar type, or of records), a list for objects. Raises what `receive`
        raises, and `ConfigurationError` for a `max_messages` below 1. Cancelled or timed out, it has taken nothing.
        """
        inlet = self._consumer(kernel_id)
        kernel = self._kernels[kernel_id]
        try:
            batch = await inlet.get_many(max_messages, timeout)
        except TimeoutError:
            raise timeouts.nothing_came(kernel, timeout) from None
        message_type = kernel.engine.declaration.output_type
        return batch if message_type is None else from_array(message_type, batch)

    def _consumer(self, kernel_id: str) -> Any:
        engine = self._kernel(kernel_id).engine
        if engine.output is None:
            raise MessageTypeError(f"kernel {kernel_id!r} has no output_type, so there is nothing to receive")
        return engine.inlet

    async def stream(self, kernel_id: str, *, max_messages: int | None = None) -> AsyncIterator[Any]:
        """Iterate over the outputs batch by batch until the kernel has ended and all is received.

        Batches are what `receive_batch` returns. Raises `KernelFailedError` at the end if the kernel has failed.
        """
        kernel = self._kernel(kernel_id)
        while True:
            try:
                batch = await self.receive_batch(kernel_id, max_messages)
            except KernelStateError:
                if kernel.error is None and kernel.state is KernelState.TERMINATED:
                    return
                raise
            yield batch

    async def map(self, kernel_id: str | tuple[str, str], messages: Any, *, progress: bool = False) -> Any:
        """Send all messages through a kernel, or through the chain from the first to the last of a pair; all outputs.

        For compiled kernels the array itself is read in place, and the result is written in place: it must not be
        changed meanwhile. The kernels are ACTIVE at the start and may be paused and resumed meanwhile. The map has them
        to itself: another map that needs one of them, senders to any of them, and receivers from the last one wait in
        line until it is over (`send_nowait` and `receive_nowait` raise), and what other kernels feed to them waits in
        its queue.

        Args:
            kernel_id: a kernel, or the first and the last of a connected chain.
            messages: an array of the first kernel's type, or a sequence of messages.
            progress: draw a progress bar (needs rich).

        Returns:
            An array of the last kernel's output type (a list for untyped coroutine kernels), in order; None if the
            last kernel has no output.

        Raises:
            KernelStateError: not ACTIVE, messages waiting, others feed a chain with a coroutine kernel in it, or the
                chain feeds itself on another way; nothing was sent.
            KernelFailedError: a kernel has failed before (nothing was sent), or ended meanwhile.
            MessageTypeError: one of the messages is of another type; nothing was sent.
            ConfigurationError: `kernel_id` is neither an id nor a pair.

        Whatever ends it early has `.partial`, also an `asyncio.CancelledError` (under `asyncio.timeout` that is the
        error's `__cause__`): what had come out. What comes out later can be received, in order. Cancelled, it returns
        at once; the kernels stop reading at the next message boundary and go on with their queues.
        """
        first_id, last_id = ends_of(kernel_id)
        check_array(messages)
        path = find_path(self._kernel(first_id), self._kernel(last_id))

        async def reach() -> None:
            await quiesce.reach_memory(path, self._kernels)

        return await map_over(path, messages, progress=progress, reach=reach, finishing=self._finishing)

    def connect(self, source_id: str, target_id: str) -> None:
        """Make the source's output an input of the target: no Python in between.

        Both are LAUNCHED or DEACTIVATED. The first target takes the host's place as consumer, with what already
        waits; each further one sees every message from now on. Several sources may feed one target.

        Raises `KernelStateError`, or `MessageTypeError` if the types do not match; then nothing has changed.
        """
        connect(self._kernel(source_id), self._kernel(target_id))
