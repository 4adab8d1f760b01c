"""The handle that a parker sleeps on: an eventfd on Linux, a pipe on other POSIX systems, a timed sleep elsewhere.

The one place where this is chosen. A waker is recycled, never closed, while a compiled thread may still hold its
number; and a process that was forked off never touches the descriptors that it inherited.
"""

from __future__ import annotations

import contextlib
import os
import sys

if hasattr(os, "eventfd"):
    WAKE_MECHANISM = "eventfd"
elif sys.platform != "win32":
    WAKE_MECHANISM = "pipe"
else:
    WAKE_MECHANISM = "timed"

_free: list[Waker] = []


class Waker:
    """A descriptor to sleep on (`read_fd`) and to wake through (`write_fd`); both -1 when sleeps are timed."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.read_fd = self.write_fd = -1
        if WAKE_MECHANISM == "eventfd":
            self.read_fd = self.write_fd = os.eventfd(0, os.EFD_CLOEXEC)
        elif WAKE_MECHANISM == "pipe":
            self.read_fd, self.write_fd = os.pipe()

    def wake(self) -> None:
        """Wake the sleeper, from Python."""
        if self.write_fd >= 0:
            os.write(self.write_fd, (1).to_bytes(8, sys.byteorder))

    def clear(self) -> None:
        """Take back the wake-ups so far; they must be there, or this blocks."""
        if self.read_fd >= 0:
            os.read(self.read_fd, 8)

    def set_blocking(self, blocking: bool) -> None:
        """A worker sleeps in `read`; an event loop only asks."""
        if self.read_fd >= 0:
            os.set_blocking(self.read_fd, blocking)

    def recycle(self) -> None:
        """Let the next parker have it: it is slept on no more."""
        if self.pid != os.getpid() or self.read_fd < 0:
            return
        self.set_blocking(False)
        with contextlib.suppress(BlockingIOError):
            while os.read(self.read_fd, 8):
                pass
        _free.append(self)


def new_waker(*, blocking: bool) -> Waker:
    """A waker, a used one if there is one."""
    while _free:
        waker = _free.pop()
        if waker.pid == os.getpid():
            break
    else:
        waker = Waker()
    waker.set_blocking(blocking)
    return waker
