"""Everything that ringkernel raises.

RingKernelError
├── KernelStateError            the lifecycle does not allow it
│   └── KernelFailedError       the kernel ended with an error, its __cause__
├── KernelNotFoundError         (also KeyError)
├── KernelExistsError
├── KernelCompileError          the handler cannot be compiled
├── MessageTypeError            (also TypeError)
├── QueueFullError              (also asyncio.QueueFull)
├── QueueEmptyError             (also asyncio.QueueEmpty)
├── ConfigurationError          (also ValueError)
└── DeviceUnavailableError

BatchTimeoutError (asyncio.TimeoutError)  a `send_batch` that ran out of time; `.sent` says how many were sent
KernelExit (BaseException)      ends a coroutine kernel whose input has been drained
"""

from __future__ import annotations

import asyncio
from typing import Any


class RingKernelError(Exception):
    """The root of every error of this package."""


class KernelStateError(RingKernelError):
    """The kernel's state does not allow what was asked; nothing was changed. `partial`: the outputs so far of a `map`
    that could not go on, or None."""

    partial: Any = None


class KernelFailedError(KernelStateError):
    """The kernel has failed. `__cause__` is its error; `partial`: the outputs of a `map` by then, or None."""


class KernelNotFoundError(RingKernelError, KeyError):
    """No kernel of that id is declared or launched."""

    __str__ = RingKernelError.__str__  # KeyError shows the repr


class KernelExistsError(RingKernelError):
    """A kernel of that id is alive."""


class KernelCompileError(RingKernelError):
    """The handler cannot be compiled; the message begins with the reason."""


class MessageTypeError(RingKernelError, TypeError):
    """A message or a type does not fit what the kernel was declared with."""


class QueueFullError(RingKernelError, asyncio.QueueFull):
    """No room, and the caller did not want to wait."""


class QueueEmptyError(RingKernelError, asyncio.QueueEmpty):
    """No message, and the caller did not want to wait."""


class BatchTimeoutError(asyncio.TimeoutError):
    """A `send_batch` that ran out of time. `sent` says how many messages it had published."""

    def __init__(self, sent: int, total: int) -> None:
        super().__init__(f"{sent} of {total} messages were sent when the time was over")
        self.sent = sent


class ConfigurationError(RingKernelError, ValueError):
    """An option has a value that is not allowed; the message says which are."""


class DeviceUnavailableError(RingKernelError):
    """The device that was asked for is not there, or was lost. `partial`: the messages that `unprocessed` could still
    read, or None."""

    partial: Any = None


class KernelExit(BaseException):
    """Raised by `ctx.receive()` in a kernel that is terminated, when nothing is left to take.

    Like `asyncio.CancelledError` it passes through `except Exception`; the runtime takes it as a normal return.
    """
