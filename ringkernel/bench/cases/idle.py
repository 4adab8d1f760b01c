"""Eight idle kernels: their CPU time, and the first message after idleness.

    ringkernel           (20 ms of nothing)  await send --> parked worker wakes --> idle event loop wakes
    eventfd (floor)      (20 ms of nothing)  main --eventfd--> blocked thread --eventfd--> blocked main

CPU time is that of the whole process, watched for two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from typing import TYPE_CHECKING

from ringkernel.bench.floors.wakeups import EventfdPair
from ringkernel.bench.kernels import is_scaled, running, scale, start, ticks
from ringkernel.bench.model import Row, Series, at_most
from ringkernel.bench.traffic import closed_loop_ns

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench

KERNELS = 8
WATCH_S = 2.0
WATCHES = 2  # in a quick run
PAUSE_S = 0.02  # of idleness before each first message
FIRST_MESSAGES = 12


async def _cpu_of_idleness(rounds: int, watch_s: float) -> Series:
    """CPU time of this process in percent of a core, once per round, each after half a second of idleness."""
    shares = []
    for _ in range(rounds):
        await asyncio.sleep(watch_s / 4)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(watch_s)
        shares.append(100 * (time.process_time() - cpu_s) / (time.perf_counter() - wall_s))
    return Series("ringkernel", "%", tuple(shares))


async def run(bench: Bench) -> list[Row]:
    """CPU while idle; first message against two blocked threads."""
    ids = [f"idle{i}" for i in range(KERNELS)]
    messages = ticks(bench.count(FIRST_MESSAGES, least=2))
    floor = EventfdPair() if EventfdPair.is_possible() else None
    with floor or contextlib.nullcontext():
        async with running() as runtime:
            for kernel_id in ids:
                await start(runtime, kernel_id, scale)
            await closed_loop_ns(runtime, ids[0], messages, is_scaled)
            shares = await _cpu_of_idleness(
                bench.budget.rounds if bench.budget.is_full else bench.rounds(WATCHES),
                WATCH_S * min(1.0, bench.budget.scale),
            )

            async def first_message() -> float:
                times_ns = []
                for message in messages:
                    await asyncio.sleep(PAUSE_S)
                    times_ns += await closed_loop_ns(runtime, ids[0], [message], is_scaled)
                return statistics.median(times_ns) / 1e3

            async def first_wake() -> float:
                assert floor is not None
                times_ns = []
                for value in range(1, len(messages) + 1):
                    time.sleep(PAUSE_S)  # noqa: ASYNC251 (the loop has to be as idle as the threads)
                    times_ns.append(floor.round_trip_ns(value))
                return statistics.median(times_ns) / 1e3

            contenders = {"ringkernel": first_message} | ({"eventfd ping-pong": first_wake} if floor else {})
            found = await bench.race_numbers("us", contenders)
    return [
        Row("cpu", f"CPU of {KERNELS} idle kernels", shares, higher_is_better=False, target=at_most(1.0, "%")),
        Row(
            "first",
            "first message after idleness",
            found["ringkernel"],
            found.get("eventfd ping-pong"),
            higher_is_better=False,
            target=at_most(3.0),
            missing="this system has no eventfd",
        ),
    ]
