"""Threads that are nobody's: what `push_batch` carries into a kernel beside the calls of the event loop."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.bench.kernels import Array, Total, running, tick_array
from ringkernel.bench.method import timed
from ringkernel.bench.model import Row, at_least

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import ringkernel as rk
    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

RECORDS = 1_000_000
BATCHES = (256, 4096)
SINK = "bench.sink"


async def _by_loop(runtime: rk.RingKernelRuntime, records: Array, batch: int) -> None:
    """The event loop's own calls."""
    for first in range(0, len(records), batch):
        await runtime.send_batch(SINK, records[first : first + batch])


async def _by_thread(handle: rk.InputHandle, records: Array, batch: int) -> None:
    """A thread that knows nothing of asyncio; the event loop waits for its end."""

    def push() -> None:
        for first in range(0, len(records), batch):
            handle.push_batch(records[first : first + batch])

    await asyncio.to_thread(push)


async def foreign(bench: Bench) -> list[Row]:
    """Batches that another thread pushes, beside those that the event loop sends.

        thread    push_batch --> an input of its own --> kernel that counts
        loop      await send_batch --> the input --> kernel that counts

    Millions of records/s, from the first call until the kernel has counted them all.
    """
    records = tick_array(bench.count(RECORDS, least=2 * BATCHES[-1]))
    total = Total(len(records), int(records["id"].sum()))
    async with running(SINK) as runtime:
        handle = runtime.open_input(SINK)

        def contender(feed: Callable[[], Awaitable[None]], name: str) -> Measure[float]:
            async def counted() -> Any:
                await feed()
                while runtime.statistics(SINK).unprocessed:  # noqa: ASYNC110 (a kernel sets no event)
                    await asyncio.sleep(0)
                return await runtime.read_state(SINK)

            rate = timed(len(records) / 1e6, counted, total.__eq__, name)

            async def afresh() -> float:
                await runtime.deactivate(SINK)
                await runtime.write_state(SINK, Total())
                await runtime.reactivate(SINK)
                return await rate()

            return afresh

        contenders: dict[tuple[str, int], Measure[float]] = {}
        for batch in BATCHES:
            contenders["thread", batch] = contender(partial(_by_thread, handle, records, batch), "push_batch")
            contenders["loop", batch] = contender(partial(_by_loop, runtime, records, batch), "send_batch")
        found = await bench.race_numbers("M/s", contenders)
        handle.close()
    return [
        Row.of(
            f"push-{batch}",
            f"push_batch of {batch:,} from another thread",
            found["thread", batch].named("ringkernel"),
            found["loop", batch].named("send_batch"),
            target=at_least(0.5),
            params={"batch": batch},
        )
        for batch in BATCHES
    ]
