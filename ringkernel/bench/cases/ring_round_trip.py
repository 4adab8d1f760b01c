"""Round trip of a 16-byte record between two compiled threads.

    ringkernel         main --ring--> thread --ring--> main    push, pop; both sides check the record
    two flags (floor)  main --flag--> thread --flag--> main    nothing but the cache line that moves
    C++ ring           the same as ringkernel, over the usual C++ design

One sample is the median over several places in memory, since how long a line takes from core to core depends on
where it lies.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from ringkernel.bench import pair
from ringkernel.bench.cpp import cpp_ring
from ringkernel.bench.floors.flags import flag_ping_pong_ns
from ringkernel.bench.model import Row, at_most

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench

ROUND_TRIPS = 10_000
FEW = 200
PLACES = 9
SAMPLE_NS = 50_000_000
"""About how long a sample takes. Without a core for each thread a round trip takes a thousand times as long."""


def _over_places(measure: Callable[[int], float], round_trips: int) -> Callable[[], Awaitable[float]]:
    async def median_ns() -> float:
        few = min(FEW, round_trips)
        fits = int(SAMPLE_NS / PLACES / measure(few))
        if fits < few:
            return statistics.median(measure(few) for _ in range(3))
        return statistics.median(measure(min(fits, round_trips)) for _ in range(PLACES))

    return median_ns


async def run(bench: Bench) -> list[Row]:
    """Two rows: over the floor, and against C++."""
    native, reason = cpp_ring()
    contenders = {"ringkernel": pair.round_trip_ns, "two flags": flag_ping_pong_ns}
    if native is not None:
        contenders["C++ ring"] = native.round_trip_ns
    count = bench.count(ROUND_TRIPS, least=100)
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
