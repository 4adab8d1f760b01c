"""Round trip of a 16-byte record between two compiled threads.

    ringkernel         main --ring--> thread --ring--> main    push, pop; both sides check the record
    two flags (floor)  main --flag--> thread --flag--> main    nothing but the cache line that moves
    C++ ring           the same as ringkernel, over the usual C++ design

One sample is the median over several places in memory, since how long a line takes from core to core depends on
where it lies.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from ringkernel.bench import pair
from ringkernel.bench.cpp import cpp_ring
from ringkernel.bench.floors.flags import flag_ping_pong_ns
from ringkernel.bench.method import SAMPLE_NS, sized
from ringkernel.bench.model import Row, at_most

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench

ROUND_TRIPS = 10_000
FEW = 50
PLACES = 9


def _over_places(measure: Callable[[int], float], round_trips: int) -> Callable[[], Awaitable[float]]:
    async def median_ns() -> float:
        found: list[float] = []
        deadline = time.perf_counter_ns() + SAMPLE_NS
        while not found or (len(found) < PLACES and time.perf_counter_ns() < deadline):
            found.append(sized(measure, round_trips, FEW, SAMPLE_NS / PLACES))
        return statistics.median(found)

    return median_ns


async def run(bench: Bench) -> list[Row]:
    """Two rows: over the floor, and against C++."""
    native, reason = cpp_ring()
    contenders = {"ringkernel": pair.round_trip_ns, "two flags": flag_ping_pong_ns}
    if native is not None:
        contenders["C++ ring"] = native.round_trip_ns
    count = bench.count(ROUND_TRIPS, least=FEW)
    found = await bench.race_numbers("ns", {name: _over_places(f, count) for name, f in contenders.items()})
    figure, target = "round trip over two rings", at_most(1.10)
    return [
        Row("floor", figure, found["ringkernel"], found["two flags"], higher_is_better=False, target=target),
        Row(
            "cpp",
            figure,
            found["ringkernel"],
            found.get("C++ ring"),
            higher_is_better=False,
            missing=reason,
        ),
    ]
