"""The time that operations of an event loop may take before other tasks, and threads, have their turn."""

from __future__ import annotations

import threading
from pathlib import Path
from threading import get_ident
from time import monotonic_ns, sleep

MAX_OPERATIONS = 512
MAX_NS = 1_000_000
_MOST = 32  # before the clock is read: operations may suddenly take longer

WORKER = "ringkernel-worker"
"""The name of threads in compiled code, which need no GIL."""
SOONEST_NS, LATEST_NS = 10_000_000, 320_000_000
SWITCH_NS = 5_000_000
"""The default of `sys.getswitchinterval()`."""
_WAKE_UP_S = 20e-6  # or what the system makes of it: some 60 us on Linux


class _Threads:
    """Other Python threads, which get the GIL every 10 ms from a loop that never sleeps, if they want it.

    Such a loop lets go of the GIL in each `select`, but takes it back long before the thread that this has woken runs;
    and as that thread is woken again and again, it never waits for `sys.getswitchinterval()`, after which it would ask
    for the GIL and be given it. With tasks of 0.1 to 3 ms it gets nowhere for seconds, in plain asyncio, too. Being
    woken takes CPU time, by which it is known: as long as none of them has taken any, they are looked at ever more
    seldom, down to every 320 ms. A loop that was not seen for 5 ms begins anew: threads had their chance.
    """

    __slots__ = ("_cpu_ns", "_interval_ns", "_seen_ns", "_turn_ns")

    def __init__(self, now: int) -> None:
        self._seen_ns, self._turn_ns, self._interval_ns = now, now + SOONEST_NS, SOONEST_NS
        self._cpu_ns = 0

    def let_run(self, now: int) -> int:
        """Let them run if it is their turn. Return the time after that."""
        if now - self._seen_ns >= SWITCH_NS:
            self._turn_ns = now + self._interval_ns
        elif now >= self._turn_ns:
            if self._have_run():
                sleep(_WAKE_UP_S)
                self._interval_ns = SOONEST_NS
            else:
                self._interval_ns = min(2 * self._interval_ns, LATEST_NS)
            now = monotonic_ns()
            self._turn_ns = now + self._interval_ns
        self._seen_ns = now
        return now

    def _have_run(self) -> bool:
        """Return whether one of them has run since the last call; where that cannot be told, whether there is one."""
        own = get_ident()
        others = [one for one in threading.enumerate() if one.ident != own and not one.name.startswith(WORKER)]
        try:
            cpu_ns = sum(_cpu_ns_of(one.native_id) for one in others)
        except OSError:
            return bool(others)
        before, self._cpu_ns = self._cpu_ns, cpu_ns
        return cpu_ns != before


def _cpu_ns_of(thread_id: int | None) -> int:
    """Return the CPU time of a thread so far. Raises `OSError` where the system does not say."""
    with Path(f"/proc/self/task/{thread_id}/schedstat").open("rb", buffering=0) as file:
        return int(file.read(64).split()[0])


class Budget:
    """A cooperative budget: a caller that never waits lets other tasks run after every 512 operations or 1 ms, and now
    and then other threads.

    Callers count `left` down and ask `due()` at zero. The clock is read every 32 quick operations, the more often
    the longer they take.
    """

    __slots__ = ("_checked_ns", "_deadline_ns", "_granted", "_operations", "_threads", "left")

    def __init__(self) -> None:
        self._checked_ns = monotonic_ns()
        self._deadline_ns = self._checked_ns + MAX_NS
        self._operations = 0
        self._granted = self.left = 1
        self._threads = _Threads(self._checked_ns)

    def spend(self) -> bool:
        """Count an operation. Whether to yield before it."""
        self.left = left = self.left - 1
        return left <= 0 and self.due()

    def let_threads_run(self) -> None:
        """For calls that are no operations: polls that have found nothing, commands."""
        self._threads.let_run(monotonic_ns())

    def due(self) -> bool:
        """Return whether to yield now."""
        now = monotonic_ns()
        granted = self._granted
        elapsed = now - self._checked_ns
        operations = self._operations + granted
        left_ns = self._deadline_ns - now
        if granted == _MOST and operations <= MAX_OPERATIONS - _MOST and 2 * elapsed < left_ns:
            self._operations = operations  # what follows would come to the same, in three times the time
            self._checked_ns = now
            self.left = _MOST
            return False
        elapsed = elapsed or 1
        is_due = operations >= MAX_OPERATIONS or left_ns <= 0
        if is_due:
            now = self._threads.let_run(now)
            operations = 0
            left_ns = MAX_NS
            self._deadline_ns = now + MAX_NS
        more = min(2 * granted, _MOST, MAX_OPERATIONS - operations, left_ns * granted // (2 * elapsed))
        self._granted = self.left = more if more > 0 else 1
        self._operations = operations
        self._checked_ns = now
        return is_due
