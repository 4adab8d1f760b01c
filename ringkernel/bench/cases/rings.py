"""The product's rings between two compiled threads, without Python and without the runtime."""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ringkernel.bench import pair
from ringkernel.bench.floors import copied, flag_ping_pong_ns
from ringkernel.bench.method import SAMPLE_NS, sized
from ringkernel.bench.model import Row, at_least, at_most
from ringkernel.bench.native import cpp_ring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure
    from ringkernel.bench.model import Series, Target

ROUND_TRIPS = 10_000
FEW_ROUND_TRIPS = 50
PLACES = 9

CAPACITIES = (1024, 65_536)
FEW_MESSAGES = 4096
BATCHES = (8, 64, 256)
MESSAGES = {1: 500_000, 8: 2_000_000, 64: 4_000_000, 256: 8_000_000}
BATCH_TARGETS = {(65_536, 256): at_least(8.0)}


def _over_places(round_trip_ns: Callable[[int], float], round_trips: int) -> Measure[float]:
    async def median_ns() -> float:
        found: list[float] = []
        deadline = time.perf_counter_ns() + SAMPLE_NS
        while not found or (len(found) < PLACES and time.perf_counter_ns() < deadline):
            found.append(sized(round_trip_ns, round_trips, FEW_ROUND_TRIPS, SAMPLE_NS / PLACES))
        return statistics.median(found)

    return median_ns


async def ring_round_trip(bench: Bench) -> list[Row]:
    """Round trip of a 16-byte record between two compiled threads.

        ringkernel         main --ring--> thread --ring--> main    push, pop; both sides check the record
        two flags (floor)  main --flag--> thread --flag--> main    nothing but the cache line that moves
        C++ ring           the same as ringkernel, over the usual C++ design

    One sample is the median over several places in memory, since how long a line takes from core to core depends on
    where it lies.
    """
    native, reason = cpp_ring()
    contenders = {"ringkernel": pair.round_trip_ns, "two flags": flag_ping_pong_ns}
    if native is not None:
        contenders["C++ ring"] = native.round_trip_ns
    count = bench.count(ROUND_TRIPS, least=FEW_ROUND_TRIPS)
    found = await bench.race_numbers("ns", {name: _over_places(f, count) for name, f in contenders.items()})
    ours, figure, target = found["ringkernel"], "round trip over two rings", at_most(1.10)
    return [
        Row.of("floor", figure, ours, found["two flags"], target=target),
        Row.of("cpp", figure, ours, found.get("C++ ring"), missing=reason),
    ]


def _rate(bench: Bench, capacity: int, one_way_ns: Callable[..., float], batch: int, **way: str) -> Measure[float]:
    """Millions of messages/s of what says how many ns each of so many takes."""
    messages = bench.count(MESSAGES[batch], least=1024)
    cost_ns = partial(one_way_ns, capacity=capacity, batch=batch, **way)

    async def millions_per_s() -> float:
        return 1e3 / sized(cost_ns, messages, FEW_MESSAGES)

    return millions_per_s


async def ring_one_way(bench: Bench) -> list[Row]:
    """16-byte records from one compiled thread to another, by batch size and capacity.

        ringkernel   thread --ring--> main    one by one: written and read in place, as C++ does it; push and pop:
                                              copied in and out; batches: in place, published once
        C++ ring     thread --ring--> main    the usual design, record by record, and with the same batches
        memcpy       main                     as many records, from one piece of memory of a ring's size to another

    Every record is checked by its consumer. All rates are of a thread that does nothing else; where a batch is 1, the
    other thread is woken by nobody and spins.
    """
    native, reason = cpp_ring()
    rows: list[Row] = []
    for capacity in CAPACITIES:
        rate = partial(_rate, bench, capacity)
        contenders = {way: rate(pair.one_way_ns, 1, way=way) for way in ("one by one", "push and pop")}
        contenders |= {f"batch {batch}": rate(pair.one_way_ns, batch, way="batched") for batch in BATCHES}
        ringfuls = max(1, bench.count(MESSAGES[256]) // capacity)
        records = np.ones(capacity * pair.RECORD_BYTES, np.uint8)
        contenders["memcpy"] = copied(records, capacity * ringfuls / 1e6, ringfuls)
        if native is not None:
            contenders["C++ ring"] = rate(native.one_way_ns, 1)
            contenders["C++ ring, batch 256"] = rate(native.one_way_ns, 256)
        rows += _one_way_rows(capacity, await bench.race_numbers("M/s", contenders), reason)
    return rows


def _one_way_rows(capacity: int, found: Mapping[str, Series], reason: str) -> Iterator[Row]:
    """Each way and batch beside the C++ ring, what C++ gains from the same batches, and what the memory allows."""
    copied = "records are copied in and out, of a size known at run time only"
    crowd = "a batch against single messages of the C++ ring"
    lines: list[tuple[str, str, str, int, Target | None, str]] = [
        ("batch1", "one by one", "C++ ring", 1, at_least(1.0), ""),
        ("push-pop", "push and pop", "C++ ring", 1, None, copied),
        *((f"batch{n}", f"batch {n}", "C++ ring", n, BATCH_TARGETS.get((capacity, n)), crowd) for n in BATCHES),
        ("batch256-batched", "batch 256", "C++ ring, batch 256", 256, None, ""),
        ("batch256-memcpy", "batch 256", "memcpy", 256, None, ""),
    ]
    for key, name, beside, batch, target, note in lines:
        yield Row.of(
            f"{key}-{capacity}",
            f"one way, {name}, capacity {capacity:,}",
            found[name].named("ringkernel"),
            found.get(beside),
            target=target,
            note=note,
            params={"batch": batch, "capacity": capacity, "way": "batched" if batch > 1 else name},
            missing=reason,
        )
