"""Single sends from Python into a compiled sink.

    ringkernel      for message in messages: await send --ring--> sink kernel (counts, sums)
    asyncio.Queue   the same into a queue that another task of this loop drains
    rivals          the same into a consumer of theirs that counts and sums

The time is that of the sending side; that everything arrived is checked afterwards.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from ringkernel.bench.floors.queues import asyncio_queue_rate
from ringkernel.bench.kernels import running, ticks
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_least

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench

SENDS = 20_000
QUEUE_SIZE = 4096  # the default of both sides
DRAIN_DEADLINE_S = 10
IN_PROCESS = "asyncio.Queue here"


async def run(bench: Bench) -> list[Row]:
    """Our rate, and what each alternative makes of the same messages."""
    messages = ticks(bench.count(SENDS, least=100))
    ids_per_round = sum(message.id for message in messages)
    runs = 0
    with bench.opponents("send") as opponents:
        async with running("sink") as runtime:

            async def drained() -> None:
                deadline = time.monotonic() + DRAIN_DEADLINE_S
                while runtime.statistics("sink").processed < runs * len(messages):
                    check(time.monotonic() < deadline, "the sink has not taken every message")
                    await asyncio.sleep(0.001)

            async def to_sink() -> float:
                nonlocal runs
                start = time.perf_counter()
                for message in messages:
                    await runtime.send("sink", message)
                elapsed_s = time.perf_counter() - start
                runs += 1
                await drained()
                total = await runtime.read_state("sink")
                is_right = total.count == runs * len(messages) and total.ids == runs * ids_per_round
                check(is_right, "the sink took something else")
                return len(messages) / elapsed_s / 1e6

            async def to_queue() -> float:
                return await asyncio_queue_rate(messages, QUEUE_SIZE) / 1e6

            contenders: dict[str, Callable[[], Awaitable[float]]] = {"ringkernel": to_sink, IN_PROCESS: to_queue}
            contenders |= {opponent.name: opponent.rate("send", len(messages)) for opponent in opponents}
            found = await bench.race_numbers("M/s", contenders)
    rows = [
        Row(
            "rate",
            "single sends",
            found["ringkernel"],
            found[IN_PROCESS],
            target=at_least(0.7, "M/s"),
            note="a queue between two tasks of one thread crosses no thread",
        )
    ]
    rows += [
        Row(
            f"rate-{opponent.name}",
            f"single sends, {opponent.spec.kind}",
            found["ringkernel"],
            found[opponent.name],
            note="" if opponent.spec.is_alike else opponent.spec.note,
        )
        for opponent in opponents
    ]
    return rows
