"""`asyncio.Queue`: two of them and another task on the same event loop.

Bounded as ringkernel's queues are, on uvloop where it is installed; no timeouts.
"""

import asyncio
from platform import python_version
from typing import Any

from ringkernel.bench import traffic

from .registry import MESSAGES
from .serving import serve

CAPACITY = 4096  # ringkernel's default

Queue = asyncio.Queue[Any]


async def _echo(there: Queue, back: Queue) -> None:
    while True:
        await back.put(await there.get())


async def _count(there: Queue, back: Queue) -> None:
    count = ids = 0
    while (message := await there.get()) is not None:
        count += 1
        ids += message[0]
    await back.put((count, ids))


async def _run(job: str, count: int) -> Any:
    there, back, messages = Queue(CAPACITY), Queue(CAPACITY), traffic.pairs(count)
    task = asyncio.create_task((_count if job == "send" else _echo)(there, back))

    async def total() -> Any:
        await there.put(None)
        return await back.get()

    try:
        if job == "send":
            return await traffic.sends_async(traffic.put_all(there.put, messages), total, messages)
        if job == "flood":
            return await traffic.flood_async(traffic.put_all(there.put, messages), back.get, messages)
        await traffic.round_trips_async(there.put, back.get, traffic.pairs(traffic.WARM_UP))
        return {"ns": await traffic.round_trips_async(there.put, back.get, messages)}
    finally:
        task.cancel()
        await asyncio.wait([task])


def main() -> None:
    """Serve on one event loop, which runs while a job does."""
    with asyncio.Runner(loop_factory=traffic.new_loop) as runner:
        about = f"asyncio.Queue of Python {python_version()} on {type(runner.get_loop()).__module__.partition('.')[0]}"
        serve(about, {job: lambda count, job=job: runner.run(_run(job, count)) for job in MESSAGES})


if __name__ == "__main__":
    main()
