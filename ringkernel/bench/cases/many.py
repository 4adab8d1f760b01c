"""A crowd of kernels of one handler: what it costs that there are so many."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import ringkernel as rk
from ringkernel.bench.compiling import Compilations
from ringkernel.bench.kernels import Tick, is_scaled, running, scale, start, ticks
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, Series, at_most
from ringkernel.bench.traffic import check_replies, p50_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

SIZES = (1, 8, 100, 1_000, 10_000)
REFERENCE = 8
DEADLINE_S = 40
WINDOW = 64
MESSAGES = 20_000
ROUND_TRIPS = 1_000
QUEUE_SIZE = 64
RINGS_BYTES = 2 * QUEUE_SIZE * 16
KERNEL_BYTES = 8192  # "a few kilobytes" beside its rings


def resident_bytes() -> int | None:
    """Resident set size now, where the system says."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


class Crowd:
    """Kernels of one handler; grows. `growth` holds (kernels, seconds per launch, bytes per kernel or None)."""

    def __init__(self, runtime: rk.RingKernelRuntime) -> None:
        self.runtime = runtime
        self.ids: list[str] = []
        self.growth: list[tuple[int, float, float | None]] = []

    async def grow(self, size: int, deadline: float) -> bool:
        """Up to `size` kernels. Whether it got there before the deadline."""
        before, began, rss = len(self.ids), time.perf_counter(), resident_bytes()
        while len(self.ids) < size and time.perf_counter() < deadline:
            name = f"crowd{len(self.ids)}"
            await start(self.runtime, name, scale, queue_size=QUEUE_SIZE)
            self.ids.append(name)
        new, after = len(self.ids) - before, resident_bytes()
        if new:
            each = None if rss is None or after is None else (after - rss) / new
            self.growth.append((len(self.ids), (time.perf_counter() - began) / new, each))
        return len(self.ids) >= size

    def shared(self, size: int, messages: list[Tick]) -> Measure[float]:
        """Microseconds per message that goes to one of `size` kernels and back, `WINDOW` in flight."""
        runtime, ids = self.runtime, self.ids[:size]
        whom = [ids[i % size] for i in range(len(messages))]

        async def us_per_message() -> float:
            send, receive = runtime.send, runtime.receive
            replies = []
            begin = time.perf_counter()
            for first in range(0, len(messages), WINDOW):
                window = range(first, min(first + WINDOW, len(messages)))
                for i in window:
                    await send(whom[i], messages[i])
                for i in window:
                    replies.append(await receive(whom[i]))  # noqa: PERF401 (timed as a user would write it)
            elapsed_s = time.perf_counter() - begin
            check_replies(messages, replies, is_scaled)
            return elapsed_s / len(messages) * 1e6

        return us_per_message


async def many(bench: Bench) -> list[Row]:
    """1 to 10,000 kernels on the pool: cost per message and memory per kernel as they grow.

        shared traffic   for 64 messages: await send to the next kernel in turn;  then await receive from the same 64
                         over 8 kernels, over 100, ... over all of them: the same messages and the same Python
        one busy kernel  one message in flight through one kernel, alone and among all the idle ones

    The crowd shares one handler, which is compiled once. Memory is resident memory, divided by the kernels that were
    launched since the last look. A launch that is slow makes the crowd smaller instead of the benchmark longer.
    """
    is_whole = bench.budget.scale >= 0.1
    messages = ticks(bench.count(MESSAGES, least=2 * WINDOW))
    async with running("bench.scale") as alone, rk.RingKernelRuntime() as runtime:
        crowd, deadline, compilations = Crowd(runtime), time.perf_counter() + DEADLINE_S, Compilations()
        sizes = [size for size in SIZES if is_whole or size <= 1_000]
        sizes = [size for size in sizes if await crowd.grow(size, deadline)]
        await start(runtime, "bench.scale")
        found = await bench.race_numbers("us", {("ringkernel", n): crowd.shared(n, messages) for n in sizes})
        few = messages[: bench.count(ROUND_TRIPS, least=20)]
        places = {"among idle ones": runtime, "alone": alone}
        busy = await bench.race_numbers(
            "us", {name: partial(p50_us, place, "bench.scale", few, is_scaled) for name, place in places.items()}
        )
        check(len(runtime.kernels) == len(crowd.ids) + 1, "the runtime lost kernels")
    if is_whole and len(crowd.ids) < SIZES[-1]:
        bench.notes.append(f"only {len(crowd.ids):,} kernels could be launched within {DEADLINE_S} s")

    reference = found["ringkernel", REFERENCE].named(f"{REFERENCE} kernels")
    rows = [
        Row.of(
            f"shared-{size}",
            f"message over {size:,} kernels, {WINDOW} in flight",
            found["ringkernel", size],
            None if size == REFERENCE else reference,
            target=at_most(3.0) if size == SIZES[-1] else None,
            params={"kernels": size},
        )
        for size in sizes
    ]
    figure = f"round trip p50 among {len(crowd.ids):,} idle kernels"
    rows.append(Row.of("busy", figure, busy["among idle ones"], busy["alone"], target=at_most(1.5)))
    figure = f"compiled while {len(crowd.ids):,} kernels of one handler are launched"
    compiled = Series("ringkernel", "functions", (float(compilations.count),))
    rows.append(Row.of("compilations", figure, compiled, target=at_most(0, "functions")))
    return [*rows, *_growth_rows(crowd)]


def _growth_rows(crowd: Crowd) -> Iterator[Row]:
    for size, seconds, each in crowd.growth:
        up_to, params, is_largest = f"up to {size:,} kernels", {"kernels": size}, size == len(crowd.ids)
        if size > REFERENCE:
            launch, target = Series("ringkernel", "ms", (1e3 * seconds,)), at_most(5.0, "ms") if is_largest else None
            yield Row.of(f"launch-{size}", f"launch and activate, {up_to}, each", launch, target=target, params=params)
        if each is not None and size >= 1_000:  # below that, it is the arena's first chunk
            memory = Series("ringkernel", "B", (each,))
            target = at_most(RINGS_BYTES + KERNEL_BYTES, "B") if is_largest else None
            yield Row.of(f"memory-{size}", f"memory per kernel, {up_to}", memory, target=target, params=params)
