"""The runtime: what its user awaits."""

from __future__ import annotations

from asyncio import CancelledError
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ringkernel.declaration.decorator import id_of
from ringkernel.declaration.options import check_device
from ringkernel.declaration.pipeline import Pipeline
from ringkernel.declaration.registry import declared
from ringkernel.devices.event_loop.interrupts import finish as finish_block
from ringkernel.devices.event_loop.waiting_line import check_timeout
from ringkernel.errors import ConfigurationError, KernelStateError
from ringkernel.extras import installing
from ringkernel.lifecycle import Command, KernelState
from ringkernel.tracebacks import shorten

from .access import state_access
from .graph.closing import close_input
from .graph.connect import connect
from .kernels.timeouts import as_command
from .lifecycle.starting import finish
from .lifecycle.supervisor import TERMINATE_TIMEOUT_S, Supervisor
from .messaging import Messaging
from .observing.looks import Observer
from .observing.progress import Watch
from .observing.statistics import KernelStatistics, statistics_of
from .observing.stats_server import StatsServer
from .running import RunningPipeline, running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.views.metrics import RuntimeCollector
    from ringkernel.views.view import RuntimeView

    from .kernels.kernel import RingKernel


class RingKernelRuntime(Messaging):
    """Launches kernels and drives them through their lifecycle.

    Belongs to the event loop, and the thread, in which it is first used; from anywhere else its methods raise
    `KernelStateError`. `async with` ends all kernels on the way out; a runtime that is dropped, or outlives its loop,
    without that warns (`ResourceWarning`), and ends its threads. Every method that takes a `kernel_id` takes
    the kernel's function in its place, and raises `KernelNotFoundError` for one that is not known.

    Args:
        workers: CPU worker threads for compiled kernels; by default the cores that the process may use, minus one.
        device: for kernels that are declared, and launched, with "auto": "auto" (the CPU, so far), "cpu", "cuda" or
            "cuda:N".
        fuse: whether connected kernels on one CPU worker may run as one while much goes through them. Nothing but the
            time tells.

    Example:
        >>> async with rk.RingKernelRuntime() as runtime:
        ...     await runtime.map(double, [1.0, 2.0])
        array([2., 4.])
    """

    def __init__(self, *, workers: int | None = None, device: str = "auto", fuse: bool = True) -> None:
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise ConfigurationError(f"workers is {workers!r}; it must be 1 or more, or None")
        super().__init__(Supervisor(workers, check_device(device), fuse=fuse))
        self._observer = Observer(self._kernels)
        self._watches: list[Watch] = []
        self._servers: list[StatsServer] = []

    def __del__(self) -> None:
        supervisor = getattr(self, "_supervisor", None)  # there is no such attribute where `__init__` has refused
        if supervisor is not None:
            supervisor.forsake()

    async def __aenter__(self) -> Self:
        self._supervisor.bind()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, CancelledError):
            shorten(error)
        await finish_block(self.close(), error)

    async def close(self) -> None:
        """End all kernels side by side, sources before targets, and the worker threads. Closing twice is fine.

        Example:
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> await runtime.close()
            >>> runtime.get_state(double).name
            'TERMINATED'
        """
        for watch in self._watches:
            watch.stop()
        for server in self._servers:
            await server.close()
        await self._supervisor.close()

    # --- lifecycle -------------------------------------------------------------------------------------------

    @as_command
    async def launch(
        self,
        kernel_id: KernelId,
        kernel_func: Callable[..., Any] | None = None,
        *,
        device: str | None = None,
        queue_size: int | None = None,
        parallel: int | None = None,
    ) -> RingKernel:
        """Allocate and compile what a kernel needs. Nothing of the user's runs yet.

        Args:
            kernel_id: a declared id, or with `kernel_func` any id that is free; or a function alone, decorated or with
                annotations: its declared id, or else its name, is the kernel's then.
            kernel_func: a decorated function, or a plain coroutine function.
            device: instead of the declared one: "auto", "cpu", "cuda", "cuda:N".
            queue_size: slots per ring instead of the declared number, a power of two.
            parallel: instead of the declared one, see `ring_kernel`.

        Raises:
            KernelExistsError: a kernel of that id is alive.
            KernelStateError: one of that id has ended and was not removed, or the runtime is closed.
            KernelCompileError: the handler cannot be compiled.
            DeviceUnavailableError: the device is not there; the message says what is missing.
            ConfigurationError, MessageTypeError: the device cannot run such a handler, or read such records.

        Cancelled or failed, it has launched nothing.

        Example:
            >>> kernel = await runtime.launch(double, queue_size=64)
            >>> kernel.state.name, kernel.input_queue.capacity
            ('LAUNCHED', 64)
        """
        return await self._supervisor.launch(kernel_id, kernel_func, device, queue_size, parallel)

    @as_command
    async def activate(self, kernel_id: KernelId) -> None:
        """LAUNCHED to ACTIVE: the kernel takes messages from now on. Raises `KernelStateError` in other states.

        Raises `DeviceUnavailableError` when there is no thread, or no place on the device, to run it: nothing has
        changed then. Cancelled, it has either happened or not: the state says which.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> await runtime.activate(double)
            >>> await runtime.call(double, 3)
            6.0
        """
        await self._supervisor.start(kernel_id, Command.ACTIVATE)

    @as_command
    async def reactivate(self, kernel_id: KernelId) -> None:
        """DEACTIVATED to ACTIVE: go on with what has queued up. Raises `KernelStateError` in other states.

        Raises `DeviceUnavailableError` as `activate` does. Cancelled, it has either happened or not: the state says
        which.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.deactivate(double)
            ...     await runtime.send(double, 3)
            ...     await runtime.reactivate(double)
            ...     await runtime.receive(double)
            6.0
        """
        await self._supervisor.start(kernel_id, Command.REACTIVATE)

    @as_command
    async def deactivate(self, kernel_id: KernelId) -> None:
        """ACTIVE to DEACTIVATED: when this returns, no further message is taken. They queue up, and wait.

        Raises `KernelStateError` in other states, or when a handler does not return within 5 s: then nothing has
        changed. Cancelled, the kernel runs on.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.deactivate(double)
            ...     await runtime.send(double, 3)
            ...     runtime.statistics(double).unprocessed
            1
        """
        await self._supervisor.pause(kernel_id)

    async def close_input(self, kernel_id: KernelId, *, input: str = "") -> None:
        """Say that nothing more will be sent to a kernel: it takes what is queued, and ends by itself.

        An input is at its end when it is closed, one that another kernel feeds when that kernel has ended. Once all
        inputs are at their end, and everything is taken, the kernel does what `on_end` says, and is TERMINATED; a
        kernel that is LAUNCHED or DEACTIVATED holds until it is activated. A coroutine kernel is told as in a drain. So
        it goes on downstream: a kernel each of whose inputs others feed, and to which nothing was ever sent otherwise,
        ends once all of them have ended by themselves, of closed inputs or of `raise StopIteration`. After a
        `terminate` or a failure of one of them it lives on, until its own input is closed, too.

        Returns at once. `send` raises `KernelStateError` from now on, also where it waits for room. Allowed in
        LAUNCHED, ACTIVE and DEACTIVATED; raises `KernelStateError` in other states, and `ConfigurationError` for a name
        that is none of an input.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.send_batch(double, [1.0, 2.0])
            ...     await runtime.close_input(double)
            ...     (await runtime.wait(double)).name, await runtime.receive_batch(double)
            ('TERMINATED', array([2., 4.]))
        """
        close_input(self._supervisor.kernel(kernel_id, "close an input of"), input)

    @as_command
    async def terminate(self, kernel_id: KernelId | Pipeline, timeout: float = TERMINATE_TIMEOUT_S) -> None:
        """End a kernel gracefully; when this returns it is TERMINATED, at the latest 0.1 s after `timeout` seconds.

        From ACTIVE it may take what is queued now, and no more; from LAUNCHED or DEACTIVATED it takes nothing more.
        A drain that can do nothing but wait for room ends early. After the timeout a coroutine kernel is cancelled,
        and a handler that does not return is abandoned: `kernel.error` then says so. What was not taken is in
        `unprocessed()`, what was emitted can still be received.

        Raises `KernelStateError` in other states. Cancelled, the termination goes on by itself. A pipeline's kernels
        are ended one after the other, sources before targets, those that have not ended yet.

        Example:
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> await runtime.terminate(double)
            >>> runtime.get_state(double).name
            'TERMINATED'
        """
        seconds = check_timeout(timeout, remedy="how long the kernel has to end")
        if isinstance(kernel_id, Pipeline):
            await finish(self._supervisor, kernel_id, seconds)
        else:
            await self._supervisor.terminate(kernel_id, seconds)

    @as_command
    async def wait(self, kernel_id: KernelId, *, timeout: float | None = None) -> KernelState:
        """Wait until the kernel has ended, by itself or by `terminate`; its final state. Does not raise its error.

        Raises `asyncio.TimeoutError` after `timeout` seconds.

        Example:
            >>> async def once(ctx):
            ...     await ctx.send(1)
            >>> async with runtime.run(once):
            ...     (await runtime.wait(once)).name
            'TERMINATED'
        """
        return await self._supervisor.wait(kernel_id, timeout)

    def remove(self, kernel_id: KernelId) -> None:
        """Forget a kernel that has TERMINATED, with its outputs and leftovers; its id may be launched anew.

        Raises `KernelStateError` in other states.

        Example:
            >>> async with runtime.run(double):
            ...     pass
            >>> runtime.remove(double)
            >>> list(runtime.kernels)
            []
        """
        self._supervisor.remove(kernel_id)

    def connect(self, source_id: KernelId, target_id: KernelId, *, input: str = "") -> None:
        """Make the source's output feed the target, its first input or the one of that name: no Python in between.

        Both are LAUNCHED or DEACTIVATED. The first target takes the host's place as consumer, with what already
        waits; each further one sees every message from now on. Several sources may feed one target, and one source
        several of its inputs.

        Raises `KernelStateError`, or `MessageTypeError` if the types do not match; then nothing has changed.

        Example:
            >>> for each in (double, total):
            ...     kernel = await runtime.launch(each)
            >>> runtime.connect(double, total)
            >>> for each in (double, total):
            ...     await runtime.activate(each)
            >>> await runtime.call((double, total), 3)
            6.0
        """
        connect(self._supervisor.kernel(source_id), self._supervisor.kernel(target_id), input)
        self._supervisor.forget_paths()

    @as_command
    async def replace(self, kernel_id: KernelId, kernel_func: Callable[..., Any] | None = None) -> None:
        """Let a compiled kernel go on with another handler, of the same types and state.

        It is compiled first, and takes over between two spans: what is sent from now on is for the new handler, and
        waits for it; what waited before is handled by the one or the other. Queues, state, connections and counts stay.
        Declaring an id again in its module, as editing a notebook's cell does, has the same effect on all kernels that
        run under it, without being asked; where it cannot be, a warning is logged.

        Args:
            kernel_id: a kernel that is alive.
            kernel_func: its new handler, decorated or annotated; by default what the id was last declared as.

        Raises:
            KernelStateError: input_type, output_type, state or max_outputs are others, the kernel is a coroutine or has
                ended; or its handler does not return.
            KernelCompileError: the new handler cannot be compiled.

        Whatever it raises, the kernel goes on with the handler that it had. Cancelled, it is replaced all the same.

        Example:
            >>> def triple(msg: float, out: float):
            ...     out.value = 3 * msg.value
            >>> async with runtime.run(double):
            ...     await runtime.replace(double, triple)
            ...     await runtime.call("double", 3)
            9.0
        """
        await self._supervisor.replace(kernel_id, kernel_func)

    def run(self, kernels: Pipeline | KernelId) -> AbstractAsyncContextManager[RunningPipeline]:
        """Return a pipeline for the length of a block: `async with runtime.run(pipeline(a, b)) as running`.

        Launches, connects and activates its kernels, which are not there yet (those that have TERMINATED are removed),
        and ends them on the way out, sources before targets, each with what is queued in it; what the last one emits
        then can still be received. `running` sends to the first kernel and receives from the last; its
        `finish()` ends them before the block does. One kernel is a pipeline, too.

        Raises `KernelExistsError` for a kernel that is alive, and what `launch`, `connect` and `activate` raise; then
        nothing is left running.

        Example:
            >>> async with runtime.run(rk.pipeline(double, total)) as running:
            ...     await running.send_batch([1.0, 2.0])
            ...     await running.receive(), await running.receive()
            (2.0, 6.0)
        """
        return running(self, self._supervisor, kernels)

    # --- looking ---------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<RingKernelRuntime with {counted(self._kernels)}>"

    def _repr_html_(self) -> str | None:
        """Return the graph and the figures, for a notebook; needs rich (the extra `notebook`)."""
        try:
            from ringkernel.views.table import page_of
        except ImportError:
            return None
        return page_of(self._observer.look())

    def view(self) -> RuntimeView:
        """All kernels at this moment, as plain data; rates are those since the view before. From any thread.

        Example:
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> [(kernel.kernel_id, kernel.state, kernel.processed) for kernel in runtime.view().kernels]
            [('double', 'ACTIVE', 2)]
        """
        return self._observer.look()

    def watch(self, interval: float = 0.5) -> Watch:
        """Draw the kernels, every `interval` seconds, in the notebook's cell that calls this, also while others run, or
        on the terminal's stderr, until the result's `stop()` is called or the runtime is closed. Raises
        `ConfigurationError` without rich.

        Example:
            >>> watch = runtime.watch()
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> watch.stop()
        """
        self._supervisor.bind()
        watch = Watch(self._kernels, check_timeout(interval, remedy="how long until it is drawn again"))
        self._watches.append(watch)
        return watch

    async def serve_stats(self, interval: float = 0.5) -> Path:
        """Let other processes of this user look, until the runtime is closed: `ringkernel top`. The Unix socket's path,
        in a directory that only this user may enter. Raises `ConfigurationError` where that cannot be.

        Example:
            >>> path = await runtime.serve_stats()  # now `ringkernel top` in a terminal shows the kernels
            >>> path.is_socket()
            True
        """
        self._supervisor.bind()
        server = StatsServer(self._kernels, check_timeout(interval, remedy="how long between two views"))
        path = await server.open()
        self._servers.append(server)
        return path

    def collector(self) -> RuntimeCollector:
        """Return the kernels' figures for Prometheus: `prometheus_client.REGISTRY.register(runtime.collector())`.
        Raises `ConfigurationError` without prometheus-client (the extra `metrics`).

        Example:
            >>> from prometheus_client import CollectorRegistry, generate_latest
            >>> registry = CollectorRegistry()
            >>> registry.register(runtime.collector())
            >>> b"ringkernel" in generate_latest(registry)
            True
        """
        try:
            from ringkernel.views.metrics import RuntimeCollector
        except ImportError:
            raise ConfigurationError(f"collector() needs prometheus-client: {installing('metrics')}") from None
        return RuntimeCollector(Observer(self._kernels).look)

    @property
    def kernels(self) -> Mapping[str, RingKernel]:
        """All kernels by id, a live read-only view; those that have ended, too, until they are removed.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> runtime.kernels["double"] is kernel
            True
        """
        return MappingProxyType(self._kernels)

    def get_state(self, kernel_id: KernelId) -> KernelState:
        """Return the state; CREATED for a kernel that is declared and not launched. From any thread.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> runtime.get_state(double)
            <KernelState.LAUNCHED: 'launched'>
        """
        kernel_id = id_of(kernel_id)
        if isinstance(kernel_id, str) and kernel_id not in self._kernels and declared(kernel_id) is not None:
            return KernelState.CREATED
        return self._supervisor.known(kernel_id, "get the state of").state

    def statistics(self, kernel_id: KernelId) -> KernelStatistics:
        """Return the kernel's counts and times, consistent with each other. From any thread.

        Example:
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> runtime.statistics(double).processed
            2
        """
        return statistics_of(self._supervisor.known(kernel_id))

    def unprocessed(self, kernel_id: KernelId, *, input: str = "") -> Any:
        """Return the messages that a TERMINATED kernel never took of its first input, or of the named one, in order: an
        array, or a list of objects. Those of several sources come one source after the other.

        Raises `KernelStateError` while the kernel lives, and `DeviceUnavailableError` if some of it was in the memory
        of a device that was lost; `.partial` is the rest.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> await runtime.send_batch(double, [1.0, 2.0])
            >>> await runtime.terminate(double)
            >>> runtime.unprocessed(double)
            array([1., 2.])
        """
        kernel = self._supervisor.known(kernel_id)
        if kernel.state is not KernelState.TERMINATED:
            raise KernelStateError(
                f"kernel {kernel_id!r} is {kernel.state.name}; what it leaves unprocessed is known once it has ended"
            )
        return state_access.leftovers_of(kernel, input)

    @as_command
    async def read_state(self, kernel_id: KernelId, *, key: Any = None) -> Any:
        """Return a consistent copy of a compiled kernel's state, as it was between two messages; also while it runs.

        A message instance, a record or an array, as declared. Of a kernel with `key=`: that of one key; or without
        `key` a structured array of all, in the order of the keys, which are in the first column, under their field's
        name. The fields of the state follow, or, if it is an array, "state".

        Raises `MessageTypeError` for a kernel without state, or keys, `KeyNotFoundError` for a key that no message had,
        and `KernelStateError` for a kernel whose handler does not return within 5 s. Cancelled, the kernel runs on.

        Example:
            >>> await runtime.map(total, [1.0, 2.0])
            array([1., 3.])
            >>> await runtime.read_state(total)
            array([3.])
            >>> await runtime.map(per_symbol, [(b"IBM", 1.0), (b"AMD", 5.0), (b"IBM", 2.0)])
            array([1., 5., 3.])
            >>> (await runtime.read_state(per_symbol)).tolist()
            [(b'AMD', 5.0), (b'IBM', 3.0)]
            >>> (await runtime.read_state(per_symbol, key=b"IBM")).tolist()
            (3.0,)
        """
        return await state_access.read_state(self._supervisor.kernel(kernel_id), key)

    @as_command
    async def write_state(self, kernel_id: KernelId, value: Any, *, key: Any = None) -> None:
        """Replace the state of a compiled kernel that is LAUNCHED or DEACTIVATED.

        Of a kernel with `key=`: that of one key, which may be new; or without `key` all of them, by an array as
        `read_state` gives it.

        Raises `KernelStateError` in other states, and `MessageTypeError` for a value that its type would change: of
        another shape, out of range, a float for an integer.

        Example:
            >>> kernel = await runtime.launch(total)
            >>> await runtime.write_state(total, np.array([100.0]))
            >>> await runtime.activate(total)
            >>> await runtime.call(total, 1)
            101.0
        """
        await state_access.write_state(self._supervisor.kernel(kernel_id), value, key)

    @as_command
    async def read_params(self, kernel_id: KernelId) -> Any:
        """Return a copy of a compiled kernel's parameters, as they are now: a message instance or a record, as
        declared.

        Raises `MessageTypeError` for a kernel without parameters.

        Example:
            >>> kernel = await runtime.launch(scaled)
            >>> await runtime.read_params(scaled)
            Gain(factor=2.0)
        """
        return state_access.read_params(self._supervisor.kernel(kernel_id))

    @as_command
    async def write_params(self, kernel_id: KernelId, value: Any) -> None:
        """Replace the parameters of a compiled kernel between two messages, all of them at once; also while it runs.

        Raises `KernelStateError` for a kernel that ends or has ended, or whose handler does not return within 5 s, and
        `MessageTypeError` for a value that their type would change. Cancelled, it has happened or not.

        Example:
            >>> await runtime.map(scaled, [1.0, 2.0])
            array([2., 4.])
            >>> await runtime.write_params(scaled, Gain(10.0))
            >>> await runtime.map(scaled, [1.0, 2.0])
            array([10., 20.])
        """
        await state_access.write_params(self._supervisor.kernel(kernel_id), value)


def counted(kernels: Mapping[str, RingKernel]) -> str:
    """How many kernels are in which state: '2 ACTIVE, 1 TERMINATED'."""
    states = [kernel.state for kernel in kernels.values()]
    counts = [f"{states.count(state)} {state.name}" for state in KernelState if state in states]
    return ", ".join(counts) or "no kernels"
