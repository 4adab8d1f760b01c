"""What a compiled kernel has counted, as one consistent ledger, whatever becomes of the kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ringkernel.devices.engine import Ledger
from ringkernel.memory.layout import COUNTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.ring.host.clock import TickClock

    from .chain import Stage
    from .kernel_rings import Waits

_LOOKS = 8


class Frozen(NamedTuple):
    """The counters of a kernel that may go on changing them, as a record, and what it had emitted."""

    counters: Any
    emitted: int


class Counts:
    """The counts of one kernel; `frozen` once it was abandoned."""

    __slots__ = ("_clock", "_ended_at", "_kernel", "frozen")

    def __init__(self, kernel: Stage, clock: TickClock) -> None:
        self._kernel, self._clock = kernel, clock
        self._ended_at = 0  # in ticks
        self.frozen: Frozen | None = None

    def snapshot(self) -> Any:
        """A consistent copy of the block's counters, as a record; of a kernel that was abandoned, as they were then."""
        if self.frozen is not None:
            return self.frozen.counters
        return self._kernel.block.counters(lambda: self._kernel.has_ended)

    def freeze(self, emitted: Callable[[], int]) -> None:
        """The kernel is abandoned: what it counts from now on is nothing to anybody."""
        self.frozen = Frozen(self.snapshot(), emitted())  # in this order: cursors may run ahead, never behind

    def note_end(self) -> None:
        """No wait goes on."""
        self._ended_at = self._ended_at or self._clock.now()

    def ledger(self) -> Ledger:
        """See `Engine.ledger`."""
        kernel = self._kernel
        waits, counters = kernel.rings.waits(), self.snapshot()
        for _ in range(_LOOKS):  # a wait that ends in between would be counted twice
            before, waits = waits, kernel.rings.waits()
            if waits == before:
                break
            counters = self.snapshot()
        in_flight = kernel.in_flight or (int(counters["in_flight"]) if kernel.executor.has_token else 0)
        waits = waits if kernel.executor.measures_waits else ((), ())
        now = self._ended_at or self._clock.now()
        late = 0 if kernel.merging is None else kernel.merging.late
        found = replace(_ledger_of(counters, in_flight, waits, kernel.executor.ns_of, now), late=late)
        return replace(found, peak_input=0) if kernel.declaration.is_source else found


def _ledger_of(counters: Any, in_flight: int, waits: Waits, ns_of: Callable[[int], int], now: int) -> Ledger:
    """A block's counters, with their times in the units of a ledger; `now` in ticks. `waits`: the waits that are over,
    for input and for room, edge by edge."""
    starved, held_up = waits
    counts = COUNTS._make(int(counters[name]) for name in COUNTS._fields)
    starving = _so_far(counters["starved_since"], now)
    blocked, reason = _so_far(counters["blocked_since"], now), int(counters["blocked_by"]) - 1
    histogram = tuple((ns_of(2**i), int(count)) for i, count in enumerate(counters["histogram"].tolist()) if count)
    return Ledger(
        processed=counts.processed,
        failed=counts.failed,
        in_flight=in_flight,
        dropped=counts.dropped,
        busy_s=ns_of(counts.busy_ticks) / 1e9,
        blocked_s=ns_of(int(counters["blocked_ticks"]) + blocked) / 1e9,
        starved_s=tuple(ns_of(ticks + starving) / 1e9 for ticks in starved),
        blocked_on_s=tuple(ns_of(ticks + blocked * (i == reason)) / 1e9 for i, ticks in enumerate(held_up)),
        turns=counts.turns,
        peak_input=counts.peak_input,
        peak_output=counts.peak_output,
        histogram=histogram,
    )


def _so_far(since: Any, now: int) -> int:
    """For how long a wait that has begun then goes on; 0 if there is none."""
    return max(0, now - int(since)) if since else 0
