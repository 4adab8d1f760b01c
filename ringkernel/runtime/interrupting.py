"""Ctrl-C, or the stop button, while a thread waits for what an event loop does in another one."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ringkernel.devices.event_loop.interrupts import SETTLE_S
from ringkernel.tracebacks import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

_CANCEL_S = 1.0
"""How long an interrupted call waits for its own cancellation, so that the exception has what was computed."""


def keep_partial(error: BaseException, future: Future[Any]) -> None:
    """Wait until the work was cancelled, and hand over what it says, and what it had computed."""
    left: Any = None
    with suppress(BaseException):
        left = future.exception(timeout=_CANCEL_S)
        error.partial = left.partial  # type: ignore[attr-defined]
    shorten(error, str(left or ""))


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, or the stop button, ends the waiting also where an event loop has taken over the signal: it could see to
    it only when this is over."""
    before = None
    if threading.current_thread() is threading.main_thread() and _is_in_loop():
        before = signal.getsignal(signal.SIGINT)
    if before is None:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def for_a_moment(work: Callable[[], None]) -> None:
    """Do it, and wait for it for a moment: who has interrupted something does not want to wait."""
    thread = threading.Thread(target=work, name="ringkernel-ending")
    thread.start()
    thread.join(SETTLE_S)
