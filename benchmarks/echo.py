"""The two measurements that both sides run with the same code: runtimes with `send` and `receive`."""

import asyncio
import statistics
import time

from harness import check


def is_same(message, reply):
    return reply.id == message.id and reply.value == message.value


async def round_trip_p50_ns(runtime, kernel_id, messages, is_right=is_same):
    """Median ns from `await send` to the end of `await receive`; every reply is checked afterwards."""
    send, receive, now = runtime.send, runtime.receive, time.perf_counter_ns
    replies, times_ns = [], []
    for message in messages:
        start = now()
        await send(kernel_id, message)
        reply = await receive(kernel_id)
        times_ns.append(now() - start)
        replies.append(reply)
    check(all(map(is_right, messages, replies)), f"{kernel_id}: a reply is not the message's")
    return statistics.median(times_ns)


async def flood(runtime, kernel_id, messages, is_right=is_same):
    """Messages/s from the first `send` to the last `receive`, one task sending while this one receives."""

    async def feed():
        for message in messages:
            await runtime.send(kernel_id, message)

    start = time.perf_counter()
    feeder = asyncio.create_task(feed())
    replies = [await runtime.receive(kernel_id) for _ in messages]
    elapsed_s = time.perf_counter() - start
    await feeder
    check(all(map(is_right, messages, replies)), f"{kernel_id}: the flood brought something else")
    return len(messages) / elapsed_s
