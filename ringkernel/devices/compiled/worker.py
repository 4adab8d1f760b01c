"""Threads in the compiled worker loop, and the run entries by which kernels are handed to them."""

from __future__ import annotations

import atexit
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ringkernel.devices.event_loop.background import begin_to_exit
from ringkernel.devices.event_loop.budget import WORKER
from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.arenas import Slab
from ringkernel.memory.layout import COMMIT, FREE, GONE, PARKER, PARKER_DTYPE, RUN_ENTRY, RUNG
from ringkernel.memory.wait_handle import Waker, new_waker

from .traffic import Traffic
from .worker_loop import SCRATCH_BYTES, TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.devices.event_loop.loop_parker import LoopParker

    from .team import Team

logger = logging.getLogger("ringkernel")

MIN_PATIENCE_NS, MAX_PATIENCE_NS = 8_000, 500_000
"""An idle worker polls its kernels for so long before it parks: see `worker_loop.py` for how it adapts in between."""


class RunEntry:
    """A kernel's place with one worker."""

    __slots__ = ("address", "block", "doorbell_address", "is_bounded", "traffic", "worker")

    def __init__(
        self,
        address: int,
        worker: Worker,
        block: int,
        doorbell_address: int,
        traffic: Traffic | None = None,
        *,
        is_bounded: bool = False,
    ) -> None:
        self.address = address
        self.worker = worker
        self.block = block
        self.doorbell_address = doorbell_address
        self.traffic = traffic or Traffic()
        self.is_bounded = is_bounded


class RunEntries:
    """The run entries of one pool. One that was revoked serves again once its worker has dismissed it."""

    def __init__(self, parker: LoopParker, span_ns: int) -> None:
        self._parker = parker
        self._api = parker.api
        self._span_ticks = parker.clock.ticks_of(span_ns)
        self._undismissed: list[int] = []

    def new_address(self) -> int:
        """The address of a run entry that its worker has dismissed, or of a new one from the slab."""
        waiting = self._undismissed
        for _ in range(min(len(waiting), 4)):
            address = waiting.pop(0)
            if self.is_dismissed(address):
                return address
            waiting.append(address)
        return self._parker.run_entries.allocate()

    def release(self, address: int) -> None:
        """One that no worker has seen."""
        self._parker.run_entries.release(address)

    def enqueue(self, run_entry: RunEntry, here: int = 0) -> int:
        """Write the words of a run entry, and hand it over to its worker, or to the event loop at `here`. What that has
        led to, see `see_to` of `loop_turns.py`."""
        write, address = self._api.write_word, run_entry.address
        write(address + RUN_ENTRY.owner, FREE)
        write(address + RUN_ENTRY.state, RUNG)
        write(address + RUN_ENTRY.parker_address, run_entry.worker.address)
        write(address + RUN_ENTRY.block_address, run_entry.block)
        write(address + RUN_ENTRY.span_limit, 1)
        write(address + RUN_ENTRY.span_ticks, self._span_ticks)
        write(address + RUN_ENTRY.next_edge, 0)
        write(address + RUN_ENTRY.is_bounded, int(run_entry.is_bounded))
        write(address + RUN_ENTRY.quick_spans, 0)
        write(address + RUN_ENTRY.pace, 0)
        run_entry.worker.run_entries.add(run_entry)
        return self._api.hand_over(address, run_entry.doorbell_address, here)

    def dequeue(self, run_entry: RunEntry) -> None:
        """The worker has given the token back, or was made to."""
        self._api.write_word(run_entry.doorbell_address, 0)
        run_entry.worker.run_entries.discard(run_entry)
        self._undismissed.append(run_entry.address)

    def exchange(self, run_entry: RunEntry, address: int, target: Worker) -> int:
        """Hand a kernel whose run entry was revoked to another worker, with a new one; the address of the old one."""
        old = run_entry.address
        run_entry.worker.run_entries.discard(run_entry)
        run_entry.address, run_entry.worker = address, target
        self.enqueue(run_entry)
        self._undismissed.append(old)
        return old

    def leave(self, address: int) -> None:
        """Never reuse it: its worker may come back to it at any time."""
        self._undismissed.remove(address)

    def revoke(self, run_entry: RunEntry, *, forced: bool) -> int:
        """Take a kernel from its worker: see `token.revoke`."""
        while (seen := self._api.revoke(run_entry.address, int(forced))) == COMMIT:
            pass  # it publishes: a matter of nanoseconds, unless the thread is descheduled
        return int(seen)

    def have_dismissed(self, address: int) -> None:
        """Ring a revoked run entry, so that its worker finds it, and dismisses it."""
        self._api.ring_doorbell(address)

    def is_dismissed(self, address: int) -> bool:
        """Return whether its worker will not look at it again."""
        return self._api.read_word(address + RUN_ENTRY.owner) == GONE


