"""The errors of ringkernel.

RingKernelError
├── KernelStateError            the lifecycle does not allow it
│   └── KernelFailedError       the kernel ended with an error, its __cause__
├── KernelNotFoundError         (also KeyError)
├── KeyNotFoundError            (also KeyError) a keyed kernel has no state for that key
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

from .tracebacks import Short


class RingKernelError(Short, Exception):
    """The root of every error of this package.

    Example:
        >>> try:
        ...     await runtime.launch("nothing")
        ... except rk.RingKernelError as error:
        ...     type(error).__name__
        'KernelNotFoundError'
    """


class KernelStateError(RingKernelError):
    """The kernel's state does not allow what was asked; nothing was changed. `partial`: the outputs so far of a `map`
    or a `replay` that could not go on, or None.

    Example:
        >>> kernel = await runtime.launch(double)
        >>> await runtime.deactivate(double)
        Traceback (most recent call last):
        KernelStateError: kernel 'double': cannot deactivate while it is LAUNCHED; ...
    """

    partial: Any = None


class KernelFailedError(KernelStateError):
    """The kernel has failed. `__cause__` is its error; `partial`: the outputs of a `map` by then, or None.

    Example:
        >>> def picky(msg: float, out: float):
        ...     if msg.value < 0:
        ...         raise ValueError("negative")
        ...     out.value = msg.value
        >>> try:
        ...     rk.map(picky, [4.0, -1.0])
        ... except rk.KernelFailedError as error:
        ...     error.__cause__, error.partial
        (ValueError('negative'), array([4.]))
    """


class KernelNotFoundError(RingKernelError, KeyError):
    """No kernel of that id is declared or launched.

    Example:
        >>> runtime.statistics("nothing")
        Traceback (most recent call last):
        KernelNotFoundError: ...
    """

    __str__ = RingKernelError.__str__  # KeyError shows the repr


class KeyNotFoundError(RingKernelError, KeyError):
    """A kernel with `key=` has seen no message with that key.

    Example:
        >>> kernel = await runtime.launch(per_symbol)
        >>> await runtime.read_state(per_symbol, key=b"IBM")
        Traceback (most recent call last):
        KeyNotFoundError: ...
    """

    __str__ = RingKernelError.__str__


class KernelExistsError(RingKernelError):
    """A kernel of that id is alive.

    Example:
        >>> kernel = await runtime.launch(double)
        >>> kernel = await runtime.launch(double)
        Traceback (most recent call last):
        KernelExistsError: ...
    """


class KernelCompileError(RingKernelError):
    """The handler cannot be compiled; the message begins with the reason. `__cause__`: what numba said, or None.

    Example:
        >>> def wrong(msg: float, out: float):
        ...     out.value = msg.price
        >>> kernel = await runtime.launch(wrong)
        Traceback (most recent call last):
        KernelCompileError: ...
    """

    hides_cause = True


class MessageTypeError(RingKernelError, TypeError):
    """A message or a type does not fit what the kernel was declared with.

    Example:
        >>> async with rk.managed_kernel(runtime, double):
        ...     await runtime.send(double, "text")
        Traceback (most recent call last):
        MessageTypeError: ...
    """


class QueueFullError(RingKernelError, asyncio.QueueFull):
    """No room, and the caller did not want to wait.

    Example:
        >>> kernel = await runtime.launch(double, queue_size=1)
        >>> runtime.send_nowait(double, 1)
        >>> runtime.send_nowait(double, 2)
        Traceback (most recent call last):
        QueueFullError: ...
    """


class QueueEmptyError(RingKernelError, asyncio.QueueEmpty):
    """No message, and the caller did not want to wait.

    Example:
        >>> async with rk.managed_kernel(runtime, double):
        ...     runtime.receive_nowait(double)
        Traceback (most recent call last):
        QueueEmptyError: ...
    """


class BatchTimeoutError(Short, asyncio.TimeoutError):
    """A `send_batch` that ran out of time. `sent` says how many messages it had published.

    Example:
        >>> kernel = await runtime.launch(double, queue_size=2)
        >>> await runtime.send_batch(double, [1.0, 2.0, 3.0], timeout=0.01)
        Traceback (most recent call last):
        BatchTimeoutError: 2 of 3 messages were sent when the time was over
    """

    def __init__(self, sent: int, total: int) -> None:
        super().__init__(f"{sent} of {total} messages were sent when the time was over")
        self.sent = sent


class ConfigurationError(RingKernelError, ValueError):
    """An option has a value that is not allowed; the message says which are.

    Example:
        >>> rk.MessageQueue(capacity=3)
        Traceback (most recent call last):
        ConfigurationError: ...
    """


class DeviceUnavailableError(RingKernelError):
    """The device that was asked for is not there, or was lost. `partial`: the messages that `unprocessed` could still
    read, or None.

    Example:
        >>> kernel = await runtime.launch(double, device="cuda:99")
        Traceback (most recent call last):
        DeviceUnavailableError: ...
    """

    partial: Any = None


class KernelExit(BaseException):
    """Raised by `ctx.receive()` in a kernel that is terminated, when nothing is left to take.

    Like `asyncio.CancelledError` it passes through `except Exception`; the runtime takes it as a normal return.

    Example:
        >>> async def summed(ctx):
        ...     seen = 0
        ...     try:
        ...         while True:
        ...             seen += await ctx.receive()
        ...     except rk.KernelExit:
        ...         await ctx.send(seen)
        >>> async with runtime.run(summed) as running:
        ...     await running.send_batch([1, 2])
        >>> await runtime.receive(summed)
        3
    """
