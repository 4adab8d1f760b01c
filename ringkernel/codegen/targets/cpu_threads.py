"""Threads of this CPU: sleeping and waking, which CPU one is on, time. Plain Python over calls of the C library.

A parker sleeps in `read` on a descriptor, and whoever wakes it writes to that; where the system has no such descriptor
it sleeps for a while, again and again (`wait_handle.py` chooses).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from numba import types

from .cpu_memory import byte, load_of, stack_words, store_of

if TYPE_CHECKING:
    from collections.abc import Callable

_load_plain = load_of("monotonic")
_store_plain = store_of("monotonic")

_libc_read = types.ExternalFunction("read", types.intp(types.intc, types.intp, types.intp))
_libc_write = types.ExternalFunction("write", types.intp(types.intc, types.intp, types.intp))
_libc_pread = types.ExternalFunction("pread", types.intp(types.intc, types.intp, types.intp, types.int64))
_libc_poll = types.ExternalFunction("poll", types.intc(types.intp, types.uint64, types.intc))
_libc_usleep = types.ExternalFunction("usleep", types.intc(types.uint32))
_libc_clock_gettime = types.ExternalFunction("clock_gettime", types.intc(types.intc, types.intp))
_libc_sched_yield = types.ExternalFunction("sched_yield", types.intc())
_libc_sched_getcpu = types.ExternalFunction("sched_getcpu", types.intc())
_libc_sched_getaffinity = types.ExternalFunction("sched_getaffinity", types.intc(types.intc, types.intp, types.intp))
_libc_sched_setaffinity = types.ExternalFunction("sched_setaffinity", types.intc(types.intc, types.intp, types.intp))

_CLOCK_MONOTONIC = 6 if sys.platform == "darwin" else 1
_SHORTEST_SLEEP_NS = 5_000
_MASK_BYTES = 128
_STAT_BYTES = 512
_STATE, _PROCESSOR = 3, 39
"""Fields of /proc/PID/task/TID/stat, see proc_pid_stat(5); the second one is in brackets and may hold anything."""
_SPACE, _BRACKET, _ZERO, _RUNNABLE = b" )0R"


# --- sleeping and waking --------------------------------------------------------------------------------------------


def sleep_on_descriptor(descriptor: int, scratch: int) -> None:
    """Sleep until something is written to the descriptor."""
    _libc_read(descriptor, scratch, 8)


def wake_descriptor(descriptor: int) -> None:
    """Wake who sleeps on it."""
    words = stack_words()
    _store_plain(words, 1)
    _libc_write(descriptor, words, 8)


def sleep_a_little(descriptor: int, scratch: int) -> None:
    """Sleep for half a millisecond, where there is nothing to sleep on."""
    _libc_usleep(500)


def wake_nobody(descriptor: int) -> None:
    """Do nothing: a timed sleep is over by itself."""
    return


def sleep_beating(descriptor: int, scratch: int) -> None:
    """Sleep on a descriptor, and let a word go up meanwhile. `scratch`: a buffer, the word's address, a pollfd."""
    beat = _load_plain(scratch + 8)
    readable = 0
    while readable <= 0:
        _store_plain(beat, _load_plain(beat) + 1)
        _store_plain(scratch + 16, descriptor | (1 << 32))  # the descriptor, POLLIN
        readable = _libc_poll(scratch + 16, 1, 100)
    _libc_read(descriptor, scratch, 8)


def sleep_a_little_beating(descriptor: int, scratch: int) -> None:
    """As `sleep_beating`, where there is nothing to sleep on."""
    beat = _load_plain(scratch + 8)
    _store_plain(beat, _load_plain(beat) + 1)
    _libc_usleep(500)


class Sleep(NamedTuple):
    """How threads sleep and are woken by one mechanism; `beating`: the same as `on`, with a sign of life."""

    on: Callable[[int, int], None]
    wake: Callable[[int], None]
    beating: Callable[[int, int], None]


_BY_DESCRIPTOR = Sleep(sleep_on_descriptor, wake_descriptor, sleep_beating)
SLEEPS = {
    "eventfd": _BY_DESCRIPTOR,
    "pipe": _BY_DESCRIPTOR,
    "timed": Sleep(sleep_a_little, wake_nobody, sleep_a_little_beating),
}
"""By the mechanisms that `memory/wait_handle.py` chooses from."""


def yield_or_sleep(ns: int) -> None:
    """Give way for about so long."""
    if ns < _SHORTEST_SLEEP_NS:
        _libc_sched_yield()
    else:
        _libc_usleep(ns // 1000)


# --- which CPU, and when ----------------------------------------------------------------------------------------------


def cpu_of_this_thread() -> int:
    """The number of the CPU that runs this thread."""
    return _libc_sched_getcpu()  # type: ignore[no-any-return]


def no_cpu() -> int:
    """The system does not say."""
    return -1


def leave_cpu(cpu: int, masks: int) -> None:
    """Move this thread to another CPU that it may run on. `masks`: room for two masks of CPUs."""
    if _libc_sched_getaffinity(0, _MASK_BYTES, masks) != 0:
        return  # more CPUs than fit
    others = 0
    for offset in range(0, _MASK_BYTES, 8):
        word = _load_plain(masks + offset)
        if offset == cpu // 64 * 8:
            word &= ~(1 << (cpu & 63))
        others |= word
        _store_plain(masks + _MASK_BYTES + offset, word)
    if others != 0:
        _libc_sched_setaffinity(0, _MASK_BYTES, masks + _MASK_BYTES)  # returns when the thread has moved
        _libc_sched_setaffinity(0, _MASK_BYTES, masks)


def stay(cpu: int, masks: int) -> None:
    """The system cannot be asked to move it."""
    return


def is_queued_on(stat: int, cpu: int, text: int) -> int:
    """1 if the thread of this stat file can run, and waits for this CPU or is on it. `text`: room for the file."""
    count = _libc_pread(stat, text, _STAT_BYTES - 2, 0)  # the look for a state goes two beyond
    index = count - 1
    while index > 0 and byte(text, index) != _BRACKET:
        index -= 1
    if index < 1 or byte(text, index + 2) != _RUNNABLE:
        return 0  # it sleeps
    field = _STATE - 1
    while index < count and field < _PROCESSOR:
        index += 1
        if byte(text, index) == _SPACE:
            field += 1
    where = 0
    index += 1
    while index < count and byte(text, index) != _SPACE:
        where = 10 * where + byte(text, index) - _ZERO
        index += 1
    return 1 if field == _PROCESSOR and where == cpu else 0


def is_runnable(stat: int, text: int) -> int:
    """1 if the thread of this stat file runs, or waits for a CPU. `text`: room for the file."""
    index = _libc_pread(stat, text, _STAT_BYTES - 2, 0) - 1
    while index > 0 and byte(text, index) != _BRACKET:
        index -= 1
    return 1 if index > 0 and byte(text, index + 2) == _RUNNABLE else 0


def unknown_state(stat: int, text: int) -> int:
    """The system does not say."""
    return 0


def unknown(stat: int, cpu: int, text: int) -> int:
    """The system does not say."""
    return 0


def monotonic_ns() -> int:
    """The clock, where no instruction counts cycles."""
    words = stack_words()
    _libc_clock_gettime(_CLOCK_MONOTONIC, words)
    return _load_plain(words) * 1_000_000_000 + _load_plain(words + 8)  # type: ignore[no-any-return]
