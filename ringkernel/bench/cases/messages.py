"""Single messages from Python: round trips, floods and sends, beside the rivals that can do the same."""

from __future__ import annotations

import asyncio
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.bench.context import series_of
from ringkernel.bench.forms import NESTED, message_forms
from ringkernel.bench.kernels import is_scaled, running, start, ticks
from ringkernel.bench.method import Samples, check
from ringkernel.bench.model import Row, Target, at_least, at_most
from ringkernel.bench.neighbour import Neighbour
from ringkernel.bench.percentiles import PERCENTILES, Latencies, percentile_of
from ringkernel.bench.traffic import (
    QUEUE_SIZE,
    calls_ns,
    closed_loop_ns,
    flood_async,
    millions_per_s,
    open_loop,
    p50_us,
    put_all,
    queue_echo,
    round_trips_async,
    send_all,
    sends_async,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure
    from ringkernel.bench.model import Series
    from ringkernel.bench.rivals import Rival
    from ringkernel.bench.traffic import Paced

OURS, CALL = "ringkernel", "ringkernel, call"
ROUND_TRIPS = 2_500
TARGETS = {50.0: at_least(8.0), 99.0: at_least(5.0)}
OPEN_S = {1_000: 1.0, 10_000: 0.4, 50_000: 0.3}  # how long a measurement takes, by messages/s
BUSY, DRAWN = (10_000,), "10000"
LEVEL = 1.1  # what counts as no worse: two equal contenders differ by less
SENDS = 20_000
DRAIN_DEADLINE_S = 10
IN_PROCESS = "asyncio.Queue here"
FORM_ROUND_TRIPS = 1_000
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

        ringkernel   await send --ring--> kernel --ring--> await receive, and the same as one await call
        actors       the same through an echo actor: PyDotCompute, pykka, Ray
        queues       the same through two queues and an echo on the other side

    Percentiles are those of each round, without its first tenth, in which everybody's caches are those of who was
    measured before; the ratio with a target is against the best actor of that percentile. What a message costs after
    idleness is a row of `idle`.
    """
    messages = ticks(bench.count(ROUND_TRIPS, least=20))
    with bench.opponents("round_trip") as rivals:
        async with running("bench.scale") as runtime:

            async def ours() -> Latencies:
                return _warm({"ns": await closed_loop_ns(runtime, "bench.scale", messages, is_scaled)})

            async def calls() -> Latencies:
                return _warm({"ns": await calls_ns(runtime, "bench.scale", messages, is_scaled)})

            theirs = {r.name: r.contender("round_trip", _warm, count=len(messages)) for r in rivals}
            found = await bench.race({OURS: ours, CALL: calls} | theirs)
    bench.distributions += [Latencies.curve(name, samples) for name, samples in found.items() if samples.values]
    series = {
        percentile: {name: percentile_of(name, samples, percentile) for name, samples in found.items()}
        for percentile in PERCENTILES
    }
    actors = [rival.name for rival in rivals if rival.spec.kind == "actor" and found[rival.name].values]
    both = series[50.0][CALL].named(OURS), series[50.0][OURS].named("send and receive")
    rows = [Row.of("call", "round trip p50 by call, which is one await", *both, target=at_most(1.2, "us"))]
    rows += [
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
    """Python to a compiled kernel and back at fixed rates, beside an `asyncio.Queue` echo; how many cores that takes.

        every 100 us:  await send --ring--> kernel --ring--> await receive
                       ^ due                                 ^ latency = now - due
        asyncio.Queue  the same through two queues and a task between them, in this process

    A closed loop sends nothing while it waits, so a stall costs it one slow message; here every message that was due
    during the stall shows it (no coordinated omission). The event loop never sleeps, which takes one core by itself.
    One rate is measured beside a busy neighbour, too. The highest percentile of a round may be that of its slowest
    message.
    """
    circumstances = {(f"{rate}", f"{rate:,} messages/s"): (rate, False) for rate in OPEN_S}
    circumstances |= {(f"{rate}-busy", f"{rate:,} messages/s beside a busy process"): (rate, True) for rate in BUSY}
    async with running("bench.scale") as runtime, queue_echo() as (put, get):
        with Neighbour() as neighbour:
            send, receive = partial(runtime.send, "bench.scale"), partial(runtime.receive, "bench.scale")
            contenders: dict[tuple[str, str], Measure[Paced]] = {}
            for (key, _), (rate, is_busy) in circumstances.items():
                messages = ticks(bench.count(round(rate * OPEN_S[rate]), least=20))
                ours = partial(open_loop, send, receive, messages, rate, is_scaled)
                theirs = partial(open_loop, put, get, messages, rate)
                for name, measure in {OURS: ours, IN_PROCESS: theirs}.items():
                    contenders[name, key] = neighbour.beside(measure) if is_busy else measure
            found = await bench.race(contenders)
    return [row for key, at in circumstances for row in _open_rows(bench, key, at, found)]


def _open_rows(bench: Bench, key: str, at: str, found: Mapping[tuple[str, str], Samples[Paced]]) -> Iterator[Row]:
    """The percentiles at one rate, and the cores."""
    sides = {name: found[name, key] for name in (OURS, IN_PROCESS)}
    latencies = {
        name: Samples([Latencies(paced.ns) for paced in side.values], side.wrong) for name, side in sides.items()
    }
    if key == DRAWN:
        curves = [Latencies.curve(f"{name}, {at}", side) for name, side in latencies.items() if side.values]
        bench.distributions += curves
    for percentile in PERCENTILES:
        both = (percentile_of(name, side, percentile) for name, side in latencies.items())
        target = at_most(LEVEL) if percentile > 50 else None
        yield Row.of(f"p{percentile:g}-{key}", f"open loop, {at}, p{percentile:g}", *both, target=target)
    cores = (series_of(name, "cores", side, lambda paced: paced.cores) for name, side in sides.items())
    yield Row.of(f"cores-{key}", f"open loop, {at}, cores used", *cores, target=at_most(LEVEL))


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
        async with running("bench.sink") as runtime:

            async def total() -> tuple[int, int]:
                """What the sink has seen since the last call."""
                nonlocal before
                deadline = time.monotonic() + DRAIN_DEADLINE_S
                while runtime.statistics("bench.sink").processed < before[0] + len(messages):
                    check(time.monotonic() < deadline, "the sink has not taken every message")
                    await asyncio.sleep(0.001)
                (count, ids), seen = before, await runtime.read_state("bench.sink")
                before = seen.count, seen.ids
                return seen.count - count, seen.ids - ids

            async def to_sink() -> float:
                return millions_per_s(await sends_async(send_all(runtime, "bench.sink", messages), total, messages))

            async def to_queue() -> float:
                queue: asyncio.Queue[Any] = asyncio.Queue(QUEUE_SIZE)
                return millions_per_s(await flood_async(put_all(queue.put, messages), queue.get, messages))

            theirs = {r.name: r.contender("send", millions_per_s, count=len(messages)) for r in rivals}
            found = await bench.race_numbers("M/s", {OURS: to_sink, IN_PROCESS: to_queue} | theirs)
    note = "a queue between two tasks of one thread crosses no thread"
    row = Row.of("rate", "single sends", found[OURS], found[IN_PROCESS], target=at_least(0.7, "M/s"), note=note)
    return [row, *_rows_beside("rate", "single sends", found, rivals)]


async def forms(bench: Bench) -> list[Row]:
    """Messages of each form through a compiled kernel and back, one in flight, beside the float form.

        await send(float | tuple | np.void | ...) --ring--> kernel copies it --ring--> await receive

    Each reply is compared with its message.
    """
    count = bench.count(FORM_ROUND_TRIPS, least=20)
    contenders: dict[str, Measure[float]] = {}
    async with running() as runtime:
        for name, (handler, messages, is_right) in message_forms(count).items():
            await start(runtime, name, handler)
            contenders[name] = partial(p50_us, runtime, name, messages, is_right)
        found = await bench.race_numbers("us", contenders)
    plain = found.pop("float")
    return [
        Row.of("float", "round trip p50 of a float", plain.named(OURS)),
        *(
            Row.of(
                name,
                f"round trip p50 of a message as {name}",
                series.named(OURS),
                plain,
                target=at_most(1.6 if name == NESTED else 1.3),
            )
            for name, series in found.items()
        ),
    ]


async def coroutine(bench: Bench) -> list[Row]:
    """An echo coroutine kernel: round trips, then a flood one way.

        ringkernel      await send --> async for msg in ctx: await ctx.send(msg) --> await receive   in one event loop
        asyncio.Queue   the same through two queues and a task between them, in this process
        actors          the same through an echo actor of theirs
        queues          the same through two queues and an echo on the other side

    In the flood one task sends everything while another one receives.
    """
    messages = ticks(bench.count(COROUTINE_FLOOD, least=50))
    few = messages[: bench.count(COROUTINE_ROUND_TRIPS, least=20)]
    with bench.opponents("flood") as rivals:
        async with running("bench.echo") as runtime, queue_echo() as (put, get):

            def median_us(answer: dict[str, list[int]]) -> float:
                return statistics.median(answer["ns"]) / 1e3

            async def queue_us() -> float:
                return median_us({"ns": await round_trips_async(put, get, few)})

            async def rate() -> float:
                feed, receive = send_all(runtime, "bench.echo", messages), partial(runtime.receive, "bench.echo")
                return millions_per_s(await flood_async(feed, receive, messages))

            async def queue_rate() -> float:
                return millions_per_s(await flood_async(put_all(put, messages), get, messages))

            theirs = {r.name: r.contender("round_trip", median_us, count=len(few)) for r in rivals}
            ours: dict[str, Measure[float]] = {OURS: partial(p50_us, runtime, "bench.echo", few), IN_PROCESS: queue_us}
            times = await bench.race_numbers("us", ours | theirs)
            theirs = {r.name: r.contender("flood", millions_per_s, count=len(messages)) for r in rivals}
            rates = await bench.race_numbers("M/s", {OURS: rate, IN_PROCESS: queue_rate} | theirs)
    figure, one_way, bare = "coroutine round trip p50", "coroutine flood, one way", at_least(0.95)
    return [
        Row.of("p50", figure, times[OURS], times[IN_PROCESS], inverted=True, target=bare),
        Row.of("flood", one_way, rates[OURS], rates[IN_PROCESS], target=bare),
        *_rows_beside("p50", figure, times, rivals, target=at_least(2.0)),
        *_rows_beside("flood", one_way, rates, rivals, target=at_least(4.0)),
    ]
