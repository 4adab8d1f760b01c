"""Several compiled sources feed one compiled target.

    send_batch --> source 0 --ring--+
    send_batch --> source 1 --ring--+--> target --ring--> receive_batch
    ...                             |
    send_batch --> source n --ring--+

Beside it one source with all the records. Each source's records have to arrive complete and in their order.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np

from ringkernel.bench.kernels import Array, running, scale, tick_array
from ringkernel.bench.method import check
from ringkernel.bench.model import Row
from ringkernel.bench.traffic import receive_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import ringkernel as rk
    from ringkernel.bench.context import Bench

RECORDS = 400_000
SOURCES = (1, 2, 4, 8)


def _is_complete(parts: list[Array], results: Array) -> bool:
    """Whether every source's records are there, in order, twice doubled."""
    source_of = np.searchsorted([part["id"][0] for part in parts], results["id"], side="right") - 1
    for i, part in enumerate(parts):
        mine = results[source_of == i]
        if not (np.array_equal(mine["id"], part["id"]) and np.array_equal(mine["value"], 4.0 * part["value"])):
            return False
    return True


def _fed_by(
    runtime: rk.RingKernelRuntime, sources: list[str], target: str, records: Array
) -> Callable[[], Awaitable[float]]:
    parts = np.array_split(records, len(sources))
    results = np.empty_like(records)

    async def millions_per_s() -> float:
        results[:] = 0
        start = time.perf_counter()
        feeding = [runtime.send_batch(source, part) for source, part in zip(sources, parts, strict=True)]
        await asyncio.gather(*feeding, receive_all(runtime, target, results))
        elapsed_s = time.perf_counter() - start
        check(_is_complete(parts, results), f"what {len(sources)} sources sent did not arrive")
        return len(records) / elapsed_s / 1e6

    return millions_per_s


async def run(bench: Bench) -> list[Row]:
    """One row per number of sources."""
    records = tick_array(bench.count(RECORDS, least=1024))
    async with running() as runtime:
        contenders = {}
        for number in SOURCES:
            sources, target = [f"source{number}-{i}" for i in range(number)], f"target{number}"
            for name in (*sources, target):
                await runtime.launch(name, scale)
            for source in sources:
                runtime.connect(source, target)
            for name in (target, *sources):
                await runtime.activate(name)
            contenders[str(number)] = _fed_by(runtime, sources, target, records)
        found = await bench.race_numbers("M/s", contenders)
    single = found["1"].times(1.0, "M/s", "one source")
    return [
        Row(
            f"sources-{number}",
            f"fan-in from {number} source{'s' if number > 1 else ''}",
            found[str(number)].times(1.0, "M/s", "ringkernel"),
            single if number > 1 else None,
            params={"sources": number},
        )
        for number in SOURCES
    ]
