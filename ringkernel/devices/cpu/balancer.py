"""Decides when kernels move between places, and when back. Pure: told of one period after the other, it answers with
moves.

A place that has been full for some periods is relieved, if there are cores for more busy places: `placement.py` says
how. That is a **trial**: the work that was done before, by the same measure, is compared with the work that is done
after it, and moves that gained nothing are undone. After that nothing is tried for a while, twice as long each time, so
that kernels do not go to and fro; a layout that has served for long makes the while short again.

Where more places are busy than there are cores, the kernels of some move to the others, without a trial: what is
gained by a thread too many is lost by all others, which wait for it to be descheduled (3 to 5 ms each time).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .placement import Busy, arrange, cuts, gathered, load, loads, moved

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .placement import Feeds, Key, Layout, Place

FULL, FULL_PERIODS = 0.85, 2
"""A place is full with such a load in so many periods in a row."""
LOW, LOW_PERIODS = 0.4, 20
"""Chains in several places come together again with such a load of them all for so long."""
WORTH = 0.87
"""The greatest load after a move, as a part of that before, must be expected to be at most this."""
GAIN, NO_LOSS = 1.08, 0.97
"""The work done in a trial, as a part of that before, must be at least this; the latter if it only gathers kernels."""
LOSS = 0.7
"""A trial is over at once with so little work."""
JUDGED_PERIODS, MAX_PERIODS = 3, 30
"""So many periods are judged, after one in which the moves take effect; those without demand do not count, and with
too many of these nothing was learned, and nothing is undone."""
NO_DEMAND = 0.25
MIN_WAIT_S, MAX_WAIT_S, LONG = 1.0, 64.0, 8
"""Nothing is tried for so long after moves were taken back; the shortest again after a layout that lasted `LONG`
waits."""
SPLIT_SLACK, CROWD_SLACK = 0.4, 0.6
"""Cores that are in use elsewhere are rounded: one that is busy for less is free for a trial, one that is busy for more
is taken away from busy places."""


@dataclass(frozen=True, slots=True)
class Period:
    """The measurements of a period. `kernels` are those that had turns, and `awake` are the places whose threads were
    awake most of the time. `elsewhere` is the share of cores that is busy with other things of this process: the event
    loop."""

    now: float
    kernels: Sequence[Busy]
    places: Sequence[Place]
    awake: frozenset[Place]
    cores: int
    elsewhere: float = 0.0

    def room(self, slack: float) -> int:
        """Return how many places may be busy; at least one."""
        return max(1, min(len(self.places), int(self.cores - self.elsewhere + slack)))


@dataclass(slots=True)
class _Trial:
    """Moves whose effect is being measured: what a message was worth before, in seconds, and the work done a second."""

    before: Layout
    worth: Mapping[Key, float]
    work: float
    needed: float
    seen: int = 0
    judged: list[float] = field(default_factory=list)


class Balancer:
    """Decides on moves for the kernels of one pool. `feeds` tells whom each of some kernels feeds; it is only asked
    when there is something to decide."""

    def __init__(self, feeds: Callable[[Sequence[Busy]], Feeds]) -> None:
        self._feeds = feeds
        self._trial: _Trial | None = None
        self._full: list[Period] = []
        self._crowded = self._low = 0
        self._wait_s = MIN_WAIT_S / 2
        self._not_before = self._moved_at = float("-inf")

    def step(self, period: Period) -> Layout:
        """Return the moves after this period: kernels, and the place of each."""
        if self._trial is None and not period.kernels:
            return {}
        if moves := self._crowd(period):
            return moves
        if self._trial is not None:
            return self._judge(self._trial, period)
        return self._relieve(period) or self._gather(period)

    # --- more work at once -------------------------------------------------------------------------------------------

    def _relieve(self, period: Period) -> Layout:
        """Moves off full places, to be tried."""
        if max(loads(period.kernels).values()) < FULL:
            self._full.clear()
            return {}
        self._full = [*self._full[1 - FULL_PERIODS :], period]
        if len(self._full) < FULL_PERIODS or period.now < self._not_before:
            return {}
        kernels = _together(self._full)
        self._full.clear()
        feeds = self._feeds(kernels)
        layout = arrange(kernels, feeds, _preferred(period, period.room(SPLIT_SLACK)))
        before, after = max(loads(kernels).values()), max(_loads_in(layout, kernels).values())
        is_lighter = after <= WORTH * before
        if not is_lighter and (after > before or cuts(kernels, feeds, layout) >= cuts(kernels, feeds)):
            return {}
        moves = moved(kernels, layout)
        if moves:
            worth = {kernel.key: kernel.share / kernel.rate for kernel in kernels if kernel.rate}
            stood = {kernel.key: kernel.place for kernel in kernels if kernel.key in moves}
            self._trial = _Trial(stood, worth, load(kernels), GAIN if is_lighter else NO_LOSS)
            self._moved_at = period.now
        return moves

    def _judge(self, trial: _Trial, period: Period) -> Layout:
        """End a trial when its outcome is clear."""
        trial.seen += 1
        if trial.seen == 1:
            return {}
        work = sum(trial.worth.get(kernel.key, 0.0) * kernel.rate for kernel in period.kernels)
        if work >= NO_DEMAND * trial.work or any(kernel.waiting for kernel in period.kernels):
            trial.judged.append(work / trial.work)
        is_bad = trial.judged and trial.judged[-1] < LOSS
        if not is_bad and len(trial.judged) < JUDGED_PERIODS and trial.seen < MAX_PERIODS:
            return {}
        self._trial = None
        if not is_bad and (len(trial.judged) < JUDGED_PERIODS or sum(trial.judged) >= trial.needed * len(trial.judged)):
            return {}
        self._retreat(period.now)
        return trial.before

    def _retreat(self, now: float) -> None:
        """Moves are taken back: wait before the next."""
        lasted = now - self._moved_at
        self._wait_s = MIN_WAIT_S if lasted >= LONG * self._wait_s else min(2 * self._wait_s, MAX_WAIT_S)
        self._not_before = now + self._wait_s
        self._full.clear()

    # --- fewer places --------------------------------------------------------------------------------------------

    def _crowd(self, period: Period) -> Layout:
        """Moves onto as many places as there are cores for."""
        busy = [place for place in loads(period.kernels) if place in period.awake]
        room = period.room(CROWD_SLACK)
        self._crowded = self._crowded + 1 if len(busy) > room else 0
        if self._crowded < FULL_PERIODS:
            return {}
        self._crowded, self._trial = 0, None
        self._retreat(period.now)
        return moved(period.kernels, arrange(period.kernels, self._feeds(period.kernels), _preferred(period, room)))

    def _gather(self, period: Period) -> Layout:
        """Moves that bring chains together again, when there is little to do for them."""
        there = loads(period.kernels)
        self._low = self._low + 1 if len(there) > 1 and sum(there.values()) < LOW else 0
        if self._low < LOW_PERIODS:
            return {}
        self._low = 0
        return moved(period.kernels, gathered(period.kernels, self._feeds(period.kernels)))


def _together(periods: Sequence[Period]) -> list[Busy]:
    """The kernels of the last of some periods, with the means of them all."""
    totals: dict[Key, tuple[float, float]] = {}
    for period in periods:
        for kernel in period.kernels:
            share, rate = totals.get(kernel.key, (0.0, 0.0))
            totals[kernel.key] = share + kernel.share, rate + kernel.rate
    n = len(periods)
    return [
        Busy(kernel.key, kernel.place, totals[kernel.key][0] / n, totals[kernel.key][1] / n)
        for kernel in periods[-1].kernels
    ]


def _loads_in(layout: Layout, kernels: Sequence[Busy]) -> dict[Place, float]:
    return loads([Busy(kernel.key, layout[kernel.key], kernel.share) for kernel in kernels])


def _preferred(period: Period, count: int) -> list[Place]:
    """The places with the most load, and then the others in their order."""
    there = loads(period.kernels)
    return sorted(period.places, key=lambda place: -there.get(place, 0.0))[:count]
