"""The messages of a runtime: one by one, in batches, whole arrays."""

from __future__ import annotations

from asyncio import CancelledError
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from numpy import ndarray

from ringkernel.declaration.pipeline import Pipeline
from ringkernel.devices.event_loop.inlet import check_most
from ringkernel.devices.event_loop.waiting_line import check_timeout
from ringkernel.errors import KernelStateError, MessageTypeError
from ringkernel.lifecycle import KernelState
from ringkernel.messages.arrays import from_array
from ringkernel.ring.host.waiting import NOTHING
from ringkernel.tracebacks import shorten

from .access.calls import NOT_SENT
from .access.input_handle import open_input
from .access.peek import Peek
from .access.port import Port
from .graph.by_time import advance
from .kernels import timeouts
from .kernels.message_queue import as_batch
from .lifecycle.quiesce import reach_memory
from .lifecycle.starting import start
from .maps.given_array import array_of, form_of, in_form, room_in
from .maps.map import Map, let_others_run, map_over, named
from .maps.path import check_no_branches
from .observing.progress import follow
from .replays.pace import pace_of
from .replays.replay import replay
from .replays.replay_plan import given_inputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from contextlib import AbstractAsyncContextManager

    import numpy.typing as npt

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.declaration.pipeline import KernelPath
    from ringkernel.messages.frames.options import Extra, FrameForm

    from .access.input_handle import InputHandle, WhenFull
    from .kernels.kernel import RingKernel
    from .lifecycle.supervisor import Supervisor


