"""1 to 10,000 kernels on the pool: cost per message and memory per kernel as they grow.

    shared traffic   for 64 messages: await send to the next kernel in turn;  then await receive from the same 64
                     over 8 kernels, over 100, ... over all of them: the same messages and the same Python
    one busy kernel  one message in flight through one kernel, alone and among all the idle ones

The crowd shares one handler, which is compiled once. Memory is resident memory, divided by the kernels that were
launched since the last look. A launch that is slow makes the crowd smaller instead of the benchmark longer.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ringkernel as rk
from ringkernel.bench.kernels import Tick, is_scaled, running, scale, start, ticks
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, Series, at_most
from ringkernel.bench.traffic import closed_loop_ns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench

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


def compilation_counter() -> Callable[[], int]:
    """Starts counting what numba compiles in this process; what is returned reads the count."""
    from numba.core import event

    class Counter(event.Listener):  # type: ignore[misc]
        """Counts starts."""

        compilations = 0

        def on_start(self, _event: Any) -> None:
            self.compilations += 1

        def on_end(self, _event: Any) -> None:
            pass

    counter = Counter()
    event.register("numba:compile", counter)
    return lambda: counter.compilations


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


def _shared(crowd: Crowd, size: int, messages: list[Tick]) -> Callable[[], Awaitable[float]]:
    """Microseconds per message that goes to one of `size` kernels and back, `WINDOW` in flight."""
    runtime, ids = crowd.runtime, crowd.ids[:size]
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
        check(all(map(is_scaled, messages, replies)), f"{size} kernels brought something else")
        return elapsed_s / len(messages) * 1e6

    return us_per_message


def _round_trip(runtime: rk.RingKernelRuntime, messages: list[Tick]) -> Callable[[], Awaitable[float]]:
    async def p50_us() -> float:
        return statistics.median(await closed_loop_ns(runtime, "scale", messages, is_scaled)) / 1e3

    return p50_us


async def run(bench: Bench) -> list[Row]:
    """Cost by size, busy among idle, launches, memory."""
    sizes = [size for size in SIZES if bench.budget.scale >= 0.1 or size <= 1_000]
    messages = ticks(bench.count(MESSAGES, least=2 * WINDOW))
    async with running("scale") as alone, rk.RingKernelRuntime() as runtime:
        crowd, deadline = Crowd(runtime), time.perf_counter() + DEADLINE_S
        compilations = compilation_counter()
        sizes = [size for size in sizes if await crowd.grow(size, deadline)]
        await start(runtime, "scale")
        found = await bench.race_numbers("us", {str(size): _shared(crowd, size, messages) for size in sizes})
        few = messages[: bench.count(ROUND_TRIPS, least=20)]
        busy = await bench.race_numbers(
            "us", {"among idle ones": _round_trip(runtime, few), "alone": _round_trip(alone, few)}
        )
        check(len(runtime.kernels) == len(crowd.ids) + 1, "the runtime lost kernels")
    if len(crowd.ids) < SIZES[-1] and bench.budget.scale >= 0.1:
        bench.notes.append(f"only {len(crowd.ids):,} kernels could be launched within {DEADLINE_S} s")
    reference = found[str(REFERENCE)].times(1.0, "us", f"{REFERENCE} kernels")
    rows = [
        Row(
            f"shared-{size}",
            f"message over {size:,} kernels, {WINDOW} in flight",
            found[str(size)].times(1.0, "us", "ringkernel"),
            None if size == REFERENCE else reference,
            higher_is_better=False,
            target=at_most(3.0) if size == SIZES[-1] else None,
            params={"kernels": size},
        )
        for size in sizes
    ]
    rows.append(
        Row(
            "busy",
            f"round trip p50 among {len(crowd.ids):,} idle kernels",
            busy["among idle ones"],
            busy["alone"],
            higher_is_better=False,
            target=at_most(1.5),
        )
    )
    compiled = Series("ringkernel", "functions", (float(compilations()),))
    figure = f"compiled while {len(crowd.ids):,} kernels of one handler are launched"
    rows.append(Row("compilations", figure, compiled, higher_is_better=False, target=at_most(0, "functions")))
    return [*rows, *_growth_rows(crowd)]


def _growth_rows(crowd: Crowd) -> list[Row]:
    rows = []
    for size, seconds, each in crowd.growth:
        params, largest = {"kernels": size}, size == len(crowd.ids)
        launches = Series("ringkernel", "ms", (1e3 * seconds,))
        target = at_most(5.0, "ms") if largest else None
        if size > REFERENCE:
            figure = f"launch and activate, up to {size:,} kernels, each"
            rows.append(Row(f"launch-{size}", figure, launches, higher_is_better=False, target=target, params=params))
        if each is not None and size >= 1_000:  # below that, it is the arena's first chunk
            memory = Series("ringkernel", "B", (each,))
            target = at_most(RINGS_BYTES + KERNEL_BYTES, "B") if largest else None
            figure = f"memory per kernel, up to {size:,} kernels"
            rows.append(Row(f"memory-{size}", figure, memory, higher_is_better=False, target=target, params=params))
    return rows
