"""`open_input`: an input of a kernel for a thread of the user's, without asyncio and the GIL in between."""

from __future__ import annotations

import asyncio
import os
import sys
import time
import warnings
from contextlib import contextmanager, suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any, Literal, Self

from ringkernel import lifecycle
from ringkernel.devices.event_loop.outlet import LOOK_S
from ringkernel.errors import ConfigurationError, KernelStateError, QueueFullError, RingKernelError
from ringkernel.lifecycle import KernelState
from ringkernel.memory.layout import CLOSED, DROP, FORKED, OPEN, RAISE, WAIT
from ringkernel.messages.arrays import as_array
from ringkernel.ring.protocol.feeding import BUSY, FULL
from ringkernel.runtime.graph.by_time import check_opening, take_hosts_place, word_for
from ringkernel.runtime.graph.neighbours import dead_end, may_come_to_a_dead_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from ringkernel.messages.frames.options import Extra
    from ringkernel.messages.types import MessageType
    from ringkernel.runtime.kernels.kernel import RingKernel
    from ringkernel.runtime.kernels.loop_affinity import LoopAffinity

WhenFull = Literal["wait", "raise", "drop"]
_MODES = {"wait": WAIT, "raise": RAISE, "drop": DROP}


def open_input(kernel: RingKernel, name: str, full: Any, affinity: LoopAffinity, *, are_called: bool) -> InputHandle:
    """See `RingKernelRuntime.open_input`; `are_called`: calls wait for an answer of the kernel. Raises, and then has
    changed nothing."""
    if not isinstance(full, str) or full not in _MODES:
        raise ConfigurationError(f'full is {full!r:.60}; it must be "wait", "raise" or "drop"')
    outlet = kernel.engine.outlet_of(name)
    if kernel.state not in lifecycle.OPEN:
        allowed = " or ".join(state.name for state in lifecycle.OPEN)
        raise KernelStateError(
            f"cannot open an input of kernel {kernel.kernel_id!r} while it is {kernel.state.name}; allowed is {allowed}"
        )
    if kernel.leasing.wanted:
        raise KernelStateError(
            f"cannot open an input of kernel {kernel.kernel_id!r} while it is in a map or a replay; await that first"
        )
    if are_called:
        raise KernelStateError(
            f"cannot open an input of kernel {kernel.kernel_id!r} while a call() waits for its answer; await that first"
        )
    if outlet.ring.shut and kernel.engine.closing is not None:
        raise KernelStateError(f"cannot open input {name!r} of kernel {kernel.kernel_id!r}: {kernel.engine.closing}")
    if kernel.engine.declaration.order is None:
        _check_rest(kernel)
        return InputHandle(kernel, name, _MODES[full], affinity)
    check_opening(kernel, name)
    handle = InputHandle(kernel, name, _MODES[full], affinity)
    take_hosts_place(kernel, name)
    return handle


def _check_rest(kernel: RingKernel) -> None:
    if kernel.state is KernelState.ACTIVE and kernel.engine.thread_feeds.open_at_rest:
        raise KernelStateError(
            f"cannot open an input of kernel {kernel.kernel_id!r} while it is ACTIVE: on {kernel.device} a kernel "
            f"finds its inputs when it starts; open it before, or deactivate() the kernel for it"
        )


TIDY_S = 1.0
_tidying: dict[RingKernel, asyncio.Task[None]] = {}


def _tidy(kernel: RingKernel) -> None:
    """Many handles were closed: let the kernel go of their inputs, in the event loop's thread."""
    if kernel not in _tidying and kernel.engine.thread_feeds.are_crowded:
        _tidying[kernel] = task = asyncio.get_running_loop().create_task(_retire_feeds(kernel))
        task.add_done_callback(lambda _: _look_again(kernel))


def _look_again(kernel: RingKernel) -> None:
    """Some may have been closed meanwhile, or still have messages that the kernel is to take."""
    del _tidying[kernel]
    if kernel.engine.thread_feeds.are_crowded:
        asyncio.get_running_loop().call_later(TIDY_S, _tidy, kernel)


async def _retire_feeds(kernel: RingKernel) -> None:
    async with kernel.lock:
        with suppress(RingKernelError):  # its handler takes its time, or it ends
            await kernel.engine.thread_feeds.retire()


