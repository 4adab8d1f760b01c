"""Arrays through a compiled kernel's queues: `send_batch` and `receive_batch` at the same time.

    ringkernel           send_batch --(copy)--> ring --> kernel --> ring --(copy)--> receive_batch
    plain loop (floor)   the same work as one compiled loop in this thread, into a fresh array

One task sends while another one receives.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np

from ringkernel.bench.kernels import is_scaled_array, running, tick_array
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_least
from ringkernel.bench.traffic import receive_all

from .map import loop

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench

RECORDS = 3_000_000  # as many as in `map`, whose loop is the floor
AT_ONCE = 1 << 16  # what one receive_batch asks for


async def run(bench: Bench) -> list[Row]:
    """One row."""
    records = tick_array(bench.count(RECORDS, least=1024))
    results = np.empty_like(records)
    async with running("scale") as runtime:

        async def through_queues() -> float:
            results[:] = 0
            start = time.perf_counter()
            await asyncio.gather(
                runtime.send_batch("scale", records), receive_all(runtime, "scale", results, most=AT_ONCE)
            )
            elapsed_s = time.perf_counter() - start
            check(is_scaled_array(records, results), "the batches brought something else")
            return len(records) / elapsed_s / 1e6

        found = await bench.race_numbers("M/s", {"ringkernel": through_queues, "plain loop": loop(records)})
    return [
        Row(
            "rate",
            "batches of 16 B records, sent and received",
            found["ringkernel"],
            found["plain loop"],
            target=at_least(30, "M/s"),
        )
    ]
