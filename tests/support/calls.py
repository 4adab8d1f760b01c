"""Every call of a runtime that takes a kernel's id, each with as little else as it needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ringkernel import RingKernelRuntime

Call = Callable[[RingKernelRuntime, str], Any]

CALLS: dict[str, Call] = {
    "launch": lambda runtime, name: runtime.launch(name),
    "activate": lambda runtime, name: runtime.activate(name),
    "deactivate": lambda runtime, name: runtime.deactivate(name),
    "reactivate": lambda runtime, name: runtime.reactivate(name),
    "terminate": lambda runtime, name: runtime.terminate(name),
    "send": lambda runtime, name: runtime.send(name, 1),
    "send_nowait": lambda runtime, name: runtime.send_nowait(name, 1),
    "send_batch": lambda runtime, name: runtime.send_batch(name, [1]),
    "receive": lambda runtime, name: runtime.receive(name),
    "receive_nowait": lambda runtime, name: runtime.receive_nowait(name),
    "receive_batch": lambda runtime, name: runtime.receive_batch(name),
    "stream": lambda runtime, name: anext(runtime.stream(name)),
    "map": lambda runtime, name: runtime.map(name, [1]),
    "map chain": lambda runtime, name: runtime.map((name, name), [1]),
    "connect": lambda runtime, name: runtime.connect(name, name),
    "statistics": lambda runtime, name: runtime.statistics(name),
    "read_state": lambda runtime, name: runtime.read_state(name),
    "write_state": lambda runtime, name: runtime.write_state(name, 1),
    "read_params": lambda runtime, name: runtime.read_params(name),
    "write_params": lambda runtime, name: runtime.write_params(name, 1),
    "close_input": lambda runtime, name: runtime.close_input(name),
    "unprocessed": lambda runtime, name: runtime.unprocessed(name),
    "wait": lambda runtime, name: runtime.wait(name),
    "remove": lambda runtime, name: runtime.remove(name),
    "get_state": lambda runtime, name: runtime.get_state(name),
}
