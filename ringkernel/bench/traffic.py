"""Loops in Python that send and receive, and what they measure: ours and the rivals'. Standard library only.

    round trips   send, receive, one message in flight: ns of each          ns
    flood         everything through an echo, first send to last receive    messages and seconds
    send          the sends alone, into a consumer that counts              messages and seconds

Once for what blocks, once for what awaits, and once for runtimes with named kernels, ours and PyDotCompute's: their
loops name the kernel in each call, as a user's do. What comes back is checked, outside the timed part.
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .method import check

WARM_UP = 100
"""Messages before the clock of a rival starts: its other side may be a process that is only just there."""
Message = tuple[int, float]
IsRight = Callable[[Any, Any], bool]
Rate = dict[str, float]
Total = Sequence[int]


@dataclass(slots=True)
class Note:
    """A message, where messages are handed over as objects."""

    id: int
    value: float


def notes(count: int) -> list[Note]:
    """`count` messages, numbered from 0."""
    return [Note(i, 0.5 * i) for i in range(count)]


def pairs(count: int) -> list[Message]:
    """The same as tuples, where messages are serialised."""
    return [(i, 0.5 * i) for i in range(count)]


def check_replies(sent: Sequence[Any], received: Sequence[Any], is_right: IsRight = operator.eq) -> None:
    """Raise unless each message brought its reply, in order."""
    check(len(sent) == len(received), f"{len(sent)} messages went out and {len(received)} came back")
    for i, (message, reply) in enumerate(zip(sent, received, strict=True)):
        check(is_right(message, reply), f"message {i} was {message} and came back as {reply}")


def check_total(messages: Sequence[Any], total: Total) -> None:
    """Raise unless the consumer counted these messages, whose ids are 0 to their number - 1."""
    count = len(messages)
    expected = (count, count * (count - 1) // 2)
    check(tuple(total) == expected, f"the consumer should have count and sum of ids {expected}, and has {tuple(total)}")


def _rate(messages: Sequence[Any], start_ns: int) -> Rate:
    return {"seconds": (time.perf_counter_ns() - start_ns) / 1e9, "messages": len(messages)}


def millions_per_s(rate: Rate) -> float:
    """A rate as one number."""
    return rate["messages"] / rate["seconds"] / 1e6


# --- where a send blocks -----------------------------------------------------------------------------------------


def round_trips(send: Callable[[Any], Any], receive: Callable[[], Any], messages: Sequence[Any]) -> list[int]:
    """One message in flight: ns from each send to the end of the receive."""
    now = time.perf_counter_ns
    times_ns, replies = [], []
    for message in messages:
        start = now()
        send(message)
        reply = receive()
        times_ns.append(now() - start)
        replies.append(reply)
    check_replies(messages, replies)
    return times_ns


def flood(send: Callable[[Any], Any], receive: Callable[[], Any], messages: Sequence[Any]) -> Rate:
    """First send to last receive, for queues without bound.

    The other side works meanwhile; this side sends everything and then receives, from one thread, which spares
    the rival the switches between a sending and a receiving one.
    """
    start = time.perf_counter_ns()
    for message in messages:
        send(message)
    replies = [receive() for _ in messages]
    rate = _rate(messages, start)
    check_replies(messages, replies)
    return rate


def sends(send: Callable[[Any], Any], total: Callable[[], Total], messages: Sequence[Any]) -> Rate:
    """The sends alone; `total` then waits for the consumer and gives its (count, sum of ids)."""
    start = time.perf_counter_ns()
    for message in messages:
        send(message)
    rate = _rate(messages, start)
    check_total(messages, total())
    return rate


# --- where a send is awaited -------------------------------------------------------------------------------------

Put = Callable[[Any], Awaitable[Any]]
Get = Callable[[], Awaitable[Any]]


async def round_trips_async(put: Put, get: Get, messages: Sequence[Any]) -> list[int]:
    """As `round_trips`."""
    now = time.perf_counter_ns
    times_ns, replies = [], []
    for message in messages:
        start = now()
        await put(message)
        reply = await get()
        times_ns.append(now() - start)
        replies.append(reply)
    check_replies(messages, replies)
    return times_ns


async def flood_async(put: Put, get: Get, messages: Sequence[Any]) -> Rate:
    """First send to last receive, one task sending while this one receives."""

    async def feed() -> None:
        for message in messages:
            await put(message)

    start = time.perf_counter_ns()
    feeder = asyncio.create_task(feed())
    replies = [await get() for _ in messages]
    rate = _rate(messages, start)
    await feeder
    check_replies(messages, replies)
    return rate


async def sends_async(put: Put, total: Callable[[], Awaitable[Total]], messages: Sequence[Any]) -> Rate:
    """As `sends`."""
    start = time.perf_counter_ns()
    for message in messages:
        await put(message)
    rate = _rate(messages, start)
    check_total(messages, await total())
    return rate


# --- where a kernel is named -------------------------------------------------------------------------------------


async def closed_loop_ns(
    runtime: Any, kernel_id: str, messages: Sequence[Any], is_right: IsRight = operator.eq
) -> list[int]:
    """One message in flight: ns from `await send` to the end of `await receive`, of each message."""
    send, receive, now = runtime.send, runtime.receive, time.perf_counter_ns
    times_ns, replies = [], []
    for message in messages:
        start = now()
        await send(kernel_id, message)
        reply = await receive(kernel_id)
        times_ns.append(now() - start)
        replies.append(reply)
    check_replies(messages, replies, is_right)
    return times_ns


async def open_loop_ns(
    runtime: Any, kernel_id: str, messages: Sequence[Any], rate_hz: float, is_right: IsRight = operator.eq
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
    check_replies(messages, replies, is_right)
    return times_ns


async def send_all(runtime: Any, kernel_id: str, messages: Iterable[Any]) -> None:
    """One `await send` per message."""
    send = runtime.send
    for message in messages:
        await send(kernel_id, message)


async def flood_kernel(runtime: Any, kernel_id: str, messages: Sequence[Any], is_right: IsRight = operator.eq) -> Rate:
    """As `flood_async`."""
    start = time.perf_counter_ns()
    feeder = asyncio.create_task(send_all(runtime, kernel_id, messages))
    replies = [await runtime.receive(kernel_id) for _ in messages]
    rate = _rate(messages, start)
    await feeder
    check_replies(messages, replies, is_right)
    return rate


async def send_to_kernel(
    runtime: Any, kernel_id: str, messages: Sequence[Any], total: Callable[[], Awaitable[Total]]
) -> Rate:
    """As `sends`."""
    start = time.perf_counter_ns()
    await send_all(runtime, kernel_id, messages)
    rate = _rate(messages, start)
    check_total(messages, await total())
    return rate


async def receive_all(runtime: Any, kernel_id: str, target: Any, *, most: int | None = None) -> None:
    """Fill an array with what comes out of a kernel, batch by batch."""
    done = 0
    while done < len(target):
        part = await runtime.receive_batch(kernel_id, most)
        check(done + len(part) <= len(target), f"{kernel_id}: more came out than went in")
        target[done : done + len(part)] = part
        done += len(part)


async def batches_s(
    runtime: Any, parts: Mapping[str, Any], target: str, results: Any, *, most: int | None = None
) -> float:
    """Seconds in which arrays go into kernels, all at the same time, and come out of one of them, into `results`."""
    results.view("u1")[...] = 0
    start = time.perf_counter()
    feeding = [runtime.send_batch(kernel_id, part) for kernel_id, part in parts.items()]
    await asyncio.gather(*feeding, receive_all(runtime, target, results, most=most))
    return time.perf_counter() - start
