"""The runtime: what its user awaits."""

from __future__ import annotations

from threading import get_ident
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from ringkernel.declaration.decorator import check_device, declared
from ringkernel.devices.event_loop.inlet import check_most
from ringkernel.devices.event_loop.waiting_line import check_timeout
from ringkernel.errors import ConfigurationError, KernelStateError, MessageTypeError
from ringkernel.lifecycle import Command, KernelState
from ringkernel.messages.arrays import from_array
from ringkernel.ring.waiting import NOTHING

from . import quiesce, state_access, timeouts
from .calls import CallTable
from .connect import connect
from .given_array import room_in
from .map import check_array, map_over
from .message_queue import as_batch
from .path import ends_of, find_path
from .peek import Peek
from .port import Port
from .statistics import KernelStatistics, statistics_of
from .supervisor import TERMINATE_TIMEOUT_S, Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    import numpy.typing as npt

    from .kernel import RingKernel


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
        fuse: whether connected kernels on one CPU worker may run as one while much goes through them. Nothing but the
            time tells.
    """

    def __init__(self, *, workers: int | None = None, device: str = "auto", fuse: bool = True) -> None:
        if workers is not None and (not isinstance(workers, int) or workers < 1):
            raise ConfigurationError(f"workers is {workers!r}; it must be 1 or more, or None")
        self._supervisor = Supervisor(workers, check_device(device), fuse=fuse)
        # here for the calls that are made once per message
        self._kernels = self._supervisor.kernels
        self._affinity = self._supervisor.affinity
        self._budget = self._supervisor.budget
        self._calls = CallTable(self._supervisor.kernel)
        self._known_calls = self._calls.known

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
        await self.close()

    async def close(self) -> None:
        """End all kernels side by side, sources before targets, and the worker threads. Closing twice is fine."""
        await self._supervisor.close()

    # --- lifecycle -------------------------------------------------------------------------------------------

    async def launch(
        self,
        kernel_id: str,
        kernel_func: Callable[..., Any] | None = None,
        *,
        device: str | None = None,
        queue_size: int | None = None,
        parallel: int | None = None,
    ) -> RingKernel:
        """Allocate and compile what a kernel needs. Nothing of the user's runs yet.

        Args:
            kernel_id: a declared id, or with `kernel_func` any id that is free.
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
        """
        return await self._supervisor.launch(kernel_id, kernel_func, device, queue_size, parallel)

    async def activate(self, kernel_id: str) -> None:
        """LAUNCHED to ACTIVE: the kernel takes messages from now on. Raises `KernelStateError` in other states.

        Raises `DeviceUnavailableError` when there is no thread, or no place on the device, to run it: nothing has
        changed then. Cancelled, it has either happened or not: the state says which.
        """
        await self._supervisor.start(kernel_id, Command.ACTIVATE)

    async def reactivate(self, kernel_id: str) -> None:
        """DEACTIVATED to ACTIVE: go on with what has queued up. Raises `KernelStateError` in other states.

        Raises `DeviceUnavailableError` as `activate` does. Cancelled, it has either happened or not: the state says
        which.
        """
        await self._supervisor.start(kernel_id, Command.REACTIVATE)

    async def deactivate(self, kernel_id: str) -> None:
        """ACTIVE to DEACTIVATED: when this returns, no further message is taken. They queue up, and wait.

        Raises `KernelStateError` in other states, or when a handler does not return within 5 s: then nothing has
        changed. Cancelled, the kernel runs on.
        """
        await self._supervisor.pause(kernel_id)

    async def terminate(self, kernel_id: str, timeout: float = TERMINATE_TIMEOUT_S) -> None:
        """End a kernel gracefully; when this returns it is TERMINATED, at the latest 0.1 s after `timeout` seconds.

        From ACTIVE it may take what is queued now, and no more; from LAUNCHED or DEACTIVATED it takes nothing more.
        A drain that can do nothing but wait for room ends early. After the timeout a coroutine kernel is cancelled,
        and a handler that does not return is abandoned: `kernel.error` then says so. What was not taken is in
        `unprocessed()`, what was emitted can still be received.

        Raises `KernelStateError` in other states. Cancelled, the termination goes on by itself.
        """
        seconds = check_timeout(timeout, remedy="how long the kernel has to end")
        await self._supervisor.terminate(kernel_id, seconds)

    async def wait(self, kernel_id: str, *, timeout: float | None = None) -> KernelState:
        """Wait until the kernel has ended, by itself or by `terminate`; its final state. Does not raise its error.

        Raises `asyncio.TimeoutError` after `timeout` seconds.
        """
        return await self._supervisor.wait(kernel_id, timeout)

    def remove(self, kernel_id: str) -> None:
        """Forget a kernel that has TERMINATED, with its outputs and leftovers; its id may be launched anew.

        Raises `KernelStateError` in other states.
        """
        self._supervisor.remove(kernel_id)
        self._calls.forget()

    # --- looking ---------------------------------------------------------------------------------------------

    @property
    def kernels(self) -> Mapping[str, RingKernel]:
        """All kernels by id, a live read-only view; those that have ended, too, until they are removed."""
        return MappingProxyType(self._kernels)

    def get_state(self, kernel_id: str) -> KernelState:
        """The state; CREATED for a kernel that is declared and not launched. From any thread."""
        if isinstance(kernel_id, str) and kernel_id not in self._kernels and declared(kernel_id) is not None:
            return KernelState.CREATED
        return self._supervisor.known(kernel_id, "get the state of").state

    def statistics(self, kernel_id: str) -> KernelStatistics:
        """The kernel's counts and times, consistent with each other. From any thread."""
        kernel = self._supervisor.known(kernel_id)
        return statistics_of(kernel.kernel_id, kernel.state, kernel.engine)

    def unprocessed(self, kernel_id: str) -> Any:
        """What a kernel that has TERMINATED never took, in order, input by input: an array, or a list of objects.

        Raises `KernelStateError` while the kernel lives, and `DeviceUnavailableError` if some of it was in the memory
        of a device that was lost; `.partial` is the rest.
        """
        kernel = self._supervisor.known(kernel_id)
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
        return await state_access.read_state(self._supervisor.kernel(kernel_id))

    async def write_state(self, kernel_id: str, value: Any) -> None:
        """Replace the state of a compiled kernel that is LAUNCHED or DEACTIVATED.

        Raises `KernelStateError` in other states, and `MessageTypeError` for a value that its type would change: of
        another shape, out of range, a float for an integer.
        """
        await state_access.write_state(self._supervisor.kernel(kernel_id), value)

    # --- messages --------------------------------------------------------------------------------------------

    async def send(self, kernel_id: str, message: Any, *, timeout: float | None = None) -> None:
        """Put a message into the kernel's input, waiting for room. Allowed in LAUNCHED, ACTIVE and DEACTIVATED.

        Raises `asyncio.TimeoutError` after `timeout` seconds, `KernelStateError` in other states (also when the kernel
        ends meanwhile), `MessageTypeError` for a message of another type. Cancelled, it has either been sent or not.
        """
        # `outlet.put` written out: this is the call that is made once per message
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            kernel = self._kernels[kernel_id]
        except (KeyError, TypeError):
            kernel = self._supervisor.known(kernel_id, "send to")
        if timeout is not None:
            check_timeout(timeout)
        outlet = kernel.engine.outlet
        offer = outlet.offer
        budget = self._budget
        budget.left = left = budget.left - 1
        try:
            if left <= 0 and budget.due():
                await outlet.wait_put(message, timeout, yielding=True)
            elif outlet.line.waiters or not offer(message):
                await outlet.wait_put(message, timeout)
        except TimeoutError:
            raise timeouts.no_room(kernel, timeout) from None

    def send_nowait(self, kernel_id: str, message: Any) -> None:
        """Put a message into the kernel's input. Raises `QueueFullError`, and what `send` raises."""
        self._supervisor.kernel(kernel_id).engine.outlet.put_nowait(message)

    async def call(self, kernel_id: str | tuple[str, str], message: Any, *, timeout: float | None = None) -> Any:
        """Send a message through a kernel, or through the chain from the first to the last of a pair; its output.

        What `receive` would return. Calls may be made at the same time: outputs come in the order of the messages, and
        each call gets its own. Nothing else may be on its way meanwhile, for outputs are told apart by their order
        alone. If the event loop's thread may run the kernels itself, it has the output at once.

        Raises `asyncio.TimeoutError` after `timeout` seconds; `KernelStateError` while messages or outputs of `send`
        wait, or if another kernel feeds one of these; `ConfigurationError` for a kernel that may have no output for a
        message, or several; and what `send` and `receive` raise. Cancelled or timed out, the message has been sent or
        not, and its output goes to nobody.
        """
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            calls = self._known_calls[kernel_id]
        except (KeyError, TypeError):
            calls = self._calls.of(kernel_id)
        if timeout is not None:
            check_timeout(timeout)
        budget = self._budget
        budget.left = left = budget.left - 1
        yielding = left <= 0 and budget.due()
        if calls.is_free() and not yielding and calls.outlet.offer(message):
            answer = calls.inlet.take()
            return await calls.answer(timeout, timeout) if answer is NOTHING else answer
        return await calls.in_turn(message, timeout, yielding=yielding)

    def port(self, kernel_id: str | tuple[str, str]) -> Port:
        """`send`, `receive` and `call` of a kernel, or of a chain, for code that cannot await: see `Port`."""
        return Port(self, self._calls, self._affinity, kernel_id)

    async def send_batch(self, kernel_id: str, messages: Any, *, timeout: float | None = None) -> None:
        """Put many messages into the input, in order: an array of the kernel's type, or a sequence of messages.

        Raises `BatchTimeoutError` (an `asyncio.TimeoutError`) after `timeout` seconds, with `.sent`, the number that
        was sent by then; `KernelStateError` as `send` does; `MessageTypeError` if one of them is of another type, and
        then nothing was sent. Cancelled, a prefix has been sent.
        """
        engine = self._kernel(kernel_id, "send to").engine
        if timeout is not None:
            check_timeout(timeout)
        outlet = engine.outlet
        yielding = self._budget.spend()
        if not yielding and not outlet.line.waiters and outlet.ring.offer_all(messages):
            return
        batch = as_batch(engine.declaration.input_type, messages)
        await outlet.put_many(batch, timeout, yielding=yielding)

    async def receive(self, kernel_id: str, *, timeout: float | None = None) -> Any:
        """Take the next output, in every state: a Python scalar, a message instance, or for a dtype a `Record`.

        Raises `asyncio.TimeoutError` after `timeout` seconds; `KernelStateError` when nothing more can come, or when
        the outputs go to a connected kernel; `KernelFailedError` with the cause when the kernel has failed, after its
        last output; `MessageTypeError` for a kernel without outputs. Cancelled or timed out, it has taken nothing.
        """
        # `inlet.get` written out: this is the call that is made once per message
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            kernel = self._kernels[kernel_id]
        except (KeyError, TypeError):
            kernel = self._supervisor.known(kernel_id, "receive from")
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
                take = inlet.take  # called as a method, a slot that holds a function costs three times as much
                message = take()
                if message is NOTHING:
                    message = inlet.produce()
                if message is not NOTHING:
                    return message
            return await line.wait(inlet.try_get, timeout)
        except TimeoutError:
            raise timeouts.nothing_came(kernel, timeout) from None

    def receive_nowait(self, kernel_id: str) -> Any:
        """Take the next output. Raises `QueueEmptyError`, and what `receive` raises."""
        return self._consumer(kernel_id).get_nowait()

    async def receive_batch(
        self,
        kernel_id: str,
        max_messages: int | None = None,
        *,
        out: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Take all outputs that wait, at least one and at most `max_messages`, waiting for the first.

        Returns an array for typed outputs (1-D; of the scalar type, or of records), a list for objects. With `out`, an
        array for records or scalars of that type, 1-D and contiguous, at most `len(out)` are taken, into `out` from its
        start on; returned is the part of it that they fill, a view.

        Raises what `receive` raises, and `ConfigurationError` for a `max_messages` below 1; for an `out` of another
        dtype, or outputs that are no records, `MessageTypeError`, and for one that is empty, has gaps, is read-only or
        has not one dimension `ConfigurationError`. Cancelled or timed out, it has taken nothing, and `out` is as it
        was.
        """
        kernel = self._kernel(kernel_id, "receive from")
        engine = kernel.engine
        if engine.output is None:
            raise _emits_nothing(kernel_id)
        if out is not None:
            max_messages = room_in(kernel, out, max_messages)
        elif max_messages is not None:
            check_most(max_messages)
        if timeout is not None:
            check_timeout(timeout)
        inlet = engine.inlet
        yielding = self._budget.spend()
        batch: Any = NOTHING if yielding or inlet.line.waiters else inlet.try_get_many(max_messages, out)
        if batch is NOTHING:
            try:
                batch = await inlet.wait_get_many(max_messages, timeout, target=out, yielding=yielding)
            except TimeoutError:
                raise timeouts.nothing_came(kernel, timeout) from None
        if out is not None:
            return out[:batch]
        message_type = engine.declaration.output_type
        return batch if message_type is None else from_array(message_type, batch)

    def peek(
        self, kernel_id: str, max_messages: int | None = None, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[npt.NDArray[Any]]:
        """Look at the outputs that wait where they lie, without a copy: `async with runtime.peek(id) as records`.

        `records` is a read-only array of the outputs that lie in one piece in the ring, at least one and at most
        `max_messages`, waiting for the first. They are taken when the block ends, and not if it raises or is cancelled:
        then the next receiver gets them. The array is good until then; afterwards the kernel writes new outputs there.
        Meanwhile other receivers wait in line (`receive_nowait` raises), so do not receive from the same kernel inside;
        the kernel may be paused and ended, and a map over it, and connecting it, are refused.

        Raises what `receive` raises, `asyncio.TimeoutError` after `timeout` seconds, `MessageTypeError` for a kernel
        that emits Python objects, and `DeviceUnavailableError` where the host does not reach the memory.
        """
        return Peek(self._supervisor.kernel(kernel_id), max_messages, timeout)

    def _consumer(self, kernel_id: str) -> Any:
        engine = self._supervisor.kernel(kernel_id).engine
        if engine.output is None:
            raise _emits_nothing(kernel_id)
        return engine.inlet

    def _kernel(self, kernel_id: str, action: str) -> RingKernel:
        """A kernel, in the loop's thread: `Supervisor.kernel` for the calls that are made once per batch."""
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            return self._kernels[kernel_id]
        except (KeyError, TypeError):
            return self._supervisor.known(kernel_id, action)

    async def stream(self, kernel_id: str, *, max_messages: int | None = None) -> AsyncIterator[Any]:
        """Iterate over the outputs batch by batch until the kernel has ended and all is received.

        Batches are what `receive_batch` returns. Raises `KernelFailedError` at the end if the kernel has failed.
        """
        kernel = self._supervisor.kernel(kernel_id)
        while True:
            try:
                batch = await self.receive_batch(kernel_id, max_messages)
            except KernelStateError:
                if kernel.error is None and kernel.state is KernelState.TERMINATED:
                    return
                raise
            yield batch

    async def map(
        self,
        kernel_id: str | tuple[str, str],
        messages: Any,
        *,
        out: npt.NDArray[Any] | None = None,
        progress: bool = False,
    ) -> Any:
        """Send all messages through a kernel, or through the chain from the first to the last of a pair; all outputs.

        For compiled kernels the array itself is read in place, and the result is written in place: it must not be
        changed meanwhile. The kernels are ACTIVE at the start and may be paused and resumed meanwhile. The map has them
        to itself: another map that needs one of them, senders to any of them, and receivers from the last one wait in
        line until it is over (`send_nowait` and `receive_nowait` raise), and what other kernels feed to them waits in
        its queue.

        Args:
            kernel_id: a kernel, or the first and the last of a connected chain.
            messages: an array of the first kernel's type, or a sequence of messages.
            out: an array for the outputs, 1-D, contiguous, of the last kernel's output type (records, or scalars),
                apart from `messages`, with room for all outputs that may come (`max_outputs` for each message). It is
                written in place, from its start on; reused from map to map it saves what fresh memory costs.
            progress: draw a progress bar (needs rich).

        Returns:
            An array of the last kernel's output type (a list for untyped coroutine kernels), in order; None if the
            last kernel has no output. With `out`, the part of it that the outputs fill, a view.

        Raises:
            KernelStateError: not ACTIVE, messages waiting, others feed a chain with a coroutine kernel in it, or the
                chain feeds itself on another way; nothing was sent.
            KernelFailedError: a kernel has failed before (nothing was sent), or ended meanwhile.
            MessageTypeError: one of the messages is of another type; nothing was sent.
            ConfigurationError: `kernel_id` is neither an id nor a pair; `out` is too short, has gaps, or overlaps the
                messages; nothing was sent. Or coroutine kernels emitted more than `out` has room for.

        Whatever ends it early has `.partial`, also an `asyncio.CancelledError` (under `asyncio.timeout` that is the
        error's `__cause__`): what had come out. What comes out later can be received, in order. Cancelled, it returns
        at once; the kernels stop reading at the next message boundary and go on with their queues. Until then they may
        write to `out`; a next map over the same kernels waits for that.
        """
        first_id, last_id = ends_of(kernel_id)
        check_array(messages)
        first = self._supervisor.kernel(first_id)
        path = find_path(first, first if last_id == first_id else self._supervisor.kernel(last_id))

        async def reach() -> None:
            await quiesce.reach_memory(path, self._kernels)

        return await map_over(
            path, messages, out=out, progress=progress, reach=reach, finishing=self._supervisor.finishing
        )

    def connect(self, source_id: str, target_id: str) -> None:
        """Make the source's output an input of the target: no Python in between.

        Both are LAUNCHED or DEACTIVATED. The first target takes the host's place as consumer, with what already
        waits; each further one sees every message from now on. Several sources may feed one target.

        Raises `KernelStateError`, or `MessageTypeError` if the types do not match; then nothing has changed.
        """
        connect(self._supervisor.kernel(source_id), self._supervisor.kernel(target_id))
        self._calls.forget()


def _emits_nothing(kernel_id: str) -> MessageTypeError:
    return MessageTypeError(f"kernel {kernel_id!r} has no output_type, so there is nothing to receive")
