"""The bare ping-pong: two compiled threads, each spinning on a flag that the other one sets."""

from __future__ import annotations

import threading
import time
from typing import Any

from numba import njit

from ringkernel.bench.method import check

from .atomics import LINE_WORDS, fresh_words, load_acquire, store_release

PING, PONG, READY = 0, LINE_WORDS, 2 * LINE_WORDS


@njit(nogil=True)
def _ping(flags: Any, round_trips: int) -> None:
    for i in range(1, round_trips + 1):
        store_release(flags, PING, i)
        while load_acquire(flags, PONG) != i:
            pass


@njit(nogil=True)
def _pong(flags: Any, round_trips: int) -> None:
    store_release(flags, READY, 1)
    for i in range(1, round_trips + 1):
        while load_acquire(flags, PING) != i:
            pass
        store_release(flags, PONG, i)


@njit
def _is_ready(flags: Any) -> bool:
    return bool(load_acquire(flags, READY) == 1)


def flag_ping_pong_ns(round_trips: int) -> float:
    """Mean round trip in ns of two compiled threads over two flags on lines of their own."""
    flags = fresh_words(3)
    _ping(flags, 0)  # compiles; the thread below must not
    _pong(flags, 0)
    _is_ready(flags)
    flags[:] = 0
    thread = threading.Thread(target=_pong, args=(flags, round_trips), daemon=True)
    thread.start()
    while not _is_ready(flags):
        time.sleep(0)
    start = time.perf_counter_ns()
    _ping(flags, round_trips)
    elapsed_ns = time.perf_counter_ns() - start
    thread.join(10)
    check(not thread.is_alive() and flags[PONG] == round_trips, "the flag ping-pong did not end")
    return elapsed_ns / round_trips
