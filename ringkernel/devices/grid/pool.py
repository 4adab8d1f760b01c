"""The grids of one device and one event loop, and the worker thread that watches them.

A grid cannot ring a doorbell. The watcher, a worker in whose loop a look at a grid takes the place of a turn, rings for
it, and gives the sign of life without which grids end. A timer sees to grids that have ended without an answer.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.codegen.targets.cpu import compile_variant
from ringkernel.devices.compiled.worker import RunEntries, RunEntry, Workers, pools
from ringkernel.devices.compiled.worker_loop import is_through, run_worker
from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.arenas import CHUNK_BYTES, Arena
from ringkernel.memory.layout import BLOCK, EDGE, FREE, GONE, LINE, REVOKED, RING
from ringkernel.memory.mailbox_layout import CONTROL, CONTROL_DTYPE, HEART, HEART_DTYPE
from ringkernel.ring.turns.turn import rest, turn

from .image import Image, places_of
from .watcher import goes_on, rest_watch, watch

if TYPE_CHECKING:
    import asyncio

    from ringkernel.devices.compiled.worker import Worker
    from ringkernel.devices.event_loop.loop_parker import LoopParker
    from ringkernel.memory.arenas import Region

    from .hardware import Grid, Hardware
    from .image import RunsAsGrid

LOOK_S = 0.05
CONTROL_ROOM = CHUNK_BYTES // 2
"""More than the control lines and mailboxes of all grids of a device. There is as much whenever they were quiesced, so
that all of them can go on: while one runs, the device cannot be made to reach more."""
_LOOK_NS = 50_000
_I8 = np.dtype(np.int64)


class GridRunEntry(RunEntry):
    """A kernel's place on a device: the run entry is the watcher's, the control lines are the grid's."""

    __slots__ = ("answers", "control", "executor", "grid", "is_left")

    def __init__(
        self, address: int, watcher: Worker, executor: RunsAsGrid, control: Region, grid: Grid, answers: int
    ) -> None:
        super().__init__(address, watcher, control.address, executor.kernel.doorbell_address)
        self.executor, self.control, self.grid = executor, control, grid
        self.answers = answers
        self.is_left = False


