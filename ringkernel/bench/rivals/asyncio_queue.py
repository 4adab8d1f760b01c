"""`asyncio.Queue`: two of them and another task on the same event loop.

Bounded as ringkernel's queues are, on uvloop where it is installed; no timeouts.
"""

import asyncio
from platform import python_version
from typing import Any

from ringkernel.bench import traffic

from .registry import MESSAGES
from .serving import serve

Queue = asyncio.Queue[Any]


async def _count(there: Queue, back: Queue) -> None:
    count = ids = 0
    while (message := await there.get()) is not None:
        count += 1
        ids += message[0]
    await back.put((count, ids))


async def _sends(messages: list[tuple[int, float]]) -> Any:
    there, back = Queue(traffic.QUEUE_SIZE), Queue(traffic.QUEUE_SIZE)
    consumer = asyncio.create_task(_count(there, back))

    async def total() -> Any:
        await there.put(None)
        return await back.get()

    rate = await traffic.sends_async(traffic.put_all(there.put, messages), total, messages)
    await consumer
    return rate


async def _run(job: str, count: int) -> Any:
    messages = traffic.pairs(count)
    if job == "send":
        return await _sends(messages)
    async with traffic.queue_echo() as (put, get):
        if job == "flood":
            return await traffic.flood_async(traffic.put_all(put, messages), get, messages)
        await traffic.round_trips_async(put, get, traffic.pairs(traffic.WARM_UP))
        return {"ns": await traffic.round_trips_async(put, get, messages)}


def main() -> None:
    """Serve on one event loop, which runs while a job does."""
    with asyncio.Runner(loop_factory=traffic.new_loop) as runner:
        about = f"asyncio.Queue of Python {python_version()} on {type(runner.get_loop()).__module__.partition('.')[0]}"
        serve(about, {job: lambda count, job=job: runner.run(_run(job, count)) for job in MESSAGES})


if __name__ == "__main__":
    main()
