"""The event loop as a parker: doorbells that compiled kernels ring become callbacks in the loop's thread."""

from __future__ import annotations

import os
import threading
from array import array
from typing import TYPE_CHECKING

from ringkernel.memory.arenas import Arena, Region, ResultPool, Slab
from ringkernel.memory.layout import (
    ARMED,
    DOORBELL,
    DOORBELL_DTYPE,
    NEVER,
    PARKER,
    PARKER_DTYPE,
    QUIET,
    RUN_ENTRY_DTYPE,
    RUNG,
)
from ringkernel.memory.wait_handle import Waker, new_waker
from ringkernel.ring.host.clock import tick_clock
from ringkernel.ring.host_api import host_api

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

CREDIT_NS = 50_000
"""So long the loop's thread may take turns in one go; see `loop_turns.py`."""
MAP_CREDIT_NS = 250_000
"""So long it may take those of a map, whose caller has let go of the loop for it. To hand it over and to be woken again
takes about half of that."""
KNOWN_AFTER = 16
"""After so many messages it is known what one costs."""
_TAGS = 256
_TIMED_SLEEP_S = 0.0005


class Doorbell:
    """A doorbell that runs a callback in the event loop. A kernel rings it by its `doorbell_address`."""

    __slots__ = ("_parker", "address", "doorbell_address", "tag")

    def __init__(self, parker: LoopParker, doorbells: Slab, tag: int) -> None:
        self._parker = parker
        self.tag = tag
        self.address = doorbells.allocate()
        self.doorbell_address = self.address + DOORBELL.target_address

    def arm(self) -> None:
        """Ask to be rung once. The caller then looks once more at what it waits for."""
        self._parker.api.arm_doorbell(self.address)

    def release(self) -> None:
        """Give the doorbell back: nobody has its address any more."""
        self._parker.retire(self)


def _open_own_stat() -> int:
    """A descriptor of what Linux tells of this thread; -1 elsewhere."""
    try:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return -1


class _Listener:
    """The loop's callback for a wake-up. Only the loop holds it, and lets go of it when it is closed."""

    __slots__ = ("_parker",)

    def __init__(self, parker: LoopParker) -> None:
        self._parker = parker

    def __call__(self) -> None:
        self._parker.on_wake()
        self.listen()

    def listen(self) -> None:
        """Have it called again in a moment where nobody can wake the loop."""
        if self._parker.is_timed:
            self._parker.loop.call_later(_TIMED_SLEEP_S, self)

    def __del__(self) -> None:
        self._parker.on_dropped()


