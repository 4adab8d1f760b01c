"""`map` through 1, 2, 4, 8 and 16 connected kernels on one worker.

    array =(lent)=> k0 --ring--> k1 --ring--> ... --ring--> kN =(lent)=> result array

Per hop: N times the records that come out in a second. Beside it the single kernel, which reads and writes memory at
every hop, while between two kernels a message is in cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.bench.kernels import running, scale, start_chain, tick_array
from ringkernel.bench.model import Row, at_least

from .map import mapper

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench

RECORDS = 1_000_000
LENGTHS = (1, 2, 4, 8, 16)
TARGETS = {4: at_least(0.4), 8: at_least(0.5)}


async def run(bench: Bench) -> list[Row]:
    """One row per length."""
    records = tick_array(bench.count(RECORDS, least=1024))
    async with running(workers=1) as runtime:
        contenders = {}
        for length in LENGTHS:
            ids = [f"k{length}-{i}" for i in range(length)]
            await start_chain(runtime, scale, ids)
            contenders[str(length)] = mapper(runtime, (ids[0], ids[-1]), records, 2.0**length)
        found = await bench.race_numbers("M/s", contenders)
    single = found["1"].times(1.0, "M/s", "one kernel")
    return [
        Row(
            f"hops-{length}",
            f"chain of {length}, per hop",
            found[str(length)].times(length, "M/s", "ringkernel"),
            single if length > 1 else None,
            target=TARGETS.get(length),
            params={"kernels": length},
        )
        for length in LENGTHS
    ]
