"""CPU workers: the threads that take turns for compiled kernels, and which kernel runs on which.

A chain stays on one worker until that worker is saturated. A kernel that holds its worker for more than 20 ms while
others are ready keeps the thread for itself, and the others move to a fresh one; a handler that never returns is the
same case, seen for longer.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import weakref
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.codegen.entry_points import EntryPoint, entries
from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.layout import CLAIMED, COMMIT, FREE, GONE, PARKER, PARKER_DTYPE, REVOKED, RUN_ENTRY, RUNG
from ringkernel.memory.wait_handle import Waker, new_waker

from .worker_loop import SCRATCH_BYTES, run_worker

if TYPE_CHECKING:
    import asyncio

    from ringkernel.devices.loop_parker import LoopParker

logger = logging.getLogger("ringkernel")

MONITOR_S = 0.01
HOLD_S = 0.02
SPAN_NS = 50_000
MIN_PATIENCE_NS, MAX_PATIENCE_NS = 8_000, 500_000
"""How long an idle worker polls its kernels before it parks: see `worker_loop.py` for how it adapts in between."""
_SATURATED_CHECKS = 20

_compiled_loop: Any = None


def compiled_loop() -> Any:
    """The worker loop, compiled once per process."""
    global _compiled_loop  # noqa: PLW0603 (a process-wide cache that `functools.cache` would guard no better)
    if _compiled_loop is None:
        _compiled_loop = entries({"run_worker": EntryPoint(run_worker, 2, nogil=True)})["run_worker"]
    return _compiled_loop


class Eviction(Enum):
    """What became of a kernel that was taken from its worker."""

    FREE = "it was not in a turn, and is the caller's"
    GIVING_BACK = "it is about to give its token back by itself"
    ABANDONED = "it is in its handler; nothing that it does from now on counts"


class RunEntry:
    """A kernel's place with one worker."""

    __slots__ = ("address", "block", "doorbell_address", "span_address", "worker")

    def __init__(self, address: int, worker: Worker, block: int, span_address: int, doorbell_address: int) -> None:
        self.address = address
        self.worker = worker
        self.block = block
        self.span_address = span_address
        self.doorbell_address = doorbell_address


class Worker:
    """One thread in the compiled loop."""

    def __init__(self, pool: WorkerPool, number: int) -> None:
        self._pool = pool
        parker = pool.parker
        self.number = number
        self.region = parker.arena.allocate(PARKER_DTYPE.itemsize)
        self.address = self.region.address
        self.run_entries: set[RunEntry] = set()
        self.kept: RunEntry | None = None
        self._seen_turns = -1
        self._seen_at = 0.0
        self._busy_checks = 0
        loop, self._scratch, is_begun = pool.loop(), pool.scratch(), threading.Lock()
        self.waker: Waker = new_waker(blocking=True)
        try:
            self._fill(parker)
            # the frame of the thread keeps alive whatever compiled code may touch, also while the interpreter exits
            keepalive = (parker.arena.chunks, pool.keepalive, self._scratch)
            self.thread = threading.Thread(
                target=_run,
                args=(loop, is_begun, self.address, int(self._scratch.ctypes.data), self.waker, keepalive),
                name=f"ringkernel-worker-{number}",
                daemon=True,
            )
            self.thread.start()
        except BaseException:
            if is_begun.acquire(blocking=False):  # no thread is there, or it will find that it has come too late
                self.waker.recycle()
            else:
                self.tell_to_stop()
                pool.retired.append(self)
            raise

    def _fill(self, parker: LoopParker) -> None:
        record = self.region.view(PARKER_DTYPE)[0]
        record["fd"], record["read_fd"] = self.waker.write_fd, self.waker.read_fd
        record["patience"] = record["min_patience"] = parker.clock.ticks_of(MIN_PATIENCE_NS)
        record["loop_address"] = parker.address
        record["max_patience"] = parker.clock.ticks_of(MAX_PATIENCE_NS)

    @property
    def dedicated(self) -> bool:
        """Whether it is left to one kernel, `kept`, which holds it or did: all others move on."""
        return self.kept is not None

    @property
    def parked(self) -> bool:
        """Whether it sleeps."""
        return self._pool.api.read_word(self.address + PARKER.parked) == 1

    @property
    def current(self) -> int:
        """The address of the run entry whose turn it is, 0 between turns."""
        return self._pool.api.read_word(self.address + PARKER.current_address)

    def held_for(self, now: float) -> float:
        """Seconds for which the same turn has been seen."""
        turns = self._pool.api.read_word(self.address + PARKER.turns)
        if turns != self._seen_turns or self.current == 0:
            self._seen_turns, self._seen_at = turns, now
        return now - self._seen_at

    def has_others_waiting(self) -> bool:
        """Whether another kernel of this worker is ready."""
        api = self._pool.api
        return (
            api.read_word(self.address + PARKER.n_queued) > 1 or api.read_word(self.address + PARKER.inbox_address) != 0
        )

    def tell_to_stop(self) -> None:
        """The thread ends as soon as it is between turns."""
        self._pool.api.write_word(self.address + PARKER.stop, 1)
        self._pool.api.unpark(self.address)


