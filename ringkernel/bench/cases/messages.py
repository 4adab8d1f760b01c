"""Single messages from Python: round trips, floods and sends, beside the rivals that can do the same."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.bench.kernels import is_scaled, running, ticks
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, Series, Target, at_least
from ringkernel.bench.percentiles import PERCENTILES, Latencies, percentile_of
from ringkernel.bench.traffic import (
    closed_loop_ns,
    flood_async,
    millions_per_s,
    open_loop_ns,
    p50_us,
    put_all,
    send_all,
    sends_async,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ringkernel.bench.context import Bench
    from ringkernel.bench.rivals import Rival

OURS = "ringkernel"
ROUND_TRIPS = 2_500
TARGETS = {50.0: at_least(8.0), 99.0: at_least(5.0)}
OPEN_MESSAGES, OPEN_RATE_HZ = 3_000, 10_000
SENDS = 20_000
QUEUE_SIZE = 4096  # the default of both sides
DRAIN_DEADLINE_S = 10
IN_PROCESS = "asyncio.Queue here"
COROUTINE_ROUND_TRIPS, COROUTINE_FLOOD = 1_000, 10_000
ASYNCIO_ACTOR = "PyDotCompute"  # the one that lives in an event loop, as coroutine kernels do


def _rows_beside(
    key: str,
    figure: str,
    found: Mapping[str, Series],
    rivals: Sequence[Rival],
    *,
    target: Target | None = None,
) -> list[Row]:
    """Ours beside each rival. Times are compared the other way round; the target is against the asyncio actor."""
    return [
        Row.of(
            f"{key}-{rival.name}",
            f"{figure}, {rival.spec.kind}",
            found[OURS],
            found[rival.name],
            inverted=found[OURS].unit == "us",
            target=target if rival.name == ASYNCIO_ACTOR else None,
            note=rival.spec.note,
        )
        for rival in rivals
    ]


def _warm(answer: dict[str, list[int]]) -> Latencies:
    return Latencies(answer["ns"][len(answer["ns"]) // 10 :])


async def latency(bench: Bench) -> list[Row]:
    """Python to a compiled kernel and back, one message in flight.

        ringkernel   await send --ring--> kernel on a worker --ring--> await receive
        actors       the same through an echo actor: PyDotCompute, pykka, Ray
        queues       the same through two queues and an echo on the other side

    Percentiles are those of each round, without its first tenth, in which everybody's caches are those of who was
    measured before; the ratio with a target is against the best actor of that percentile. What a message costs after
    idleness is a row of `idle`.
    """
    messages = ticks(bench.count(ROUND_TRIPS, least=20))
    with bench.opponents("round_trip") as rivals:
        async with running("scale") as runtime:

            async def ours() -> Latencies:
                return _warm({"ns": await closed_loop_ns(runtime, "scale", messages, is_scaled)})

            theirs = {r.name: r.contender("round_trip", _warm, count=len(messages)) for r in rivals}
            found = await bench.race({OURS: ours} | theirs)
    bench.distributions += [Latencies.curve(name, samples) for name, samples in found.items() if samples.values]
    series = {
        percentile: {name: percentile_of(name, samples, percentile) for name, samples in found.items()}
        for percentile in PERCENTILES
    }
    actors = [rival.name for rival in rivals if rival.spec.kind == "actor" and found[rival.name].values]
    rows = [
        Row.of(
            f"p{percentile:g}",
            f"round trip p{percentile:g}, best actor beside it",
            at[OURS],
            min((at[actor] for actor in actors if not at[actor].wrong), key=lambda actor: actor.median, default=None),
            inverted=True,
            target=TARGETS.get(percentile),
            missing="no actor library is installed",
        )
        for percentile, at in series.items()
    ]
    return rows + _rows_beside("p50", "round trip p50", series[50.0], rivals)


async def latency_open(bench: Bench) -> list[Row]:
    """Python to a compiled kernel and back at a fixed rate, timed from the intended send.

        every 100 us:  await send --ring--> kernel on a worker --ring--> await receive
                       ^ due                                             ^ latency = now - due

    A closed loop sends nothing while it waits, so a stall costs it one slow message; here every message that was due
    during the stall shows it (no coordinated omission). Beside it: the closed loop in the same rounds.
    """
    messages = ticks(bench.count(OPEN_MESSAGES, least=20))
    async with running("scale") as runtime:

        async def at_rate() -> Latencies:
            return Latencies(await open_loop_ns(runtime, "scale", messages, OPEN_RATE_HZ, is_scaled))

        async def closed() -> Latencies:
            return Latencies(await closed_loop_ns(runtime, "scale", messages, is_scaled))

        found = await bench.race({"open loop": at_rate, "closed loop": closed})
    bench.distributions.append(Latencies.curve(f"ringkernel at {OPEN_RATE_HZ:,}/s", found["open loop"]))
    return [
        Row.of(
            f"p{percentile:g}",
            f"round trip p{percentile:g} at {OPEN_RATE_HZ:,} messages/s",
            percentile_of("open loop", found["open loop"], percentile),
            percentile_of("closed loop", found["closed loop"], percentile),
        )
        for percentile in PERCENTILES
    ]


async def send(bench: Bench) -> list[Row]:
    """Single sends from Python into a compiled sink.

        ringkernel      for message in messages: await send --ring--> sink kernel (counts, sums)
        asyncio.Queue   the same into a queue that another task of this loop drains
        rivals          the same into a consumer of theirs that counts and sums

    The time is that of the sending side; that everything arrived is checked afterwards.
    """
    messages = ticks(bench.count(SENDS, least=100))
    before = 0, 0
    with bench.opponents("send") as rivals:
        async with running("sink") as runtime:

            async def total() -> tuple[int, int]:
                """What the sink has seen since the last call."""
                nonlocal before
                deadline = time.monotonic() + DRAIN_DEADLINE_S
                while runtime.statistics("sink").processed < before[0] + len(messages):
                    check(time.monotonic() < deadline, "the sink has not taken every message")
                    await asyncio.sleep(0.001)
                (count, ids), seen = before, await runtime.read_state("sink")
                before = seen.count, seen.ids
                return seen.count - count, seen.ids - ids

            async def to_sink() -> float:
                return millions_per_s(await sends_async(send_all(runtime, "sink", messages), total, messages))

            async def to_queue() -> float:
                queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE_SIZE)
                return millions_per_s(await flood_async(put_all(queue.put, messages), queue.get, messages))

            theirs = {r.name: r.contender("send", millions_per_s, count=len(messages)) for r in rivals}
            found = await bench.race_numbers("M/s", {OURS: to_sink, IN_PROCESS: to_queue} | theirs)
    note = "a queue between two tasks of one thread crosses no thread"
    row = Row.of("rate", "single sends", found[OURS], found[IN_PROCESS], target=at_least(0.7, "M/s"), note=note)
    return [row, *_rows_beside("rate", "single sends", found, rivals)]


async def coroutine(bench: Bench) -> list[Row]:
    """An echo coroutine kernel: round trips, then a flood one way.

        ringkernel   await send --> async for msg in ctx: await ctx.send(msg) --> await receive   in one event loop
        actors       the same through an echo actor of theirs
        queues       the same through two queues and an echo on the other side

    In the flood one task sends everything while another one receives.
    """
    messages = ticks(bench.count(COROUTINE_FLOOD, least=50))
    few = messages[: bench.count(COROUTINE_ROUND_TRIPS, least=20)]
    with bench.opponents("flood") as rivals:
        async with running("echo") as runtime:

            def median_us(answer: dict[str, list[int]]) -> float:
                return statistics.median(answer["ns"]) / 1e3

            async def rate() -> float:
                feed, receive = send_all(runtime, "echo", messages), partial(runtime.receive, "echo")
                return millions_per_s(await flood_async(feed, receive, messages))

            theirs = {r.name: r.contender("round_trip", median_us, count=len(few)) for r in rivals}
            times = await bench.race_numbers("us", {OURS: partial(p50_us, runtime, "echo", few)} | theirs)
            theirs = {r.name: r.contender("flood", millions_per_s, count=len(messages)) for r in rivals}
            rates = await bench.race_numbers("M/s", {OURS: rate} | theirs)
    figure, one_way = "coroutine round trip p50", "coroutine flood, one way"
    if not rivals:
        alone = "no rival is installed"
        return [
            Row.of("p50", figure, times[OURS], missing=alone),
            Row.of("flood", one_way, rates[OURS], missing=alone),
        ]
    return [
        *_rows_beside("p50", figure, times, rivals, target=at_least(2.0)),
        *_rows_beside("flood", one_way, rates, rivals, target=at_least(4.0)),
    ]
