"""True if a consumer in the event loop spins for the next message before it sleeps, and how long.

To sleep and be woken costs 15 to 50 us. So a consumer that was woken quickly spins next time, for as long as that
costs. But the whole event loop waits meanwhile, so only one consumer spins, the last that went to sleep, and only while
it pays.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ringkernel.ring.host.kinds import Edge
    from ringkernel.ring.host.record_edge import RecordEdge

    from .loop_parker import LoopParker

SPIN_NS, SHORT_SPIN_NS = 50_000, 3_000
"""For how long; the shorter one if others in the event loop have gone to sleep since. A worker that leaves its core to
the loop is back within the longer one."""
PAYS_BELOW_NS = 40_000
"""A consumer that slept for less spins. But not one that was woken on its waker's core: while it spins, nobody else
could run there."""
PAID = 4
MAX_SKIPS = 63
"""A spin that is over before so many messages have come was not worth it. Then the next ones are skipped: 1, 3, 7."""


class Spinner:
    """Gives the right to spin for as long as it pays to the last consumer that has gone to sleep."""

    __slots__ = ("_holder",)

    def __init__(self) -> None:
        self._holder: Spin | None = None

    def give(self, to: Spin | None) -> None:
        """Somebody goes to sleep (a producer: None), so the others must not keep the loop for long."""
        if self._holder is not None and self._holder is not to:
            self._holder.shorten()
        self._holder = to

    def forget(self, spin: Spin | None) -> None:
        """That consumer is no more."""
        if self._holder is spin:
            self._holder = None

    def belongs_to(self, spin: Spin) -> bool:
        """Return whether nobody has gone to sleep since."""
        return self._holder is spin


class Spin:
    """Decides how long one consumer spins, by the edge's `patience`."""

    __slots__ = ("_edge", "_from", "_parker", "_skipped", "_slept_at_ns", "_spinner", "_to_skip")

    def __init__(self, spinner: Spinner, parker: LoopParker) -> None:
        self._spinner, self._parker = spinner, parker
        self._edge: RecordEdge | None = None  # spun on now
        self._from = 0
        self._to_skip = self._skipped = 0
        self._slept_at_ns = 0

    def sleep(self) -> None:
        """The consumer goes to sleep: what it spun for has not come in time."""
        edge = self._edge
        if edge is not None:
            self._edge = None
            edge.patience = 0
            self._to_skip = 0 if edge.head - self._from >= PAID else min(2 * self._to_skip + 1, MAX_SKIPS)
            self._skipped = 0
        self._spinner.give(self)
        self._slept_at_ns = monotonic_ns()

    def wake(self, edge: RecordEdge | None) -> None:
        """The consumer was woken. It spins on `edge` from now on, if there is reason to."""
        slept_ns = monotonic_ns() - self._slept_at_ns
        if edge is None:
            return
        if not self._parker.worker_moves():
            if slept_ns >= PAYS_BELOW_NS or self._parker.is_crowded:
                return
            if self._skipped < self._to_skip:
                self._skipped += 1
                return
        is_alone = self._spinner.belongs_to(self)
        edge.patience = self._parker.clock.ticks_of(SPIN_NS if is_alone else SHORT_SPIN_NS)
        self._edge, self._from = edge, edge.head

    def leave(self, edge: Edge) -> None:
        """Somebody else consumes from this edge now."""
        if edge is self._edge:
            self._edge.patience = 0
            self._edge = None

    def shorten(self) -> None:
        """Somebody else goes to sleep."""
        if self._edge is not None:
            self._edge.patience = self._parker.clock.ticks_of(SHORT_SPIN_NS)
