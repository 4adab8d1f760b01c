"""Work in threads of its own, beside the event loop: compiling, and running a handler again."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from ringkernel import forking
from ringkernel.errors import KernelStateError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_threads: dict[threading.Thread, float] = {}
"""How long the end of the interpreter waits for each, in seconds."""
_ending = threading.Event()


async def in_thread(work: Callable[[], T], *, exit_wait_s: float = 10.0) -> T:
    """Run `work` in a thread of its own: not in the loop's executor, which `asyncio.run` would wait for."""
    refuse_at_exit()
    broken = forking.why_broken()
    if broken is not None:
        raise KernelStateError(broken)
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def deliver(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as caught:  # noqa: BLE001 (whatever it is belongs to the caller)
            error = caught
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            pass  # the loop was closed meanwhile
        finally:
            _threads.pop(threading.current_thread(), None)

    thread = threading.Thread(target=run, name="ringkernel-compile", daemon=True)
    _threads[thread] = exit_wait_s
    try:
        thread.start()
    except BaseException:
        _threads.pop(thread, None)
        raise
    return await future


def begin_to_exit() -> None:
    """The interpreter ends: whoever ends something at its exit says so first."""
    _ending.set()


@atexit.register
def _wait_for_compilers() -> None:
    begin_to_exit()
    for thread, wait_s in list(_threads.items()):  # LLVM must not be taken apart under a thread that is inside it
        thread.join(wait_s)


def refuse_at_exit() -> None:
    """Raises `KernelStateError` once the interpreter ends: a thread would be waited for that never comes."""
    if is_exiting():
        raise KernelStateError("the interpreter ends: nothing can be begun any more")


def is_exiting() -> bool:
    """Return whether the interpreter ends: threads no longer run, or soon will not."""
    return _ending.is_set() or sys.is_finalizing()
