"""Looks at a pool once a period, and carries out what `balancer.py` decides."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from ringkernel.devices.compiled.traffic import TrafficMeter
from ringkernel.memory.layout import BLOCK, EDGE, RING

from .balancer import Balancer, Period
from .cores import allowed_cores
from .placement import Busy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ringkernel.devices.compiled.worker import RunEntry, Worker, Workers
    from ringkernel.devices.event_loop.loop_parker import LoopParker

PERIOD_S = 0.1
_CORES_S = 5.0
"""The number of cores is asked for at this interval: its files take 80 us to read."""
QUICK_S, _QUICK_TURNS, _QUICK_PERIODS = 0.002, 20, 5
"""A kernel that was left a worker to itself, and takes less for each of so many turns in a period, for so many periods
in a row, goes back to the others: what had held the worker is over, or the system had only descheduled it."""
_PATIENCE = 20
"""The number of tries to move a kernel that is in a turn each time."""


class _NotStarted:
    """A place for a worker that there may be."""


class Balancing:
    """The balancing of one pool's kernels over its workers. `look` is called every few milliseconds while any worker is
    awake; all methods belong to the event loop's thread. A kernel is known by its doorbell address, which it keeps."""

    def __init__(
        self, parker: LoopParker, threads: Workers, size: int, move: Callable[[RunEntry, Worker], bool]
    ) -> None:
        """`size`: how many workers there may be. `move` gives a kernel to another worker; it returns False if the
        kernel is in a turn just now."""
        self._api, self._threads, self._try_to_move = parker.api, threads, move
        self.traffic: TrafficMeter[RunEntry] = TrafficMeter(parker.api, parker.clock)
        self._balancer = Balancer(self._feeds)
        self._by_doorbell: dict[int, RunEntry] = {}
        self._pending: dict[RunEntry, tuple[Worker, int]] = {}  # with how many tries are left
        self._not_started = [_NotStarted() for _ in range(size)]
        self._quick: Counter[RunEntry] = Counter()
        self._cores, self._cores_at = allowed_cores(), 0.0
        self._begin(0.0)

    def add(self, run_entry: RunEntry) -> None:
        """A kernel has come."""
        self._by_doorbell[run_entry.doorbell_address] = run_entry
        self.traffic.add(run_entry)

    def discard(self, run_entry: RunEntry) -> None:
        """A kernel has gone."""
        self.traffic.discard(run_entry)
        self._pending.pop(run_entry, None)
        if self._by_doorbell.get(run_entry.doorbell_address) is run_entry:
            del self._by_doorbell[run_entry.doorbell_address]

    # --- once a period -----------------------------------------------------------------------------------------------

    def _begin(self, now: float) -> None:
        self._began_at, self._looks, self._awake = now, 0, Counter[Any]()
        self._loop_s, self._process_s = time.thread_time(), time.process_time()

    def look(self, now: float, awake: Sequence[Worker]) -> None:
        """Carry out moves that are due, and, if a period is over, decide on the next."""
        if now - self._began_at > 2 * PERIOD_S:  # all workers have slept meanwhile
            self.traffic.read()
            self._begin(now)
            return
        self._looks += 1
        self._awake.update(awake)
        if self._pending:
            self._move_pending()
        elif now - self._began_at >= PERIOD_S:
            moves = self._balancer.step(self._period(now))
            self._begin(now)
            self._move(moves)

    def _period(self, now: float) -> Period:
        workers = [worker for worker in self._threads.alive if not worker.dedicated]
        active = self.traffic.read()
        self._take_back(active, workers)
        kernels = [
            Busy(run_entry.doorbell_address, run_entry.worker, traffic.share, traffic.rate, traffic.waiting)
            for run_entry in active
            if run_entry.worker in workers
            for traffic in (run_entry.traffic,)
        ]
        if now - self._cores_at > _CORES_S:
            self._cores, self._cores_at = allowed_cores(), now
        places = [*workers, *self._not_started[len(workers) :]]
        awake = {worker: looks / self._looks for worker, looks in self._awake.items()}
        elsewhere = self._elsewhere(now - self._began_at, sum(awake.get(worker, 0.0) for worker in workers))
        busy = frozenset(worker for worker, share in awake.items() if share > 0.5)
        return Period(now, kernels, places, busy, self._cores, elsewhere)

    def _take_back(self, active: Sequence[RunEntry], shared: Sequence[Worker]) -> None:
        """Let kernels that were left a worker to themselves, and are quick now, go back to a worker of others; theirs
        then ends."""
        quick = [
            run_entry
            for run_entry in active
            if run_entry is run_entry.worker.kept
            and run_entry.traffic.turns >= _QUICK_TURNS
            and run_entry.traffic.busy_s < QUICK_S * run_entry.traffic.turns
        ]
        self._quick = Counter({run_entry: self._quick[run_entry] + 1 for run_entry in quick})
        for run_entry in quick:
            if self._quick[run_entry] >= _QUICK_PERIODS and shared:
                fed = [self._by_doorbell[key].worker for key in self._fed_by(run_entry.doorbell_address)]
                near = next((worker for worker in fed if worker in shared), None)
                self._try_to_move(run_entry, near or min(shared, key=lambda worker: len(worker.run_entries)))

    def _elsewhere(self, period_s: float, awake: float) -> float:
        """Return how many cores this process has kept busy beside the workers that take kernels: its event loop's
        thread, as the system counts it, and whatever else there is."""
        loop = (time.thread_time() - self._loop_s) / period_s
        others = (time.process_time() - self._process_s) / period_s - loop - awake
        return loop + max(0.0, others)

    def _feeds(self, kernels: Sequence[Busy]) -> dict[Any, list[int]]:
        return {kernel.key: self._fed_by(kernel.key) for kernel in kernels}

    def _fed_by(self, key: Any) -> list[int]:
        """The kernels that read what this one writes: those whose doorbells its ring has."""
        read, block = self._api.read_word, self._by_doorbell[key].block
        output = read(block + BLOCK.output)
        if output == 0:
            return []
        ring = block + output
        table = ring + read(ring + RING.edges)
        edges = [ring + read(table + 8 * i) for i in range(read(ring + RING.n_edges))]
        readers = [read(edge + EDGE.doorbell_address) for edge in edges if not read(edge + EDGE.closed)]
        return [address for address in readers if address in self._by_doorbell]

    # --- moves -------------------------------------------------------------------------------------------------------

    def _move(self, moves: dict[Any, Any]) -> None:
        started: dict[_NotStarted, Worker | None] = {}
        for key, place in moves.items():
            run_entry = self._by_doorbell.get(key)
            if isinstance(place, _NotStarted):
                if place not in started:
                    started[place] = self._threads.start()
                target = started[place]
            else:
                target = place
            if target is not None and run_entry is not None:
                self._pending[run_entry] = (target, _PATIENCE)
        self._move_pending()

    def _move_pending(self) -> None:
        """Move what can be moved now: a kernel that is in a turn is tried again."""
        for run_entry, (target, tries) in list(self._pending.items()):
            is_over = target not in self._threads.alive or target.dedicated or run_entry.worker.dedicated
            if is_over or self._try_to_move(run_entry, target) or tries <= 1:
                del self._pending[run_entry]
            else:
                self._pending[run_entry] = (target, tries - 1)
