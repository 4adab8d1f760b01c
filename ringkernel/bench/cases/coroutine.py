"""An echo coroutine kernel: round trips, then a flood one way.

    ringkernel   await send --> async for msg in ctx: await ctx.send(msg) --> await receive     all in one event loop
    actors       the same through an echo actor of theirs
    queues       the same through two queues and an echo on the other side

In the flood one task sends everything while another one receives.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from ringkernel.bench.kernels import running, ticks
from ringkernel.bench.model import Row, Series, at_least
from ringkernel.bench.traffic import closed_loop_ns, flood

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ringkernel.bench.context import Bench, Opponent

ROUND_TRIPS = 1_000
FLOOD = 10_000
P50_TARGET, FLOOD_TARGET = at_least(2.0), at_least(4.0)
ASYNCIO_ACTOR = "PyDotCompute"  # the one that lives in an event loop, as coroutine kernels do


def _p50_us(opponent: Opponent, count: int) -> Callable[[], Awaitable[float]]:
    measure = opponent.asked("round_trip", count=count)

    async def p50_us() -> float:
        return float(statistics.median((await measure())["ns"])) / 1e3

    return p50_us


async def run(bench: Bench) -> list[Row]:
    """Round trip and flood against each rival; targets against the asyncio actor."""
    messages = ticks(bench.count(FLOOD, least=50))
    few = messages[: bench.count(ROUND_TRIPS, least=20)]
    with bench.opponents("flood") as opponents:
        both = [opponent for opponent in opponents if "round_trip" in opponent.spec.jobs]
        async with running("echo") as runtime:

            async def p50_us() -> float:
                return statistics.median(await closed_loop_ns(runtime, "echo", few)) / 1e3

            async def rate() -> float:
                return await flood(runtime, "echo", messages) / 1e6

            times = await bench.race_numbers(
                "us", {"ringkernel": p50_us} | {o.name: _p50_us(o, len(few)) for o in both}
            )
            rates = await bench.race_numbers(
                "M/s", {"ringkernel": rate} | {o.name: o.rate("flood", len(messages)) for o in opponents}
            )
    actors: list[Opponent | None] = [*both] or [None]
    beside: list[Opponent | None] = [*opponents] or [None]
    return [
        *(_row("p50", "coroutine round trip p50", times, opponent) for opponent in actors),
        *(_row("flood", "coroutine flood, one way", rates, opponent) for opponent in beside),
    ]


def _row(key: str, figure: str, found: Mapping[str, Series], opponent: Opponent | None) -> Row:
    """Ours beside one rival, or alone. Durations are compared the other way round."""
    is_duration = key == "p50"
    if opponent is None:
        return Row(key, figure, found["ringkernel"], higher_is_better=not is_duration, missing="no rival is installed")
    target = (P50_TARGET if is_duration else FLOOD_TARGET) if opponent.name == ASYNCIO_ACTOR else None
    return Row(
        f"{key}-{opponent.name}",
        f"{figure}, {opponent.spec.kind}",
        found["ringkernel"],
        found[opponent.name],
        inverted=is_duration,
        higher_is_better=not is_duration,
        target=target,
        note="" if opponent.spec.is_alike else opponent.spec.note,
    )
