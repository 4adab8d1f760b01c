"""`asyncio.Queue` in this process and loop: what a Python program would do without ringkernel."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ringkernel.bench.method import check


async def asyncio_queue_rate(messages: list[Any], capacity: int) -> float:
    """Messages/s through one `asyncio.Queue` from this task to another one."""
    queue: asyncio.Queue[Any] = asyncio.Queue(capacity)

    async def take() -> list[Any]:
        return [await queue.get() for _ in messages]

    taker = asyncio.create_task(take())
    start = time.perf_counter()
    for message in messages:
        await queue.put(message)
    taken = await taker
    elapsed_s = time.perf_counter() - start
    check(taken == messages, "asyncio.Queue changed the messages")
    return len(messages) / elapsed_s
