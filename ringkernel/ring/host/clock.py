"""How long a tick of `operations.ticks` is: found by comparing it with the monotonic clock while the process works."""

from __future__ import annotations

import functools
import time

from ringkernel.ring.host_api import host_api

_BASELINE_NS = 1_000_000


class TickClock:
    """Converts between ticks and nanoseconds. The longer the process runs, the more exact."""

    def __init__(self) -> None:
        self._read = host_api().read_ticks
        self._start_ns, self._start_ticks = time.monotonic_ns(), self.now()

    def now(self) -> int:
        """The counter."""
        return int(self._read(0))

    def ticks_per_ns(self) -> float:
        """The counter's rate. Waits for a millisecond if the process has only just started."""
        while (elapsed := time.monotonic_ns() - self._start_ns) < _BASELINE_NS:
            pass
        return (self.now() - self._start_ticks) / elapsed

    def ticks_of(self, ns: int) -> int:
        """Nanoseconds as ticks."""
        return int(ns * self.ticks_per_ns())

    def ns_of(self, ticks: int) -> int:
        """Ticks as nanoseconds."""
        return int(ticks / self.ticks_per_ns())


@functools.cache
def tick_clock() -> TickClock:
    """The process's clock."""
    return TickClock()
