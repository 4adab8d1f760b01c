"""`MessageQueue` on its own: a bounded, fair queue over a ring, of objects or of records."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import random
import weakref
from collections import deque
from types import SimpleNamespace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pytest
from helpers import eventually, in_line, turns, within

from ringkernel import (
    BatchTimeoutError,
    ConfigurationError,
    KernelStateError,
    MessageQueue,
    MessageTypeError,
    QueueEmptyError,
    QueueFullError,
    RingKernelError,
    message,
)
from ringkernel.devices.event_loop.waiting_line import MAX_OPERATIONS

pytestmark = pytest.mark.both_loops


@pytest.fixture(params=[None, int], ids=["objects", "records"])
def dtype(request):
    return request.param


@pytest.fixture
def make(dtype, loop_errors):
    return lambda capacity: MessageQueue(capacity, dtype)


# --- the face of asyncio.Queue ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["put", "get", "put_nowait", "get_nowait", "qsize", "full", "empty"])
def test_method_names_are_those_of_asyncio_queue(name):
    ours, theirs = getattr(MessageQueue, name), getattr(asyncio.Queue, name)
    assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(theirs)
    needed = [p for p in inspect.signature(ours).parameters.values() if p.default is p.empty]
    assert len(needed) == len(inspect.signature(theirs).parameters)


async def test_first_in_first_out(make):
    queue = make(8)
    for i in range(5):
        await queue.put(i)
    assert [await queue.get() for _ in range(5)] == [0, 1, 2, 3, 4]


async def test_qsize_empty_and_full(make):
    queue = make(2)
    seen = [(queue.qsize(), queue.empty(), queue.full())]
    for step in (lambda: queue.put_nowait(1), lambda: queue.put_nowait(2), queue.get_nowait, queue.get_nowait):
        step()
        seen.append((queue.qsize(), queue.empty(), queue.full()))
    assert seen == [(0, True, False), (1, False, False), (2, False, True), (1, False, False), (0, True, False)]


async def test_nowait_on_a_full_and_on_an_empty_queue(make):
    queue = make(1)
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
async def test_a_queue_goes_round_many_times(make, capacity):
    queue = make(capacity)
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
def test_a_bad_capacity_is_refused(capacity):
    with pytest.raises(ConfigurationError, match="queue size"):
        MessageQueue(capacity)


def test_the_default_capacity_is_bounded():
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
def test_no_queue_holds_less_than_nothing_or_more_than_fits(monkeypatch, step):
    queue, ring = MessageQueue(4), Racing(step)
    monkeypatch.setattr(MessageQueue, "_ring", lambda _: ring)
    assert queue.qsize() == min(2 + step, 4)
    counts = queue.statistics()
    assert 0 <= counts.depth <= 4
    assert counts.got == counts.put - counts.depth >= 0


# --- waiting ------------------------------------------------------------------------------------------------------


async def test_get_waits_for_a_message(make):
    queue = make(4)
    getting = asyncio.create_task(queue.get())
    await turns()
    assert not getting.done()
    await queue.put(7)
    assert await within(getting) == 7


async def test_put_waits_for_room(make):
    queue = make(2)
    await queue.put(1)
    await queue.put(2)
    putting = asyncio.create_task(queue.put(3))
    await turns()
    assert not putting.done()
    assert await queue.get() == 1
    await within(putting)
    assert [await queue.get(), await queue.get()] == [2, 3]


async def test_timeouts_change_nothing(make):
    queue = make(1)
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


async def test_a_timeout_of_zero_polls(make):
    queue = make(1)
    with pytest.raises(asyncio.TimeoutError):
        await queue.get(timeout=0)
    await queue.put(1, timeout=0)
    with pytest.raises(asyncio.TimeoutError):
        await queue.put(2, timeout=0)
    assert await queue.get(timeout=0) == 1


async def test_a_timeout_is_not_early_and_ends_when_something_comes(make):
    queue = make(1)
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
async def test_a_timeout_that_is_none_is_refused(make, timeout):
    queue = make(1)
    with pytest.raises(ConfigurationError, match="timeout"):
        await queue.get(timeout=timeout)
    assert queue.statistics().waiting_getters == 0


async def test_getters_are_served_first_in_first_out(make):
    queue = make(2)
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


async def test_putters_are_served_first_in_first_out(make):
    queue = make(1)
    await queue.put(-1)
    tasks = [await in_line(queue, queue.put(i)) for i in range(20)]
    assert queue.statistics().waiting_putters == 20
    assert [await within(queue.get()) for _ in range(21)] == list(range(-1, 20))
    await within(asyncio.gather(*tasks))


async def test_the_pace_does_not_change_the_order_of_those_who_wait(make):
    queue = make(2)
    await queue.put(0)
    await queue.get()
    await asyncio.sleep(0.002)  # so that the next operation is due to let others run
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await turns(4)
    await queue.put_batch([1, 2])
    assert (await within(first), await within(second)) == (1, 2)


async def test_nobody_overtakes_a_getter_that_was_notified(make):
    queue = make(4)
    first = await in_line(queue, queue.get())
    queue.put_nowait(1)  # `first` has been notified, and has not run yet
    with pytest.raises(QueueEmptyError):
        queue.get_nowait()
    second = asyncio.create_task(queue.get())
    queue.put_nowait(2)
    assert await within(first) == 1
    assert await within(second) == 2


async def test_nobody_overtakes_a_putter_that_was_notified(make):
    queue = make(1)
    await queue.put(0)
    putting = await in_line(queue, queue.put(1))
    assert queue.get_nowait() == 0
    with pytest.raises(QueueFullError):
        queue.put_nowait(2)
    await within(putting)
    assert queue.get_nowait() == 1


# --- cancellation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_getter_passes_its_wake_up_on(make, cancelled):
    queue = make(4)
    tasks = [await in_line(queue, queue.get()) for _ in range(3)]
    queue.put_nowait(1)
    queue.put_nowait(2)
    tasks[cancelled].cancel()
    results = await within(asyncio.gather(*tasks, return_exceptions=True))
    assert isinstance(results.pop(cancelled), asyncio.CancelledError)
    assert results == [1, 2]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_putter_passes_its_wake_up_on(make, cancelled):
    queue = make(1)
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
async def test_get_is_atomic_under_random_cancellation(make, seed):
    queue = make(8)
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
async def test_put_is_atomic_under_random_cancellation(make, seed):
    queue = make(2)
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
async def test_crowds_of_putters_and_getters_that_are_cancelled_lose_nothing(make, seed):
    queue = make(1)
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


async def test_four_producers_and_four_consumers_at_capacity_one(make):
    queue = make(1)
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


# --- batches ------------------------------------------------------------------------------------------------------


async def test_a_batch_goes_in_and_comes_out_in_order(make):
    queue = make(8)
    await queue.put_batch([1, 2, 3, 4, 5])
    assert list(await queue.get_batch(2)) == [1, 2]
    assert list(await queue.get_batch()) == [3, 4, 5]
    assert queue.empty()


async def test_a_batch_larger_than_the_queue_waits_for_room(make):
    queue = make(4)
    putting = asyncio.create_task(queue.put_batch(list(range(100))))
    taken: list[int] = []
    while len(taken) < 100:
        taken.extend(await within(queue.get_batch(3)))
    await within(putting)
    assert taken == list(range(100))


async def test_get_batch_waits_for_the_first_only(make):
    queue = make(8)
    getting = asyncio.create_task(queue.get_batch(5))
    await turns()
    assert not getting.done()
    await queue.put(1)
    assert list(await within(getting)) == [1]
    with pytest.raises(asyncio.TimeoutError):
        await queue.get_batch(timeout=0.01)


@pytest.mark.parametrize("most", [0, -1, 1.5])
async def test_get_batch_refuses_a_size_below_one(make, most):
    queue = make(8)
    await queue.put(1)
    with pytest.raises(ConfigurationError, match="max_messages"):
        await queue.get_batch(most)
    assert queue.qsize() == 1


async def test_a_batch_that_times_out_says_how_many_went_in(make):
    queue = make(4)
    with pytest.raises(asyncio.TimeoutError) as caught:
        await queue.put_batch(list(range(10)), timeout=0.02)
    assert isinstance(caught.value, BatchTimeoutError)
    assert caught.value.sent == 4
    assert list(await queue.get_batch()) == [0, 1, 2, 3]
    assert queue.empty()


async def test_a_cancelled_batch_has_put_a_prefix(make):
    queue = make(4)
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


async def test_an_empty_batch_is_nothing(make):
    queue = make(2)
    await queue.put_batch([])
    assert queue.empty()


async def test_batches_of_many_putters_keep_each_ones_order(make):
    queue = make(8)
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


async def test_statistics(make):
    queue = make(4)
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
        counts.put = 0  # frozen


# --- the loop stays alive -----------------------------------------------------------------------------------------


async def test_operations_that_never_wait_let_others_run(make):
    queue = make(64)
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


# --- objects ------------------------------------------------------------------------------------------------------


async def test_objects_pass_unchanged_and_are_let_go(loop_errors):
    class Thing: ...

    queue = MessageQueue(4)
    thing = Thing()
    await queue.put(thing)
    await queue.put(None)
    assert await queue.get() is thing
    assert await queue.get() is None
    gone = weakref.ref(thing)
    del thing
    gc.collect()
    assert gone() is None


# --- records ------------------------------------------------------------------------------------------------------


@message
class Tick:
    price: float
    size: int


@message
class Frame:
    at: float
    samples: Annotated[npt.NDArray[np.float32], 3]


async def test_scalars_come_out_as_python_scalars(loop_errors):
    queue = MessageQueue(4, np.float32)
    await queue.put(1.5)
    await queue.put(np.float32(2.5))
    await queue.put(3)
    assert [type(value) for value in (await queue.get(), await queue.get())] == [float, float]
    assert await queue.get() == 3.0
    await queue.put_batch(np.array([1.0, 2.0], np.float32))
    batch = await queue.get_batch()
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, [1.0, 2.0])


async def test_message_instances_come_out_equal(loop_errors):
    queue = MessageQueue(4, Tick)
    await queue.put(Tick(1.25, 7))
    tick = await queue.get()
    assert tick == Tick(1.25, 7)
    assert isinstance(tick, Tick)
    await queue.put_batch([Tick(1.0, 1), Tick(2.0, 2)])
    batch = await queue.get_batch()
    assert batch.dtype == Tick.dtype
    np.testing.assert_array_equal(batch["size"], [1, 2])


async def test_nested_arrays_are_copied_in_and_out(loop_errors):
    queue = MessageQueue(2, Frame)
    samples = np.array([1, 2, 3], np.float32)
    await queue.put(Frame(0.5, samples))
    samples[:] = 9
    frame = await queue.get()
    np.testing.assert_array_equal(frame.samples, [1, 2, 3])
    for i in range(4):
        await queue.put(Frame(float(i), samples))
        await queue.get()
    np.testing.assert_array_equal(frame.samples, [1, 2, 3])


async def test_structured_dtypes_come_out_as_records(loop_errors):
    dtype = np.dtype([("a", np.int16), ("b", np.float64)])
    queue = MessageQueue(4, dtype)
    await queue.put((3, 0.5))
    await queue.put(np.array([(4, 1.5)], dtype)[0])
    record = await queue.get()
    assert (record.a, record["b"]) == (3, 0.5)
    await queue.put((5, 2.5))
    await queue.put((6, 3.5))
    await queue.put((7, 4.5))
    assert (record.a, record.b) == (3, 0.5)  # its own memory
    assert [r["a"] for r in await queue.get_batch()] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("dtype", "bad"),
    [
        (int, "x"),
        (int, 1.5),
        (int, None),
        (np.int8, 300),
        (np.uint8, -1),
        (Tick, (1.0, 2)),
        (Tick, 5),
        (np.dtype([("a", int), ("b", int)]), (1,)),
        (np.dtype([("a", int), ("b", int)]), {"a": 1, "b": 2}),
    ],
)
async def test_a_message_of_another_type_is_refused_and_nothing_is_put(dtype, bad, loop_errors):
    queue = MessageQueue(4, dtype)
    with pytest.raises(MessageTypeError) as caught:
        await queue.put(bad)
    assert isinstance(caught.value, TypeError)
    with pytest.raises(MessageTypeError):
        queue.put_nowait(bad)
    with pytest.raises(MessageTypeError):
        await queue.put_batch([bad])
    assert queue.empty()
    assert queue.statistics().put == 0


async def test_a_bad_message_among_good_ones_puts_nothing(loop_errors):
    queue = MessageQueue(4, int)
    with pytest.raises(MessageTypeError):
        await queue.put_batch([1, 2, "three", 4])
    assert queue.empty()


@pytest.mark.parametrize("dtype", [object, str, "no such type", list])
def test_a_type_that_is_none_is_refused(dtype):
    with pytest.raises(MessageTypeError, match="message type"):
        MessageQueue(4, dtype)


async def test_a_refused_message_leaves_waiting_putters_alone(loop_errors):
    queue = MessageQueue(1, int)
    await queue.put(0)
    good, bad, last = [await in_line(queue, queue.put(value)) for value in (1, "x", 2)]
    assert [await within(queue.get()) for _ in range(3)] == [0, 1, 2]
    await within(asyncio.gather(good, last))
    with pytest.raises(MessageTypeError):
        await within(bad)


# --- one loop, one thread -----------------------------------------------------------------------------------------


async def test_a_queue_belongs_to_its_loop_and_thread(make):
    queue = make(4)
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


def test_a_queue_may_be_made_outside_of_a_loop(dtype):
    queue = MessageQueue(4, dtype)
    assert (queue.qsize(), queue.empty(), queue.full()) == (0, True, False)

    async def use() -> int:
        await queue.put(1)
        return await queue.get()

    assert asyncio.run(use()) == 1


# --- the queues of a kernel ---------------------------------------------------------------------------------------


async def test_the_queues_of_a_kernel_have_the_kernel_at_the_other_end(runtime):
    async def echo(ctx):
        async for value in ctx:
            await ctx.send(-value)

    kernel = await runtime.launch("echo", echo, queue_size=4)
    await runtime.activate("echo")
    assert (kernel.input_queue.capacity, kernel.output_queue.capacity) == (4, 4)
    await kernel.input_queue.put(1)
    assert await within(kernel.output_queue.get()) == -1
    with pytest.raises(KernelStateError, match=r"output of kernel 'echo'.*only the kernel"):
        await kernel.output_queue.put(1)
    with pytest.raises(KernelStateError, match=r"input of kernel 'echo'.*only the kernel"):
        await kernel.input_queue.get()
    assert (kernel.input_queue.statistics().put, kernel.output_queue.statistics().got) == (1, 1)
