"""What the system does to a process while a graph is at work: signals, and forks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import numpy as np
from graph_kernels import MESSAGE, STATELESS, plain

from ringkernel import KernelStateError, RingKernelRuntime, ring_kernel

CHILD_S = 10.0


_due: list[asyncio.Task[Any]] = []
"""What the next Ctrl-C cancels."""


@contextmanager
def handling_signals() -> Iterator[None]:
    """SIGUSR1 does nothing, but in Python: whoever sleeps in a system call is woken by it. SIGINT cancels tasks,
    wherever this thread is then, as `asyncio.run` has it cancel its own."""
    handlers = {signal.SIGUSR1: lambda *_: None, signal.SIGINT: _interrupt}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: Any) -> None:
    while _due:
        task = _due.pop()
        task.cancel()
        with suppress(RuntimeError):  # its loop was closed meanwhile
            task.get_loop().call_soon_threadsafe(lambda: None)  # or it may sleep on


def signal_all_threads() -> None:
    """Each of this process gets a signal, wherever it is."""
    for thread in threading.enumerate():
        with suppress(ProcessLookupError):
            signal.pthread_kill(thread.ident, signal.SIGUSR1)  # type: ignore[arg-type]  # it runs


async def cancel_by_signal(task: asyncio.Task[Any], after_us: int) -> None:
    """Cancel a task by Ctrl-C, after a while."""
    main = threading.get_ident()

    def interrupt() -> None:
        _due.append(task)
        signal.pthread_kill(main, signal.SIGINT)

    timer = threading.Timer(after_us / 1e6, interrupt)
    timer.start()
    await asyncio.wait([task])
    timer.cancel()
    while timer.is_alive():
        await asyncio.sleep(0)


async def fork(check: Callable[[], None]) -> None:
    """Fork a child that does `check()`, and then has a runtime of its own; it must be well, and end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads run: that is what is tried
        pid = os.fork()
    if pid == 0:
        _live(check)
    status = None
    try:
        async with asyncio.timeout(CHILD_S):
            while status is None:
                await asyncio.sleep(0.001)
                done, code = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 (it does not wait)
                status = code if done else None
    except TimeoutError:
        raise AssertionError("a forked child hangs") from None
    finally:
        if status is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # noqa: ASYNC222 (it was killed)
    assert os.waitstatus_to_exitcode(status) == 0, "a forked child is not well; see its traceback"


def _live(check: Callable[[], None]) -> None:
    """The child's life."""
    try:
        check()
        asyncio._set_running_loop(None)  # the parent's
        asyncio.run(_have_a_runtime())
        os._exit(0)
    except BaseException:  # noqa: BLE001 (nothing may get out of here)
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)


async def _have_a_runtime() -> None:
    messages = np.zeros(9, MESSAGE)
    messages["id"] = range(9)
    async with RingKernelRuntime(workers=1) as runtime:
        await runtime.launch("own", ring_kernel("own", input_type=MESSAGE, output_type=MESSAGE)(plain))
        await runtime.activate("own")
        assert (await runtime.map("own", messages))["id"].tolist() == list(range(9))
        await runtime.send("own", messages[3])
        assert (await runtime.receive("own", timeout=CHILD_S))["trail"] == STATELESS


def check_refused(runtime: RingKernelRuntime, kernel_ids: list[str]) -> None:
    """In a child: what it has inherited is not its own."""
    for kernel_id in kernel_ids:
        for call in (runtime.receive_nowait, partial(runtime.send_nowait, message=(1, 0, 0, 0, 0))):
            try:
                call(kernel_id)
            except KernelStateError as error:
                assert "fork" in str(error), error
            else:
                raise AssertionError(f"a forked child has used {kernel_id!r} of its parent")
