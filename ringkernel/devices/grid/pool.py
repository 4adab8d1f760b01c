"""The grids of one event loop, and the worker thread that watches them.

A grid cannot ring a doorbell. The watcher, a CPU worker in whose loop a look at a grid takes the place of a turn, rings
for it, and gives the sign of life without which grids end. A timer sees to grids that have ended without an answer.
"""

from __future__ import annotations

import functools
import logging
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.codegen.targets.cpu import compile_variant
from ringkernel.devices.cpu.pool import RunEntry, WorkerPool
from ringkernel.devices.cpu.worker_loop import run_worker
from ringkernel.errors import DeviceUnavailableError
from ringkernel.memory.arenas import CHUNK_BYTES, Arena
from ringkernel.memory.layout import BLOCK, EDGE, FREE, GONE, LINE, REVOKED, RING, RUN_ENTRY
from ringkernel.memory.mailbox_layout import CONTROL_DTYPE, HEART, HEART_DTYPE, mailbox_nbytes
from ringkernel.ring.turn import rest, turn

from .watcher import rest_watch, watch

if TYPE_CHECKING:
    from ringkernel.devices.loop_parker import LoopParker
    from ringkernel.memory.arenas import Region

    from .device import Grid, GridDevice
    from .engine import GridEngine

logger = logging.getLogger("ringkernel")

LOOK_S = 0.05
BEAT_TIMEOUT_NS = 3_000_000_000
CONTROL_ROOM = CHUNK_BYTES // 2
"""More than the control lines and mailboxes of all grids of a device. There is as much whenever they were quiesced, so
that all of them can go on: while one runs, the device cannot be made to reach more."""
_I8 = np.dtype(np.int64)


_users: weakref.WeakKeyDictionary[GridDevice, weakref.ref[GridPool]] = weakref.WeakKeyDictionary()
_claiming = threading.Lock()
"""Runtimes may live in several threads."""


class GridRunEntry(RunEntry):
    """A kernel's place on a device: the run entry is the watcher's, the control lines are the grid's."""

    __slots__ = ("answers", "control", "engine", "grid", "is_left")

    def __init__(self, run_entry: RunEntry, engine: GridEngine, control: Region, grid: Grid, answers: int) -> None:
        super().__init__(
            run_entry.address, run_entry.worker, run_entry.block, run_entry.span_address, run_entry.doorbell_address
        )
        self.engine, self.control, self.grid = engine, control, grid
        self.answers = answers
        self.is_left = False


