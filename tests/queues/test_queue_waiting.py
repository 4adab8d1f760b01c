"""Who waits at a queue is served first in, first out; a call that is cancelled or times out has happened or not."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from helpers import eventually, in_line, turns, within

from ringkernel import (
    ConfigurationError,
    MessageQueue,
    QueueEmptyError,
    QueueFullError,
)

MakeQueue = Callable[[int], MessageQueue]

pytestmark = pytest.mark.both_loops


# --- waiting ----------------------------------------------------------------------------------------------------------


async def test_get_waits_for_a_message(make_queue: MakeQueue) -> None:
    queue = make_queue(4)
    getting = asyncio.create_task(queue.get())
    await turns()
    assert not getting.done()
    await queue.put(7)
    assert await within(getting) == 7


async def test_put_waits_for_room(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    await queue.put(1)
    await queue.put(2)
    putting = asyncio.create_task(queue.put(3))
    await turns()
    assert not putting.done()
    assert await queue.get() == 1
    await within(putting)
    assert [await queue.get(), await queue.get()] == [2, 3]


async def test_timeouts_change_nothing(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    with pytest.raises(asyncio.TimeoutError):
        await queue.get(timeout=0.01)
    await queue.put(1)
    with pytest.raises(asyncio.TimeoutError):
        await queue.put(2, timeout=0.01)
    assert queue.qsize() == 1
    assert await queue.get() == 1
    assert queue.empty()
    counts = queue.statistics()
    assert (counts.put, counts.got, counts.waiting_putters, counts.waiting_getters) == (1, 1, 0, 0)


async def test_a_timeout_of_zero_polls(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    with pytest.raises(asyncio.TimeoutError):
        await queue.get(timeout=0)
    await queue.put(1, timeout=0)
    with pytest.raises(asyncio.TimeoutError):
        await queue.put(2, timeout=0)
    assert await queue.get(timeout=0) == 1


async def test_a_timeout_is_not_early_and_ends_when_something_comes(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(asyncio.TimeoutError):
        await queue.get(timeout=0.05)
    assert loop.time() - begun >= 0.05 - 1e-6  # the clock of uvloop counts milliseconds
    getting = asyncio.create_task(queue.get(timeout=60))
    await turns()
    await queue.put(1)
    assert await within(getting) == 1


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1"])
async def test_a_timeout_that_is_none_is_refused(make_queue: MakeQueue, timeout: Any) -> None:
    queue = make_queue(1)
    with pytest.raises(ConfigurationError, match="timeout"):
        await queue.get(timeout=timeout)
    assert queue.statistics().waiting_getters == 0


async def test_getters_are_served_first_in_first_out(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    order: list[int] = []

    async def getter(i: int) -> None:
        assert await queue.get() == i
        order.append(i)

    tasks = [await in_line(queue, getter(i)) for i in range(20)]
    assert queue.statistics().waiting_getters == 20
    for i in range(20):
        await queue.put(i)
    await within(asyncio.gather(*tasks))
    assert order == list(range(20))


async def test_putters_are_served_first_in_first_out(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    await queue.put(-1)
    tasks = [await in_line(queue, queue.put(i)) for i in range(20)]
    assert queue.statistics().waiting_putters == 20
    assert [await within(queue.get()) for _ in range(21)] == list(range(-1, 20))
    await within(asyncio.gather(*tasks))


async def test_the_pace_does_not_change_the_order_of_those_who_wait(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    await queue.put(0)
    await queue.get()
    await asyncio.sleep(0.002)  # so that the next operation is due to let others run
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await turns(4)
    await queue.put_batch([1, 2])
    assert (await within(first), await within(second)) == (1, 2)


async def test_nobody_overtakes_a_getter_that_was_notified(make_queue: MakeQueue) -> None:
    queue = make_queue(4)
    first = await in_line(queue, queue.get())
    queue.put_nowait(1)  # `first` has been notified, and has not run yet
    with pytest.raises(QueueEmptyError):
        queue.get_nowait()
    second = asyncio.create_task(queue.get())
    queue.put_nowait(2)
    assert await within(first) == 1
    assert await within(second) == 2


async def test_nobody_overtakes_a_putter_that_was_notified(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    await queue.put(0)
    putting = await in_line(queue, queue.put(1))
    assert queue.get_nowait() == 0
    with pytest.raises(QueueFullError):
        queue.put_nowait(2)
    await within(putting)
    assert queue.get_nowait() == 1


# --- cancellation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_getter_passes_its_wake_up_on(make_queue: MakeQueue, cancelled: int) -> None:
    queue = make_queue(4)
    tasks = [await in_line(queue, queue.get()) for _ in range(3)]
    queue.put_nowait(1)
    queue.put_nowait(2)
    tasks[cancelled].cancel()
    results = await within(asyncio.gather(*tasks, return_exceptions=True))
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert results == [1, 2]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_putter_passes_its_wake_up_on(make_queue: MakeQueue, cancelled: int) -> None:
    queue = make_queue(1)
    queue.put_nowait(-1)
    tasks = [await in_line(queue, queue.put(i)) for i in range(3)]
    assert queue.get_nowait() == -1
    tasks[cancelled].cancel()
    rest = [i for i in range(3) if i != cancelled]
    assert [await within(queue.get()) for _ in rest] == rest
    results = await within(asyncio.gather(*tasks, return_exceptions=True))
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [i == cancelled for i in range(3)]
    assert queue.empty()


@pytest.mark.parametrize("seed", range(5))
async def test_get_is_atomic_under_random_cancellation(make_queue: MakeQueue, seed: int) -> None:
    queue = make_queue(8)
    chance = random.Random(seed)
    taken: list[int] = []

    async def canceller() -> None:
        while len(taken) < 1_000:
            task = asyncio.create_task(queue.get(timeout=chance.choice([None, 0, 0.001])))
            await turns(chance.randrange(4))
            task.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                taken.append(await task)

    async def putter() -> None:
        for i in range(1_000):
            await queue.put(i)
            await turns(chance.randrange(3))

    await within(asyncio.gather(putter(), canceller()), 20)
    assert taken == list(range(1_000))


@pytest.mark.parametrize("seed", range(5))
async def test_put_is_atomic_under_random_cancellation(make_queue: MakeQueue, seed: int) -> None:
    queue = make_queue(2)
    chance = random.Random(seed)
    put: list[int] = []
    taken: list[int] = []

    async def canceller() -> None:
        for i in range(1_000):
            task = asyncio.create_task(queue.put(i, timeout=chance.choice([None, 0, 0.001])))
            await turns(chance.randrange(4))
            task.cancel()
            try:
                await task
            except (TimeoutError, asyncio.CancelledError):
                continue
            put.append(i)

    async def getter() -> None:
        while True:
            taken.append(await queue.get())
            await turns(chance.randrange(4))

    getting = asyncio.create_task(getter())
    await within(canceller(), 20)
    await eventually(queue.empty)
    await eventually(lambda: len(taken) >= len(put))
    getting.cancel()
    await asyncio.wait([getting])
    assert taken == put
    assert 100 < len(put) < 1_000


@pytest.mark.parametrize("seed", range(3))
async def test_crowds_of_putters_and_getters_that_are_cancelled_lose_nothing(make_queue: MakeQueue, seed: int) -> None:
    queue = make_queue(1)
    chance = random.Random(seed)
    numbers = iter(range(10**9))
    put: list[int] = []
    taken: list[int] = []

    async def putter() -> None:
        for _ in range(100):
            number = next(numbers)
            task = asyncio.create_task(queue.put(number))
            await turns(chance.randrange(6))
            if chance.random() < 0.3:
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                continue
            put.append(number)

    async def getter() -> None:
        while True:
            task = asyncio.create_task(queue.get())
            await turns(chance.randrange(6))
            if chance.random() < 0.3:
                task.cancel()
            try:
                taken.append(await task)
            except asyncio.CancelledError:
                if task.cancelled() and not stop:
                    continue
                raise

    stop = False
    getters = [asyncio.create_task(getter()) for _ in range(4)]
    await within(asyncio.gather(*(putter() for _ in range(4))), 20)
    await eventually(lambda: len(taken) == len(put))
    stop = True
    for task in getters:
        task.cancel()
    await asyncio.wait(getters)
    assert sorted(taken) == sorted(put)


async def test_four_producers_and_four_consumers_at_capacity_one(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    taken: list[int] = []

    async def producer(p: int) -> None:
        for i in range(100):
            await queue.put(1_000 * p + i)

    async def consumer() -> None:
        for _ in range(100):
            taken.append(await queue.get())

    await within(asyncio.gather(*(producer(p) for p in range(4)), *(consumer() for _ in range(4))))
    for p in range(4):
        assert [n % 1_000 for n in taken if n // 1_000 == p] == list(range(100))
    assert queue.empty()
