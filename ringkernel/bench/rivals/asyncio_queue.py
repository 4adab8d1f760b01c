"""`asyncio.Queue`: two of them and another task on the same event loop.

Bounded as ringkernel's queues are, on uvloop where it is installed; no timeouts.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from platform import python_version
from typing import Any

from ringkernel.bench import traffic

from .serving import serve

CAPACITY = 4096  # ringkernel's default

Queue = asyncio.Queue[Any]


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop of uvloop's where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


async def _echo(there: Queue, back: Queue) -> None:
    while True:
        await back.put(await there.get())


async def _count(there: Queue, back: Queue) -> None:
    count = ids = 0
    while (message := await there.get()) is not None:
        count += 1
        ids += message.id
    await back.put((count, ids))


@contextlib.asynccontextmanager
async def _task(work: Callable[[Queue, Queue], Coroutine[Any, Any, None]]) -> AsyncIterator[tuple[Queue, Queue]]:
    there, back = Queue(CAPACITY), Queue(CAPACITY)
    task = asyncio.create_task(work(there, back))
    yield there, back
    task.cancel()
    await asyncio.wait([task])


async def _round_trip(count: int) -> Any:
    async with _task(_echo) as (there, back):
        await traffic.round_trips_async(there.put, back.get, traffic.notes(traffic.WARM_UP))
        return {"ns": await traffic.round_trips_async(there.put, back.get, traffic.notes(count))}


async def _flood(count: int) -> Any:
    async with _task(_echo) as (there, back):
        return await traffic.flood_async(there.put, back.get, traffic.notes(count))


async def _send(count: int) -> Any:
    async def total() -> Any:
        await there.put(None)
        return await back.get()

    async with _task(_count) as (there, back):
        return await traffic.sends_async(there.put, total, traffic.notes(count))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        about = f"asyncio.Queue of Python {python_version()} on {type(runner.get_loop()).__module__.partition('.')[0]}"
        jobs = {"round_trip": _round_trip, "flood": _flood, "send": _send}
        serve(about, {name: lambda count, job=job: runner.run(job(count)) for name, job in jobs.items()})