def _run(loop: Any, is_begun: threading.Lock, parker: int, scratch: int, waker: Waker, keepalive: Any) -> None:
    if is_begun.acquire(blocking=False):
        loop(parker, scratch)
        waker.recycle()  # here, where nobody sleeps on it any more, whoever else is still there to know


class WorkerPool:
    """The workers of one event loop. All methods belong to that loop's thread."""

    def __init__(self, parker: LoopParker, size: int) -> None:
        self.parker = parker
        self.api = parker.api
        self.size = size
        self.workers: list[Worker] = []
        self.keepalive: list[Any] = []
        self.retired: list[Worker] = []
        self._undismissed: list[int] = []
        self._refusal: Exception | None = None
        self._span_ticks = parker.clock.ticks_of(SPAN_NS)
        self._monitor: asyncio.TimerHandle | None = None
        self._numbers = 0
        self._pid = os.getpid()
        _pools.add(self)

    def loop(self) -> Any:
        """What the threads run."""
        return compiled_loop()

    def scratch(self) -> npt.NDArray[np.int64]:
        """Words of a thread's own, for its sleep."""
        return np.zeros(SCRATCH_BYTES // 8, np.int64)

    # --- run entries -----------------------------------------------------------------------------------------------

    def enqueue(self, block: int, span_address: int, doorbell_address: int, beside: Worker | None = None) -> RunEntry:
        """Hand a kernel whose token the caller holds to a worker: to `beside` if that one takes kernels.

        Raises `DeviceUnavailableError` when there is none, and no thread to be had.
        """
        worker = beside if beside is not None and beside in self.workers and not beside.dedicated else None
        worker = worker or self._least_loaded()
        return self._enqueue(RunEntry(self._new_entry_address(), worker, block, span_address, doorbell_address))

    def _enqueue(self, run_entry: RunEntry) -> RunEntry:
        """Write the words of a run entry, and hand it over to its worker."""
        write, address = self.api.write_word, run_entry.address
        write(address + RUN_ENTRY.owner, FREE)
        write(address + RUN_ENTRY.state, RUNG)
        write(address + RUN_ENTRY.parker_address, run_entry.worker.address)
        write(address + RUN_ENTRY.block_address, run_entry.block)
        write(address + RUN_ENTRY.span_limit, 1)
        write(address + RUN_ENTRY.span_ticks, self._span_ticks)
        write(address + RUN_ENTRY.next_edge, 0)
        run_entry.worker.run_entries.add(run_entry)
        self.api.hand_over(address, run_entry.doorbell_address)
        self.watch()
        return run_entry

    def dequeue(self, run_entry: RunEntry) -> None:
        """The worker has given the token back, or was made to."""
        self.api.write_word(run_entry.doorbell_address, 0)
        run_entry.worker.run_entries.discard(run_entry)
        self._undismissed.append(run_entry.address)
        if run_entry.worker.dedicated and not run_entry.worker.run_entries:
            self._retire(run_entry.worker)

    def revoke(self, run_entry: RunEntry, *, forced: bool) -> int:
        """Take a kernel from its worker: see `turn.revoke`."""
        while (seen := self.api.revoke(run_entry.address, int(forced))) == COMMIT:
            pass  # it publishes: a matter of nanoseconds, unless the thread is descheduled
        return int(seen)

    def _new_entry_address(self) -> int:
        """The address of a run entry that its worker has dismissed, or of a new one from the slab."""
        waiting = self._undismissed
        for _ in range(min(len(waiting), 4)):
            address = waiting.pop(0)
            if self.api.read_word(address + RUN_ENTRY.owner) == GONE:
                return address
            waiting.append(address)
        return self.parker.run_entries.allocate()

    # --- workers ---------------------------------------------------------------------------------------------

    def _least_loaded(self) -> Worker:
        shared = [worker for worker in self.workers if not worker.dedicated]
        if len(shared) < self.size and all(worker.run_entries for worker in shared):
            fresh = self._start()
            if fresh is not None:
                return fresh
        if not shared:
            raise DeviceUnavailableError(f"no worker thread can be had: {self._refusal}") from self._refusal
        return min(shared, key=lambda worker: len(worker.run_entries))

    def _reap(self) -> None:
        """Let go of threads that have ended since they were given up, and have nobody left to move."""
        self.retired = [worker for worker in self.retired if worker.run_entries or worker.thread.is_alive()]

    def _start(self) -> Worker | None:
        """A new worker; None if the system has no thread, descriptor or memory for one."""
        self._reap()
        try:
            worker = Worker(self, self._numbers)
        except (RuntimeError, OSError, MemoryError) as error:
            if self._refusal is None:
                logger.warning("no further worker thread can be had: %s", error)
            self._refusal = error
            return None
        self._refusal = None
        self._numbers += 1
        self.workers.append(worker)
        return worker

    def _retire(self, worker: Worker) -> None:
        if worker in self.workers:
            worker.tell_to_stop()
            self.workers.remove(worker)
            self.retired.append(worker)

    def evict(self, run_entry: RunEntry) -> Eviction:
        """Take a kernel from its worker for good, in whatever it is doing."""
        seen = self.revoke(run_entry, forced=False)
        if seen == FREE:
            self.dequeue(run_entry)
            self.api.ring_doorbell(run_entry.address)  # so that the worker finds the old run entry, and dismisses it
            return Eviction.FREE
        if seen == CLAIMED:
            seen = self.revoke(run_entry, forced=True)
        if seen not in (CLAIMED, REVOKED):  # (the latter: it was evicted before, and that failed halfway)
            return Eviction.GIVING_BACK
        self._lose(run_entry)
        return Eviction.ABANDONED

    def abandon(self, run_entry: RunEntry) -> None:
        """Nobody knows what has become of an eviction: leave the kernel its thread."""
        self.revoke(run_entry, forced=True)
        self._lose(run_entry)

    def _lose(self, run_entry: RunEntry) -> None:
        worker = run_entry.worker
        worker.kept = run_entry
        self.dequeue(run_entry)
        self._undismissed.remove(run_entry.address)  # the thread may come back to it; never reused
        self._retire(worker)
        self._move_on(worker)
        self.watch()

    def _move_on(self, worker: Worker) -> bool:
        """Move all kernels but the one that it is left to from a worker. False if one is still there, since there is
        no thread for it, or it is in a turn just now: the monitor tries again."""
        others = [run_entry for run_entry in worker.run_entries if run_entry is not worker.kept]
        target = self._free_worker() if others else None
        left = [run_entry for run_entry in others if target is None or not self.move(run_entry, target)]
        if not worker.run_entries:
            self._retire(worker)
        return not left

    def _free_worker(self) -> Worker | None:
        """One that no kernel holds, maybe a new one."""
        now = self.parker.loop.time()
        for worker in self.workers:
            if not worker.dedicated and worker.held_for(now) < HOLD_S:
                return worker
        return self._start()

    def move(self, run_entry: RunEntry, target: Worker) -> bool:
        """Give a kernel to another worker. False if it is in a turn just now."""
        try:
            address = self._new_entry_address()  # first: nothing may fail once the run entry is revoked
        except MemoryError:
            return False
        if self.revoke(run_entry, forced=False) != FREE:
            self.parker.run_entries.release(address)
            return False
        old = run_entry.address
        run_entry.worker.run_entries.discard(run_entry)
        run_entry.address, run_entry.worker = address, target
        self._enqueue(run_entry)
        self._undismissed.append(old)
        self.api.ring_doorbell(old)  # so that the old worker finds it, and dismisses it
        return True

    # --- the monitor -----------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Some worker may be awake: see to it that no kernel starves."""
        if self._monitor is None:
            self._monitor = self.parker.loop.call_later(MONITOR_S, self._look)

    def _look(self) -> None:
        self._monitor = None
        now = self.parker.loop.time()
        awake = [worker for worker in self.workers if not worker.parked]
        for worker in awake:
            if not worker.dedicated:
                self._look_at(worker, now)
        held = [worker for worker in (*self.workers, *self.retired) if worker.dedicated]
        waiting = [worker for worker in held if not self._move_on(worker)]
        if awake or waiting:
            self.watch()

    def _look_at(self, worker: Worker, now: float) -> None:
        if worker.held_for(now) >= HOLD_S and worker.has_others_waiting():
            holder = next((run_entry for run_entry in worker.run_entries if run_entry.address == worker.current), None)
            if holder is not None:
                logger.info("a kernel holds worker %d; the others move on", worker.number)
                worker.kept = holder  # and `_look` does the rest
            return
        self._spread(worker)

    def _spread(self, worker: Worker) -> None:
        """Move one kernel off a worker that has been saturated for a while, if another has nothing to do."""
        busy = self.api.read_word(worker.address + PARKER.n_queued)
        worker._busy_checks = worker._busy_checks + 1 if busy > 1 else 0
        if worker._busy_checks < _SATURATED_CHECKS:
            return
        worker._busy_checks = 0
        shared = [other for other in self.workers if not other.dedicated]
        idle = [other for other in shared if other.parked]
        if not idle and len(shared) < self.size:
            fresh = self._start()
            idle = [fresh] if fresh is not None else []
        if idle:
            ready = [
                run_entry
                for run_entry in worker.run_entries
                if self.api.read_word(run_entry.address + RUN_ENTRY.state) == RUNG
            ]
            for run_entry in ready[: len(ready) // 2]:
                self.move(run_entry, idle[0])

    # --- the end ---------------------------------------------------------------------------------------------

    def stop(self, timeout: float = 1.0) -> None:
        """End all threads that come back; an abandoned one is left behind."""
        if self._pid != os.getpid():
            return
        if self._monitor is not None:
            self._monitor.cancel()
            self._monitor = None
        stopping = [*self.workers, *self.retired]
        for worker in self.workers:
            worker.tell_to_stop()
        self.workers.clear()
        for worker in stopping:
            worker.thread.join(0.0 if worker.dedicated else timeout)
        self.retired = [worker for worker in stopping if worker.thread.is_alive()]
        _pools.discard(self)


_pools: weakref.WeakSet[WorkerPool] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    """Before the interpreter takes its modules apart: no compiled thread may come back into Python later."""
    for pool in list(_pools):
        pool.stop(timeout=0.2)
