"""Cases about single messages: roundtrip, coroutine, send. The rival runs in the same rounds."""

import asyncio
import contextlib
import time

from echo import flood, round_trip_p50_ns
from floors import asyncio_queue_rate
from harness import Side, at_least, check, interleave, ratio_row, value_row
from kernels import is_scaled, running, ticks
from rival import Rival

ROUND_TRIPS = 2_000
FLOOD = 20_000
SENDS = 100_000
QUEUE_SIZE = 4096  # the default of both sides
DRAIN_DEADLINE_S = 10
# what the rival is asked: messages a round, and how its answer becomes the unit
JOBS = {"round_trip": (ROUND_TRIPS, 1e-3, "us"), "flood": (FLOOD, 1e-6, "M/s")}


def _rival():
    return Rival() if Rival.is_installed() else contextlib.nullcontext()


async def _against(rival, rounds, job, measure):
    """Interleave ours and the rival's `job`. Returns two `Side`s, the rival's None without a rival."""
    count, scale, unit = JOBS[job]

    async def ours():
        return scale * await measure()

    async def theirs():
        return scale * rival.ask(job, count)

    sides = {"ringkernel": ours} | ({"PyDotCompute": theirs} if rival else {})
    values = await interleave(rounds, sides)
    both = [Side(name, unit, values[name]) for name in values]
    return both if rival else [*both, None]


async def roundtrip(rounds):
    """Python to a compiled kernel and back, one message at a time; PyDotCompute's echo actor."""
    messages = ticks(ROUND_TRIPS)
    with _rival() as rival:
        async with running("scale") as runtime:

            async def p50_ns():
                return await round_trip_p50_ns(runtime, "scale", messages, is_scaled)

            ours, theirs = await _against(rival, rounds, "round_trip", p50_ns)
    return [ratio_row("PyDotCompute's p50 / ours", at_least(6), theirs, ours)]


async def coroutine(rounds):
    """An echo coroutine kernel against PyDotCompute's: round trips, then a flood one way."""
    messages = ticks(FLOOD)
    with _rival() as rival:
        async with running("echo") as runtime:

            async def p50_ns():
                return await round_trip_p50_ns(runtime, "echo", messages[:ROUND_TRIPS])

            async def rate():
                return await flood(runtime, "echo", messages)

            ours, theirs = await _against(rival, rounds, "round_trip", p50_ns)
            rows = [ratio_row("PyDotCompute's p50 / ours", at_least(2), theirs, ours)]
            ours, theirs = await _against(rival, rounds, "flood", rate)
            return [*rows, ratio_row("flood / PyDotCompute's", at_least(4), ours, theirs)]


async def send(rounds):
    """Single `await runtime.send` into a compiled sink; the same messages through an asyncio.Queue."""
    messages = ticks(SENDS)
    ids_per_round = sum(message.id for message in messages)
    runs = 0
    async with running("sink") as runtime:

        async def drained():
            deadline = time.monotonic() + DRAIN_DEADLINE_S
            while runtime.statistics("sink").processed < runs * SENDS:
                check(time.monotonic() < deadline, "the sink has not taken every message")
                await asyncio.sleep(0.001)

        async def to_sink():
            nonlocal runs
            start = time.perf_counter()
            for message in messages:
                await runtime.send("sink", message)
            elapsed_s = time.perf_counter() - start
            runs += 1
            await drained()
            total = await runtime.read_state("sink")
            is_right = total.count == runs * SENDS and total.ids == runs * ids_per_round
            check(is_right, "the sink took something else")
            return SENDS / elapsed_s / 1e6

        async def to_queue():
            return await asyncio_queue_rate(messages, QUEUE_SIZE) / 1e6

        rates = await interleave(rounds, {"sends": to_sink, "asyncio.Queue": to_queue})
    ours, queue = Side("send", "M/s", rates["sends"]), Side("asyncio.Queue", "M/s", rates["asyncio.Queue"])
    return [
        value_row("single sends", at_least(0.7, "M/s"), ours.values),
        ratio_row("speed / asyncio.Queue between two tasks", None, ours, queue),
    ]
