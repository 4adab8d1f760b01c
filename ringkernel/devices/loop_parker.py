"""The event loop as a party: bells that compiled kernels ring become callbacks in the loop's thread."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import numpy as np

from ringkernel.memory.arenas import Arena, Region, ResultPool, Slab
from ringkernel.memory.layout import ARMED, BELL, BELL_DTYPE, NEVER, PARTY, PARTY_DTYPE, QUIET, RUNG, SEAT_DTYPE
from ringkernel.memory.wait_handle import Waker, new_waker
from ringkernel.ring.clock import tick_clock
from ringkernel.ring.host_api import host_api

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_TAGS = 256
_TIMED_SLEEP_S = 0.0005


class Bell:
    """A bell that runs a callback in the event loop. `door` is what a kernel rings."""

    __slots__ = ("_party", "address", "door", "tag")

    def __init__(self, party: LoopParty, bells: Slab, tag: int) -> None:
        self._party = party
        self.tag = tag
        self.address = bells.allocate()
        self.door = self.address + BELL.door

    def arm(self) -> None:
        """Ask to be rung once. The caller then looks once more at what it waits for."""
        self._party.api.arm_bell(self.address)

    def release(self) -> None:
        """Nobody knows this bell any more."""
        self._party.retire(self)


def _open_own_stat() -> int:
    """A descriptor of what Linux tells of this thread; -1 elsewhere."""
    try:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return -1


class _Listener:
    """What the loop calls when it is woken. Only the loop holds it, and lets go of it when it is closed."""

    __slots__ = ("_party",)

    def __init__(self, party: LoopParty) -> None:
        self._party = party

    def __call__(self) -> None:
        self._party.on_wake()
        self.listen()

    def listen(self) -> None:
        """Where nobody can wake the loop, be called again in a moment."""
        if self._party.is_timed:
            self._party.loop.call_later(_TIMED_SLEEP_S, self)

    def __del__(self) -> None:
        self._party.on_dropped()


class LoopParty:
    """What the kernels of one event loop need of it: its arena, its bells, and the descriptor that it waits on.

    `lost` is called when the loop is closed before the party.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[], None] | None = None) -> None:
        self.loop = loop
        self._lost = lost
        self.arena = Arena()
        self.results = ResultPool()
        self.api = host_api()
        self.clock = tick_clock()
        self.seats = Slab(self.arena, SEAT_DTYPE)
        self._bells = Slab(self.arena, BELL_DTYPE)
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next_tag = 0
        self._tags = np.zeros(_TAGS, np.int64)
        self._tags_address = int(self._tags.ctypes.data)
        self._record: Region = self.arena.allocate(PARTY_DTYPE.itemsize)
        self.address = self._record.address
        self._waker: Waker = new_waker(blocking=False)
        self._stat_fd = -1
        self._open = True
        try:
            self._listen()
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        view = self._record.view(PARTY_DTYPE)[0]
        view["fd"] = self._waker.write_fd
        view["parked"] = 1
        view["stat_fd"] = self._stat_fd = _open_own_stat()
        listener = _Listener(self)
        if self._waker.read_fd >= 0:
            self.loop.add_reader(self._waker.read_fd, listener)
        listener.listen()

    def bell(self, callback: Callable[[], None], *, standing: bool = False) -> Bell:
        """A new bell: rung once after each `arm()`, or, if it is standing, always."""
        tag = self._next_tag
        self._next_tag += 1
        bell = Bell(self, self._bells, tag)
        address = bell.address
        self.api.write_word(address + BELL.party_address, self.address)
        self.api.write_word(address + BELL.tag, tag)
        self.api.write_word(address + BELL.door, address)
        self.api.write_word(address + BELL.standing, int(standing))
        self.api.write_word(address + BELL.state, ARMED if standing else QUIET)
        self._callbacks[tag] = callback
        return bell

    def new_door(self) -> int:
        """A door with nobody behind it. Doors are reused as doors or bells only."""
        address = self._bells.allocate()
        self.api.write_word(address + BELL.state, QUIET)
        self.api.write_word(address + BELL.door, 0)
        return address + int(BELL.door)

    def release_door(self, door: int) -> None:
        """Nobody will stand behind this door again."""
        self._bells.release(door - BELL.door)

    def retire(self, bell: Bell) -> None:
        """Forget a bell. A late ring of it runs nothing."""
        self._callbacks.pop(bell.tag, None)
        self.api.write_word(bell.address + BELL.standing, 0)
        if self.api.quiet_bell(bell.address) == RUNG:  # still in the inbox: reuse it once it has come out
            self._callbacks[bell.tag] = lambda: self._reclaim(bell)
        else:
            self._bells.release(bell.address)

    def _reclaim(self, bell: Bell) -> None:
        del self._callbacks[bell.tag]
        self._bells.release(bell.address)

    @property
    def is_timed(self) -> bool:
        """Whether the loop has to look by itself, again and again."""
        return self._open and self._waker.read_fd < 0

    def on_wake(self) -> None:
        """Somebody has rung, or may have where sleeps are timed."""
        if self._waker.pid != os.getpid():
            return  # a forked child with a copy of the loop: the wake-up is not for it
        try:
            self._waker.clear()
        except BlockingIOError:
            return
        if self._open:
            self.dispatch()

    def on_dropped(self) -> None:
        """The loop listens no more."""
        if self._open and self._lost is not None:
            self._lost()

    def worker_moves(self) -> bool:
        """Whether a worker has left its core for the loop's sake since this was last asked: it is back in a moment."""
        moves = self.api.read_word(self.address + PARTY.worker_moves) == 1
        if moves:
            self.api.write_word(self.address + PARTY.worker_moves, 0)
        return moves

    @property
    def is_crowded(self) -> bool:
        """Whether the loop's thread was last woken on the core of the thread that woke it."""
        return self.api.read_word(self.address + PARTY.crowded) == 1

    def dispatch(self) -> None:
        """Run the callbacks of all bells that were rung."""
        while True:
            count = self.api.collect_tags(self.address, self._tags_address, _TAGS)
            for tag in self._tags[:count].tolist():
                callback = self._callbacks.get(tag)
                if callback is not None:
                    self._call(callback)
            if count < _TAGS:
                return

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 (the other bells were rung, too)
            self.loop.call_exception_handler({"message": "a bell's callback failed", "exception": error})

    def close(self) -> None:
        """Stop listening. No kernel runs any more, or only abandoned ones."""
        if not self._open:
            return
        self._open = False
        self.api.write_word(self.address + PARTY.parked, NEVER)  # nobody writes to the descriptor from now on
        self.api.write_word(self.address + PARTY.stat_fd, -1)
        if self._stat_fd >= 0:
            os.close(self._stat_fd)
        if self._waker.read_fd >= 0 and self._waker.pid == os.getpid():
            if not self.loop.is_closed():
                self.loop.remove_reader(self._waker.read_fd)
            self._waker.recycle()
