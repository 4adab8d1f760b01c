"""An array through one compiled kernel by `map`, in place.

    ringkernel           array =(lent as a ring)=> kernel =(lent as a ring)=> result array
    plain loop (floor)   the same work as one compiled loop in this thread, into a fresh array
    memcpy               the same bytes, copied onto warm memory

`map` may beat the plain loop: its result arrays are reused once they have been let go of, and the loop pays for page
faults.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ringkernel.bench.floors.loops import copy_gb_s, plain_loop
from ringkernel.bench.kernels import Array, is_scaled_array, running, tick_array
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_least

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import ringkernel as rk
    from ringkernel.bench.context import Bench

RECORDS = 3_000_000  # 48 MB: above 32 MiB malloc maps fresh pages each time, below it hands out warm ones again


def mapper(
    runtime: rk.RingKernelRuntime, where: str | tuple[str, str], records: Array, factor: float = 2.0
) -> Callable[[], Awaitable[float]]:
    """A contender: millions of records/s through `map`."""

    async def millions_per_s() -> float:
        start = time.perf_counter()
        results = await runtime.map(where, records)
        elapsed_s = time.perf_counter() - start
        check(is_scaled_array(records, results, factor), f"map({where!r}) returned something else")
        return len(records) / elapsed_s / 1e6

    return millions_per_s


def loop(records: Array) -> Callable[[], Awaitable[float]]:
    """A contender: millions of records/s of the plain compiled loop."""

    async def millions_per_s() -> float:
        results, elapsed_s = plain_loop(records)
        check(is_scaled_array(records, results), "the plain loop returned something else")
        return len(records) / elapsed_s / 1e6

    return millions_per_s


def copy(records: Array) -> Callable[[], Awaitable[float]]:
    """A contender: millions of records/s of copying them."""
    source = records.view(np.uint8)
    target = np.empty_like(source)

    async def millions_per_s() -> float:
        rate = copy_gb_s(source, target, 1) * 1e9 / records.itemsize / 1e6
        check(np.array_equal(source, target), "the copy is something else")
        return rate

    return millions_per_s


async def run(bench: Bench) -> list[Row]:
    """Against the plain loop, and against a copy."""
    records = tick_array(bench.count(RECORDS, least=1024))
    async with running("scale") as runtime:
        contenders = {
            "ringkernel": mapper(runtime, "scale", records),
            "plain loop": loop(records),
            "memcpy": copy(records),
        }
        found = await bench.race_numbers("M/s", contenders)
    size = f"map of {len(records):,} records of 16 B"
    return [
        Row("loop", size, found["ringkernel"], found["plain loop"], target=at_least(0.9)),
        Row("memcpy", size, found["ringkernel"], found["memcpy"], note="memcpy writes onto warm memory"),
    ]