class Worker:
    """One thread in the compiled loop."""

    def __init__(self, workers: Workers, number: int) -> None:
        parker = workers.parker
        self._api = parker.api
        self.number = number
        self.address = self.job_address = 0
        self.run_entries: set[RunEntry] = set()
        self.kept: RunEntry | None = None
        self.is_stuck = False
        self._seen_turns = -1
        self._seen_at = 0.0
        loop, self._scratch, is_begun = workers.compiled_loop(), workers.new_scratch(), threading.Lock()
        self.waker: Waker = new_waker(blocking=True)
        try:
            self.address = workers.parkers.allocate()
            self.job_address = 0 if workers.team is None else workers.team.new_job()
            self._fill(parker, workers.team)
            # the frame of the thread keeps alive whatever compiled code may touch, also while the interpreter exits
            keepalive = (parker.arena.chunks, workers.keepalive, self._scratch)
            self.thread = threading.Thread(
                target=_run,
                args=(loop, is_begun, self.address, int(self._scratch.ctypes.data), self.waker, keepalive),
                name=f"{WORKER}-{number}",
                daemon=True,
            )
            self.thread.start()
        except BaseException:
            if is_begun.acquire(blocking=False):  # no thread is there, or it will find that it has come too late
                self.waker.recycle()
                workers.let_go(self)
            else:
                self.tell_to_stop()
                workers.retired.append(self)
            raise

    def _fill(self, parker: LoopParker, team: Team | None) -> None:
        write, ticks_of = self._api.write_word, parker.clock.ticks_of
        for offset in range(0, PARKER_DTYPE.itemsize, 8):
            write(self.address + offset, 0)
        write(self.address + PARKER.fd, self.waker.write_fd)
        write(self.address + PARKER.read_fd, self.waker.read_fd)
        write(self.address + PARKER.min_patience, ticks_of(MIN_PATIENCE_NS))
        write(self.address + PARKER.patience, ticks_of(MIN_PATIENCE_NS))
        write(self.address + PARKER.max_patience, ticks_of(MAX_PATIENCE_NS))
        write(self.address + PARKER.loop_address, parker.address)
        write(self.address + PARKER.scratch_address, int(self._scratch.ctypes.data) + TEXT)
        if team is not None:
            write(self.address + PARKER.job_address, self.job_address)
            write(self.address + PARKER.team_address, team.address)

    @property
    def dedicated(self) -> bool:
        """True if it is left to one kernel, `kept`, which holds it or did, or one that it helps with (`is_stuck`): all
        others move on."""
        return self.kept is not None or self.is_stuck

    @property
    def parked(self) -> bool:
        """True if it sleeps."""
        return self._api.read_word(self.address + PARKER.parked) == 1

    @property
    def current(self) -> int:
        """The address of the run entry whose turn it is, 0 between turns."""
        return self._api.read_word(self.address + PARKER.current_address)

    @property
    def helping(self) -> int:
        """The address of the job that it helps with, 0 if it does not."""
        return self._api.read_word(self.address + PARKER.helping_address)

    @property
    def n_queued(self) -> int:
        """The number of kernels in its run queue."""
        return self._api.read_word(self.address + PARKER.n_queued)

    def held_for(self, now: float) -> float:
        """Seconds for which the same turn has been seen."""
        turns = self._api.read_word(self.address + PARKER.turns)
        if turns != self._seen_turns or self.current == 0:
            self._seen_turns, self._seen_at = turns, now
        return now - self._seen_at

    def has_others_waiting(self) -> bool:
        """Return whether another kernel of this worker is ready."""
        return self.n_queued > 1 or self._api.read_word(self.address + PARKER.inbox_address) != 0

    def tell_to_stop(self) -> None:
        """The thread ends as soon as it is between turns."""
        self._api.write_word(self.address + PARKER.stop, 1)
        self._api.unpark(self.address)


