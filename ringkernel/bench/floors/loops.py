"""Plain compiled loops in the calling thread, and a copy: what a kernel's work costs without a kernel."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from .atomics import LINE_BYTES, fresh_words

Array = npt.NDArray[Any]


@njit(nogil=True)
def _scale(records: Any, results: Any) -> None:
    for i in range(records.shape[0]):
        results[i].id = records[i].id
        results[i].value = 2.0 * records[i].value


def plain_loop(records: Array) -> tuple[Array, float]:
    """The `scale` kernel's work as one compiled loop into a fresh array. Returns (results, seconds)."""
    start = time.perf_counter()
    results = np.empty_like(records)
    _scale(records, results)
    return results, time.perf_counter() - start


_APART_LINES = 17


@njit(nogil=True, error_model="numpy")
def _saxpy(a: Any, x: Any, b: Any, y: Any, repeats: int) -> None:
    for _ in range(repeats):
        for i in range(x.shape[0]):
            y[i] = a * x[i] + b


def bare_saxpy(a: Any, x: Array, b: Any, repeats: int) -> tuple[Array, float]:
    """`y = a * x + b` over one block in cache, again and again. Returns (y, seconds).

    Both blocks start on a line, and not at the same place in their pages: a floor must not pay for where malloc put
    them (half the speed at worst).
    """
    lines = -(-x.nbytes // LINE_BYTES)
    pool = fresh_words(2 * lines + _APART_LINES).view(x.dtype)
    source, y = pool[: x.size], pool[-x.size :]
    source[:] = x
    x = source
    _saxpy(a, x, b, y, 1)
    start = time.perf_counter()
    _saxpy(a, x, b, y, repeats)
    return y, time.perf_counter() - start


def copy_gb_s(source: Array, target: Array, repeats: int) -> float:
    """GB/s of copying one array of bytes onto another (NumPy calls memcpy for that)."""
    start = time.perf_counter()
    for _ in range(repeats):
        target[...] = source
    return source.nbytes * repeats / (time.perf_counter() - start) / 1e9
