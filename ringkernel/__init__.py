"""Persistent kernels: plain Python functions, compiled once, fed through ring queues, driven by asyncio.

Nothing happens at import, but that forks are made safe: names are loaded when they are first used, and numba when a
compiled kernel needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import forking as forking
from ._version import __version__

if TYPE_CHECKING:
    from .declaration.beside import on_end, on_input, on_timer
    from .declaration.decorator import ring_kernel
    from .declaration.pipeline import Pipeline, pipeline
    from .declaration.rng import Rng
    from .devices.coroutine.context import KernelContext
    from .errors import (
        BatchTimeoutError,
        ConfigurationError,
        DeviceUnavailableError,
        KernelCompileError,
        KernelExistsError,
        KernelExit,
        KernelFailedError,
        KernelNotFoundError,
        KernelStateError,
        KeyNotFoundError,
        MessageTypeError,
        QueueEmptyError,
        QueueFullError,
        RingKernelError,
    )
    from .lifecycle import TRANSITIONS, Command, KernelState
    from .messages.record_class import Record
    from .messages.types import message
    from .runtime.access.input_handle import InputHandle
    from .runtime.kernels.kernel import RingKernel
    from .runtime.kernels.message_queue import MessageQueue, QueueStatistics
    from .runtime.managed_kernel import managed_kernel
    from .runtime.observing.statistics import KernelStatistics
    from .runtime.running import RunningPipeline
    from .runtime.runtime import RingKernelRuntime
    from .runtime.session import Session
    from .runtime.session import map as map  # noqa: A004 (not in __all__: `import *` leaves the built-in one)

_MODULES = {
    "declaration.beside": ("on_end", "on_input", "on_timer"),
    "declaration.decorator": ("ring_kernel",),
    "declaration.pipeline": ("Pipeline", "pipeline"),
    "declaration.rng": ("Rng",),
    "devices.coroutine.context": ("KernelContext",),
    "errors": (
        "BatchTimeoutError",
        "ConfigurationError",
        "DeviceUnavailableError",
        "KernelCompileError",
        "KernelExistsError",
        "KernelExit",
        "KernelFailedError",
        "KernelNotFoundError",
        "KernelStateError",
        "KeyNotFoundError",
        "MessageTypeError",
        "QueueEmptyError",
        "QueueFullError",
        "RingKernelError",
    ),
    "lifecycle": ("TRANSITIONS", "Command", "KernelState"),
    "messages.record_class": ("Record",),
    "messages.types": ("message",),
    "runtime.access.input_handle": ("InputHandle",),
    "runtime.kernels.kernel": ("RingKernel",),
    "runtime.managed_kernel": ("managed_kernel",),
    "runtime.kernels.message_queue": ("MessageQueue", "QueueStatistics"),
    "runtime.running": ("RunningPipeline",),
    "runtime.runtime": ("RingKernelRuntime",),
    "runtime.session": ("Session", "map"),
    "runtime.observing.statistics": ("KernelStatistics",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "TRANSITIONS",
    "BatchTimeoutError",
    "Command",
    "ConfigurationError",
    "DeviceUnavailableError",
    "InputHandle",
    "KernelCompileError",
    "KernelContext",
    "KernelExistsError",
    "KernelExit",
    "KernelFailedError",
    "KernelNotFoundError",
    "KernelState",
    "KernelStateError",
    "KernelStatistics",
    "KeyNotFoundError",
    "MessageQueue",
    "MessageTypeError",
    "Pipeline",
    "QueueEmptyError",
    "QueueFullError",
    "QueueStatistics",
    "Record",
    "RingKernel",
    "RingKernelError",
    "RingKernelRuntime",
    "Rng",
    "RunningPipeline",
    "Session",
    "__version__",
    "managed_kernel",
    "message",
    "on_end",
    "on_input",
    "on_timer",
    "pipeline",
    "ring_kernel",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