def _run(loop: Any, is_begun: threading.Lock, parker: int, scratch: int, waker: Waker, keepalive: Any) -> None:
    if is_begun.acquire(blocking=False):
        loop(parker, scratch)
        waker.recycle()  # here, where nobody sleeps on it any more, whoever else is still there to know


class Workers:
    """The threads of one pool. `compiled_loop` is what they run; one that beats lets the word at `beat_address` go up
    while they sleep. `alive` take kernels, `spare` only help; as a `team` they help each other."""

    def __init__(
        self, parker: LoopParker, compiled_loop: Callable[[], Any], *, team: Team | None = None, beat_address: int = 0
    ) -> None:
        self.parker = parker
        self.compiled_loop = compiled_loop
        self.team = team
        self.parkers = Slab(parker.arena, PARKER_DTYPE, 8)
        self._beat_address = beat_address
        self.alive: list[Worker] = []
        self.spare: list[Worker] = []
        self.retired: list[Worker] = []
        self.keepalive: list[Any] = []
        self.refusal: Exception | None = None
        self._numbers = 0

    def new_scratch(self) -> npt.NDArray[np.int64]:
        """Words of a thread's own, for its sleep: see `sleep_beating` of `codegen/targets/cpu_threads.py`."""
        words = np.zeros(SCRATCH_BYTES // 8, np.int64)
        words[1] = self._beat_address
        return words

    def start(self, *, spare: bool = False) -> Worker | None:
        """A new worker; None if the system has no thread, descriptor or memory for one."""
        self._reap()
        try:
            worker = Worker(self, self._numbers)
        except (RuntimeError, OSError, MemoryError) as error:
            if self.refusal is None:
                logger.warning("no further worker thread can be had: %s", error)
            self.refusal = error
            return None
        self.refusal = None
        self._numbers += 1
        (self.spare if spare else self.alive).append(worker)
        self._seat()
        return worker

    def _seat(self) -> None:
        if self.team is not None:
            self.team.seat([*self.alive, *self.spare])

    def helping_with(self, job_address: int) -> list[Worker]:
        """Return the workers inside of this job, and those about to look whether they may come in."""
        return [worker for worker in (*self.alive, *self.spare) if worker.helping == job_address]

    def none_there(self) -> DeviceUnavailableError:
        """There is no worker, and none to be had."""
        error = DeviceUnavailableError(f"no worker thread can be had: {self.refusal}")
        error.__cause__ = self.refusal
        return error

    def _reap(self) -> None:
        """Let go of threads that have ended since they were given up, and have nobody left to move."""
        ended = [worker for worker in self.retired if not worker.run_entries and not worker.thread.is_alive()]
        for worker in ended:
            self.retired.remove(worker)
            self.let_go(worker)

    def let_go(self, worker: Worker) -> None:
        """Its thread has ended, or has never been: its words may serve another."""
        if worker.address:
            self.parkers.release(worker.address)
        if worker.job_address and self.team is not None:
            self.team.release_job(worker.job_address)

    def retire(self, worker: Worker) -> None:
        """It takes no kernels any more, and ends when it is between turns."""
        for group in (self.alive, self.spare):
            if worker in group:
                worker.tell_to_stop()
                group.remove(worker)
                self.retired.append(worker)
        self._seat()

    def stop(self, timeout: float) -> None:
        """End all threads that come back; one that was left to a kernel is not waited for."""
        stopping = [*self.alive, *self.spare, *self.retired]
        for worker in (*self.alive, *self.spare):
            worker.tell_to_stop()
        self.alive.clear()
        self.spare.clear()
        for worker in stopping:
            worker.thread.join(0.0 if worker.dedicated else timeout)
        self.retired = [worker for worker in stopping if worker.thread.is_alive()]


class Pool(Protocol):
    """A pool of threads."""

    def stop(self, timeout: float) -> None:
        """End them."""


pools: weakref.WeakSet[Pool] = weakref.WeakSet()
"""Those that are stopped at the interpreter's exit."""


@atexit.register
def _stop_all() -> None:
    """Before the interpreter takes its modules apart: no compiled thread may come back into Python later."""
    begin_to_exit()
    for pool in list(pools):
        pool.stop(0.2)
