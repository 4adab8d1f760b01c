"""Messages go through in order; queues are bounded, and a full one makes its sender wait; a call that is cancelled or
times out has happened or not."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from helpers import check_books, eventually, in_line, receive_all, start, turns, within
from kinds import Kind, gated, same, sink

from ringkernel import (
    BatchTimeoutError,
    ConfigurationError,
    KernelStateError,
    MessageTypeError,
    QueueEmptyError,
    QueueFullError,
    RingKernelRuntime,
)

# --- order --------------------------------------------------------------------------------------------------------


async def test_order_is_kept_message_by_message_and_in_batches(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=32)
    wanted = 0
    received: list[int] = []
    for size in (1, 5, 1, 31, 64, 1, 200):
        batch = range(wanted, wanted + size)
        wanted += size
        call = runtime.send("k", batch[0]) if size == 1 else runtime.send_batch("k", batch)
        sending = asyncio.create_task(call)
        while len(received) < wanted:
            if len(received) % 2:
                received.append(await within(runtime.receive("k")))
            else:
                received.extend(await within(runtime.receive_batch("k", 7)))
        await within(sending)
    assert received == list(range(wanted))


async def test_four_producers_and_four_consumers_at_capacity_one(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=1)
    taken: list[int] = []

    async def producer(p: int) -> None:
        for i in range(50):
            await runtime.send("k", 1000 * p + i)

    async def consumer() -> None:
        for _ in range(50):
            taken.append(await runtime.receive("k"))

    await within(asyncio.gather(*(producer(p) for p in range(4)), *(consumer() for _ in range(4))))
    for p in range(4):
        assert [n % 1000 for n in taken if n // 1000 == p] == list(range(50))
    assert check_books(runtime, "k").processed == 200


async def test_receivers_are_served_first_in_first_out(runtime: RingKernelRuntime, kind: Kind) -> None:
    kernel = await start(runtime, "k", kind(same))
    order = []

    async def receiver(i: int) -> None:
        order.append((i, await runtime.receive("k")))

    tasks = [await in_line(kernel.output_queue, receiver(i)) for i in range(10)]
    await runtime.send_batch("k", range(10))
    await within(asyncio.gather(*tasks))
    assert order == [(i, i) for i in range(10)]


async def test_senders_are_served_first_in_first_out(runtime: RingKernelRuntime, kind: Kind) -> None:
    kernel = await runtime.launch("k", kind(same), queue_size=1)
    await runtime.send("k", -1)
    tasks = [await in_line(kernel.input_queue, runtime.send("k", i)) for i in range(10)]
    await runtime.activate("k")
    assert await receive_all(runtime, "k", 11) == list(range(-1, 10))
    await within(asyncio.gather(*tasks))


# --- room ---------------------------------------------------------------------------------------------------------


async def test_a_full_queue_makes_send_wait_and_time_out(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same), queue_size=4)
    await runtime.send_batch("k", range(4))
    for timeout in (0.02, 0):
        with pytest.raises(asyncio.TimeoutError):
            await runtime.send("k", 99, timeout=timeout)
    assert runtime.statistics("k").accepted == 4
    waiting = await in_line(runtime.kernels["k"].input_queue, runtime.send("k", 4))
    await turns()
    assert not waiting.done()
    await runtime.activate("k")
    await within(waiting)
    await runtime.send("k", 5, timeout=5)
    assert await receive_all(runtime, "k", 6) == [0, 1, 2, 3, 4, 5]


async def test_nowait_calls_do_not_wait(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same), queue_size=2)
    with pytest.raises(QueueEmptyError):
        runtime.receive_nowait("k")
    runtime.send_nowait("k", 1)
    runtime.send_nowait("k", 2)
    with pytest.raises(QueueFullError, match="2"):
        runtime.send_nowait("k", 3)
    assert runtime.statistics("k").accepted == 2
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").emitted == 2)
    assert [runtime.receive_nowait("k"), runtime.receive_nowait("k")] == [1, 2]
    with pytest.raises(QueueEmptyError):
        runtime.receive_nowait("k")


async def test_a_kernel_waits_for_room_in_its_output(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=2)
    in_hand = 0 if kind.is_compiled else 1
    count = 4 + in_hand
    for i in range(count):
        await within(runtime.send("k", i))
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 99, timeout=0.02)
    counts = check_books(runtime, "k")
    assert (counts.output_depth, counts.in_flight, counts.input_depth) == (2, in_hand, 2)
    assert await receive_all(runtime, "k", count) == list(range(count))


async def test_receive_times_out_and_has_taken_nothing(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    for timeout in (0.02, 0):
        with pytest.raises(asyncio.TimeoutError):
            await runtime.receive("k", timeout=timeout)
        with pytest.raises(asyncio.TimeoutError):
            await runtime.receive_batch("k", timeout=timeout)
    await runtime.send("k", 1)
    assert await within(runtime.receive("k", timeout=5)) == 1


async def test_a_timeout_says_what_was_wanted_and_what_to_start(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same), queue_size=2)
    for receive in (runtime.receive("k", timeout=0), runtime.receive_batch("k", timeout=0)):
        with pytest.raises(asyncio.TimeoutError, match=r"nothing came from kernel 'k' .*0 s; .*LAUNCHED: activate\(\)"):
            await receive
    await runtime.send_batch("k", [1, 2])
    with pytest.raises(
        asyncio.TimeoutError, match=r"kernel 'k' had no room .*0 s: all 2 slots .*LAUNCHED: activate\(\)"
    ):
        await runtime.send("k", 3, timeout=0)
    with pytest.raises(asyncio.TimeoutError, match="'k' is still LAUNCHED after 0 s"):
        await runtime.wait("k", timeout=0)
    await runtime.activate("k")
    assert await receive_all(runtime, "k", 2) == [1, 2]
    with pytest.raises(asyncio.TimeoutError) as caught:
        await runtime.receive("k", timeout=0)
    assert str(caught.value) == "nothing came from kernel 'k' within 0 s"
    await runtime.deactivate("k")
    with pytest.raises(asyncio.TimeoutError, match=r"DEACTIVATED: reactivate\(\)"):
        await runtime.receive("k", timeout=0)


# --- queues -------------------------------------------------------------------------------------------------------


async def test_the_queues_of_a_kernel_have_the_kernel_at_the_other_end(runtime: RingKernelRuntime, kind: Kind) -> None:
    kernel = await runtime.launch("k", kind(same), queue_size=8)
    assert kernel.input_queue.capacity == kernel.output_queue.capacity == 8
    for i in range(8):
        await kernel.input_queue.put(i)
    assert kernel.input_queue.qsize() == 8
    assert kernel.input_queue.full()
    await runtime.activate("k")
    await eventually(lambda: kernel.output_queue.qsize() == 8)
    assert kernel.input_queue.empty()
    assert await within(kernel.output_queue.get()) == 0
    with pytest.raises(KernelStateError, match=r"output of kernel 'k'.*only the kernel"):
        await kernel.output_queue.put(1)
    with pytest.raises(KernelStateError, match=r"input of kernel 'k'.*only the kernel"):
        await kernel.input_queue.get()
    assert (kernel.input_queue.statistics().put, kernel.output_queue.statistics().got) == (8, 1)


async def test_there_is_nothing_to_receive_from_a_kernel_without_output(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await runtime.launch("k", compiled_kind(sink))
    for attempt in (runtime.receive("k", timeout=0.02), runtime.receive_batch("k", timeout=0.02)):
        with pytest.raises(MessageTypeError, match="'k'"):
            await attempt
    with pytest.raises(MessageTypeError, match="'k'"):
        runtime.receive_nowait("k")


# --- batches ------------------------------------------------------------------------------------------------------


async def test_a_batch_larger_than_the_queue_goes_through(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=8)
    sending = asyncio.create_task(runtime.send_batch("k", range(100)))
    taken: list[int] = []
    while len(taken) < 100:
        batch = await within(runtime.receive_batch("k", 5))
        assert 1 <= len(batch) <= 5
        taken.extend(batch)
    await sending
    assert taken == list(range(100))


async def test_a_batch_that_times_out_says_how_many_were_sent(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same), queue_size=4)
    await runtime.send("k", 0)
    with pytest.raises(asyncio.TimeoutError) as caught:
        await runtime.send_batch("k", range(1, 9), timeout=0.02)
    assert isinstance(caught.value, BatchTimeoutError)
    assert caught.value.sent == 3
    assert runtime.statistics("k").accepted == 4
    await runtime.terminate("k")
    assert list(runtime.unprocessed("k")) == [0, 1, 2, 3]


async def test_receive_batch_waits_for_the_first_message_only(runtime: RingKernelRuntime, kind: Kind) -> None:
    kernel = await start(runtime, "k", kind(same))
    receiving = await in_line(kernel.output_queue, runtime.receive_batch("k"))
    await runtime.send("k", 1)
    assert list(await within(receiving)) == [1]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3"])
async def test_a_batch_of_no_size_is_refused(runtime: RingKernelRuntime, kind: Kind, wrong: object) -> None:
    await runtime.launch("k", kind(same))
    with pytest.raises(ConfigurationError, match="max_messages"):
        await runtime.receive_batch("k", wrong)  # type: ignore[arg-type]


async def test_a_stream_yields_batches_until_the_kernel_has_ended(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    sizes: list[int] = []
    taken: list[int] = []

    async def read() -> None:
        async for batch in runtime.stream("k", max_messages=64):
            sizes.append(len(batch))
            taken.extend(batch)

    reading = asyncio.create_task(read())
    for i in range(20):
        await runtime.send("k", i)
        await turns(i % 3)
    await runtime.send_batch("k", range(20, 1000))
    await runtime.terminate("k")
    await within(reading)
    assert taken == list(range(1000))
    assert 1 <= min(sizes) <= max(sizes) <= 64


# --- cancellation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_of_two_receivers_one_is_cancelled_when_the_message_comes(
    runtime: RingKernelRuntime, kind: Kind, cancelled: int
) -> None:
    await start(runtime, "k", kind(same))
    receivers = [asyncio.create_task(runtime.receive("k")) for _ in range(2)]
    await turns()
    runtime.send_nowait("k", 1)
    await eventually(lambda: runtime.statistics("k").emitted)
    receivers[cancelled].cancel()
    await asyncio.wait([receivers[cancelled]])
    if receivers[cancelled].cancelled():
        assert await within(receivers[1 - cancelled]) == 1
    else:  # it had the message already
        assert receivers[cancelled].result() == 1
        await runtime.send("k", 2)
        assert await within(receivers[1 - cancelled]) == 2


@pytest.mark.parametrize("seed", range(3))
async def test_receive_loses_and_doubles_nothing_when_it_is_cancelled(
    runtime: RingKernelRuntime, kind: Kind, seed: int
) -> None:
    chance = random.Random(seed)
    await start(runtime, "k", kind(same), queue_size=4)
    taken: list[int] = []

    async def feed() -> None:
        for i in range(500):
            await runtime.send("k", i)
            await turns(chance.randrange(3))

    async def take() -> None:
        while len(taken) < 500:
            task = asyncio.create_task(runtime.receive("k", timeout=chance.choice([None, 0, 0.001])))
            await turns(chance.randrange(5))
            task.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                taken.append(await task)

    await within(asyncio.gather(feed(), take()), 20)
    assert taken == list(range(500))


@pytest.mark.parametrize("seed", range(3))
async def test_send_loses_and_doubles_nothing_when_it_is_cancelled(
    runtime: RingKernelRuntime, kind: Kind, seed: int
) -> None:
    chance = random.Random(seed)
    await start(runtime, "k", kind(same), queue_size=1)
    sent: list[int] = []
    taken: list[int] = []

    async def feed() -> None:
        for i in range(500):
            task = asyncio.create_task(runtime.send("k", i, timeout=chance.choice([None, 0, 0.001])))
            await turns(chance.randrange(5))
            task.cancel()
            try:
                await task
            except (TimeoutError, asyncio.CancelledError):
                continue
            sent.append(i)

    async def take() -> None:
        while True:
            taken.append(await runtime.receive("k"))
            await turns(chance.randrange(6))

    taking = asyncio.create_task(take())
    await within(feed(), 20)
    await eventually(lambda: len(taken) == len(sent))
    await turns()
    taking.cancel()
    await asyncio.wait([taking])
    assert taken == sent
    assert 0 < len(sent) < 500
    assert check_books(runtime, "k").accepted == len(sent)


async def test_a_cancelled_batch_has_sent_a_prefix(runtime: RingKernelRuntime, kind: Kind) -> None:
    kernel = await start(runtime, "k", kind(gated), queue_size=4)
    gate = kind.gate(runtime, "k")
    await runtime.send("k", -1)
    await eventually(lambda: gate.entered)
    sending = await in_line(kernel.input_queue, runtime.send_batch("k", range(10)))
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    accepted = runtime.statistics("k").accepted
    gate.open()
    assert await receive_all(runtime, "k", accepted) == [-1, *range(accepted - 1)]
    assert 1 < accepted < 10