class GridPool(WorkerPool):
    """Starts grids and watches them. All methods belong to the event loop's thread.

    Control lines lie in an arena of their own: each start takes some, when no device can be made to reach more memory.
    """

    def __init__(self, parker: LoopParker) -> None:
        self._controls = Arena()
        self._arenas = (parker.arena, self._controls)
        self._heart = self._controls.allocate(HEART_DTYPE.itemsize)
        self._ending: list[GridRunEntry] = []
        self._running: list[GridRunEntry] = []
        self._devices: set[GridDevice] = set()
        self.is_closing = False
        super().__init__(parker, 1)
        self.keepalive.append(self._controls.chunks)

    def claim(self, device: GridDevice) -> None:
        """Have a device for this runtime alone: nobody else's grids would stop while it loads and allocates.

        Raises `DeviceUnavailableError` while another runtime of this process has it.
        """
        with _claiming:
            user = _users[device]() if device in _users else None
            if user is not None and user is not self:
                raise DeviceUnavailableError(
                    f"{device.name} is in use by another runtime of this process, whose kernels would not stop while "
                    f"this one loads; launch there, close it, or choose another device"
                )
            _users[device] = weakref.ref(self)
        self._devices.add(device)

    def reaches(self, device: GridDevice) -> bool:
        """Whether the device reaches all memory that its grids may touch, and enough to start them all."""
        return self._controls.room() >= CONTROL_ROOM and all(device.reaches(arena) for arena in self._arenas)

    def adopt(self, device: GridDevice) -> None:
        """Let the device reach it. None of its grids runs."""
        if self._controls.room() < CONTROL_ROOM:
            self._controls.grow()
        for arena in self._arenas:
            arena.keep()
            device.adopt(arena)

    def loop(self) -> Any:
        return compiled_watcher()

    def scratch(self) -> npt.NDArray[np.int64]:
        """For the watcher's sleep: see `codegen/targets/cpu.py`."""
        words = super().scratch()
        words[1] = self._heart.address + HEART.beat
        return words

    # --- starting and ending ---------------------------------------------------------------------------------

    def start(self, engine: GridEngine) -> GridRunEntry:
        """Hand a kernel whose token the caller holds to a grid. Raises `DeviceUnavailableError`."""
        self._forget_ended()
        control = self._write_control(engine)
        if not engine.grid_device.reaches(self._controls):
            raise DeviceUnavailableError(
                f"{engine.device} does not reach the memory for one more grid while others run; start the kernel again"
            )
        # before the grid runs: a failure afterwards could not stop it
        worker, address = self._least_loaded(), self._new_entry_address()
        try:
            answers = engine.block.read(BLOCK.answers)
            grid = engine.grid_device.start(engine.code, control.address, self._mailbox_nbytes(engine))
        except BaseException:
            self.parker.run_entries.release(address)
            raise
        run_entry = GridRunEntry(
            RunEntry(address, worker, control.address, 0, engine.doorbell_address), engine, control, grid, answers
        )
        self._running.append(run_entry)
        self._enqueue(run_entry)
        return run_entry

    def _mailbox_nbytes(self, engine: GridEngine) -> int:
        edges, output = engine.connections
        return mailbox_nbytes(len(edges), 0 if output is None else len(output.edges), engine.code.n_threads)

    def _write_control(self, engine: GridEngine) -> Region:
        device, read = engine.grid_device, self.api.read_word
        told_at = CONTROL_DTYPE.itemsize
        edges, output = engine.connections
        mailbox_at = told_at + 8 * len(edges)
        mailbox_at += -mailbox_at % LINE
        control = self._controls.allocate(mailbox_at + self._mailbox_nbytes(engine))
        record = control.view(CONTROL_DTYPE)[0]
        record["block_address"] = engine.block.address
        record["mailbox_address"] = control.address + mailbox_at
        record["state_address"], record["staging_address"] = engine.state_address, engine.staging_address
        record["n_threads"] = engine.code.n_threads
        record["span_ticks"] = int(device.span_ns * device.ticks_per_ns)
        record["heart_address"] = self._heart.address
        record["beat_timeout_ticks"] = int(BEAT_TIMEOUT_NS * device.ticks_per_ns)
        record["patience_ticks"] = int(device.patience_ns * device.ticks_per_ns)
        record["max_nap_ns"] = device.max_nap_ns
        record["told_answers"] = engine.block.read(BLOCK.answers)
        record["told_echo"] = engine.block.read(BLOCK.echo)
        if output is not None:
            record["told_tail"] = read(output.address + RING.tail)
        told = control.view(_I8, len(edges), told_at)
        for i, edge in enumerate(edges):
            told[i] = read(edge.address + EDGE.head)
        return control

    def dequeue(self, run_entry: RunEntry) -> None:
        assert isinstance(run_entry, GridRunEntry)
        super().dequeue(run_entry)
        if run_entry in self._running:
            self._running.remove(run_entry)
        self._ending.append(run_entry)

    def give_up(self, run_entry: GridRunEntry) -> None:
        """A grid does not answer, or is lost: nobody watches it any more. What it may still reach stays."""
        while (seen := self.revoke(run_entry, forced=False)) not in (FREE, GONE, REVOKED):
            pass  # the watcher has a look at it: a matter of nanoseconds, unless the thread is descheduled
        self.dequeue(run_entry)
        self._ending.remove(run_entry)
        self.keepalive.append(run_entry.control)
        run_entry.control.quarantine()
        if seen == FREE:
            self.api.ring_doorbell(run_entry.address)  # so that the watcher finds the old run entry, and dismisses it

    def _forget_ended(self) -> None:
        """Control lines that neither the watcher nor a grid will look at again go back."""
        for run_entry in self._ending:
            run_entry.is_left = run_entry.is_left or self.api.read_word(run_entry.address + RUN_ENTRY.owner) == GONE
        self._ending = [run_entry for run_entry in self._ending if not (run_entry.is_left and run_entry.grid.is_done())]

    def _new_entry_address(self) -> int:
        self._forget_ended()  # before an address of theirs serves again
        return super()._new_entry_address()

    # --- the timer -------------------------------------------------------------------------------------------

    def watch(self) -> None:
        if self._monitor is None and not self.is_closing:
            self._monitor = self.parker.loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._monitor = None
        for run_entry in list(self._running):
            self._look_after(run_entry)
        if self._running:
            self.watch()

    def _look_after(self, run_entry: GridRunEntry) -> None:
        """A grid that has ended without an answer is lost; if only its watcher is late, the answer is taken now."""
        failure = run_entry.grid.failure()
        if failure is not None:
            run_entry.engine.is_lost(failure)
        elif run_entry.grid.is_done() and not run_entry.engine.take_answer(run_entry.answers):
            run_entry.engine.is_lost("it has ended without an answer")

    def stop(self, timeout: float = 1.0) -> None:
        self.is_closing = True
        self.api.write_word(self._heart.address + HEART.leave, 1)
        super().stop(timeout)
        while self._devices:
            device = self._devices.pop()
            del _users[device]
            for arena in self._arenas:
                device.forget(arena)


@functools.cache
def compiled_watcher() -> Any:
    """The worker loop with a look at a grid in the place of a turn, compiled once per process."""
    return compile_variant(run_worker, {turn: watch, rest: rest_watch})
