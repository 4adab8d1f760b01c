"""The counts of a compiled kernel, as one consistent ledger, whatever becomes of the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ringkernel.memory.layout import BLOCK, COUNTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.ring.host.clock import TickClock

    from .chain import Stage

_LOOKS = 8
_COUNTED = (
    *COUNTS._fields,
    *(name for name in BLOCK._fields if name.endswith("_ticks") and name not in COUNTS._fields),
)
"""The words of a block that are told as they are, ticks as seconds."""


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

    def ledger(self) -> dict[str, Any]:
        """See `Engine.ledger`."""
        kernel = self._kernel
        waits, counters = kernel.rings.waits(), self.snapshot()
        for _ in range(_LOOKS):  # a wait that ends in between would be counted twice
            before, waits = waits, kernel.rings.waits()
            if waits == before:
                break
            counters = self.snapshot()
        return self._ledger_of(counters, *(waits if kernel.executor.measures_waits else ((), ())))

    def _ledger_of(self, counters: Any, starved: tuple[int, ...], held_up: tuple[int, ...]) -> dict[str, Any]:
        """The ledger, with the waits that are over, for input and for room, edge by edge."""
        kernel, ns_of = self._kernel, self._kernel.executor.ns_of

        def seconds(ticks: int) -> float:
            return ns_of(ticks) / 1e9

        ledger: dict[str, Any] = {}
        for name in _COUNTED:
            count, unit = int(counters[name]), name.rpartition("_")
            ledger |= {f"{unit[0]}_s": seconds(count)} if unit[2] == "ticks" else {name: count}
        now = self._ended_at or self._clock.now()
        starving = _so_far(counters["starved_since"], now)
        blocked, reason = _so_far(counters["blocked_since"], now), int(counters["blocked_by"]) - 1
        ledger["blocked_s"] = seconds(int(counters["blocked_ticks"]) + blocked)
        ledger["starved_by"] = tuple(seconds(ticks + starving) for ticks in starved)
        ledger["blocked_by"] = tuple(seconds(ticks + blocked * (i == reason)) for i, ticks in enumerate(held_up))
        ledger["in_flight"] = kernel.in_flight or (ledger["in_flight"] if kernel.executor.has_token else 0)
        ledger["late"] = 0 if kernel.merging is None else kernel.merging.late
        buckets = enumerate(counters["histogram"].tolist())
        ledger["histogram_ns"] = tuple((ns_of(2**i), int(count)) for i, count in buckets if count)
        if kernel.declaration.is_source:
            ledger["peak_input_depth"] = 0
        return ledger


def _so_far(since: Any, now: int) -> int:
    """For how long a wait that has begun then goes on; 0 if there is none."""
    return max(0, now - int(since)) if since else 0
