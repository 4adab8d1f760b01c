"""The floors: the least that this machine takes for the same job, without ring, runtime or lifecycle.

    flags      two compiled threads, one flag each:     main --flag--> thread --flag--> main
    loops      one compiled loop over an array; a copy
    wakeups    two Python threads that block:           main --eventfd--> thread --eventfd--> main

Each checks that it did the job, or gives what it made. A floor must not depend on what it is the floor of, so its
atomics do not come from the product.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .method import check, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from .method import Measure

Array = npt.NDArray[Any]
LINE_BYTES = 128  # two 64-byte lines: the adjacent-line prefetcher pulls pairs
LINE_WORDS = LINE_BYTES // 8
POOL_BYTES = 1 << 26
GAP_BYTES = 5 * 4096 + LINE_BYTES  # another page, and another line in it


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    view = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, view, [index], wraparound=False)


@intrinsic
def load_acquire(typingctx: Any, array: Any, index: Any) -> Any:
    """Read `array[index]`; later accesses stay behind it, and no loop hoists it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_element(context, builder, sig.args[0], args[0], args[1]), "acquire", 8)

    return types.int64(array, types.intp), codegen


@intrinsic
def store_release(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `array[index]`; whoever acquires it sees everything written before it."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _element(context, builder, sig.args[0], args[0], args[1]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), codegen


_pool = np.zeros(POOL_BYTES, np.uint8)  # touched where it is used
_used = 0


def fresh_words(lines: int) -> npt.NDArray[np.int64]:
    """`lines` zeroed lines as one int64 array that starts on a line; word of line i: `i * LINE_WORDS`.

    Every call answers with another place: how long a line takes from core to core depends on where it lies in
    physical memory (on a large server CPU 240 to 320 ns for a ping-pong, and 600 ns in one place out of ten).
    What an earlier call returned is reused only after a whole turn through the pool.
    """
    global _used  # noqa: PLW0603 - one pool per process
    size = lines * LINE_BYTES
    start = _used + -(_pool.ctypes.data + _used) % LINE_BYTES
    if start + size > POOL_BYTES:
        start = -_pool.ctypes.data % LINE_BYTES
    _used = start + size + GAP_BYTES
    place = _pool[start : start + size]
    place[:] = 0
    return place.view(np.int64)


def beside_thread(partner: Callable[[], object], is_ready: Callable[[], object], main: Callable[[], object]) -> int:
    """Run `partner` in a thread and, once it is ready, `main` in this one. How many ns `main` took."""
    thread = threading.Thread(target=partner, daemon=True)
    thread.start()
    while not is_ready():
        time.sleep(0)
    start = time.perf_counter_ns()
    main()
    elapsed_ns = time.perf_counter_ns() - start
    thread.join(10)
    check(not thread.is_alive(), "the other thread did not end")
    return elapsed_ns


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


def flag_ping_pong_ns(round_trips: int) -> float:
    """Mean round trip in ns of two compiled threads over two flags on lines of their own."""
    flags = fresh_words(3)
    _ping(flags, 0)  # compiles; the thread below must not
    _pong(flags, 0)
    flags[:] = 0
    elapsed_ns = beside_thread(
        lambda: _pong(flags, round_trips), lambda: flags[READY], lambda: _ping(flags, round_trips)
    )
    check(flags[PONG] == round_trips, "the flag ping-pong did not end")
    return elapsed_ns / round_trips


class EventfdPair:
    """A thread that blocks on an eventfd and answers on another one: what waking a sleeper takes. Linux only."""

    _STOP = 1 << 20

    def __enter__(self) -> Self:
        self._there, self._back = os.eventfd(0), os.eventfd(0)
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.eventfd_write(self._there, self._STOP)
        self._thread.join(10)
        os.close(self._there)
        os.close(self._back)

    def _answer(self) -> None:
        while (value := os.eventfd_read(self._there)) < self._STOP:
            os.eventfd_write(self._back, value)

    def round_trip_ns(self, value: int) -> int:
        """One round trip in ns; the value that comes back is checked."""
        start = time.perf_counter_ns()
        os.eventfd_write(self._there, value)
        answer = os.eventfd_read(self._back)
        elapsed_ns = time.perf_counter_ns() - start
        check(answer == value, "the eventfd brought back another value")
        return elapsed_ns


@njit(nogil=True)
def _scale(records: Any, results: Any) -> None:
    for i in range(records.shape[0]):
        results[i].id = records[i].id
        results[i].value = 2.0 * records[i].value


def plain_loop(records: Array) -> Array:
    """The `scale` kernel's work as one compiled loop into a fresh array."""
    results = np.empty_like(records)
    _scale(records, results)
    return results


@njit(nogil=True, error_model="numpy")
def _saxpy(a: Any, x: Any, b: Any, y: Any, repeats: int) -> None:
    for _ in range(repeats):
        for i in range(x.shape[0]):
            y[i] = a * x[i] + b


def bare_saxpy(a: Any, x: Array, b: Any, repeats: int) -> Measure[float]:
    """A contender: billions of samples/s of `y = a * x + b` over one block in cache, again and again.

    Both blocks start on a line, 17 of them apart, and so not at the same place in their pages: a floor must not pay for
    where malloc put them (half the speed at worst).
    """

    async def gs_per_s() -> float:
        pool = fresh_words(2 * -(-x.nbytes // LINE_BYTES) + 17).view(x.dtype)
        source, y = pool[: x.size], pool[-x.size :]
        source[:] = x
        _saxpy(a, source, b, y, 1)
        start = time.perf_counter()
        _saxpy(a, source, b, y, repeats)
        elapsed_s = time.perf_counter() - start
        check(np.allclose(y, a * x + b, rtol=1e-5), "the bare loop brought something else")
        return repeats * x.size / elapsed_s / 1e9

    return gs_per_s


def copied(array: Array, amount: float, repeats: int = 1) -> Measure[float]:
    """A contender: `amount` per second of copying an array so often onto another (NumPy calls memcpy for that)."""
    source = array.view(np.uint8)
    target = np.empty_like(source)

    def copy() -> Array:
        for _ in range(repeats):
            target[...] = source
        return target

    return timed(amount, copy, partial(np.array_equal, source), "the copy")
