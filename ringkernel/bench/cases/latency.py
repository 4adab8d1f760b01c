"""Python to a compiled kernel and back, one message in flight.

    ringkernel   await send --ring--> kernel on a worker --ring--> await receive
    actors       the same through an echo actor: PyDotCompute, pykka, Ray
    queues       the same through two queues and an echo on the other side

Percentiles are those of each round, without its first tenth, in which everybody's caches are those of who was measured
before; the ratio with a target is against the best actor of that percentile. What a message costs after idleness is a
row of `idle`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.bench.kernels import is_scaled, running, ticks
from ringkernel.bench.model import Row, Series, at_least
from ringkernel.bench.percentiles import PERCENTILES, Latencies, all_of, percentile_of
from ringkernel.bench.traffic import closed_loop_ns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench, Opponent

ROUND_TRIPS = 2_500
TARGETS = {50.0: at_least(8.0), 99.0: at_least(5.0)}
OURS = "ringkernel"


def _asked(opponent: Opponent, count: int) -> Callable[[], Awaitable[Latencies]]:
    measure = opponent.asked("round_trip", count=count)

    async def latencies() -> Latencies:
        return _warm((await measure())["ns"])

    return latencies


def _warm(times_ns: list[int]) -> Latencies:
    return Latencies(times_ns[len(times_ns) // 10 :])


def _best(actors: list[Series]) -> Series | None:
    standing = [actor for actor in actors if not actor.wrong and actor.values]
    return min(standing, key=lambda actor: actor.median, default=None)


async def run(bench: Bench) -> list[Row]:
    """Percentiles against the best actor; then p50 against each rival."""
    messages = ticks(bench.count(ROUND_TRIPS, least=20))
    with bench.opponents("round_trip") as opponents:
        async with running("scale") as runtime:

            async def ours() -> Latencies:
                return _warm(await closed_loop_ns(runtime, "scale", messages, is_scaled))

            contenders: dict[str, Callable[[], Awaitable[Latencies]]] = {OURS: ours}
            contenders |= {opponent.name: _asked(opponent, len(messages)) for opponent in opponents}
            found = await bench.race(contenders)
    bench.distributions += [all_of(samples).distribution(name) for name, samples in found.items() if samples.values]
    rows = []
    for percentile in PERCENTILES:
        actors = [percentile_of(o.name, found[o.name], percentile) for o in opponents if o.spec.kind == "actor"]
        rows.append(
            Row(
                f"p{percentile:g}",
                f"round trip p{percentile:g}, best actor beside it",
                percentile_of(OURS, found[OURS], percentile),
                _best(actors),
                inverted=True,
                higher_is_better=False,
                target=TARGETS.get(percentile),
                missing="no actor library is installed",
            )
        )
    rows += [
        Row(
            f"p50-{opponent.name}",
            f"round trip p50, {opponent.spec.kind}",
            percentile_of(OURS, found[OURS], 50.0),
            percentile_of(opponent.name, found[opponent.name], 50.0),
            inverted=True,
            higher_is_better=False,
            note="" if opponent.spec.is_alike else opponent.spec.note,
        )
        for opponent in opponents
    ]
    return rows
