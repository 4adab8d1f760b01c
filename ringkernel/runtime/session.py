"""A runtime for code that does not await: scripts, a REPL, notebook cells. And `map`, which needs nothing around it."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ringkernel.errors import KernelStateError

from .running import RunningPipeline, as_pipeline
from .runtime import RingKernelRuntime
from .supervisor import TERMINATE_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
    from types import TracebackType

    import numpy.typing as npt

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.declaration.pipeline import KernelPath, Pipeline
    from ringkernel.lifecycle import KernelState
    from ringkernel.messages.frames.options import Extra, FrameForm

    from .kernel import RingKernel
    from .statistics import KernelStatistics

T = TypeVar("T")

_CANCEL_S = 1.0
"""How long an interrupted call waits for its own cancellation, so that the exception has what was computed."""
_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


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
    """

    def __init__(self, *, workers: int | None = None, device: str = "auto", fuse: bool = True) -> None:
        self._runtime = RingKernelRuntime(workers=workers, device=device, fuse=fuse)
        self._loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=_run_loop, args=(self._loop,), name="ringkernel-session", daemon=True)
        self._thread.start()
        _sessions.add(self)
        try:
            self._do(self._runtime.__aenter__())
        except BaseException:
            self._stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all kernels, and the session's thread. Closing twice is fine."""
        if not self.is_open:
            return
        try:
            self._do(self._runtime.close())
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the session's thread do it, and wait for that."""
        reason = self._refusal()
        if reason is not None:
            work.close()
            raise KernelStateError(reason)
        future: Future[T] = Future()
        task: list[asyncio.Task[None]] = []
        self._loop.call_soon_threadsafe(lambda: task.append(self._loop.create_task(_done(work, future))))
        try:
            return future.result()
        except BaseException as error:
            if not future.done():  # the waiting was interrupted, not the work
                self._loop.call_soon_threadsafe(lambda: task[0].cancel())  # noqa: PLW0108 (there may be no task yet)
                _keep_partial(error, future)
            raise

    @property
    def runtime(self) -> RingKernelRuntime:
        """The runtime, which belongs to the session's thread: for looking at it (`view`, `statistics`, as the last line
        of a cell)."""
        return self._runtime

    @property
    def is_open(self) -> bool:
        """Whether it can be used: by this process, and until it is closed."""
        return os.getpid() == self._pid and not self._loop.is_closed()

    def _refusal(self) -> str | None:
        """Why nothing can be done here, or None."""
        if os.getpid() != self._pid:
            return f"this session belongs to process {self._pid} and cannot be used in a fork of it; make a new one"
        if self._loop.is_closed():
            return "this session is closed; make a new one"
        if threading.current_thread() is self._thread:
            return "this is the session's own thread, which would wait for itself; await the runtime's method instead"
        return None

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
        """See `RingKernelRuntime.launch`."""
        options: dict[str, Any] = {"device": device, "queue_size": queue_size, "parallel": parallel}
        return self._do(self._runtime.launch(kernel_id, kernel_func, **options))

    def activate(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.activate`."""
        self._do(self._runtime.activate(kernel_id))

    def deactivate(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.deactivate`."""
        self._do(self._runtime.deactivate(kernel_id))

    def reactivate(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.reactivate`."""
        self._do(self._runtime.reactivate(kernel_id))

    def terminate(self, kernel_id: KernelId, timeout: float = TERMINATE_TIMEOUT_S) -> None:
        """See `RingKernelRuntime.terminate`."""
        self._do(self._runtime.terminate(kernel_id, timeout))

    def wait(self, kernel_id: KernelId, *, timeout: float | None = None) -> KernelState:
        """See `RingKernelRuntime.wait`."""
        return self._do(self._runtime.wait(kernel_id, timeout=timeout))

    @contextmanager
    def run(self, kernels: Pipeline | KernelId) -> Iterator[RunningPipeline]:
        """See `RingKernelRuntime.run`."""
        context = self._runtime.run(kernels)
        running = self._do(context.__aenter__())
        try:
            yield RunningPipeline(self, running.pipeline)
        finally:
            self._do(context.__aexit__(None, None, None))

    def remove(self, kernel_id: KernelId) -> None:
        """See `RingKernelRuntime.remove`."""
        self._do(_call(self._runtime.remove, kernel_id))

    def connect(self, source_id: KernelId, target_id: KernelId) -> None:
        """See `RingKernelRuntime.connect`."""
        self._do(_call(self._runtime.connect, source_id, target_id))

    # --- looking ---------------------------------------------------------------------------------------------

    @property
    def kernels(self) -> Mapping[str, RingKernel]:
        """See `RingKernelRuntime.kernels`."""
        return self._runtime.kernels

    def get_state(self, kernel_id: KernelId) -> KernelState:
        """See `RingKernelRuntime.get_state`."""
        return self._runtime.get_state(kernel_id)

    def statistics(self, kernel_id: KernelId) -> KernelStatistics:
        """See `RingKernelRuntime.statistics`."""
        return self._runtime.statistics(kernel_id)

    def unprocessed(self, kernel_id: KernelId) -> Any:
        """See `RingKernelRuntime.unprocessed`."""
        return self._do(_call(self._runtime.unprocessed, kernel_id))

    def read_state(self, kernel_id: KernelId) -> Any:
        """See `RingKernelRuntime.read_state`."""
        return self._do(self._runtime.read_state(kernel_id))

    def write_state(self, kernel_id: KernelId, value: Any) -> None:
        """See `RingKernelRuntime.write_state`."""
        self._do(self._runtime.write_state(kernel_id, value))

    # --- messages --------------------------------------------------------------------------------------------

    def send(self, kernel_id: KernelId, message: Any, *, timeout: float | None = None) -> None:
        """See `RingKernelRuntime.send`."""
        self._do(self._runtime.send(kernel_id, message, timeout=timeout))

    def send_batch(
        self, kernel_id: KernelId, messages: Any, *, timeout: float | None = None, extra: Extra = "refuse"
    ) -> None:
        """See `RingKernelRuntime.send_batch`."""
        self._do(self._runtime.send_batch(kernel_id, messages, timeout=timeout, extra=extra))

    def receive(self, kernel_id: KernelId, *, timeout: float | None = None) -> Any:
        """See `RingKernelRuntime.receive`."""
        return self._do(self._runtime.receive(kernel_id, timeout=timeout))

    def receive_batch(
        self,
        kernel_id: KernelId,
        max_messages: int | None = None,
        *,
        out: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        to: FrameForm | None = None,
    ) -> Any:
        """See `RingKernelRuntime.receive_batch`."""
        return self._do(self._runtime.receive_batch(kernel_id, max_messages, out=out, timeout=timeout, to=to))

    def call(self, kernel_id: KernelPath, message: Any, *, timeout: float | None = None) -> Any:
        """See `RingKernelRuntime.call`."""
        return self._do(self._runtime.call(kernel_id, message, timeout=timeout))

    def stream(
        self,
        kernel_id: KernelId,
        *,
        max_messages: int | None = None,
        progress: bool = False,
        to: FrameForm | None = None,
    ) -> Iterator[Any]:
        """See `RingKernelRuntime.stream`."""
        batches = self._runtime.stream(kernel_id, max_messages=max_messages, progress=progress, to=to)
        with suppress(StopAsyncIteration):
            while True:
                yield self._do(_next(batches))

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
        """See `RingKernelRuntime.map`."""
        return self._do(self._runtime.map(kernel_id, messages, out=out, progress=progress, extra=extra, to=to))

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
        """`map` through kernels that are launched for the call, and end with it."""

        async def once() -> Any:
            line = as_pipeline(kernels)
            try:
                async with self._runtime.run(line) as running:
                    return await running.map(messages, out=out, progress=progress, extra=extra, to=to)
            finally:
                for kernel_id in line.kernel_ids:
                    if kernel_id in self._runtime.kernels:
                        self._runtime.remove(kernel_id)

        return self._do(once())


@atexit.register
def _close_all() -> None:
    """At the exit: the threads are daemons, which would be stopped anywhere."""
    for session in list(_sessions):
        with suppress(Exception):
            session.close()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _done(work: Coroutine[Any, Any, T], future: Future[T]) -> None:
    """Do it, and tell who waits."""
    try:
        future.set_result(await work)
    except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
        future.set_exception(error)


def _keep_partial(error: BaseException, future: Future[Any]) -> None:
    """Wait until the work was cancelled, and hand over what it had computed."""
    with suppress(BaseException):
        left = future.exception(timeout=_CANCEL_S)
        error.partial = left.partial  # type: ignore[attr-defined, union-attr]


async def _call(method: Callable[..., T], *arguments: Any) -> T:
    return method(*arguments)


async def _next(batches: AsyncIterator[T]) -> T:
    return await anext(batches)


class _Shared:
    """The session of `map`, made at its first use, in each process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: Session | None = None

    def map(self, func: Any, messages: Any, **options: Any) -> Any:
        """One map at a time. The session is made anew in a fork, and after it was closed."""
        with self._lock:
            session = self._session
            if session is None or not session.is_open:
                session = self._session = Session()
            return session.map_once(func, messages, **options)


_shared = _Shared()


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
    """
    return _shared.map(func, messages, out=out, progress=progress, extra=extra, to=to)
