"""The floors: the least that the machine takes for the same job, without ring, runtime or lifecycle.

    flag ping-pong     two compiled threads, one flag each:     main --flag--> thread --flag--> main
    plain loop         one compiled loop over an array into a fresh array
    eventfd ping-pong  two Python threads that block:           main --eventfd--> thread --eventfd--> main
    asyncio.Queue      one task that puts, one task that gets

Each checks that it did the job.
"""

import asyncio
import os
import threading
import time

import numpy as np
from atomics import LINE_WORDS, fresh_words, load_acquire, store_release
from harness import check
from numba import njit

PING, PONG, READY = 0, LINE_WORDS, 2 * LINE_WORDS


@njit(nogil=True)
def _ping(flags, round_trips):
    for i in range(1, round_trips + 1):
        store_release(flags, PING, i)
        while load_acquire(flags, PONG) != i:
            pass


@njit(nogil=True)
def _pong(flags, round_trips):
    store_release(flags, READY, 1)
    for i in range(1, round_trips + 1):
        while load_acquire(flags, PING) != i:
            pass
        store_release(flags, PONG, i)


@njit
def _is_ready(flags):
    return load_acquire(flags, READY) == 1


def flag_ping_pong_ns(round_trips):
    """Mean round trip in ns of two compiled threads over two flags on lines of their own."""
    flags = fresh_words(3)
    _ping(flags, 0)  # compiles; the thread below must not
    _pong(flags, 0)
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


@njit(nogil=True)
def _scale(records, results):
    for i in range(records.shape[0]):
        results[i].id = records[i].id
        results[i].value = 2.0 * records[i].value


def plain_loop(records):
    """The `scale` kernel's work as one compiled loop in this thread. Returns (results, elapsed_s)."""
    start = time.perf_counter()
    results = np.empty_like(records)
    _scale(records, results)
    return results, time.perf_counter() - start


class EventfdPair:
    """A thread that blocks on an eventfd and answers on another one."""

    _STOP = 1 << 20

    def __enter__(self):
        self._there, self._back = os.eventfd(0), os.eventfd(0)
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        os.eventfd_write(self._there, self._STOP)
        self._thread.join(10)
        os.close(self._there)
        os.close(self._back)

    def _answer(self):
        while (value := os.eventfd_read(self._there)) < self._STOP:
            os.eventfd_write(self._back, value)

    def round_trip_ns(self, value=1):
        """One round trip in ns; the value that comes back is checked."""
        start = time.perf_counter_ns()
        os.eventfd_write(self._there, value)
        answer = os.eventfd_read(self._back)
        elapsed_ns = time.perf_counter_ns() - start
        check(answer == value, "the eventfd brought back another value")
        return elapsed_ns


async def asyncio_queue_rate(messages, capacity):
    """Messages/s through one `asyncio.Queue` from this task to another one."""
    queue = asyncio.Queue(capacity)

    async def take():
        return [await queue.get() for _ in messages]

    taker = asyncio.create_task(take())
    start = time.perf_counter()
    for message in messages:
        await queue.put(message)
    taken = await taker
    elapsed_s = time.perf_counter() - start
    check(taken == messages, "asyncio.Queue changed the messages")
    return len(messages) / elapsed_s
