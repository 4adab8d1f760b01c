"""16-byte records from one compiled thread to another, by batch size and capacity.

    ringkernel   thread --ring--> main    one by one: written and read in place, as C++ does it; push and pop: copied in
                                          and out; batches: in place, published once
    C++ ring     thread --ring--> main    the usual design, record by record, and with the same batches
    memcpy       main                     as many records, from one piece of memory of a ring's size to another

Every record is checked by its consumer. All rates are of a thread that does nothing else; where a batch is 1, the
other thread is woken by nobody and spins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ringkernel.bench import pair
from ringkernel.bench.cpp import cpp_ring
from ringkernel.bench.floors.loops import copy_gb_s
from ringkernel.bench.method import sized
from ringkernel.bench.model import Row, Target, at_least

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench
    from ringkernel.bench.native import Native

CAPACITIES = (1024, 65_536)
FEW = 4096
BATCHES = (8, 64, 256)
MESSAGES = {1: 500_000, 8: 2_000_000, 64: 4_000_000, 256: 8_000_000}
ONE_BY_ONE = at_least(1.0)
TARGETS = {(65_536, 256): at_least(8.0)}


def _rate(ns_per_message: Callable[[], float]) -> Callable[[], Awaitable[float]]:
    async def millions_per_s() -> float:
        return 1e3 / ns_per_message()

    return millions_per_s


def _ours(bench: Bench, capacity: int, batch: int, *, in_place: bool = False) -> Callable[[], Awaitable[float]]:
    count = bench.count(MESSAGES[batch], least=1024)
    return _rate(
        lambda: sized(lambda n: pair.one_way_ns(n, capacity=capacity, batch=batch, in_place=in_place), count, FEW)
    )


def _cpp(bench: Bench, native: Native, capacity: int, batch: int) -> Callable[[], Awaitable[float]]:
    count = bench.count(MESSAGES[batch], least=1024)
    return _rate(
        lambda: sized(lambda n: native.one_way_ns(n // batch * batch, capacity=capacity, batch=batch), count, FEW)
    )


def _copy(bench: Bench, capacity: int) -> Callable[[], Awaitable[float]]:
    source, target = (np.full(capacity * pair.RECORD_BYTES, fill, np.uint8) for fill in (1, 2))
    repeats = max(1, bench.count(MESSAGES[256], least=1024) // capacity)
    return _rate(lambda: pair.RECORD_BYTES / copy_gb_s(source, target, repeats))


async def run(bench: Bench) -> list[Row]:
    """One row per capacity and batch, what C++ gains from the same batches, and what the memory allows."""
    native, reason = cpp_ring()
    rows = []
    for capacity in CAPACITIES:
        contenders = {"one by one": _ours(bench, capacity, 1, in_place=True), "push and pop": _ours(bench, capacity, 1)}
        contenders |= {f"batch {batch}": _ours(bench, capacity, batch) for batch in BATCHES}
        contenders["memcpy"] = _copy(bench, capacity)
        if native is not None:
            contenders["C++ ring"] = _cpp(bench, native, capacity, 1)
            contenders["C++ ring, batch 256"] = _cpp(bench, native, capacity, 256)
        found = await bench.race_numbers("M/s", contenders)
        scalar = found.get("C++ ring")
        others = {"batched": found.get("C++ ring, batch 256"), "memcpy": found["memcpy"]}

        def row(name: str, key: str, batch: int, target: Target | None = None, *, note: str = "") -> Row:
            ours = found[name]  # noqa: B023 (used at once)
            beside = others.get(key.rpartition("-")[2], scalar)  # noqa: B023
            return Row(
                f"{key}-{capacity}",  # noqa: B023
                f"one way, {name}, capacity {capacity:,}",  # noqa: B023
                ours.times(1.0, "M/s", "ringkernel"),
                beside,
                target=target,
                note=note,
                params={"batch": batch, "capacity": capacity, "way": "batched" if batch > 1 else name},  # noqa: B023
                missing=reason,
            )

        rows.append(row("one by one", "batch1", 1, ONE_BY_ONE))
        copied = "records are copied in and out, of a size known at run time only"
        rows.append(row("push and pop", "push-pop", 1, note=copied))
        note = "a batch against single messages of the C++ ring"
        rows += [
            row(f"batch {batch}", f"batch{batch}", batch, TARGETS.get((capacity, batch)), note=note)
            for batch in BATCHES
        ]
        rows.append(row("batch 256", "batch256-batched", 256))
        rows.append(row("batch 256", "batch256-memcpy", 256))
    return rows
