"""Send to and receive from a kernel in code that cannot await."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ringkernel.devices.event_loop.waiting_line import check_timeout
from ringkernel.errors import KernelStateError
from ringkernel.ring.host.waiting import NOTHING
from ringkernel.runtime.maps.path import ends_of
from ringkernel.runtime.threads.waited_call import WaitedCall

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from ringkernel.declaration.pipeline import KernelPath
    from ringkernel.runtime.kernels.loop_affinity import LoopAffinity
    from ringkernel.runtime.maps.path import PathTable

    from .calls import Calls


class Port:
    """`send`, `receive` and `call` as plain functions: see `RingKernelRuntime.port`.

    In every thread but the event loop's they block until it is done. The loop does it for the caller, which takes some
    tens of microseconds more, and Ctrl-C cancels it there. In the loop's own thread nothing can be waited for, since
    nothing would go on meanwhile: `put` needs room, `get` an output that is there, and `call` kernels that this thread
    runs itself, as it does those that are cheap and provably end. Otherwise they raise `KernelStateError`, or what
    `send_nowait` and `receive_nowait` do, and nothing was sent.
    """

    __slots__ = ("_affinity", "_calls", "_path", "_runtime")

    def __init__(
        self,
        runtime: Any,
        calls: PathTable[Calls],
        affinity: LoopAffinity,
        kernel_id: KernelPath,
    ) -> None:
        self._runtime, self._calls, self._affinity = runtime, calls, affinity
        self._path = ends_of(kernel_id)

    def put(self, message: Any, *, timeout: float | None = None) -> None:
        """Put a message into the first kernel's input, waiting `timeout` seconds for room. Raises what `send` does."""
        if self._is_in_loop():
            self._runtime.send_nowait(self._path[0], message)
        else:
            self._run(self._runtime.send, self._path[0], message, timeout=timeout)

    def get(self, *, timeout: float | None = None) -> Any:
        """Take the last kernel's next output, waiting for it for `timeout` seconds. Raises what `receive` does."""
        if self._is_in_loop():
            return self._runtime.receive_nowait(self._path[1])
        return self._run(self._runtime.receive, self._path[1], timeout=timeout)

    def call(self, message: Any, *, timeout: float | None = None) -> Any:
        """Send a message, and return its output. Raises what `RingKernelRuntime.call` does."""
        if not self._is_in_loop():
            return self._run(self._runtime.call, self._path, message, timeout=timeout)
        if timeout is not None:
            check_timeout(timeout)
        answer = self._calls.of(self._path).at_once(message)
        if answer is NOTHING:
            first, last = self._path
            path = repr(first) if first == last else f"{first!r} to {last!r}"
            raise KernelStateError(
                f"kernel {path} cannot be called here: a worker would run it, and the event loop, whose thread this "
                f"is, cannot wait for it; await runtime.call(), or call from another thread"
            )
        return answer

    def _is_in_loop(self) -> bool:
        return self._affinity.thread == get_ident()

    def _run(self, method: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any, **named: Any) -> Any:
        """Have the event loop do it, and wait for the result."""
        loop = self._affinity.loop
        if loop is None or not self._affinity.is_running():
            raise KernelStateError("the event loop of this runtime does not run: nobody could do this")
        return WaitedCall(method, arguments, named).wait_for(partial(_hand_over, loop), loop)


def _hand_over(loop: asyncio.AbstractEventLoop, call: WaitedCall[Any]) -> None:
    with suppress(RuntimeError):  # the loop was closed, as who waits will see
        loop.call_soon_threadsafe(lambda: call.begin(loop).add_done_callback(call.settle))