class LoopParker:
    """The arena, the doorbells and the wait handle that the kernels of one event loop share.

    `lost` is called when the loop is closed before the parker.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[[], None] | None = None) -> None:
        self.loop = loop
        self._lost = lost
        self.arena = Arena()
        self.results = ResultPool()
        self.api = host_api()
        self.clock = tick_clock()
        self.run_entries = Slab(self.arena, RUN_ENTRY_DTYPE)
        self._doorbells = Slab(self.arena, DOORBELL_DTYPE)
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next_tag = 0
        self._tags = array("q", bytes(8 * _TAGS))  # a slice of it costs a third of one of NumPy's
        self._tags_address = self._tags.buffer_info()[0]
        self.is_own = False
        self._record: Region = self.arena.allocate(PARKER_DTYPE.itemsize)
        self.address = self.arena.loop_address = self._record.address
        self._waker: Waker = new_waker(blocking=False)
        self._stat_fd = -1
        self._open = True
        try:
            self._listen()
        except BaseException:
            self.close()
            raise

    def _listen(self) -> None:
        view = self._record.view(PARKER_DTYPE)[0]
        view["fd"] = self._waker.write_fd
        view["parked"] = 1
        view["known_after"] = KNOWN_AFTER
        view["max_credit"] = self.clock.ticks_of(CREDIT_NS)
        view["map_credit"] = self.clock.ticks_of(MAP_CREDIT_NS)
        view["stat_fd"] = self._stat_fd = _open_own_stat()
        listener = _Listener(self)
        if self._waker.read_fd >= 0:
            self.loop.add_reader(self._waker.read_fd, listener)
        listener.listen()

    def doorbell(self, callback: Callable[[], None], *, standing: bool = False) -> Doorbell:
        """A new doorbell: rung once after each `arm()`, or, if it is standing, always."""
        tag = self._next_tag
        self._next_tag += 1
        doorbell = Doorbell(self, self._doorbells, tag)
        address = doorbell.address
        self.api.write_word(address + DOORBELL.parker_address, self.address)
        self.api.write_word(address + DOORBELL.tag, tag)
        self.api.write_word(address + DOORBELL.target_address, address)
        self.api.write_word(address + DOORBELL.standing, int(standing))
        self.api.write_word(address + DOORBELL.state, ARMED if standing else QUIET)
        self._callbacks[tag] = callback
        return doorbell

    def new_doorbell_address(self) -> int:
        """A doorbell address that holds no doorbell yet. A late ring may still look there, so its memory is reused only
        for doorbells and their addresses."""
        address = self._doorbells.allocate()
        self.api.write_word(address + DOORBELL.state, QUIET)
        self.api.write_word(address + DOORBELL.target_address, 0)
        return address + int(DOORBELL.target_address)

    def release_doorbell_address(self, doorbell_address: int) -> None:
        """No doorbell will be put in this doorbell address again."""
        self._doorbells.release(doorbell_address - DOORBELL.target_address)

    def retire(self, doorbell: Doorbell) -> None:
        """Forget a doorbell. A late ring of it runs nothing."""
        self._callbacks.pop(doorbell.tag, None)
        self.api.write_word(doorbell.address + DOORBELL.standing, 0)
        if self.api.quiet_doorbell(doorbell.address) == RUNG:  # still in the inbox: reuse it once it has come out
            self._callbacks[doorbell.tag] = lambda: self._reclaim(doorbell)
        else:
            self._doorbells.release(doorbell.address)

    def _reclaim(self, doorbell: Doorbell) -> None:
        del self._callbacks[doorbell.tag]
        self._doorbells.release(doorbell.address)

    @property
    def is_timed(self) -> bool:
        """True if the loop has to look by itself, again and again."""
        return self._open and self._waker.read_fd < 0

    def on_wake(self) -> None:
        """Somebody has rung, or may have where sleeps are timed."""
        if self._waker.pid != os.getpid():
            return  # a forked child with a copy of the loop: the wake-up is not for it
        try:
            self._waker.clear()
        except BlockingIOError:
            return
        self.dispatch()

    def on_dropped(self) -> None:
        """The loop listens no more."""
        if self._open and self._lost is not None:
            self._lost()

    def worker_moves(self) -> bool:
        """Return whether a worker has left its core to the loop since the last call: it is back in a moment."""
        moves = self.api.read_word(self.address + PARKER.worker_moves) == 1
        if moves:
            self.api.write_word(self.address + PARKER.worker_moves, 0)
        return moves

    @property
    def is_crowded(self) -> bool:
        """True if the loop's thread was last woken on the core of the thread that woke it."""
        return self.api.read_word(self.address + PARKER.crowded) == 1

    def dispatch(self) -> None:
        """Run the callbacks of all doorbells that were rung."""
        while self._open:
            count = self.api.collect_tags(self.address, self._tags_address, _TAGS)
            for tag in self._tags[:count]:
                callback = self._callbacks.get(tag)
                if callback is not None:
                    try:
                        callback()
                    except Exception as error:  # noqa: BLE001 (the other doorbells were rung, too)
                        self._report(error)
            if count < _TAGS:
                return

    def dispatch_own(self) -> None:
        """`dispatch`, when the loop's own thread has just rung: `is_own` says so to the callbacks."""
        self.is_own = True
        try:
            self.dispatch()
        finally:
            self.is_own = False

    def _report(self, error: Exception) -> None:
        self.loop.call_exception_handler({"message": "a doorbell's callback failed", "exception": error})

    def close(self) -> None:
        """Stop listening. No kernel runs any more, or only abandoned ones."""
        if not self._open:
            return
        self._open = False
        self.api.write_word(self.address + PARKER.parked, NEVER)  # nobody wakes it through the descriptor from now on
        self.api.write_word(self.address + PARKER.stat_fd, -1)
        if self._stat_fd >= 0:
            os.close(self._stat_fd)
        if self._waker.read_fd >= 0 and self._waker.pid == os.getpid():
            if not self.loop.is_closed():
                self.loop.remove_reader(self._waker.read_fd)
            self._waker.recycle()
