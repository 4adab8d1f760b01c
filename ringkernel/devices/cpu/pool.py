"""Which kernel runs on which CPU worker.

A chain stays on one worker until that worker has too much to do: see `balancing.py`. A kernel that holds its worker for
more than 20 ms while others are ready keeps the thread for itself, and the others move to a fresh one; a handler that
never returns is the same case, seen for longer.
"""

from __future__ import annotations

import functools
import logging
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ringkernel.codegen.entry_points import entries
from ringkernel.devices.compiled.executor import Eviction
from ringkernel.devices.compiled.team import Team
from ringkernel.devices.compiled.worker import RunEntries, RunEntry, Workers, pools
from ringkernel.devices.compiled.worker_loop import run_worker
from ringkernel.memory.layout import BLOCK, CLAIMED, FREE, PARKER, REVOKED
from ringkernel.ring.sharing.shards import lay_out_shards
from ringkernel.ring.turns.loop_turns import take_turns
from ringkernel.words.builtin import ByAddress, Entry, EntryPoint

from .balancing import Balancing
from .cores import allowed_cores
from .fusing import Fusing

if TYPE_CHECKING:
    import asyncio

    from ringkernel.devices.compiled.traffic import Traffic
    from ringkernel.devices.compiled.worker import Worker
    from ringkernel.devices.event_loop.loop_parker import Doorbell
    from ringkernel.devices.event_loop.services import Services

logger = logging.getLogger("ringkernel")

MONITOR_S = 0.01
HOLD_S = 0.02
SPAN_NS = 50_000


class Loops(NamedTuple):
    """The loops that take turns, of a worker and of the event loop's thread, and what a worker calls by address. See
    the functions of the same names."""

    run_worker: Entry
    take_turns_address: int
    lay_out_shards_address: int


@functools.cache
def compiled_loops() -> Loops:
    """The loops, compiled once per process."""
    return Loops(
        **entries(
            {
                "run_worker": EntryPoint(run_worker, nogil=True),
                "take_turns_address": ByAddress(take_turns),
                "lay_out_shards_address": ByAddress(lay_out_shards),
            }
        )
    )


def _compiled_worker() -> Entry:
    return compiled_loops().run_worker


