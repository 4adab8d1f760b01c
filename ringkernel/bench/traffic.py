"""Loops in Python that send and receive, and what they measure. Every reply is checked, outside the timed part."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from .kernels import is_same
from .method import check

IsRight = Callable[[Any, Any], bool]


async def closed_loop_ns(
    runtime: Any, kernel_id: str, messages: Sequence[Any], is_right: IsRight = is_same
) -> list[int]:
    """One message in flight: ns from `await send` to the end of `await receive`, of each message."""
    send, receive, now = runtime.send, runtime.receive, time.perf_counter_ns
    replies, times_ns = [], []
    for message in messages:
        start = now()
        await send(kernel_id, message)
        reply = await receive(kernel_id)
        times_ns.append(now() - start)
        replies.append(reply)
    check(all(map(is_right, messages, replies)), f"{kernel_id}: a reply is not the message's")
    return times_ns


async def open_loop_ns(
    runtime: Any, kernel_id: str, messages: Sequence[Any], rate_hz: float, is_right: IsRight = is_same
) -> list[int]:
    """Messages at a fixed rate, whether or not earlier ones are back: ns from when each should have been sent.

    A stall of 1 ms then shows in every message that was due during it; a closed loop would send none of them and
    count one ("coordinated omission", Gil Tene). The event loop never sleeps meanwhile.
    """
    now, interval_ns = time.perf_counter_ns, 1e9 / rate_hz
    begin = now() + 1_000_000
    due_ns = [begin + int(i * interval_ns) for i in range(len(messages))]

    async def feed() -> None:
        for message, due in zip(messages, due_ns, strict=True):
            while now() < due:  # noqa: ASYNC110 (a clock sets no event, and sleeping is too coarse)
                await asyncio.sleep(0)
            await runtime.send(kernel_id, message)

    feeder = asyncio.create_task(feed())
    replies, times_ns = [], []
    for due in due_ns:
        replies.append(await runtime.receive(kernel_id))
        times_ns.append(now() - due)
    await feeder
    check(all(map(is_right, messages, replies)), f"{kernel_id}: a reply is not the message's")
    return times_ns


async def flood(runtime: Any, kernel_id: str, messages: Sequence[Any], is_right: IsRight = is_same) -> float:
    """Messages/s from the first `send` to the last `receive`, one task sending while this one receives."""

    async def feed() -> None:
        for message in messages:
            await runtime.send(kernel_id, message)

    start = time.perf_counter()
    feeder = asyncio.create_task(feed())
    replies = [await runtime.receive(kernel_id) for _ in messages]
    elapsed_s = time.perf_counter() - start
    await feeder
    check(all(map(is_right, messages, replies)), f"{kernel_id}: the flood brought something else")
    return len(messages) / elapsed_s


async def receive_all(runtime: Any, kernel_id: str, target: Any, *, most: int | None = None) -> None:
    """Fill an array with what comes out of a kernel, batch by batch."""
    done = 0
    while done < len(target):
        part = await runtime.receive_batch(kernel_id, most)
        check(done + len(part) <= len(target), f"{kernel_id}: more came out than went in")
        target[done : done + len(part)] = part
        done += len(part)