class GridPool:
    """Starts grids and watches them. All methods belong to the event loop's thread.

    Control lines lie in an arena of their own: each start takes some, when the device cannot be made to reach more
    memory.
    """

    def __init__(self, parker: LoopParker, hardware: Hardware) -> None:
        self.hardware = hardware
        self.is_closing = False
        self._parker = parker
        self._api = parker.api
        self._controls = Arena()
        self._arenas = (parker.arena, self._controls)
        self._heart = self._controls.allocate(HEART_DTYPE.itemsize)
        self._threads = Workers(parker, compiled_watcher, beat_address=self._heart.address + HEART.beat)
        self._threads.keepalive.append(self._controls.chunks)
        self._entries = RunEntries(parker, _LOOK_NS)
        self._running: list[GridRunEntry] = []
        self._ending: list[GridRunEntry] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pid = os.getpid()
        pools.add(self)

    @property
    def keepalive(self) -> list[Any]:
        """Memory that grids may still reach which were given up."""
        return self._threads.keepalive

    # --- memory ----------------------------------------------------------------------------------------------

    def reaches_memory(self) -> bool:
        """Return whether the device reaches all memory that its grids may touch, and enough to start them all."""
        return self._controls.room() >= CONTROL_ROOM and all(map(self.hardware.reaches, self._arenas))

    def reach_memory(self) -> None:
        """Let the device reach it. None of its grids runs."""
        if self._controls.room() < CONTROL_ROOM:
            self._controls.grow()
        for arena in self._arenas:
            arena.keep()
            self.hardware.adopt(arena)

    # --- starting and ending ---------------------------------------------------------------------------------

    def start(self, executor: RunsAsGrid) -> GridRunEntry:
        """Hand a kernel whose token the caller holds to a grid. Raises `DeviceUnavailableError`."""
        self._forget_ended()
        control = self._write_control(executor)
        if not self.hardware.reaches(self._controls):
            raise DeviceUnavailableError(
                f"{self.hardware.name} does not reach the memory for one more grid while others run; start the kernel "
                f"again"
            )
        # before the grid runs: a failure afterwards could not stop it
        watcher = self._watcher()
        self._forget_ended()  # before an address of theirs serves again
        address = self._entries.new_address()
        try:
            answers = executor.kernel.block.read(BLOCK.answers)
            grid = self.hardware.start(executor.code, control.address, places_of(executor).nbytes)
        except BaseException:
            self._entries.release(address)
            raise
        run_entry = GridRunEntry(address, watcher, executor, control, grid, answers)
        self._running.append(run_entry)
        self._entries.enqueue(run_entry)
        self._watch()
        return run_entry

    def _watcher(self) -> Worker:
        watchers = self._threads.alive
        if not watchers and self._threads.start() is None:
            raise self._threads.none_there()
        return watchers[0]

    def _write_control(self, executor: RunsAsGrid) -> Region:
        block, read = executor.kernel.block, self._api.read_word
        edges, output = executor.kernel.rings.reading, executor.kernel.rings.writing
        image_at = CONTROL_DTYPE.itemsize + 8 * len(edges)
        image_at += -image_at % LINE
        control = self._controls.allocate(image_at + places_of(executor).nbytes)
        record = control.view(CONTROL_DTYPE)[0]
        record["block_address"], record["heart_address"] = block.address, self._heart.address
        record["mailbox_address"] = record["image_address"] = control.address + image_at
        record["told_answers"] = block.read(BLOCK.answers)
        record["told_echo"] = block.read(BLOCK.echo)
        if output is not None:
            record["told_tail"] = tail = read(output.address + RING.tail)
            self._api.write_word(output.address + RING.next, tail)
            record["told_progress"] = read(output.address + RING.progress)
        control.view(_I8, len(edges), CONTROL_DTYPE.itemsize)[:] = [read(edge.address + EDGE.head) for edge in edges]
        words = control.view(_I8, (control.nbytes - image_at) // 8, image_at)
        Image(words, control.address + image_at, executor, self._heart.address, read)
        return control

    def is_over(self, run_entry: GridRunEntry) -> bool:
        """Return whether the watcher has told of the grid's last word."""
        return bool(self._api.read_word(run_entry.control.address + CONTROL.is_over))

    def set_over(self, run_entry: GridRunEntry) -> None:
        """The grid's last word was taken without the watcher."""
        self._api.write_word(run_entry.control.address + CONTROL.is_over, 1)

    def dequeue(self, run_entry: GridRunEntry) -> None:
        """The grid has given the token back."""
        self._entries.dequeue(run_entry)
        if run_entry in self._running:
            self._running.remove(run_entry)
        self._ending.append(run_entry)

    def give_up(self, run_entry: GridRunEntry) -> None:
        """A grid does not answer, or is lost: nobody watches it any more. What it may still reach stays."""
        while (seen := self._entries.revoke(run_entry, forced=False)) not in (FREE, GONE, REVOKED):
            pass  # the watcher has a look at it: a matter of nanoseconds, unless the thread is descheduled
        self.dequeue(run_entry)
        self._ending.remove(run_entry)
        self.keepalive.append(run_entry.control)
        run_entry.control.quarantine()
        if seen == FREE:
            self._entries.have_dismissed(run_entry.address)

    def _forget_ended(self) -> None:
        """Control lines that neither the watcher nor a grid will look at again go back."""
        for run_entry in self._ending:
            run_entry.is_left = run_entry.is_left or self._entries.is_dismissed(run_entry.address)
        self._ending = [run_entry for run_entry in self._ending if not (run_entry.is_left and run_entry.grid.is_done())]

    # --- the timer -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        if self._timer is None and not self.is_closing:
            self._timer = self._parker.loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._timer = None
        for run_entry in list(self._running):
            _look_after(run_entry)
        if self._running:
            self._watch()

    def stop(self, timeout: float) -> None:
        """Let all grids leave, and end the watcher."""
        if self._pid != os.getpid():
            return
        self.is_closing = True
        self._api.write_word(self._heart.address + HEART.leave, 1)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._threads.stop(timeout)
        pools.discard(self)
        for arena in self._arenas:
            self.hardware.forget(arena)


def _look_after(run_entry: GridRunEntry) -> None:
    """A grid that has ended without an answer is lost; if only its watcher is late, the answer is taken now."""
    failure = run_entry.grid.failure()
    if failure is not None:
        run_entry.executor.lose(failure)
    elif run_entry.grid.is_done() and not run_entry.executor.take_answer(run_entry.answers):
        run_entry.executor.lose("it has ended without an answer")


@functools.cache
def compiled_watcher() -> Any:
    """The worker loop with a look at a grid in the place of a turn, compiled once per process."""
    return compile_variant(run_worker, {turn: watch, rest: rest_watch, is_through: goes_on})