class WorkerPool:
    """The workers of one event loop. All methods belong to that loop's thread."""

    def __init__(self, services: Services, size: int, *, fuse: bool) -> None:
        parker = services.parker
        self.size = size
        self._woke = services.woke
        services.on_woke = self.watch
        self.team = Team(parker, allowed_cores(), compiled_loops().lay_out_shards_address)
        self.threads = Workers(parker, _compiled_worker, team=self.team)
        self._parker = parker
        self._api = parker.api
        self._api.write_word(parker.address + PARKER.take_turns_address, compiled_loops().take_turns_address)
        self._entries = RunEntries(parker, SPAN_NS)
        self.balancing = Balancing(parker, self.threads, size, self.move)
        self.fusing = Fusing(parker, size, is_on=fuse)
        self._monitor: asyncio.TimerHandle | None = None
        self._woken: Doorbell | None = None
        self._pid = os.getpid()
        pools.add(self)

    @property
    def workers(self) -> list[Worker]:
        """Those that take kernels, or that one kernel holds."""
        return self.threads.alive

    @property
    def keepalive(self) -> list[Any]:
        """All that abandoned threads may reach."""
        return self.threads.keepalive

    # --- run entries -----------------------------------------------------------------------------------------

    def enqueue(
        self,
        block: int,
        doorbell_address: int,
        traffic: Traffic,
        beside: Worker | None = None,
        *,
        is_bounded: bool = False,
    ) -> RunEntry:
        """Hand a kernel whose token the caller holds to a worker: to `beside` if that one takes kernels. `is_bounded`:
        the event loop's own thread may take its turns, too.

        Raises `DeviceUnavailableError` when there is none, and no thread to be had.
        """
        worker = beside if beside is not None and beside in self.workers and not beside.dedicated else None
        worker = worker or self._least_loaded()
        run_entry = RunEntry(
            self._entries.new_address(), worker, block, doorbell_address, traffic, is_bounded=is_bounded
        )
        said = self._entries.enqueue(run_entry, self._parker.address)
        self.balancing.add(run_entry)
        self.watch()
        self._woke(said)
        return run_entry

    def runs_here(self, run_entry: RunEntry, count: int) -> bool:
        """Return whether the event loop's thread would run so many messages itself, and at once."""
        return self._parker.api.runs_here(run_entry.address, count, self._parker.address) == 1

    def rests(self, run_entry: RunEntry) -> bool:
        """Return whether a kernel rests, and nothing waits for it."""
        return self._parker.api.rests(run_entry.address) == 1

    def dequeue(self, run_entry: RunEntry) -> None:
        """The worker has given the token back, or was made to."""
        self._entries.dequeue(run_entry)
        self.balancing.discard(run_entry)
        if run_entry.worker.dedicated and not run_entry.worker.run_entries:
            self.threads.retire(run_entry.worker)

    def evict(self, run_entry: RunEntry) -> Eviction:
        """Take a kernel from its worker for good, in whatever it is doing."""
        seen = self._entries.revoke(run_entry, forced=True)
        if seen == FREE:
            self.dequeue(run_entry)
            self._entries.have_dismissed(run_entry.address)
            return Eviction.FREE
        if seen not in (CLAIMED, REVOKED):  # (the latter: it was evicted before, and that failed halfway)
            return Eviction.GIVING_BACK
        self._lose(run_entry)
        return Eviction.ABANDONED

    def abandon(self, run_entry: RunEntry) -> None:
        """Leave a kernel its thread after an eviction that has failed halfway."""
        self._entries.revoke(run_entry, forced=True)
        self._lose(run_entry)

    def _lose(self, run_entry: RunEntry) -> None:
        worker = run_entry.worker
        worker.kept = run_entry
        self.dequeue(run_entry)
        self._entries.leave(run_entry.address)
        self.threads.retire(worker)
        self._move_on(worker)
        self._lose_helpers(run_entry)
        self.watch()

    def _lose_helpers(self, run_entry: RunEntry) -> None:
        """Let helpers take no more of an abandoned kernel; those in its handler now may stay there for ever."""
        job = run_entry.worker.job_address
        taken = self._api.stop_job(job, run_entry.block)
        if taken < 0:
            return
        in_flight = run_entry.block + BLOCK.in_flight
        self._api.write_word(in_flight, min(taken, self._api.read_word(in_flight)))
        for helper in self.threads.helping_with(job):
            helper.is_stuck = True
            self.threads.retire(helper)
            self._move_on(helper)

    # --- which worker ----------------------------------------------------------------------------------------

    def _least_loaded(self) -> Worker:
        shared = [worker for worker in self.workers if not worker.dedicated]
        if len(shared) < self.size and all(worker.run_entries for worker in shared):
            fresh = self.threads.start()
            if fresh is not None:
                return fresh
        if not shared:
            raise self.threads.none_there()
        return min(shared, key=lambda worker: len(worker.run_entries))

    def _move_on(self, worker: Worker) -> bool:
        """Move all kernels but the one that it is left to from a worker. False if one is still there, since there is
        no thread for it, or it is in a turn just now: the monitor tries again."""
        others = [run_entry for run_entry in worker.run_entries if run_entry is not worker.kept]
        target = self._free_worker() if others else None
        left = [run_entry for run_entry in others if target is None or not self.move(run_entry, target)]
        if not worker.run_entries:
            self.threads.retire(worker)
        return not left

    def _move_off(self, worker: Worker) -> None:
        """Move all kernels from a worker that helps with a handler that takes long."""
        target = self._free_worker()
        if target is not None:
            for run_entry in list(worker.run_entries):
                self.move(run_entry, target)

    def _free_worker(self) -> Worker | None:
        """One that no kernel holds, maybe a new one."""
        now = self._parker.loop.time()
        for worker in self.workers:
            if not worker.dedicated and worker.held_for(now) < HOLD_S:
                return worker
        return self.threads.start()

    def move(self, run_entry: RunEntry, target: Worker) -> bool:
        """Give a kernel to another worker. False if it is in a turn just now."""
        try:
            address = self._entries.new_address()  # first: nothing may fail once the run entry is revoked
        except MemoryError:
            return False
        if self._entries.revoke(run_entry, forced=False) != FREE:
            self._entries.release(address)
            return False
        old = self._entries.exchange(run_entry, address, target)
        self.watch()
        self._entries.have_dismissed(old)
        return True

    # --- the monitor -----------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Some worker may be awake: see to it that no kernel starves."""
        if self._monitor is None:
            self._monitor = self._parker.loop.call_later(MONITOR_S, self._look)

    def woken_doorbell(self) -> int:
        """The doorbell by which threads that are nobody's say that they have woken a worker. The monitor asks for it
        when it goes to rest."""
        if self._woken is None:
            self._woken = self._parker.doorbell(self.watch)
            self._woken.arm()
        return self._woken.address

    def _look(self) -> None:
        self._monitor = None
        now = self._parker.loop.time()
        awake = [worker for worker in self.workers if not worker.parked]
        for worker in awake:
            if not worker.dedicated:
                self._look_at(worker, now)
        held = [worker for worker in (*self.workers, *self.threads.retired) if worker.dedicated]
        waiting = [worker for worker in held if not self._move_on(worker)]
        self._start_helpers(self.team.missing())
        self.balancing.look(now, awake)
        self.fusing.look()
        if awake or waiting:
            self.watch()
        elif self._woken is not None:
            self._woken.arm()
            if any(not worker.parked for worker in self.workers):
                self.watch()

    def _start_helpers(self, count: int) -> None:
        """Some kernel could do with so many more helpers: have them there next time. They are workers like any other as
        far as there may be more of these; one more helps while the event loop does not need its core."""
        for _ in range(count):
            if len(self.workers) < self.size:
                self.threads.start()
            elif not self.threads.spare and len(self.workers) < self.team.n_cores:
                self.threads.start(spare=True)

    def _look_at(self, worker: Worker, now: float) -> None:
        if worker.held_for(now) >= HOLD_S and worker.has_others_waiting():
            holder = next((run_entry for run_entry in worker.run_entries if run_entry.address == worker.current), None)
            if holder is not None:
                logger.info("a kernel holds worker %d; the others move on", worker.number)
                worker.kept = holder  # and `_look` does the rest
            elif worker.helping:
                self._move_off(worker)

    # --- the end ---------------------------------------------------------------------------------------------

    def stop(self, timeout: float) -> None:
        """End all threads that come back; an abandoned one is left behind."""
        if self._pid != os.getpid():
            return
        if self._monitor is not None:
            self._monitor.cancel()
            self._monitor = None
        self.threads.stop(timeout)
        pools.discard(self)