class InputHandle:
    """An input of a kernel for one thread, which may be any: made by `RingKernelRuntime.open_input`.

    It is one thread's at a time. It may be handed on, but while one thread pushes, waiting for room included, another
    one's push raises `KernelStateError`; open one for each. As a context manager it is closed on the way out. One that
    is dropped without `close()`, since its thread has died, is closed, with a `ResourceWarning`.

    Example:
        >>> async with runtime.run(double) as running:
        ...     with runtime.open_input(double) as handle:
        ...         await asyncio.to_thread(handle.push, 3)
        ...     await running.receive()
        6.0
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_address_of",
        "_affinity",
        "_begin",
        "_commit",
        "_encode",
        "_feeder",
        "_is_batch",
        "_kernel",
        "_leave",
        "_message_type",
        "_push_some",
        "_when_full",
        "input",
    )

    input: str
    """Which of the kernel's inputs it is."""

    def __init__(self, kernel: RingKernel, name: str, when_full: int, affinity: LoopAffinity) -> None:
        number = kernel.engine.declaration.input_names.index(name)
        self._feeder = feeder = kernel.engine.thread_feeds.open(number, when_full)
        self._kernel, self._when_full, self._affinity = kernel, when_full, affinity
        self._message_type: MessageType = feeder.feed.ring.message_type
        self.input = name
        self._address = feeder.address
        api = feeder.api
        # here for the calls that are made once per message
        self._begin, self._commit, self._leave, self._push_some = api.begin, api.commit, api.leave, api.push_some
        self._encode: Callable[[int, Any], None] = feeder.feed.encode
        self._is_batch = self._message_type.is_batch
        self._address_of = feeder.feed.ring.api.address_of

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<{state} input {self.input!r} of kernel {self._kernel.kernel_id!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """True while it takes messages: it was not closed, and the kernel has not ended. From any thread.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> handle = runtime.open_input(double)
            >>> handle.close()
            >>> handle.is_open
            False
        """
        return self._feeder.state == OPEN

    @property
    def dropped(self) -> int:
        """How many messages had no room, and were dropped: with `full="drop"`. From any thread.

        Example:
            >>> kernel = await runtime.launch(double, queue_size=2)
            >>> with runtime.open_input(double, full="drop") as handle:
            ...     handle.push_batch([1.0, 2.0, 3.0])
            ...     handle.dropped
            1
        """
        return self._feeder.dropped

    def push(self, message: Any) -> None:
        """Put a message into the kernel's input: of the forms that `send` takes. What becomes of one without room says
        `full`: the thread sleeps until there is some, `QueueFullError` is raised, or the message is dropped, and
        counted.

        Raises `KernelStateError` once the handle is closed or the kernel ends, also while this waits,
        `KernelFailedError` with the cause when that has failed, and `MessageTypeError` for a message of another type;
        then nothing was pushed.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> with runtime.open_input(double) as handle:
            ...     handle.push(3)
            >>> await runtime.activate(double)
            >>> await runtime.receive(double)
            6.0
        """
        while True:
            tail = FULL
            try:
                tail = self._begin(self._address)
                if tail >= 0:
                    self._encode(tail, message)
            except BaseException:  # also an interrupt between two of these lines
                self._leave(self._address)
                raise
            if tail >= 0:
                self._commit(self._address, tail + 1)
                return
            if tail != FULL:
                raise self._refusal(tail)
            if self._when_full == DROP:
                return
            if self._when_full == RAISE:
                raise QueueFullError(self._full())
            with self._entered():
                self._wait_for_room()

    def advance(self, time: Any) -> None:
        """Nothing with a time before this will be pushed any more: see `RingKernelRuntime.advance`, and what that
        raises.

        Example:
            >>> tick = np.dtype([("time", "i8"), ("price", "f8")])
            >>> @rk.ring_kernel("heard", input_type=tick, output_type=float, order_by="time")
            ... def heard(msg, out):
            ...     out.value = msg.price
            >>> kernel = await runtime.launch(heard)
            >>> with runtime.open_input(heard) as handle:
            ...     handle.push((5, 1.0))
            ...     handle.advance(6)
        """
        word = word_for(self._kernel, time)
        if not self.is_open:
            raise KernelStateError(f"{self!r} takes nothing more")
        self._feeder.feed.ring.say_progress(word)

    def push_batch(self, messages: Any, *, extra: Extra = "refuse") -> None:
        """Put many messages into the kernel's input, in order: an array of its type, or what else `send_batch` takes.

        With `full="wait"` those that have room are pushed, and this waits for more; with "drop" the rest is dropped.
        With "raise" `QueueFullError` has `.sent`, how many were pushed; so has whatever else is raised on the way, see
        `push`. `MessageTypeError`: nothing was pushed.

        Example:
            >>> async with runtime.run(double) as running:
            ...     with runtime.open_input(double) as handle:
            ...         await asyncio.to_thread(handle.push_batch, np.arange(3.0))
            ...     [await running.receive() for _ in range(3)]
            [0.0, 2.0, 4.0]
        """
        batch = messages if self._is_batch(messages) else as_array(self._message_type, messages, extra)
        count = len(batch)
        sent = self._push_some(self._address, self._address_of(batch), count)
        if sent != count and not (sent >= 0 and self._when_full == DROP):
            self._push_rest(batch, sent)

    def _push_rest(self, batch: Any, sent: int) -> None:
        """`sent` were pushed, or it says why none was."""
        reason, sent = min(sent, 0), max(sent, 0)
        count, source, itemsize = len(batch), self._address_of(batch), self._message_type.dtype.itemsize
        error: BaseException
        if reason < 0 or self._when_full == RAISE:
            full = f"{sent} of {count} messages were pushed: {self._full()}"
            error = self._refusal(reason) if reason < 0 else QueueFullError(full)
            error.sent = sent  # type: ignore[attr-defined]
            raise error
        try:
            with self._entered():
                while sent < count:
                    self._wait_for_room()
                    sent += self._feeder.api.put(self._address, source + sent * itemsize, count - sent)
        except BaseException as caught:
            caught.sent = sent  # type: ignore[attr-defined]
            raise

    def close(self) -> None:
        """Push no more; what was pushed is the kernel's. A push that waits for room raises `KernelStateError`. From any
        thread; closing twice is fine.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> handle = runtime.open_input(double)
            >>> handle.close()
            >>> handle.push(3)
            Traceback (most recent call last):
            KernelStateError: input '' of kernel 'double' was closed by this handle's close(); ...
        """
        kernel, loop = self._kernel, self._affinity.loop
        kernel.engine.thread_feeds.close(self._feeder)
        if kernel.engine.thread_feeds.are_crowded and loop is not None and self._feeder.pid == os.getpid():
            with suppress(RuntimeError):  # the loop was closed
                loop.call_soon_threadsafe(_tidy, kernel)

    def __del__(self) -> None:
        feeder = getattr(self, "_feeder", None)  # there is none where opening it has failed
        if feeder is None or sys.is_finalizing() or feeder.pid != os.getpid() or feeder.state != OPEN:
            return
        self.close()
        warnings.warn(
            f"an open handle of {self._name} was collected without close(), as when its thread has died: it is closed, "
            f"and what was pushed is the kernel's; use `with runtime.open_input(...) as handle`, or `handle.close()`",
            ResourceWarning,
            stacklevel=2,
        )

    # --- compiled code ---------------------------------------------------------------------------------------

    @property
    def address(self) -> int:
        """The handle's number for `numba_push`, valid while the handle is open and referenced.

        Example:
            >>> kernel = await runtime.launch(double)
            >>> with runtime.open_input(double) as handle:
            ...     handle.address > 0
            True
        """
        return self._address

    @property
    def numba_push(self) -> Callable[[int, Any], int]:
        """`push` and `push_batch` for functions that Numba compiles: `push(address, message)` with `handle.address`,
        and a message or a contiguous 1-D array of them. How many were pushed. All handles of a type share it.

        Without the GIL where the caller is `nogil=True`; then it may also wait for room. It raises what `push` does,
        without details; what had room of an array was pushed. Other types are refused when the caller is compiled.

        Example:
            >>> import numba
            >>> async with runtime.run(double) as running:
            ...     with runtime.open_input(double) as handle:
            ...         push = handle.numba_push
            ...         @numba.njit(nogil=True)
            ...         def produce(address):
            ...             push(address, 3.0)
            ...         await asyncio.to_thread(produce, handle.address)
            ...     await running.receive()
            6.0
        """
        from .numba_push import push_of

        return push_of(self._message_type)

    # --- slow paths ------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return f"input {self.input!r} of kernel {self._kernel.kernel_id!r}"

    def _full(self) -> str:
        return f"all {self._feeder.feed.ring.capacity} slots of {self._name} are taken"

    @contextmanager
    def _entered(self) -> Iterator[None]:
        """Be the one who pushes. Raises `KernelStateError`."""
        reason = 0
        try:
            reason = self._feeder.api.enter(self._address)
            if reason < 0:
                raise self._refusal(reason)
            yield
        finally:
            if reason == 0:
                self._leave(self._address)

    def _wait_for_room(self) -> None:
        """Sleep until there is room for a message. The caller has entered."""
        kernel, affinity = self._kernel, self._affinity
        if affinity.thread == get_ident() and affinity.is_running():
            raise KernelStateError(
                f"{self._full()}, and the event loop, whose thread this is, cannot wait: nothing would go on "
                f"meanwhile; await send(), or push from another thread"
            )
        room = 0
        while room == 0:
            reason = dead_end(kernel)
            if reason is not None:
                raise reason
            if may_come_to_a_dead_end(kernel):
                time.sleep(LOOK_S)  # a kernel behind it has ended: whether there will be room nobody says
                room = self._feeder.api.look(self._address)
            else:
                room = self._feeder.api.wait(self._address)
        if room < 0:
            raise self._refusal(room)

    def _refusal(self, reason: int) -> RingKernelError:
        """Why nothing may be pushed."""
        kernel, state = self._kernel, self._feeder.state
        if reason == BUSY:
            return KernelStateError(f"another thread pushes to {self._name} by this handle; open one for each thread")
        if state == CLOSED:
            return KernelStateError(f"{self._name} was closed by this handle's close(); open another")
        if state == FORKED:
            return KernelStateError(
                f"this handle of {self._name} belongs to process {self._feeder.pid} and cannot be used in a fork of it"
            )
        engine = kernel.engine
        failure = engine.told_reason() if engine.error is not None else None
        if failure is not None:
            return failure
        if engine.closing is not None and not engine.has_ended:
            why = engine.closing
        elif not engine.has_ended and kernel.state in lifecycle.OPEN:
            why = "its runtime's event loop has gone"
        else:
            why = "it has TERMINATED" if engine.has_ended else "it is TERMINATING"
        return KernelStateError(f"cannot push to kernel {kernel.kernel_id!r}: {why}")
