"""Cases about kernels that do nothing: idle, many."""

import asyncio
import contextlib
import os
import statistics
import time

from echo import round_trip_p50_ns
from floors import EventfdPair
from harness import Side, at_most, check, interleave, ratio_row, value_row
from kernels import Tick, is_scaled, running, scale, start, ticks
from process import counted_compilations, resident_bytes

IDLE_KERNELS = 8
IDLE_WATCH_S = 2
IDLE_ROUNDS = 2
PAUSE_S = 0.03  # of idleness before each first message
FIRST_MESSAGES = 20

LAUNCHES = 1_000
CROWD = 10_000
CROWD_DEADLINE_S = 30  # a slow launch makes the crowd smaller instead of the benchmark longer
SMALL_QUEUE = 64
RINGS_BYTES = 2 * SMALL_QUEUE * Tick.dtype.itemsize
KERNEL_BYTES = 8192  # "a few kilobytes" beside its rings
ROUND_TRIPS = 2_000


async def _cpu_of_idleness(rounds):
    """CPU time of this process in percent of a core, once per round, each after a second of idleness."""
    shares = []
    for _ in range(rounds):
        await asyncio.sleep(1)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(IDLE_WATCH_S)
        shares.append(100 * (time.process_time() - cpu_s) / (time.perf_counter() - wall_s))
    return shares


async def idle(rounds):
    """Eight idle kernels: their CPU time, and the first message against two blocked threads."""
    ids = [f"idle{i}" for i in range(IDLE_KERNELS)]
    messages = ticks(FIRST_MESSAGES)
    with EventfdPair() if hasattr(os, "eventfd") else contextlib.nullcontext() as pair:
        async with running() as runtime:
            for kernel_id in ids:
                await start(runtime, kernel_id, scale)
            await round_trip_p50_ns(runtime, ids[0], messages, is_scaled)
            shares = await _cpu_of_idleness(min(rounds, IDLE_ROUNDS))

            async def first_message():
                times_ns = []
                for message in messages:
                    await asyncio.sleep(PAUSE_S)
                    times_ns.append(await round_trip_p50_ns(runtime, ids[0], [message], is_scaled))
                return statistics.median(times_ns) / 1e3

            async def first_wake():
                times_ns = []
                for value in range(1, FIRST_MESSAGES + 1):
                    time.sleep(PAUSE_S)  # noqa: ASYNC251 - the loop has to be as idle as the threads
                    times_ns.append(pair.round_trip_ns(value))
                return statistics.median(times_ns) / 1e3

            sides = {"first message": first_message} | ({"eventfds": first_wake} if pair else {})
            times = await interleave(rounds, sides)
    ours, *floor = (Side(name, "us", values) for name, values in times.items())
    return [
        value_row("CPU while idle", at_most(1, "%"), shares),
        ratio_row("first message / eventfd ping-pong", at_most(3), ours, floor[0] if floor else None),
    ]


async def _launch_crowd(runtime):
    """One handler under many ids. Returns (seconds of 1,000, their compilations, ids, bytes each)."""
    begin = time.perf_counter()
    await start(runtime, "idle0", scale, SMALL_QUEUE)
    with counted_compilations() as counter:
        for i in range(1, LAUNCHES):
            await start(runtime, f"idle{i}", scale, SMALL_QUEUE)
        thousand_s = time.perf_counter() - begin
        before, crowd = resident_bytes(), LAUNCHES
        while crowd < CROWD and time.perf_counter() - begin < CROWD_DEADLINE_S:
            await start(runtime, f"idle{crowd}", scale, SMALL_QUEUE)
            crowd += 1
    each = (resident_bytes() - before) / max(1, crowd - LAUNCHES)
    return thousand_s, counter.compilations, crowd, each


async def many(rounds):
    """One busy kernel among 10,000 idle ones and alone; what launching the crowd takes in time and memory."""
    messages = ticks(ROUND_TRIPS)
    async with running() as crowded:
        thousand_s, compilations, crowd, each = await _launch_crowd(crowded)
        await start(crowded, "scale")
        async with running("scale") as alone:

            def p50_in(runtime):
                async def measure():
                    return await round_trip_p50_ns(runtime, "scale", messages, is_scaled) / 1e3

                return measure

            times = await interleave(rounds, {"crowded": p50_in(crowded), "alone": p50_in(alone)})
        check(len(crowded.kernels) == crowd + 1, "the runtime lost kernels")
    ours, floor = Side(f"among {crowd:,}", "us", times["crowded"]), Side("alone", "us", times["alone"])
    return [
        ratio_row("round trip / alone", at_most(3), ours, floor),
        value_row("1,000 launches and activations", at_most(5, "s"), [thousand_s]),
        value_row("compilations after the first launch", at_most(0, ""), [compilations]),
        value_row("memory per kernel", at_most(RINGS_BYTES + KERNEL_BYTES, "B"), [each]),
    ]
