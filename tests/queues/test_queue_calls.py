"""`MessageQueue` has the face of `asyncio.Queue`, is bounded, takes batches, and belongs to one event loop."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import turns, within

from ringkernel import (
    BatchTimeoutError,
    ConfigurationError,
    KernelStateError,
    MessageQueue,
    QueueEmptyError,
    QueueFullError,
    RingKernelError,
)
from ringkernel.devices.event_loop.budget import MAX_OPERATIONS

MakeQueue = Callable[[int], MessageQueue]

pytestmark = pytest.mark.both_loops


# --- the face of asyncio.Queue ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["put", "get", "put_nowait", "get_nowait", "qsize", "full", "empty"])
def test_method_names_are_those_of_asyncio_queue(name: str) -> None:
    ours, theirs = getattr(MessageQueue, name), getattr(asyncio.Queue, name)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    needed = [p for p in inspect.signature(ours).parameters.values() if p.default is p.empty]
    assert len(needed) == len(inspect.signature(theirs).parameters)


async def test_first_in_first_out(make_queue: MakeQueue) -> None:
    queue = make_queue(8)
    for i in range(5):
        await queue.put(i)
    assert [await queue.get() for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_qsize_empty_and_full(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    seen = [(queue.qsize(), queue.empty(), queue.full())]
    for step in (lambda: queue.put_nowait(1), lambda: queue.put_nowait(2), queue.get_nowait, queue.get_nowait):
        step()
        seen.append((queue.qsize(), queue.empty(), queue.full()))
    assert seen == [(0, True, False), (1, False, False), (2, False, True), (1, False, False), (0, True, False)]


async def test_nowait_on_a_full_and_on_an_empty_queue(make_queue: MakeQueue) -> None:
    queue = make_queue(1)
    with pytest.raises(QueueEmptyError) as empty:
        queue.get_nowait()
    assert isinstance(empty.value, asyncio.QueueEmpty)
    queue.put_nowait(1)
    with pytest.raises(QueueFullError, match="1 slot") as full:
        queue.put_nowait(2)
    assert isinstance(full.value, asyncio.QueueFull)
    assert isinstance(full.value, RingKernelError)
    assert queue.get_nowait() == 1
    assert queue.empty()


@pytest.mark.parametrize("capacity", [1, 2, 64])
async def test_a_queue_goes_round_many_times(make_queue: MakeQueue, capacity: int) -> None:
    queue = make_queue(capacity)
    assert queue.capacity == capacity
    model: deque[int] = deque()
    chance = random.Random(1)
    for i in range(2_000):
        if len(model) < capacity and (not model or chance.random() < 0.5):
            queue.put_nowait(i)
            model.append(i)
        else:
            assert queue.get_nowait() == model.popleft()
        assert queue.qsize() == len(model)
        assert queue.full() == (len(model) == capacity)


@pytest.mark.parametrize("capacity", [0, -1, 3, 4095, 1.0, "8", True, None])
def test_a_bad_capacity_is_refused(capacity: int) -> None:
    with pytest.raises(ConfigurationError, match="queue size"):
        MessageQueue(capacity)


def test_the_default_capacity_is_bounded() -> None:
    assert MessageQueue().capacity == 4096


class Racing:
    """A ring whose ends are moved by other threads, by `step` messages between any two looks; two wait in it."""

    def __init__(self, step: int) -> None:
        self.step, self.head = step, 0
        self.edges = [SimpleNamespace(closed=False, position=self.moved)]

    def moved(self) -> int:
        self.head += self.step
        return self.head

    def position(self) -> int:
        return self.moved() + 2


@pytest.mark.parametrize("step", [0, 1, 3, 1_000])
def test_no_queue_holds_less_than_nothing_or_more_than_fits(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    queue, ring = MessageQueue(4), Racing(step)
    monkeypatch.setattr(MessageQueue, "_parts", lambda _: (ring, None, None))
    assert queue.qsize() == min(2 + step, 4)
    counts = queue.statistics()
    assert 0 <= counts.depth <= 4
    assert counts.got == counts.put - counts.depth >= 0


# --- batches ----------------------------------------------------------------------------------------------------------


async def test_a_batch_goes_in_and_comes_out_in_order(make_queue: MakeQueue) -> None:
    queue = make_queue(8)
    await queue.put_batch([1, 2, 3, 4, 5])
    assert list(await queue.get_batch(2)) == [1, 2]
    assert list(await queue.get_batch()) == [3, 4, 5]
    assert queue.empty()


async def test_a_batch_larger_than_the_queue_waits_for_room(make_queue: MakeQueue) -> None:
    queue = make_queue(4)
    putting = asyncio.create_task(queue.put_batch(list(range(100))))
    taken: list[int] = []
    while len(taken) < 100:
        taken.extend(await within(queue.get_batch(3)))
    await within(putting)
    assert taken == list(range(100))


async def test_get_batch_waits_for_the_first_only(make_queue: MakeQueue) -> None:
    queue = make_queue(8)
    getting = asyncio.create_task(queue.get_batch(5))
    await turns()
    assert not getting.done()
    await queue.put(1)
    assert list(await within(getting)) == [1]
    with pytest.raises(asyncio.TimeoutError):
        await queue.get_batch(timeout=0.01)


@pytest.mark.parametrize("most", [0, -1, 1.5])
async def test_get_batch_refuses_a_size_below_one(make_queue: MakeQueue, most: Any) -> None:
    queue = make_queue(8)
    await queue.put(1)
    with pytest.raises(ConfigurationError, match="max_messages"):
        await queue.get_batch(most)
    assert queue.qsize() == 1


async def test_a_batch_that_times_out_says_how_many_went_in(make_queue: MakeQueue) -> None:
    queue = make_queue(4)
    with pytest.raises(asyncio.TimeoutError) as caught:
        await queue.put_batch(list(range(10)), timeout=0.02)
    assert isinstance(caught.value, BatchTimeoutError)
    assert caught.value.sent == 4
    assert list(await queue.get_batch()) == [0, 1, 2, 3]
    assert queue.empty()


async def test_a_cancelled_batch_has_put_a_prefix(make_queue: MakeQueue) -> None:
    queue = make_queue(4)
    putting = asyncio.create_task(queue.put_batch(list(range(10))))
    await turns()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    taken = list(await queue.get_batch())
    assert taken == list(range(len(taken)))
    assert len(taken) == 4
    await queue.put(99)
    assert await queue.get() == 99


async def test_an_empty_batch_is_nothing(make_queue: MakeQueue) -> None:
    queue = make_queue(2)
    await queue.put_batch([])
    assert queue.empty()


async def test_batches_of_many_putters_keep_each_ones_order(make_queue: MakeQueue) -> None:
    queue = make_queue(8)
    taken: list[int] = []

    async def producer(p: int) -> None:
        for start in range(0, 100, 10):
            await queue.put_batch([1_000 * p + start + i for i in range(10)])

    async def consumer() -> None:
        while len(taken) < 400:
            taken.extend(int(n) for n in await queue.get_batch(7))

    await within(asyncio.gather(*(producer(p) for p in range(4)), consumer()))
    for p in range(4):
        assert [n % 1_000 for n in taken if n // 1_000 == p] == list(range(100))


async def test_statistics(make_queue: MakeQueue) -> None:
    queue = make_queue(4)
    await queue.put_batch([1, 2, 3])
    await queue.get()
    counts = queue.statistics()
    assert (counts.put, counts.got, counts.depth, counts.capacity) == (3, 1, 2, 4)
    assert (counts.waiting_putters, counts.waiting_getters) == (0, 0)
    putting = asyncio.create_task(queue.put_batch([4, 5, 6]))
    await turns()
    assert queue.statistics().waiting_putters == 1
    await queue.get_batch()
    await within(putting)
    await queue.get_batch()
    getting = asyncio.create_task(queue.get())
    await turns()
    assert queue.statistics().waiting_getters == 1
    await queue.put(7)
    await within(getting)
    assert (queue.statistics().put, queue.statistics().got) == (7, 7)
    with pytest.raises(AttributeError):
        counts.put = 0  # type: ignore[misc]  # frozen


# --- the loop stays alive ---------------------------------------------------------------------------------------------


async def test_operations_that_never_wait_let_others_run(make_queue: MakeQueue) -> None:
    queue = make_queue(64)
    operations = 0
    longest = 0
    running = True

    async def ticker() -> None:
        nonlocal longest
        seen = operations
        while running:
            longest = max(longest, operations - seen)
            seen = operations
            await asyncio.sleep(0)

    ticking = asyncio.create_task(ticker())
    await turns(2)
    for i in range(2_000):
        await queue.put(i)
        await queue.get()
        operations += 2
    running = False
    await within(ticking)
    assert 0 < longest <= MAX_OPERATIONS


# --- one loop, one thread ---------------------------------------------------------------------------------------------


async def test_a_queue_belongs_to_its_loop_and_thread(make_queue: MakeQueue) -> None:
    queue = make_queue(4)
    await queue.put(1)

    def in_another_loop() -> None:
        async def use() -> None:
            with pytest.raises(KernelStateError, match="another"):
                await queue.put(2)
            with pytest.raises(KernelStateError, match="another"):
                await queue.get()
            with pytest.raises(KernelStateError, match="another"):
                queue.get_nowait()
            with pytest.raises(KernelStateError, match="another"):
                await queue.put_batch([2])
            with pytest.raises(KernelStateError, match="another"):
                await queue.get_batch()

        asyncio.run(use())

    def in_a_plain_thread() -> None:
        with pytest.raises(KernelStateError, match="outside of its event loop"):
            queue.put_nowait(2)
        with pytest.raises(KernelStateError, match="outside of its event loop"):
            queue.get_nowait()

    await asyncio.to_thread(in_another_loop)
    await asyncio.to_thread(in_a_plain_thread)
    assert queue.qsize() == 1
    assert await queue.get() == 1


def test_a_queue_may_be_made_outside_of_a_loop(queue_dtype: Any) -> None:
    queue = MessageQueue(4, queue_dtype)
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)

    async def use() -> Any:
        await queue.put(1)
        return await queue.get()

    assert asyncio.run(use()) == 1
