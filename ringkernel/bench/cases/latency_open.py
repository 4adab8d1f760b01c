"""Python to a compiled kernel and back at a fixed rate, timed from the intended send.

    every 100 us:  await send --ring--> kernel on a worker --ring--> await receive
                   ^ due                                             ^ latency = now - due

A closed loop sends nothing while it waits, so a stall costs it one slow message; here every message that was due
during the stall shows it (no coordinated omission). Beside it: the closed loop in the same rounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.bench.kernels import is_scaled, running, ticks
from ringkernel.bench.model import Row
from ringkernel.bench.percentiles import PERCENTILES, Latencies, all_of, percentile_of
from ringkernel.bench.traffic import closed_loop_ns, open_loop_ns

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench

RATE_HZ = 10_000
MESSAGES = 3_000


async def run(bench: Bench) -> list[Row]:
    """One row per percentile."""
    messages = ticks(bench.count(MESSAGES, least=20))
    async with running("scale") as runtime:

        async def at_rate() -> Latencies:
            return Latencies(await open_loop_ns(runtime, "scale", messages, RATE_HZ, is_scaled))

        async def closed() -> Latencies:
            return Latencies(await closed_loop_ns(runtime, "scale", messages, is_scaled))

        found = await bench.race({"open loop": at_rate, "closed loop": closed})
    bench.distributions.append(all_of(found["open loop"]).distribution(f"ringkernel at {RATE_HZ:,}/s"))
    return [
        Row(
            f"p{percentile:g}",
            f"round trip p{percentile:g} at {RATE_HZ:,} messages/s",
            percentile_of("open loop", found["open loop"], percentile),
            percentile_of("closed loop", found["closed loop"], percentile),
            higher_is_better=False,
        )
        for percentile in PERCENTILES
    ]
