"""A runtime for code that does not await: scripts, a REPL, notebook cells. And `map`, which needs nothing around it."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self

from ringkernel.devices.event_loop.background import begin_to_exit, refuse_at_exit
from ringkernel.devices.event_loop.interrupts import SETTLE_S
from ringkernel.errors import KernelStateError

from .blocks import Block, Blocks
from .lifecycle.supervisor import TERMINATE_TIMEOUT_S
from .running import RunningPipeline
from .runtime import RingKernelRuntime, counted
from .threads.blocking import blocking, check_arguments, described_by, direct, in_its_thread, options_of
from .threads.loop_thread import LoopThread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.declaration.pipeline import Pipeline

    from .kernels.kernel import RingKernel

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
        """Return the runtime's graph and figures, for a notebook."""
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
        """True until it is closed, in the process that has made it.

        Example:
            >>> session.is_open
            True
        """
        return self._loop.is_open

    # --- lifecycle -------------------------------------------------------------------------------------------

    launch = blocking(RingKernelRuntime.launch)
    activate = blocking(RingKernelRuntime.activate)
    close_input = blocking(RingKernelRuntime.close_input)
    deactivate = blocking(RingKernelRuntime.deactivate)
    reactivate = blocking(RingKernelRuntime.reactivate)
    terminate = blocking(RingKernelRuntime.terminate)
    wait = blocking(RingKernelRuntime.wait)
    remove = in_its_thread(RingKernelRuntime.remove)
    connect = in_its_thread(RingKernelRuntime.connect)

    @contextmanager
    @described_by(RingKernelRuntime.run)
    def run(self, kernels: Pipeline | KernelId) -> Iterator[RunningPipeline]:  # noqa: D102
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

    # --- looking ---------------------------------------------------------------------------------------------

    @property
    @described_by(RingKernelRuntime.kernels)
    def kernels(self) -> Mapping[str, RingKernel]:  # noqa: D102
        return self._runtime.kernels

    get_state = direct(RingKernelRuntime.get_state)
    statistics = direct(RingKernelRuntime.statistics)
    watch = in_its_thread(RingKernelRuntime.watch)
    unprocessed = in_its_thread(RingKernelRuntime.unprocessed)
    read_state = blocking(RingKernelRuntime.read_state)
    write_state = blocking(RingKernelRuntime.write_state)
    read_params = blocking(RingKernelRuntime.read_params)
    write_params = blocking(RingKernelRuntime.write_params)

    # --- messages --------------------------------------------------------------------------------------------

    send = blocking(RingKernelRuntime.send)
    send_batch = blocking(RingKernelRuntime.send_batch)
    open_input = in_its_thread(RingKernelRuntime.open_input)
    advance = blocking(RingKernelRuntime.advance)
    receive = blocking(RingKernelRuntime.receive)
    receive_batch = blocking(RingKernelRuntime.receive_batch)
    call = blocking(RingKernelRuntime.call)
    stream = blocking(RingKernelRuntime.stream)
    map = blocking(RingKernelRuntime.map)
    replay = blocking(RingKernelRuntime.replay)

    @options_of(RingKernelRuntime.map).in_method
    def map_once(self, kernels: Pipeline | KernelId, messages: Any, **options: Any) -> Any:
        """`map` through kernels that are launched for the call, and end with it.

        Example:
            >>> session.map_once(total, [1.0, 2.0])
            array([1., 3.])
            >>> session.map_once(total, [1.0, 2.0])  # the state is new
            array([1., 3.])
        """
        check_arguments(Session.map_once, self, kernels, messages, **options)
        return self._do(self._blocks.map_once, kernels, messages, options)


@atexit.register
def _close_all() -> None:
    """At the exit: the threads are daemons, which would be stopped anywhere."""
    begin_to_exit()
    for session in list(_sessions):
        with suppress(Exception):
            session.close()


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


@options_of(RingKernelRuntime.map)
def map(func: Any, messages: Any, **options: Any) -> Any:  # noqa: A001 (as in `rk.map`)
    """Send an array through a handler, or a pipeline of handlers, and return what comes out: nothing else is needed.

    The kernels are launched for the call, in a session that all such calls of the process share, and end with it: a
    state is what it was declared to be at the start of each call. Compiled handlers are compiled once.

    Args:
        func: a function that is declared by `ring_kernel`, or has annotations that say as much; an id; a pipeline.
        messages: see `RingKernelRuntime.map`, as for what is returned and what is raised.
        options: see there.

    Example:
        >>> rk.map(double, [1.0, 2.0, 3.0])
        array([2., 4., 6.])
    """
    check_arguments(map, func, messages, **options)
    return _shared.map(func, messages, **options)
