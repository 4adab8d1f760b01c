"""A runtime for code that does not await: scripts, a REPL, notebook cells. And `map`, which needs nothing around it."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ringkernel.devices.event_loop.background import begin_to_exit, refuse_at_exit
from ringkernel.devices.event_loop.interrupts import SETTLE_S
from ringkernel.errors import KernelStateError

from .blocks import Block, Blocks
from .loop_thread import LoopThread
from .running import RunningPipeline
from .runtime import RingKernelRuntime, counted
from .supervisor import TERMINATE_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from types import TracebackType

    import numpy.typing as npt

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.declaration.pipeline import KernelPath, Pipeline
    from ringkernel.lifecycle import KernelState
    from ringkernel.messages.frames.options import Extra, FrameForm

    from .input_handle import InputHandle, WhenFull
    from .kernel import RingKernel
    from .statistics import KernelStatistics
    from .watching import Watch

T = TypeVar("T")

_CLOSE_S = TERMINATE_TIMEOUT_S + 5.0
"""How long a session's thread may take to end."""

_sessions: weakref.WeakSet[Session] = weakref.WeakSet()
_inherited: list[_Shared] = []


class Session:
    """A runtime whose event loop runs in a thread of its own; every method waits until it is done.

    The methods are those of `RingKernelRuntime`, without `await`, with the same arguments and errors, and may be called
    from every thread but the session's own. Ctrl-C, or the stop button, cancels what is waited for. `with` ends all
    kernels on the way out; so does `close`.

    A call takes some tens of microseconds more than it does in the event loop. Where that counts, use
    `RingKernelRuntime`, or send arrays.

    Args:
        workers: see `RingKernelRuntime`.
        device: see there.
        fuse: see there.

    Example:
        >>> with rk.Session() as session:
        ...     session.map(double, [1.0, 2.0])
        ...     session.call(double, 3)
        array([2., 4.])
        6.0
    """

    def __init__(self, *, workers: int | None = None, device: str = "auto", fuse: bool = True) -> None:
        self._runtime = RingKernelRuntime(workers=workers, device=device, fuse=fuse)
        self._blocks = Blocks(self._runtime)
        self._loop = LoopThread(self._blocks.close)  # which does not know the session, so that this can be dropped
        self._do = self._loop.do
        _sessions.add(self)
        self._do(self._runtime.__aenter__)

    def __del__(self) -> None:
        loop: LoopThread | None = getattr(self, "_loop", None)  # there is none where `__init__` was refused
        if loop is not None and loop.is_open:
            loop.close_soon()

    def __enter__(self) -> Self:
        return self

    def __repr__(self) -> str:
        closed = "" if self.is_open else "closed "
        return f"<{closed}Session with {counted(self._runtime.kernels)}>"

    def _repr_html_(self) -> str | None:
        """What a notebook shows: what it shows of the runtime."""
        return self._runtime._repr_html_()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._loop.close(SETTLE_S)  # who has interrupted something does not want to wait
        else:
            self.close()

    def close(self) -> None:
        """End all kernels, and the session's thread, and wait for that. Closing twice is fine.

        Calls of other threads end, with their results or with `KernelStateError`. Interrupted, the session still ends.
        Raises `KernelStateError` in the session's own thread, and if that does not come back from what it does.

        Example:
            >>> session.close()
            >>> session.is_open
            False
        """
        if not self._loop.close(_CLOSE_S):
            self._loop.give_up()
            raise KernelStateError(
                "the thread of this session does not come back from what a coroutine handler does there, without "
                "awaiting; nobody waits for it any more"
            )

    @property
    def runtime(self) -> RingKernelRuntime:
        """The runtime, which belongs to the session's thread, for looking at it (`view`, `statistics`, as the last line
        of a cell).

        Example:
            >>> session.runtime
            <RingKernelRuntime with no kernels>
        """
        return self._runtime

    @property
    def is_open(self) -> bool:
        """Whether it can be used, by this process and until it is closed.

        Example:
            >>> session.is_open
            True
        """
        return self._loop.is_open

    # --- lifecycle -------------------------------------------------------------------------------------------

    def launch(
        self,
        kernel_id: KernelId,
        kernel_func: Callable[..., Any] | None = None,
        *,
        device: str | None = None,
        queue_size: int | None = None,
        parallel: int | None = None,
    ) -> RingKernel:
        """See `RingKernelRuntime.launch`.

        Example:
            >>> session.launch(double).state.name
            'LAUNCHED'
        """
        options: dict[str, Any] = {"device": device, "queue_size": queue_size, "parallel": parallel}
        return self._do(self._runtime.launch, kernel_id, kernel_func, **options)

    def activate(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.activate`.

        Example:
            >>> kernel = session.launch(double)
            >>> session.activate(double)
            >>> session.call(double, 3)
            6.0
        """
        self._do(self._runtime.activate, kernel_id)

    def close_input(self, kernel_id: KernelId, *, input: str = "") -> None:
        """See `RingKernelRuntime.close_input`.

        Example:
            >>> kernel = session.launch(double)
            >>> session.activate(double)
            >>> session.close_input(double)
            >>> session.wait(double).name
            'TERMINATED'
        """
        self._do(self._runtime.close_input, kernel_id, input=input)

    def deactivate(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.deactivate`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> session.deactivate(double)
            >>> session.get_state(double).name
            'DEACTIVATED'
        """
        self._do(self._runtime.deactivate, kernel_id)

    def reactivate(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.reactivate`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> session.deactivate(double)
            >>> session.reactivate(double)
            >>> session.call(double, 3)
            6.0
        """
        self._do(self._runtime.reactivate, kernel_id)

    def terminate(self, kernel_id: KernelId, timeout: float = TERMINATE_TIMEOUT_S) -> None:
        """See `RingKernelRuntime.terminate`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> session.terminate(double)
            >>> session.get_state(double).name
            'TERMINATED'
        """
        self._do(self._runtime.terminate, kernel_id, timeout)

    def wait(self, kernel_id: KernelId, *, timeout: float | None = None) -> KernelState:
        """See `RingKernelRuntime.wait`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> session.wait(double, timeout=0.01)
            Traceback (most recent call last):
            TimeoutError: ...
        """
        return self._do(self._runtime.wait, kernel_id, timeout=timeout)

    @contextmanager
    def run(self, kernels: Pipeline | KernelId) -> Iterator[RunningPipeline]:
        """See `RingKernelRuntime.run`.

        Example:
            >>> with session.run(rk.pipeline(double, total)) as running:
            ...     running.call(1), running.call(2)
            (2.0, 6.0)
        """
        block = Block(self._blocks, kernels)
        try:
            try:
                running = self._do(block.enter)
                yield RunningPipeline(self, running.pipeline)
            except KeyboardInterrupt:
                raise
            except BaseException:
                self._do(block.leave)
                raise
            self._do(block.leave)
        except (KeyboardInterrupt, GeneratorExit):
            self._loop.post(block.leave)
            raise

    def remove(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.remove`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> session.terminate(double)
            >>> session.remove(double)
            >>> list(session.kernels)
            []
        """
        self._do(self._runtime.remove, kernel_id)

    def connect(self, source_id: KernelId, target_id: KernelId, *, input: str = "") -> None:
        """See `RingKernelRuntime.connect`.

        Example:
            >>> kernels = session.launch(double), session.launch(total)
            >>> session.connect(double, total)
            >>> session.kernels["double"].targets == (kernels[1],)
            True
        """
        self._do(self._runtime.connect, source_id, target_id, input=input)

    # --- looking ---------------------------------------------------------------------------------------------

    @property
    def kernels(self) -> Mapping[str, RingKernel]:
        """See `RingKernelRuntime.kernels`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> list(session.kernels)
            ['double']
        """
        return self._runtime.kernels

    def get_state(self, kernel_id: KernelId) -> KernelState:
        """See `RingKernelRuntime.get_state`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> session.get_state(double)
            <KernelState.ACTIVE: 'active'>
        """
        return self._runtime.get_state(kernel_id)

    def statistics(self, kernel_id: KernelId) -> KernelStatistics:
        """See `RingKernelRuntime.statistics`.

        Example:
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> session.statistics(double).processed
            2
        """
        return self._runtime.statistics(kernel_id)

    def watch(self, interval: float = 0.5) -> Watch:
        """See `RingKernelRuntime.watch`. It is drawn in the cell that calls this, also while others run.

        Example:
            >>> watch = session.watch()
            >>> session.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> watch.stop()
        """
        return self._do(self._runtime.watch, interval)

    def unprocessed(self, kernel_id: KernelId, *, input: str = "") -> Any:
        """See `RingKernelRuntime.unprocessed`.

        Example:
            >>> kernel = session.launch(double)
            >>> session.send(double, 3)
            >>> session.terminate(double)
            >>> session.unprocessed(double)
            array([3.])
        """
        return self._do(self._runtime.unprocessed, kernel_id, input=input)

    def read_state(self, kernel_id: KernelId, *, key: Any = None) -> Any:
        """See `RingKernelRuntime.read_state`.

        Example:
            >>> session.map(total, [1.0, 2.0])
            array([1., 3.])
            >>> session.read_state(total)
            array([3.])
        """
        return self._do(self._runtime.read_state, kernel_id, key=key)

    def write_state(self, kernel_id: KernelId, value: Any, *, key: Any = None) -> None:
        """See `RingKernelRuntime.write_state`.

        Example:
            >>> kernel = session.launch(total)
            >>> session.write_state(total, [100.0])
            >>> session.read_state(total)
            array([100.])
        """
        self._do(self._runtime.write_state, kernel_id, value, key=key)

    def read_params(self, kernel_id: KernelId) -> Any:
        """See `RingKernelRuntime.read_params`.

        Example:
            >>> kernel = session.launch(scaled)
            >>> session.read_params(scaled)
            Gain(factor=2.0)
        """
        return self._do(self._runtime.read_params, kernel_id)

    def write_params(self, kernel_id: KernelId, value: Any) -> None:
        """See `RingKernelRuntime.write_params`.

        Example:
            >>> session.map(scaled, [1.0, 2.0])
            array([2., 4.])
            >>> session.write_params(scaled, Gain(10.0))
            >>> session.map(scaled, [1.0, 2.0])
            array([10., 20.])
        """
        self._do(self._runtime.write_params, kernel_id, value)

    # --- messages --------------------------------------------------------------------------------------------

    def send(
        self,
        kernel_id: KernelId,
        message: Any,
        *,
        input: str = "",
        timeout: float | None = None,
    ) -> None:
        """See `RingKernelRuntime.send`.

        Example:
            >>> with session.run(double):
            ...     session.send(double, 3)
            ...     session.receive(double)
            6.0
        """
        self._do(self._runtime.send, kernel_id, message, input=input, timeout=timeout)

    def send_batch(
        self,
        kernel_id: KernelId,
        messages: Any,
        *,
        input: str = "",
        timeout: float | None = None,
        extra: Extra = "refuse",
    ) -> None:
        """See `RingKernelRuntime.send_batch`.

        Example:
            >>> with session.run(double):
            ...     session.send_batch(double, [1.0, 2.0])
            ...     session.receive(double), session.receive(double)
            (2.0, 4.0)
        """
        self._do(self._runtime.send_batch, kernel_id, messages, input=input, timeout=timeout, extra=extra)

    def open_input(self, kernel_id: KernelId, input: str = "", full: WhenFull = "wait") -> InputHandle:
        """See `RingKernelRuntime.open_input`.

        Example:
            >>> with session.run(double) as running:
            ...     with session.open_input(double) as handle:
            ...         handle.push(3)
            ...     running.receive()
            6.0
        """
        return self._do(self._runtime.open_input, kernel_id, input, full)

    def advance(self, kernel_id: KernelId, time: Any, *, input: str = "") -> None:
        """See `RingKernelRuntime.advance`.

        Example:
            >>> tick = np.dtype([("time", "i8"), ("price", "f8")])
            >>> @rk.ring_kernel("later", input_type=tick, output_type=float, order_by="time")
            ... def later(msg, out):
            ...     out.value = msg.price
            >>> with session.run(later):
            ...     session.advance(later, 6)
            ...     session.send(later, (7, 1.0))
            ...     session.receive(later)
            1.0
        """
        self._do(self._runtime.advance, kernel_id, time, input=input)

    def receive(self, kernel_id: KernelId, *, timeout: float | None = None) -> Any:
        """See `RingKernelRuntime.receive`.

        Example:
            >>> with session.run(double):
            ...     session.send(double, 3)
            ...     session.receive(double, timeout=10)
            6.0
        """
        return self._do(self._runtime.receive, kernel_id, timeout=timeout)

    def receive_batch(
        self,
        kernel_id: KernelId,
        max_messages: int | None = None,
        *,
        out: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        to: FrameForm | None = None,
    ) -> Any:
        """See `RingKernelRuntime.receive_batch`.

        Example:
            >>> with session.run(double):
            ...     session.send_batch(double, [1.0, 2.0])
            >>> session.receive_batch(double)
            array([2., 4.])
        """
        return self._do(self._runtime.receive_batch, kernel_id, max_messages, out=out, timeout=timeout, to=to)

    def call(self, kernel_id: KernelPath, message: Any, *, timeout: float | None = None) -> Any:
        """See `RingKernelRuntime.call`.

        Example:
            >>> with session.run(rk.pipeline(double, total)):
            ...     session.call((double, total), 3)
            6.0
        """
        return self._do(self._runtime.call, kernel_id, message, timeout=timeout)

    def stream(
        self,
        kernel_id: KernelId,
        *,
        max_messages: int | None = None,
        progress: bool = False,
        to: FrameForm | None = None,
    ) -> Iterator[Any]:
        """See `RingKernelRuntime.stream`.

        Example:
            >>> with session.run(double):
            ...     session.send_batch(double, [1.0, 2.0])
            >>> for batch in session.stream(double):
            ...     print(batch)
            [2. 4.]
        """
        batches = self._runtime.stream(kernel_id, max_messages=max_messages, progress=progress, to=to)
        with suppress(StopAsyncIteration):
            while True:
                yield self._do(_next, batches)

    def map(
        self,
        kernel_id: KernelPath,
        messages: Any,
        *,
        out: npt.NDArray[Any] | None = None,
        progress: bool = False,
        extra: Extra = "refuse",
        to: FrameForm | None = None,
    ) -> Any:
        """See `RingKernelRuntime.map`.

        Example:
            >>> session.map(rk.pipeline(double, total), [1.0, 2.0, 3.0])
            array([ 2.,  6., 12.])
        """
        return self._do(self._runtime.map, kernel_id, messages, out=out, progress=progress, extra=extra, to=to)

    def map_once(
        self,
        kernels: Pipeline | KernelId,
        messages: Any,
        *,
        out: npt.NDArray[Any] | None = None,
        progress: bool = False,
        extra: Extra = "refuse",
        to: FrameForm | None = None,
    ) -> Any:
        """`map` through kernels that are launched for the call, and end with it.

        Example:
            >>> session.map_once(total, [1.0, 2.0])
            array([1., 3.])
            >>> session.map_once(total, [1.0, 2.0])  # the state is new
            array([1., 3.])
        """
        options: dict[str, Any] = {"out": out, "progress": progress, "extra": extra, "to": to}
        return self._do(self._blocks.map_once, kernels, messages, options)

    def replay(
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
        """See `RingKernelRuntime.replay`.

        Example:
            >>> with session.run(rk.pipeline(double, total)):
            ...     session.replay({double: [1.0, 2.0, 3.0]}, until=total)
            array([ 2.,  6., 12.])
        """
        options: dict[str, Any] = {"progress": progress, "extra": extra, "to": to}
        return self._do(self._runtime.replay, inputs, until=until, speed=speed, unit=unit, **options)


@atexit.register
def _close_all() -> None:
    """At the exit: the threads are daemons, which would be stopped anywhere."""
    begin_to_exit()
    for session in list(_sessions):
        with suppress(Exception):
            session.close()


async def _next(batches: AsyncIterator[T]) -> T:
    return await anext(batches)


class _Shared:
    """The session of `map`, made at its first use, in each process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may come in once more
        self._session: Session | None = None

    def map(self, func: Any, messages: Any, **options: Any) -> Any:
        """In the session, which is made anew in a fork, and after it was closed."""
        refuse_at_exit()  # before the lock, which a thread may hold that no longer runs
        return self._opened().map_once(func, messages, **options)

    def _opened(self) -> Session:
        with self._lock:
            session = self._session
            if session is None or not session.is_open:
                session = self._session = Session()
            return session

    def close(self) -> None:
        """End the session; the next map makes another one."""
        if self._session is not None:
            self._session.close()


_shared = _Shared()


def _forget() -> None:
    """A forked child makes a session of its own. The one that it has inherited stays as it is: its thread is not here,
    and its descriptors are the parent's."""
    global _shared  # noqa: PLW0603
    _inherited.append(_shared)
    _shared = _Shared()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def map(  # noqa: A001 (as in `rk.map`)
    func: Any,
    messages: Any,
    *,
    out: npt.NDArray[Any] | None = None,
    progress: bool = False,
    extra: Extra = "refuse",
    to: FrameForm | None = None,
) -> Any:
    """Send an array through a handler, or a pipeline of handlers, and return what comes out: nothing else is needed.

    The kernels are launched for the call, in a session that all such calls of the process share, and end with it: a
    state is what it was declared to be at the start of each call. Compiled handlers are compiled once.

    Args:
        func: a function that is declared by `ring_kernel`, or has annotations that say as much; an id; a pipeline.
        messages: see `RingKernelRuntime.map`; so are the options, what is returned and what is raised.
        out: see there.
        progress: see there.
        extra: see there.
        to: see there.

    Example:
        >>> rk.map(double, [1.0, 2.0, 3.0])
        array([2., 4., 6.])
    """
    return _shared.map(func, messages, out=out, progress=progress, extra=extra, to=to)
