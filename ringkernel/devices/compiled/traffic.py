"""The traffic through each kernel of a pool: one record per kernel, of the last period in which it was looked at.

Whoever decides where a kernel runs goes by these records, which are differences of the counters in its block: never by
an instant, and whoever ran the turns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np

from ringkernel.memory.call_layout import TRAFFIC, TRAFFIC_DTYPE

if TYPE_CHECKING:
    from ringkernel.ring.host.clock import TickClock
    from ringkernel.ring.host_api import HostApi

TURN_NS = 150
"""The time of a turn beside its handler."""
_FIRST_ROOM = 16


class Traffic:
    """One kernel's last period with turns, of `period_s` seconds: `busy_s` in its handler, `turns`, `messages` that it
    has processed, and `waiting` in its inputs when the period ended. `peak_waiting` is the most in the last periods,
    less by a half with each, and `message_s` a message's time in the handler, averaged likewise; 0 until there is one.
    """

    __slots__ = ("busy_s", "message_s", "messages", "peak_waiting", "period_s", "totals", "turns", "waiting")

    def __init__(self) -> None:
        self.totals = (0,) * len(TRAFFIC)  # as of the last period, while nobody runs it
        self.busy_s = self.message_s = self.period_s = 0.0
        self.messages = self.turns = self.waiting = self.peak_waiting = 0

    def note(self, period_s: float, busy_s: float, turns: int, messages: int, waiting: int) -> None:
        """The period that has just ended."""
        self.period_s, self.busy_s, self.turns, self.messages, self.waiting = period_s, busy_s, turns, messages, waiting
        self.peak_waiting = max(waiting, self.peak_waiting // 2)
        if messages:
            each = busy_s / messages
            self.message_s = (self.message_s + each) / 2 if self.message_s else each

    @property
    def share(self) -> float:
        """Of a core, with what its turns take beside the handler."""
        return min(1.0, (self.busy_s + self.turns * TURN_NS / 1e9) / self.period_s) if self.period_s else 0.0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.period_s if self.period_s else 0.0


class HasTraffic(Protocol):
    """A run entry: the address of its kernel's block, and the record."""

    block: int
    traffic: Traffic


E = TypeVar("E", bound=HasTraffic)


class TrafficMeter(Generic[E]):
    """Brings the records of all run entries up to date. One that joins costs as much whether there are few or many, and
    a kernel without turns next to nothing: 0.1 ms for 10,000."""

    def __init__(self, api: HostApi, clock: TickClock) -> None:
        self._api, self._clock = api, clock
        self._blocks = np.zeros(_FIRST_ROOM, np.int64)
        self._totals = np.zeros(_FIRST_ROOM, TRAFFIC_DTYPE)
        self._entries: list[E | None] = []
        self._free: list[int] = []
        self._places: dict[E, int] = {}
        self._read_at = clock.now()

    def add(self, run_entry: E) -> None:
        """Look at this kernel, too, from now on, and at what it had done before it was discarded and not looked at."""
        if self._free:
            place = self._free.pop()
            self._entries[place] = run_entry
        else:
            place = len(self._entries)
            self._entries.append(run_entry)
            if place == len(self._blocks):
                self._blocks = np.concatenate([self._blocks, np.zeros_like(self._blocks)])
                self._totals = np.concatenate([self._totals, np.zeros_like(self._totals)])
        self._places[run_entry] = place
        self._blocks[place] = run_entry.block
        self._totals[place] = run_entry.traffic.totals

    def discard(self, run_entry: E) -> None:
        """It has left; its memory may go."""
        place = self._places.pop(run_entry, None)
        if place is not None:
            run_entry.traffic.totals = self._totals[place].item()
            self._blocks[place] = 0
            self._entries[place] = None
            self._free.append(place)

    def read(self) -> list[E]:
        """Those that had turns since this was last called; their records are new."""
        now = self._clock.now()
        rate = self._clock.ticks_per_ns() * 1e9
        period_s, self._read_at = (now - self._read_at) / rate, now
        count = len(self._entries)
        before = self._totals[:count].copy()
        blocks, totals = int(self._blocks.ctypes.data), int(self._totals.ctypes.data)
        if not self._api.read_traffic(blocks, count, totals):
            return []
        active = []
        after = self._totals[:count]
        for place in np.flatnonzero(after["turns"] != before["turns"]).tolist():
            run_entry = self._entries[place]
            assert run_entry is not None
            new, old = after[place], before[place]
            run_entry.traffic.note(
                period_s,
                max(0, int(new["busy_ticks"] - old["busy_ticks"])) / rate,  # less than before: it was first of a chain
                int(new["turns"] - old["turns"]),
                int(new["messages"] - old["messages"]),
                int(new["waiting"]),
            )
            active.append(run_entry)
        return active