class Messaging:
    """The half of a runtime that is called once per message, batch or array; its lifecycle is the other."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        # here for the calls that are made once per message
        self._kernels, self._found = supervisor.kernels, supervisor.found
        self._affinity = supervisor.affinity
        self._budget = supervisor.budget
        self._calls = supervisor.calls
        self._known_calls = self._calls.known
        self._paths = supervisor.paths
        self._known_paths = self._paths.known
        self._reach, self._finishing = partial(reach_memory, kernels=self._kernels), supervisor.finishing

    async def send(
        self,
        kernel_id: KernelId,
        message: Any,
        *,
        input: str = "",
        timeout: float | None = None,
    ) -> None:
        """Put a message into the kernel's input, the first or the one of that name, waiting for room. Allowed in
        LAUNCHED, ACTIVE and DEACTIVATED.

        Raises `asyncio.TimeoutError` after `timeout` seconds, `KernelStateError` in other states (also when the kernel
        ends meanwhile), `MessageTypeError` for a message of another type. Cancelled, it has either been sent or not.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.send(double, 3)
            ...     await runtime.receive(double)
            6.0
        """
        # `outlet.put` written out: this is the call that is made once per message
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            kernel = self._found[kernel_id]
        except (KeyError, TypeError):
            kernel = self._supervisor.kernel(kernel_id, "send to")
        if timeout is not None:
            check_timeout(timeout)
        outlet = kernel.engine.outlet_of(input) if input else kernel.engine.outlet
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
        except CancelledError as error:
            timeouts.stopped_sending(kernel, error)
            raise

    def send_nowait(self, kernel_id: KernelId, message: Any, *, input: str = "") -> None:
        """Put a message into the kernel's input. Raises `QueueFullError`, and what `send` raises.

        Example:
            >>> async with runtime.run(double):
            ...     runtime.send_nowait(double, 3)
            ...     await runtime.receive(double)
            6.0
        """
        self._kernel(kernel_id, "send to").engine.outlet_of(input).put_nowait(message)

    async def call(self, kernel_id: KernelPath, message: Any, *, timeout: float | None = None) -> Any:
        """Send a message through a kernel, or through the chain from the first to the last of a pair; its output.

        What `receive` would return. Calls may be made at the same time: outputs come in the order of the messages, and
        each call gets its own. Nothing else may be on its way meanwhile, for outputs are told apart by their order
        alone. If the event loop's thread may run the kernels itself, it has the output at once.

        Raises `asyncio.TimeoutError` after `timeout` seconds; `KernelStateError` while messages or outputs of `send`
        wait, or if another kernel feeds one of these; `ConfigurationError` for a kernel that may have no output for a
        message, or several; and what `send` and `receive` raise. Cancelled or timed out, the message has been sent or
        not, and its output goes to nobody.

        Example:
            >>> async with runtime.run(rk.pipeline(double, total)):
            ...     await runtime.call((double, total), 1)
            ...     await runtime.call((double, total), 2)
            2.0
            6.0
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
        try:
            answer = calls.pass_through(message, yielding=yielding)
            if answer is NOTHING:
                return await calls.answer(timeout, timeout)
            if answer is not NOT_SENT:
                return answer
            return await calls.in_turn(message, timeout, yielding=yielding)
        except CancelledError as error:
            timeouts.stopped_receiving(calls.last, error)
            raise

    def port(self, kernel_id: KernelPath) -> Port:
        """`send`, `receive` and `call` of a kernel, or of a chain, for code that cannot await: see `Port`.

        Example:
            >>> async with runtime.run(double):
            ...     port = runtime.port(double)
            ...     await asyncio.to_thread(port.call, 3)
            6.0
        """
        return Port(self, self._calls, self._affinity, kernel_id)

    def open_input(self, kernel_id: KernelId, input: str = "", full: WhenFull = "wait") -> InputHandle:
        """An input of the kernel for a thread that is not the event loop's: an audio or camera callback, a feed, a
        function that Numba has compiled. Neither asyncio nor another thread is in between: see `InputHandle`.

        Each handle has a queue of its own, of the kernel's `queue_size`, and the kernel takes from all of them in turn.
        Allowed in LAUNCHED, ACTIVE and DEACTIVATED, for compiled kernels on the CPU. While one is open, `map` and
        `call` of the kernel are refused: nothing could tell what came of which message.

        Args:
            kernel_id: a kernel.
            input: which of its inputs.
            full: what becomes of a message without room: "wait" until there is some, "raise" `QueueFullError`, or
                "drop" it.

        Raises `KernelStateError` in other states, `ConfigurationError` for other kernels and other inputs.

        Example:
            >>> async with runtime.run(double) as running:
            ...     with runtime.open_input(double, full="drop") as handle:
            ...         await asyncio.to_thread(handle.push, 3)
            ...     await running.receive()
            6.0
        """
        kernel = self._supervisor.kernel(kernel_id, "open an input of")
        are_called = any(calls.goes_through(kernel) for calls in list(self._known_calls.values()))
        handle = open_input(kernel, input, full, self._affinity, are_called=are_called)
        self._supervisor.forget_paths()
        return handle

    async def send_batch(
        self,
        kernel_id: KernelId,
        messages: Any,
        *,
        input: str = "",
        timeout: float | None = None,
        extra: Extra = "refuse",
    ) -> None:
        """Put many messages into the first input, or the one of that name, in order: an array of its type, a sequence
        of messages, or a frame. What frames there are, and what `extra` is, says `map`.

        Raises `BatchTimeoutError` (an `asyncio.TimeoutError`) after `timeout` seconds, with `.sent`, the number that
        was sent by then; `KernelStateError` as `send` does; `MessageTypeError` if one of them is of another type, and
        then nothing was sent. Cancelled, a prefix has been sent.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.send_batch(double, np.arange(3.0))
            ...     [await runtime.receive(double) for _ in range(3)]
            [0.0, 2.0, 4.0]
        """
        kernel = self._kernel(kernel_id, "send to")
        engine = kernel.engine
        if timeout is not None:
            check_timeout(timeout)
        outlet = engine.outlet_of(input) if input else engine.outlet
        yielding = self._budget.spend()
        if not yielding and not outlet.line.waiters and outlet.ring.offer_all(messages):
            return
        batch = as_batch(engine.declaration.type_of(input), messages, extra)
        try:
            await outlet.put_many(batch, timeout, yielding=yielding)
        except CancelledError as error:
            timeouts.stopped_sending(kernel, error)
            raise

    async def advance(self, kernel_id: KernelId, time: Any, *, input: str = "") -> None:
        """Say that nothing with a time before `time` will be sent to an input any more, so that other inputs need not
        wait for it: for kernels that go by time, see `order_by` of `ring_kernel`. Earlier times change nothing.

        Raises `ConfigurationError` for a kernel that does not go by time, `MessageTypeError` for what is no time of its
        type, and `KernelStateError` when nothing may be sent to that input.

        Example:
            >>> tick = np.dtype([("time", "i8"), ("price", "f8")])
            >>> @rk.ring_kernel("prices", input_type=tick, output_type=float, order_by="time")
            ... def prices(msg, out):
            ...     out.value = msg.price
            >>> @rk.on_input("prices", "other", tick)
            ... def other(msg, out):
            ...     out.value = -msg.price
            >>> async with runtime.run(prices):
            ...     await runtime.send(prices, (5, 1.0))
            ...     await runtime.advance(prices, 6, input="other")
            ...     await runtime.receive(prices)
            1.0
        """
        advance(self._supervisor.kernel(kernel_id, "advance"), time, input)

    async def receive(self, kernel_id: KernelId, *, timeout: float | None = None) -> Any:
        """Take the next output, in every state: a Python scalar, a message instance, or for a dtype a `Record`.

        Raises `asyncio.TimeoutError` after `timeout` seconds; `KernelStateError` when nothing more can come, or when
        the outputs go to a connected kernel; `KernelFailedError` with the cause when the kernel has failed, after its
        last output; `MessageTypeError` for a kernel without outputs. Cancelled or timed out, it has taken nothing.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.send(double, 3)
            ...     await runtime.receive(double, timeout=10)
            6.0
        """
        # `inlet.get` written out: this is the call that is made once per message
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            kernel = self._found[kernel_id]
        except (KeyError, TypeError):
            kernel = self._supervisor.kernel(kernel_id, "receive from")
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
        except CancelledError as error:
            timeouts.stopped_receiving(kernel, error)
            raise

    def receive_nowait(self, kernel_id: KernelId) -> Any:
        """Take the next output. Raises `QueueEmptyError`, and what `receive` raises.

        Example:
            >>> async with runtime.run(double):
            ...     runtime.receive_nowait(double)
            Traceback (most recent call last):
            QueueEmptyError: ...
        """
        return self._consumer(kernel_id).get_nowait()

    async def receive_batch(
        self,
        kernel_id: KernelId,
        max_messages: int | None = None,
        *,
        out: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        to: FrameForm | None = None,
    ) -> Any:
        """Take all outputs that wait, at least one and at most `max_messages`, waiting for the first.

        Returns an array for typed outputs (1-D; of the scalar type, or of records), a list for objects. With `out`, an
        array for records or scalars of that type, 1-D and contiguous, at most `len(out)` are taken, into `out` from its
        start on; returned is the part of it that they fill, a view. `to` asks for a frame instead, as in `map`.

        Raises what `receive` raises, and `ConfigurationError` for a `max_messages` below 1; for an `out` of another
        dtype, or outputs that are no records, `MessageTypeError`, and for one that is empty, has gaps, is read-only or
        has not one dimension `ConfigurationError`. Cancelled or timed out, it has taken nothing, and `out` is as it
        was.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.send_batch(double, [1.0, 2.0])
            >>> await runtime.receive_batch(double, max_messages=10)
            array([2., 4.])
        """
        kernel = self._kernel(kernel_id, "receive from")
        engine = kernel.engine
        if engine.output is None:
            raise _emits_nothing(kernel)
        if out is not None:
            max_messages = room_in(kernel, out, max_messages)
        elif max_messages is not None:
            check_most(max_messages)
        make = None if to is None else form_of(kernel, to)
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
            except CancelledError as error:
                timeouts.stopped_receiving(kernel, error)
                raise
        message_type = engine.declaration.output_type
        if out is not None:
            batch = out[:batch]
        elif message_type is not None:
            batch = from_array(message_type, batch)
        return batch if make is None else in_form(make, batch)

    def peek(
        self, kernel_id: KernelId, max_messages: int | None = None, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[npt.NDArray[Any]]:
        """Look at the outputs that wait where they lie, without a copy: `async with runtime.peek(id) as records`.

        `records` is a read-only array of the outputs that lie in one piece in the ring, at least one and at most
        `max_messages`, waiting for the first. They are taken when the block ends, and not if it raises or is cancelled:
        then the next receiver gets them. The array is good until then; afterwards the kernel writes new outputs there.
        Meanwhile other receivers wait in line (`receive_nowait` raises), so do not receive from the same kernel inside;
        the kernel may be paused and ended, and a map over it, and connecting it, are refused.

        Raises what `receive` raises, `asyncio.TimeoutError` after `timeout` seconds, `MessageTypeError` for a kernel
        that emits Python objects, and `DeviceUnavailableError` where the host does not reach the memory.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.send_batch(double, [1.0, 2.0])
            >>> async with runtime.peek(double) as records:
            ...     float(records.sum())
            6.0
        """
        return Peek(self._kernel(kernel_id, "receive from"), max_messages, timeout)

    async def stream(
        self,
        kernel_id: KernelId,
        *,
        max_messages: int | None = None,
        progress: bool = False,
        to: FrameForm | None = None,
    ) -> AsyncIterator[Any]:
        """Iterate over the outputs batch by batch until the kernel has ended and all is received.

        Batches are what `receive_batch` returns. With `progress`, how many messages have come is shown as `map` does.
        Raises `KernelFailedError` at the end if the kernel has failed.

        Example:
            >>> async with runtime.run(double):
            ...     await runtime.send_batch(double, [1.0, 2.0])
            >>> async for batch in runtime.stream(double):
            ...     print(batch)
            [2. 4.]
        """
        kernel = self._supervisor.kernel(kernel_id)
        with follow(progress, f"stream {kernel.kernel_id}", None, kernel.engine.received):
            while True:
                try:
                    batch = await self.receive_batch(kernel_id, max_messages, to=to)
                except KernelStateError:
                    if kernel.error is None and kernel.state is KernelState.TERMINATED:
                        return
                    raise
                yield batch

    async def map(
        self,
        kernel_id: KernelPath,
        messages: Any,
        *,
        out: npt.NDArray[Any] | None = None,
        progress: bool = False,
        extra: Extra = "refuse",
        to: FrameForm | None = None,
    ) -> Any:
        """Send all messages through a kernel, or through the chain from the first to the last of a pair; all outputs.

        For compiled kernels the array itself is read in place, and the result is written in place: it must not be
        changed meanwhile. The kernels are ACTIVE at the start and may be paused and resumed meanwhile. The map has them
        to itself: another map that needs one of them, senders to any of them, and receivers from the last one wait in
        line until it is over (`send_nowait` and `receive_nowait` raise), and what other kernels feed to them waits in
        its queue.

        Args:
            kernel_id: a kernel, or the first and the last of a connected chain; or a kernel's function, or a pipeline
                that begins and ends with one kernel: what is not there yet is launched, connected and activated then,
                and stays.
            messages: an array of the first kernel's type; a sequence of messages, or of dicts; or a frame, whose
                columns are found by the names of the fields: of pandas, Polars, PyArrow, or whatever has the Arrow C
                stream, an xarray dataset, a dict of arrays. An index of pandas, and coordinates of xarray, may be
                fields, too. Of a frame each column is copied once; a single column for a scalar type is read in place
                if it has that type. Whole numbers and times are converted if each of them stays what it is; floats, and
                whole numbers to floats, as NumPy converts "safely". Missing values are refused, NaN and NaT are values.
            out: an array for the outputs, 1-D, contiguous, of the last kernel's output type (records, or scalars),
                apart from `messages`, with room for all outputs that may come (`max_outputs` for each message). It is
                written in place, from its start on; reused from map to map it saves what fresh memory costs.
            progress: draw a progress bar: in a notebook, or in a terminal with rich (the extra `progress`).
            extra: "ignore" leaves out columns, and keys of dicts, that are no fields; otherwise they are refused.
            to: "pandas", "polars" or "arrow" for a frame, a copy: whole numbers stay whole, times keep their unit where
                the library has it, and get the coarsest one that holds them where it has not. Of a scalar type it is
                one column. "numpy" is what None is.

        Returns:
            An array of the last kernel's output type (a list for untyped coroutine kernels), in order; None if the
            last kernel has no output. With `out`, the part of it that the outputs fill, a view.

        Raises:
            KernelStateError: not ACTIVE, messages waiting, others feed a chain with a coroutine kernel in it, or the
                chain feeds itself on another way; nothing was sent.
            KernelFailedError: a kernel has failed before (nothing was sent), or ended meanwhile.
            MessageTypeError: one of the messages is of another type, a column is missing, has no field, or has missing
                values; `to` has no columns of the output type; nothing was sent.
            ConfigurationError: `kernel_id` is neither an id nor a pair; `out` is too short, has gaps, or overlaps the
                messages; the library of `to` is missing; nothing was sent. Or coroutine kernels emitted more than `out`
                has room for.

        Whatever ends it early has `.partial`, what had come out, also an `asyncio.CancelledError`
        (under `asyncio.timeout` that is the error's `__cause__`).
        What comes out later can be received, in order. Cancelled, it returns at once; the kernels stop reading at the
        next message boundary and go on with their queues. Until then they may write to `out`; a next map over the same
        kernels waits for that.

        Example:
            >>> await runtime.map(rk.pipeline(double, total), [1.0, 2.0, 3.0])
            array([ 2.,  6., 12.])
        """
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            maps = self._known_paths[kernel_id]
        except (KeyError, TypeError):
            if isinstance(kernel_id, Pipeline):
                check_no_branches(kernel_id)  # before anything is launched
            if (callable(kernel_id) or isinstance(kernel_id, Pipeline)) and await start(self._supervisor, kernel_id):
                self._supervisor.forget_paths()
            maps = self._paths.of(kernel_id)
        make = None if to is None else form_of(maps.kernels[-1], to)
        if type(messages) is not ndarray:
            messages = array_of(maps.kernels, messages, extra)
        begun = NOTHING if progress else maps.begin(messages, out)
        if begun is not NOTHING and not isinstance(begun, Map):
            if self._budget.spend():
                await let_others_run(begun)
            return begun if make is None else in_form(make, begun)  # and is through

        try:
            result = await map_over(
                maps.kernels,
                messages,
                begun=begun,
                out=out,
                progress=progress,
                reach=self._reach,
                finishing=self._finishing,
            )
        except CancelledError as error:
            shorten(error, f"map over {named(maps.kernels)} had not begun")
            raise
        return result if make is None else in_form(make, result)

    async def replay(
        self,
        inputs: Mapping[Any, Any],
        *,
        until: KernelId,
        speed: float | None = None,
        unit: str | None = None,
        progress: bool = False,
        extra: Extra = "refuse",
        to: FrameForm | None = None,
    ) -> Any:
        """Send recorded messages through kernels that are ACTIVE, as they would have come live, to their end; all
        outputs of the last one. Kernels that go by time (`order_by`) emit exactly what they emit live.

        All inputs are fed side by side, and each is closed when its values are at their end, as `close_input` does; so
        the kernels end one after the other, and what they emit at their end is in the result. Each input of these
        kernels is given here, fed by a kernel, or closed before. Others that would send there, or receive the outputs,
        wait meanwhile. An array is read where it lies, and must not be changed meanwhile.

        Args:
            inputs: the values of each input, by kernel, or by a pair of kernel and name of the input: an array, a
                sequence or a frame, as `map` takes them, or an iterator, or asynchronous iterator, of such batches.
            until: the last kernel, which all the others feed.
            speed: None for as fast as it goes; 1.0 hands each message over when its time has come, 2.0 twice as fast.
                Times are those of `order_by`.
            unit: with `speed`, the unit of times that are numbers: "D", "h", "min", "s", "ms", "us" or "ns".
            progress: draw a progress bar, as `map` does.
            extra: see `map`.
            to: see `map`.

        Returns:
            An array of the last kernel's output type (a list for untyped coroutine kernels), with what waited there
            before; None if it has no output.

        Raises:
            KernelStateError: a kernel is not ACTIVE, or does not lead to the last one; an input is closed, or fed by a
                kernel; an input would never end; the outputs of the last kernel go to another. Nothing was sent.
            KernelFailedError: a kernel has failed, or ended before its inputs.
            ConfigurationError: there is no such input; speed, unit and `to` as above. Nothing was sent.
            MessageTypeError: messages are of another type. Nothing was sent, but of an iterator the batches before.

        Whatever ends it early, also an `asyncio.CancelledError`, has `.partial`, what had come out, and `.sent`, how
        many messages each input was given, by the keys of `inputs`. Cancelled, it returns at once: inputs whose values
        are not at their end stay open, what was sent is processed, and what comes of that can be received.

        Example:
            >>> trade = np.dtype([("time", "i8"), ("price", "f8")])
            >>> quote = np.dtype([("time", "i8"), ("bid", "f8")])
            >>> @rk.ring_kernel("gap", input_type=trade, output_type=float, state=np.zeros(1), order_by="time")
            ... def gap(msg, out, state):
            ...     out.value = msg.price - state[0]
            >>> @rk.on_input("gap", "quotes", quote)
            ... def gap_quote(msg, out, state):
            ...     state[0] = msg.bid
            ...     return False
            >>> trades = np.array([(2, 10.0), (5, 11.0)], trade)
            >>> quotes = np.array([(1, 9.5), (4, 10.75)], quote)
            >>> async with runtime.run(gap):
            ...     await runtime.replay({gap: trades, (gap, "quotes"): quotes}, until=gap)
            array([0.5 , 0.25])
        """
        last = self._supervisor.kernel(until, "replay until")
        make = form_of(last, to)
        given = given_inputs(inputs, self._supervisor.kernel, extra)
        pace = pace_of(given, speed, unit)
        result = await replay(given, last, pace=pace, progress=progress, reach=self._reach, finishing=self._finishing)
        return result if make is None else in_form(make, result)

    def _consumer(self, kernel_id: KernelId) -> Any:
        kernel = self._kernel(kernel_id, "receive from")
        if kernel.engine.output is None:
            raise _emits_nothing(kernel)
        return kernel.engine.inlet

    def _kernel(self, kernel_id: KernelId, action: str) -> RingKernel:
        """A kernel, in the loop's thread: `Supervisor.kernel` for the calls that are made once per batch."""
        affinity = self._affinity
        if affinity.thread != get_ident() or not affinity.is_running():
            self._supervisor.bind()
        try:
            return self._found[kernel_id]
        except (KeyError, TypeError):
            return self._supervisor.kernel(kernel_id, action)


def _emits_nothing(kernel: RingKernel) -> MessageTypeError:
    return MessageTypeError(f"kernel {kernel.kernel_id!r} has no output_type, so there is nothing to receive")
