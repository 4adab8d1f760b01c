"""The measurements, once for rivals that block and once for rivals that await; each checks what came back.

`send` takes a message, `receive` gives the next one. Whatever is sent in an echo job comes back in order.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

WARM_UP = 100
"""Messages before the clock starts: the other side may be a process that is only just there."""


@dataclass(slots=True)
class Note:
    """A message, where messages are handed over as objects."""

    id: int
    value: float


def notes(count: int) -> list[Note]:
    """`count` messages, numbered from 0."""
    return [Note(i, 0.5 * i) for i in range(count)]


def pairs(count: int) -> list[tuple[int, float]]:
    """The same as tuples, where messages are serialised."""
    return [(i, 0.5 * i) for i in range(count)]


def check_same(sent: Sequence[Any], received: Sequence[Any]) -> None:
    """Raise unless all messages came, unchanged and in order."""
    if len(sent) != len(received):
        raise AssertionError(f"{len(sent)} messages went out and {len(received)} came back")
    for i, (message, reply) in enumerate(zip(sent, received, strict=True)):
        if message != reply:
            raise AssertionError(f"message {i} was {message} and came back as {reply}")


def check_total(count: int, total: Sequence[int]) -> None:
    """Raise unless the consumer counted `count` messages whose ids are 0 to `count` - 1."""
    expected = (count, count * (count - 1) // 2)
    if tuple(total) != expected:
        raise AssertionError(f"the consumer should have count and sum of ids {expected}, and has {tuple(total)}")


def _rate(count: int, elapsed_ns: int) -> dict[str, float]:
    return {"seconds": elapsed_ns / 1e9, "messages": count}


def round_trip(send: Callable[[Any], Any], receive: Callable[[], Any], messages: Sequence[Any]) -> dict[str, list[int]]:
    """Time from each send to the end of the receive, one message under way."""
    now = time.perf_counter_ns
    times_ns, replies = [], []
    for message in messages:
        start = now()
        send(message)
        reply = receive()
        times_ns.append(now() - start)
        replies.append(reply)
    check_same(messages, replies)
    return {"ns": times_ns}


def flood(send: Callable[[Any], Any], receive: Callable[[], Any], messages: Sequence[Any]) -> dict[str, float]:
    """Time from the first send to the last receive, for queues without bound.

    The other side works meanwhile; this side sends everything and then receives, from one thread, which spares
    the rival the switches between a sending and a receiving one.
    """
    start = time.perf_counter_ns()
    for message in messages:
        send(message)
    replies = [receive() for _ in messages]
    elapsed_ns = time.perf_counter_ns() - start
    check_same(messages, replies)
    return _rate(len(messages), elapsed_ns)


def send(send: Callable[[Any], Any], total: Callable[[], Sequence[int]], messages: Sequence[Any]) -> dict[str, float]:
    """Time of the sends alone; `total` then waits for the consumer and gives its (count, sum of ids)."""
    start = time.perf_counter_ns()
    for message in messages:
        send(message)
    elapsed_ns = time.perf_counter_ns() - start
    check_total(len(messages), total())
    return _rate(len(messages), elapsed_ns)


async def round_trip_async(
    send: Callable[[Any], Awaitable[Any]], receive: Callable[[], Awaitable[Any]], messages: Sequence[Any]
) -> dict[str, list[int]]:
    """`round_trip` on an event loop."""
    now = time.perf_counter_ns
    times_ns, replies = [], []
    for message in messages:
        start = now()
        await send(message)
        reply = await receive()
        times_ns.append(now() - start)
        replies.append(reply)
    check_same(messages, replies)
    return {"ns": times_ns}


async def flood_async(
    send: Callable[[Any], Awaitable[Any]], receive: Callable[[], Awaitable[Any]], messages: Sequence[Any]
) -> dict[str, float]:
    """Time from the first send to the last receive, one task sending while this one receives."""
    import asyncio

    async def feed() -> None:
        for message in messages:
            await send(message)

    start = time.perf_counter_ns()
    feeder = asyncio.create_task(feed())
    replies = [await receive() for _ in messages]
    elapsed_ns = time.perf_counter_ns() - start
    await feeder
    check_same(messages, replies)
    return _rate(len(messages), elapsed_ns)


async def send_async(
    send: Callable[[Any], Awaitable[Any]], total: Callable[[], Awaitable[Sequence[int]]], messages: Sequence[Any]
) -> dict[str, float]:
    """`send` on an event loop."""
    start = time.perf_counter_ns()
    for message in messages:
        await send(message)
    elapsed_ns = time.perf_counter_ns() - start
    check_total(len(messages), await total())
    return _rate(len(messages), elapsed_ns)
