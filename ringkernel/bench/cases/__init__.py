"""The cases, in the order of the table. Each is a module of this package with `async def run(bench) -> list[Row]`.

A title is the first line of its module's docstring; it stands here, too, because importing a case imports numba.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from ringkernel.bench.context import Bench
    from ringkernel.bench.model import Row


@dataclass(frozen=True)
class Case:
    """A case by its module's name."""

    name: str
    title: str

    def run(self, bench: Bench) -> Coroutine[Any, Any, list[Row]]:
        """Measure it in this process."""
        module = importlib.import_module(f"{__name__}.{self.name}")
        measured: Coroutine[Any, Any, list[Row]] = module.run(bench)
        return measured


_TITLES = {
    "ring_round_trip": "Round trip of a 16-byte record between two compiled threads.",
    "ring_one_way": "16-byte records from one compiled thread to another, by batch size and capacity.",
    "latency": "Python to a compiled kernel and back, one message in flight.",
    "latency_open": "Python to a compiled kernel and back at a fixed rate, timed from the intended send.",
    "send": "Single sends from Python into a compiled sink.",
    "map": "An array through one compiled kernel by `map`, in place.",
    "batch": "Arrays through a compiled kernel's queues: `send_batch` and `receive_batch` at the same time.",
    "chain": "`map` through 1, 2, 4, 8 and 16 connected kernels on one worker.",
    "fan_in": "Several compiled sources feed one compiled target.",
    "many": "1 to 10,000 kernels on the pool: cost per message and memory per kernel as they grow.",
    "message_size": "Messages of 8 B to 64 KiB through a compiled kernel's queues.",
    "saxpy": "The saxpy chain of software radio: free source, 1 to 8 stages of y = a*x + b, free sink.",
    "coroutine": "An echo coroutine kernel: round trips, then a flood one way.",
    "idle": "Eight idle kernels: their CPU time, and the first message after idleness.",
    "pause": "Pausing and resuming a busy kernel; launching one whose handler is compiled already.",
    "launch": "The first launch in a fresh process, with an empty and with a filled compile cache.",
}
CASES = {name: Case(name, title) for name, title in _TITLES.items()}
