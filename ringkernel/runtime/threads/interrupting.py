"""Ctrl-C, or the stop button, while a thread waits for what an event loop does in another one."""

from __future__ import annotations

import asyncio
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


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
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
