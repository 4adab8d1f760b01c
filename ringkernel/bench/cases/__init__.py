"""The cases, in the order of the table: functions `async def NAME(bench) -> list[Row]` in the modules of this package.

A title is the first line of its function's docstring; it stands here, too, because importing a case imports numba.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ringkernel.bench.context import Bench
    from ringkernel.bench.model import Row


@dataclass(frozen=True)
class Case:
    """A case by its function's name and module."""

    name: str
    module: str
    title: str

    @property
    def function(self) -> Callable[[Bench], Coroutine[Any, Any, list[Row]]]:
        """What measures it, in this process."""
        function: Callable[[Bench], Coroutine[Any, Any, list[Row]]]
        function = getattr(importlib.import_module(f"{__name__}.{self.module}"), self.name)
        return function


_TABLE = (
    Case("ring_round_trip", "rings", "Round trip of a 16-byte record between two compiled threads."),
    Case("ring_one_way", "rings", "16-byte records from one compiled thread to another, by batch size and capacity."),
    Case("latency", "messages", "Python to a compiled kernel and back, one message in flight."),
    Case(
        "latency_open",
        "messages",
        "Python to a compiled kernel and back at a fixed rate, timed from the intended send.",
    ),
    Case("send", "messages", "Single sends from Python into a compiled sink."),
    Case("map", "arrays", "An array through one compiled kernel by `map`, in place."),
    Case(
        "batch",
        "arrays",
        "Arrays through a compiled kernel's queues: `send_batch` and `receive_batch` at the same time.",
    ),
    Case("chain", "arrays", "`map` through 1, 2, 4, 8 and 16 connected kernels on one worker."),
    Case("fan_in", "arrays", "Several compiled sources feed one compiled target."),
    Case("many", "many", "1 to 10,000 kernels on the pool: cost per message and memory per kernel as they grow."),
    Case("message_size", "arrays", "Messages of 8 B to 64 KiB through a compiled kernel's queues."),
    Case("saxpy", "saxpy", "The saxpy chain of software radio: free source, 1 to 8 stages of y = a*x + b, free sink."),
    Case("coroutine", "messages", "An echo coroutine kernel: round trips, then a flood one way."),
    Case("idle", "lifecycle", "Eight idle kernels: their CPU time, and the first message after idleness."),
    Case(
        "pause",
        "lifecycle",
        "Pausing a kernel at work and resuming it; launching one whose handler is compiled already.",
    ),
    Case("launch", "lifecycle", "The first launch in a fresh process, with an empty and with a filled compile cache."),
)
CASES = {case.name: case for case in _TABLE}
