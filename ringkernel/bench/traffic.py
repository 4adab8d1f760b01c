"""Loops in Python that send and receive, and what they measure: ours and the rivals'. Standard library only.

    round trips   send, receive, one message in flight                      ns of each
    flood         everything through an echo, first send to last receive    messages and seconds
    sends         the sends alone, into a consumer that counts              messages and seconds
    open loop     messages at a fixed rate                                  ns of each, cores

Once for what blocks, and once for what awaits. Loops over a kernel, ours or PyDotCompute's, name it in each call, as a
user's do. What comes back is checked, outside the timed part.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ringkernel.errors import QueueEmptyError

from .method import check

WARM_UP = 100
"""Messages before the clock of a rival starts: its other side may be a process that is only just there."""
QUEUE_SIZE = 4096
"""Messages that a queue holds: ringkernel's default."""
IsRight = Callable[[Any, Any], bool]
Rate = dict[str, float]
Total = Sequence[int]
Put = Callable[[Any], Awaitable[Any]]
Get = Callable[[], Awaitable[Any]]


def new_loop(name: str = "uvloop") -> asyncio.AbstractEventLoop:
    """An event loop of uvloop's if it is called so and there is one, else of asyncio's."""
    if name == "uvloop":
        with contextlib.suppress(ImportError):
            import uvloop

            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()


def pairs(count: int) -> list[tuple[int, float]]:
    """`count` messages of a rival, numbered from 0."""
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


def round_trips(send: Callable[[Any], Any], receive: Callable[[], Any], messages: Sequence[Any]) -> list[int]:
    """One message in flight: ns from each send to the end of the receive."""
    now, times_ns, replies = time.perf_counter_ns, [], []
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


async def round_trips_async(put: Put, get: Get, messages: Sequence[Any]) -> list[int]:
    """As `round_trips`, through queues."""
    now, times_ns, replies = time.perf_counter_ns, [], []
    for message in messages:
        start = now()
        await put(message)
        reply = await get()
        times_ns.append(now() - start)
        replies.append(reply)
    check_replies(messages, replies)
    return times_ns


async def closed_loop_ns(
    runtime: Any, kernel_id: str, messages: Sequence[Any], is_right: IsRight = operator.eq
) -> list[int]:
    """As `round_trips`, through a kernel."""
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


async def calls_ns(runtime: Any, kernel_id: str, messages: Sequence[Any], is_right: IsRight = operator.eq) -> list[int]:
    """As `closed_loop_ns`, with one await for each message."""
    call, now = runtime.call, time.perf_counter_ns
    times_ns, replies = [], []
    for message in messages:
        start = now()
        reply = await call(kernel_id, message)
        times_ns.append(now() - start)
        replies.append(reply)
    check_replies(messages, replies, is_right)
    return times_ns


async def p50_us(runtime: Any, kernel_id: str, messages: Sequence[Any], is_right: IsRight = operator.eq) -> float:
    """The median of `closed_loop_ns`, in microseconds."""
    return statistics.median(await closed_loop_ns(runtime, kernel_id, messages, is_right)) / 1e3


class Paced(NamedTuple):
    """What an open loop showed: ns of each message from when it was due, and how many cores the process used."""

    ns: list[int]
    cores: float


async def open_loop(
    put: Put, get: Get, messages: Sequence[Any], rate_hz: float, is_right: IsRight = operator.eq
) -> Paced:
    """Messages at a fixed rate, whether or not earlier ones are back, timed from when each should have been sent.

    A stall of 1 ms then shows in every message that was due during it; a closed loop would send none of them and
    count one ("coordinated omission", Gil Tene). The event loop never sleeps meanwhile, and so uses one core itself.
    """
    now, interval_ns = time.perf_counter_ns, 1e9 / rate_hz
    cpu_ns, begin = time.process_time_ns(), now() + 1_000_000
    due_ns = [begin + int(i * interval_ns) for i in range(len(messages))]

    async def feed() -> None:
        for message, due in zip(messages, due_ns, strict=True):
            while now() < due:  # noqa: ASYNC110 (a clock sets no event, and sleeping is too coarse)
                await asyncio.sleep(0)
            await put(message)

    feeder = asyncio.create_task(feed())
    replies, times_ns = [], []
    for due in due_ns:
        replies.append(await get())
        times_ns.append(now() - due)
    await feeder
    cores = (time.process_time_ns() - cpu_ns) / (now() - begin + 1_000_000)
    check_replies(messages, replies, is_right)
    return Paced(times_ns, cores)


@contextlib.asynccontextmanager
async def queue_echo(capacity: int = QUEUE_SIZE) -> AsyncIterator[tuple[Put, Get]]:
    """Two `asyncio.Queue`, and between them a task of this loop that sends everything back. How to send and receive."""
    there: asyncio.Queue[Any] = asyncio.Queue(capacity)
    back: asyncio.Queue[Any] = asyncio.Queue(capacity)

    async def echo() -> None:
        while True:
            await back.put(await there.get())

    task = asyncio.create_task(echo())
    try:
        yield there.put, back.get
    finally:
        task.cancel()
        await asyncio.wait([task])


async def put_all(put: Put, messages: Iterable[Any]) -> None:
    """What feeds a queue."""
    for message in messages:
        await put(message)


async def send_all(runtime: Any, kernel_id: str, messages: Iterable[Any]) -> None:
    """What feeds a kernel."""
    send = runtime.send
    for message in messages:
        await send(kernel_id, message)


async def flood_async(feed: Any, get: Get, messages: Sequence[Any]) -> Rate:
    """First send to last receive, one task running `feed` while this one receives."""
    start = time.perf_counter_ns()
    feeder = asyncio.create_task(feed)
    replies = [await get() for _ in messages]
    rate = _rate(messages, start)
    await feeder
    check_replies(messages, replies)
    return rate


async def sends_async(feed: Any, total: Callable[[], Awaitable[Total]], messages: Sequence[Any]) -> Rate:
    """As `sends`."""
    start = time.perf_counter_ns()
    await feed
    rate = _rate(messages, start)
    check_total(messages, await total())
    return rate


async def receive_all(runtime: Any, kernel_id: str, target: Any, *, most: int | None = None) -> None:
    """Fill an array with what comes out of a kernel, batch by batch."""
    done = 0
    while done < len(target):
        done += len(await runtime.receive_batch(kernel_id, most, out=target[done:]))


async def through_queues(
    runtime: Any, parts: Mapping[str, Any], target: str, results: Any, *, most: int | None = None
) -> None:
    """Arrays into kernels, all at the same time, and out of one of them, into `results`."""
    feeding = [runtime.send_batch(kernel_id, part) for kernel_id, part in parts.items()]
    await asyncio.gather(*feeding, receive_all(runtime, target, results, most=most))
    with contextlib.suppress(QueueEmptyError):
        check(runtime.receive_nowait(target) is None, f"{target}: more came out than went in")
