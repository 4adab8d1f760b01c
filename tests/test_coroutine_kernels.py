"""Coroutine kernels: pause, backpressure, cancellation, ends of all kinds, connections, batches and maps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time

import numpy as np
import pytest
from helpers import check_books, drain, eventually, in_line, turns, within

from ringkernel import (
    BatchTimeoutError,
    ConfigurationError,
    KernelExit,
    KernelFailedError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    QueueEmptyError,
    QueueFullError,
    RingKernelRuntime,
    managed_kernel,
    ring_kernel,
)
from ringkernel.devices.event_loop.waiting_line import MAX_OPERATIONS

SLACK_S = 0.25
"""What a deadline may be missed by on a machine that is busy with other things; the promise itself is 0.1 s."""


async def echo(ctx):
    async for value in ctx:
        await ctx.send(value)


async def start(runtime: RingKernelRuntime, kernel_id, func, **options):
    kernel = await runtime.launch(kernel_id, func, **options)
    await runtime.activate(kernel_id)
    return kernel


async def receive_all(runtime: RingKernelRuntime, kernel_id: str, count: int) -> list:
    return [await within(runtime.receive(kernel_id)) for _ in range(count)]


class Ticker:
    """A task that runs whenever it is let, and notes the longest step of `progress()` between two of its runs."""

    def __init__(self, progress) -> None:
        self.progress = progress
        self.runs = self.longest = 0

    async def __aenter__(self):
        self.task = asyncio.create_task(self.tick())
        await turns(2)
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait([self.task])

    async def tick(self) -> None:
        seen = self.progress()
        while True:
            await asyncio.sleep(0)
            now = self.progress()
            self.longest = max(self.longest, now - seen)
            seen = now
            self.runs += 1


# --- where the body begins ----------------------------------------------------------------------------------------


async def test_the_body_begins_with_the_first_activation(runtime):
    begun = []

    async def kernel(ctx):
        begun.append((ctx.kernel_id, ctx.state, ctx.is_active, ctx.should_terminate))
        await echo(ctx)

    launched = await runtime.launch("k", kernel)
    await turns()
    assert begun == []
    assert launched.task is None
    await runtime.activate("k")
    await eventually(lambda: begun)
    assert begun == [("k", KernelState.ACTIVE, True, False)]
    assert launched.task is not None
    await runtime.deactivate("k")
    await runtime.reactivate("k")
    await turns()
    assert len(begun) == 1


async def test_any_object_is_a_message(runtime):
    await start(runtime, "k", echo)
    things = [None, object(), "text", {"a": 1}, [1, 2], lambda: 0, NotImplemented, Exception("as a value")]
    for thing in things:
        await runtime.send("k", thing)
    for thing in things:
        assert await within(runtime.receive("k")) is thing


# --- pause --------------------------------------------------------------------------------------------------------


async def test_no_message_is_taken_after_deactivate_returns(runtime):
    taken = []

    async def kernel(ctx):
        while True:  # looks at nothing
            taken.append(await ctx.receive())

    await start(runtime, "k", kernel)
    chance = random.Random(2)
    sent = 0
    for _ in range(100):
        for _ in range(chance.randrange(5)):
            await runtime.send("k", sent)
            sent += 1
        await turns(chance.randrange(3))
        await runtime.deactivate("k")
        before = len(taken)
        await runtime.send("k", sent)
        sent += 1
        await turns(3)
        assert len(taken) == before
        counts = check_books(runtime, "k")
        assert counts.unprocessed == sent - before
        await runtime.reactivate("k")
    await eventually(lambda: len(taken) == sent)
    assert taken == list(range(sent))


async def test_a_receive_that_was_already_notified_takes_nothing_once_paused(runtime):
    taken = []

    async def kernel(ctx):
        while True:
            taken.append(await ctx.receive())

    await start(runtime, "k", kernel)
    await turns()
    runtime.send_nowait("k", 1)  # wakes the kernel, which has not run yet
    await runtime.deactivate("k")
    await turns()
    assert taken == []
    await runtime.reactivate("k")
    await eventually(lambda: taken == [1])


async def test_the_timeout_of_receive_runs_on_while_paused(runtime):
    timeouts = 0
    taken = []

    async def kernel(ctx):
        nonlocal timeouts
        while not ctx.should_terminate:
            try:
                taken.append(await ctx.receive(timeout=0.01))
            except TimeoutError:
                timeouts += 1

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await runtime.send("k", 1)
    seen = timeouts
    await eventually(lambda: timeouts >= seen + 3)
    assert taken == []
    await runtime.reactivate("k")
    await eventually(lambda: taken == [1])


async def test_a_paused_kernel_may_still_send(runtime):
    async def kernel(ctx):
        value = await ctx.receive()
        while ctx.is_active:
            await asyncio.sleep(0)
        await ctx.send(value)
        await ctx.wait_active()

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await eventually(lambda: runtime.statistics("k").in_flight)
    await runtime.deactivate("k")
    assert await within(runtime.receive("k")) == 1


async def test_wait_active_releases_all_its_waiters(runtime):
    awake = []

    async def kernel(ctx):
        while ctx.is_active:
            await asyncio.sleep(0)

        async def wait(i):
            await ctx.wait_active()
            awake.append((i, ctx.state))

        await asyncio.gather(*(wait(i) for i in range(3)))
        await ctx.receive()

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await turns()
    assert awake == []
    await runtime.reactivate("k")
    await eventually(lambda: len(awake) == 3)
    assert awake == [(i, KernelState.ACTIVE) for i in range(3)]


async def test_wait_active_returns_at_once_while_active_and_lets_others_run(runtime):
    rounds = 0

    async def kernel(ctx):
        nonlocal rounds
        while not ctx.should_terminate:
            await ctx.wait_active()
            rounds += 1

    async with Ticker(lambda: rounds) as ticker:
        await start(runtime, "k", kernel)
        await eventually(lambda: rounds > 500)
    assert 0 < ticker.longest <= MAX_OPERATIONS


async def test_wait_active_returns_when_the_kernel_is_told_to_end(runtime):
    seen = []

    async def kernel(ctx):
        while ctx.is_active:
            await asyncio.sleep(0)
        await ctx.wait_active()
        seen.append((ctx.is_active, ctx.should_terminate, ctx.state))

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await turns()
    await within(runtime.terminate("k"), 1.0)
    assert seen == [(False, True, KernelState.TERMINATING)]


# --- backpressure -------------------------------------------------------------------------------------------------


async def test_send_waits_for_room(runtime):
    await runtime.launch("k", echo, queue_size=2)
    await runtime.send("k", 0)
    await runtime.send("k", 1)
    with pytest.raises(QueueFullError):
        runtime.send_nowait("k", 2)
    sending = asyncio.create_task(runtime.send("k", 2))
    await turns()
    assert not sending.done()
    await runtime.activate("k")
    await within(sending)
    assert await receive_all(runtime, "k", 3) == [0, 1, 2]


async def test_a_send_that_times_out_has_sent_nothing(runtime):
    await runtime.launch("k", echo, queue_size=1)
    await runtime.send("k", 0)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 1, timeout=0.01)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 1, timeout=0)
    assert runtime.statistics("k").accepted == 1
    await runtime.activate("k")
    await runtime.send("k", 2, timeout=5)
    assert await receive_all(runtime, "k", 2) == [0, 2]


async def test_a_kernel_waits_for_room_in_its_output(runtime):
    await start(runtime, "k", echo, queue_size=2)
    for i in range(5):  # two in the output, one in hand, two in the input
        await within(runtime.send("k", i))
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 5, timeout=0.02)
    counts = check_books(runtime, "k")
    assert (counts.output_depth, counts.in_flight, counts.input_depth) == (2, 1, 2)
    assert await receive_all(runtime, "k", 5) == [0, 1, 2, 3, 4]


async def test_peak_depths_are_counted(runtime):
    await runtime.launch("k", echo, queue_size=8)
    await runtime.send_batch("k", [1, 2, 3, 4, 5])
    assert runtime.statistics("k").input_depth == 5
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").emitted == 5)
    counts = runtime.statistics("k")
    assert counts.output_depth == 5
    assert counts.peak_input_depth >= 5
    assert counts.peak_output_depth >= 5


async def test_four_producers_and_four_consumers_at_capacity_one(runtime):
    await start(runtime, "k", echo, queue_size=1)
    taken = []

    async def producer(p):
        for i in range(50):
            await runtime.send("k", (p, i))

    async def consumer():
        for _ in range(50):
            taken.append(await runtime.receive("k"))

    await within(asyncio.gather(*(producer(p) for p in range(4)), *(consumer() for _ in range(4))))
    for p in range(4):
        assert [i for q, i in taken if q == p] == list(range(50))
    assert check_books(runtime, "k").processed == 200


async def test_receivers_are_served_first_in_first_out(runtime):
    kernel = await start(runtime, "k", echo)
    order = []

    async def receiver(i):
        order.append((i, await runtime.receive("k")))

    tasks = [await in_line(kernel.output_queue, receiver(i)) for i in range(10)]
    await runtime.send_batch("k", list(range(10)))
    await within(asyncio.gather(*tasks))
    assert order == [(i, i) for i in range(10)]


async def test_senders_are_served_first_in_first_out(runtime):
    kernel = await runtime.launch("k", echo, queue_size=1)
    await runtime.send("k", -1)
    tasks = [await in_line(kernel.input_queue, runtime.send("k", i)) for i in range(10)]
    await runtime.activate("k")
    assert await receive_all(runtime, "k", 11) == list(range(-1, 10))
    await within(asyncio.gather(*tasks))


async def test_a_producer_that_waits_for_room_when_its_consumer_ends(runtime):
    async def takes_one(ctx):
        await ctx.receive()
        while len(senders) < 3:
            await asyncio.sleep(0)

    senders = []
    await start(runtime, "k", takes_one, queue_size=1)
    await runtime.send("k", 0)
    await eventually(lambda: runtime.statistics("k").in_flight)
    await runtime.send("k", 1)
    senders.extend(asyncio.create_task(runtime.send("k", 2 + i)) for i in range(3))
    for sender in senders:
        with pytest.raises(KernelStateError, match=r"'k'.*TERMINATED"):
            await within(sender, 1.0)
    assert runtime.unprocessed("k") == [1]
    assert check_books(runtime, "k").accepted == 2


# --- cancellation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_two_receivers_and_one_is_cancelled_when_the_message_comes(runtime, cancelled):
    await start(runtime, "k", echo)
    receivers = [asyncio.create_task(runtime.receive("k")) for _ in range(2)]
    await turns()
    runtime.send_nowait("k", 1)
    for _ in range(10):  # cancelled in whichever turn the message comes through
        if runtime.statistics("k").emitted:
            break
        await asyncio.sleep(0)
    receivers[cancelled].cancel()
    if receivers[cancelled].done():
        assert await receivers[cancelled] == 1
        return
    assert await within(receivers[1 - cancelled]) == 1
    with pytest.raises(asyncio.CancelledError):
        await receivers[cancelled]


@pytest.mark.parametrize("seed", range(5))
async def test_receive_loses_and_doubles_nothing_when_it_is_cancelled(runtime, seed):
    chance = random.Random(seed)
    await start(runtime, "k", echo, queue_size=4)
    taken = []

    async def feed():
        for i in range(500):
            await runtime.send("k", i)
            await turns(chance.randrange(3))

    async def take():
        while len(taken) < 500:
            task = asyncio.create_task(runtime.receive("k", timeout=chance.choice([None, 0, 0.001])))
            await turns(chance.randrange(5))
            task.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                taken.append(await task)

    await within(asyncio.gather(feed(), take()), 20)
    assert taken == list(range(500))


@pytest.mark.parametrize("seed", range(5))
async def test_send_loses_and_doubles_nothing_when_it_is_cancelled(runtime, seed):
    chance = random.Random(seed)
    await start(runtime, "k", echo, queue_size=1)
    sent, taken = [], []

    async def feed():
        for i in range(500):
            task = asyncio.create_task(runtime.send("k", i, timeout=chance.choice([None, 0, 0.001])))
            await turns(chance.randrange(5))
            task.cancel()
            try:
                await task
            except (TimeoutError, asyncio.CancelledError):
                continue
            sent.append(i)

    async def take():
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


@pytest.mark.parametrize("seed", range(5))
async def test_a_kernel_may_cancel_its_own_receives_and_sends(runtime, seed):
    chance = random.Random(seed)

    async def kernel(ctx):
        outbox = []
        while not ctx.should_terminate:
            task = asyncio.create_task(ctx.receive() if chance.random() < 0.5 else ctx.receive(timeout=0.001))
            await turns(chance.randrange(4))
            task.cancel()
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                outbox.append(await task)
            while outbox:
                task = asyncio.create_task(ctx.send(outbox[0]))
                await turns(chance.randrange(4))
                task.cancel()
                try:
                    await task
                except asyncio.CancelledError:
                    continue
                outbox.pop(0)

    await start(runtime, "k", kernel, queue_size=1)

    async def feed():
        for i in range(300):
            await runtime.send("k", i)

    feeding = asyncio.create_task(feed())
    assert await within(receive_all(runtime, "k", 300), 20) == list(range(300))
    await feeding
    await turns()
    assert drain(runtime, "k") == []


async def test_a_waiting_kernel_whose_message_is_cancelled_twice_still_gets_the_next(runtime):
    async def kernel(ctx):
        for _ in range(3):
            task = asyncio.create_task(ctx.receive())
            await turns()
            task.cancel()
            await asyncio.wait([task])
        await ctx.send(await ctx.receive())

    await start(runtime, "k", kernel)
    await turns(50)
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1


# --- the loop stays alive -----------------------------------------------------------------------------------------


async def test_a_kernel_that_only_receives_lets_others_run(runtime):
    taken = 0

    async def kernel(ctx):
        nonlocal taken
        while True:
            await ctx.receive()
            taken += 1

    await runtime.launch("k", kernel)
    await runtime.send_batch("k", list(range(4096)))
    async with Ticker(lambda: taken) as ticker:
        await runtime.activate("k")
        await eventually(lambda: taken == 4096)
    assert 0 < ticker.longest <= MAX_OPERATIONS


async def test_a_kernel_that_iterates_and_sends_lets_others_run(runtime):
    taken = 0

    async def kernel(ctx):
        nonlocal taken
        async for value in ctx:
            await ctx.send(value)
            taken += 1

    await runtime.launch("k", kernel)
    await runtime.send_batch("k", list(range(4096)))
    async with Ticker(lambda: taken) as ticker:
        await runtime.activate("k")
        await eventually(lambda: taken == 4096)
    assert 0 < ticker.longest <= MAX_OPERATIONS


async def test_a_slow_kernel_lets_others_run_every_millisecond_or_so(runtime):
    taken = 0

    async def kernel(ctx):
        nonlocal taken
        async for _ in ctx:
            until = time.monotonic() + 0.0006
            while time.monotonic() < until:
                pass
            taken += 1

    await runtime.launch("k", kernel)
    await runtime.send_batch("k", list(range(100)))
    async with Ticker(lambda: taken) as ticker:
        await runtime.activate("k")
        await eventually(lambda: taken == 100)
    assert 0 < ticker.longest <= 4


@pytest.mark.parametrize("call", ["send", "receive"])
async def test_a_host_that_never_has_to_wait_lets_others_run(runtime, call):
    done = 0
    await runtime.launch("k", echo)
    if call == "receive":
        await runtime.send_batch("k", list(range(4000)))
        await runtime.activate("k")
        await eventually(lambda: runtime.statistics("k").emitted == 4000)
    async with Ticker(lambda: done) as ticker:
        for i in range(4000):
            await (runtime.send("k", i) if call == "send" else runtime.receive("k"))
            done += 1
    assert 0 < ticker.longest <= MAX_OPERATIONS


async def test_polling_with_a_timeout_of_zero_lets_others_run(runtime):
    polls = 0
    taken = []

    async def kernel(ctx):
        nonlocal polls
        while not ctx.should_terminate:
            try:
                taken.append(await ctx.receive(timeout=0))
            except TimeoutError:
                polls += 1

    async with Ticker(lambda: polls) as ticker:
        await start(runtime, "k", kernel)
        await eventually(lambda: polls > 300)
        await runtime.send("k", 1)
        await eventually(lambda: taken == [1])
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await runtime.receive("k", timeout=0)
    assert 0 < ticker.longest <= MAX_OPERATIONS
    await within(runtime.terminate("k"), 1.0)


async def test_polling_while_paused_lets_others_run(runtime):
    polls = 0

    async def kernel(ctx):
        nonlocal polls
        while not ctx.should_terminate:
            try:
                await ctx.receive(timeout=0)
            except TimeoutError:
                polls += 1

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await runtime.send("k", 1)
    async with Ticker(lambda: polls) as ticker:
        await eventually(lambda: polls > 300)
    assert 0 < ticker.longest <= MAX_OPERATIONS
    assert runtime.statistics("k").unprocessed == 1


# --- the graceful end ---------------------------------------------------------------------------------------------


async def test_async_for_drains_what_was_queued_and_reaches_its_last_line(runtime):
    lines = []

    async def kernel(ctx):
        lines.append("first")
        async for value in ctx:
            await ctx.send(value)
        lines.append((ctx.should_terminate, ctx.is_active, ctx.state))

    kernel_object = await start(runtime, "k", kernel)
    await runtime.send_batch("k", list(range(500)))
    await within(runtime.terminate("k"))
    assert lines == ["first", (True, False, KernelState.TERMINATING)]
    assert drain(runtime, "k") == list(range(500))
    assert kernel_object.error is None
    assert kernel_object.task.done()
    assert runtime.unprocessed("k") == []


async def test_no_more_is_taken_than_was_queued_at_the_command(runtime):
    gate = asyncio.Event()

    async def upstream(ctx):
        await gate.wait()
        for i in range(3, 6):
            await ctx.send(i)

    async def kernel(ctx):
        async for value in ctx:
            while not ctx.should_terminate:
                await asyncio.sleep(0)
            gate.set()
            while runtime.statistics("up").emitted < 3:
                await asyncio.sleep(0)
            await ctx.send(value)

    await runtime.launch("up", upstream)
    await runtime.launch("k", kernel)
    runtime.connect("up", "k")
    await runtime.send_batch("k", [0, 1, 2])
    await runtime.activate("k")
    await runtime.activate("up")
    await within(runtime.terminate("k"))
    assert drain(runtime, "k") == [0, 1, 2]
    assert check_books(runtime, "k").processed == 3
    assert runtime.statistics("up").emitted == 3
    assert runtime.unprocessed("k") == [3, 4, 5]  # came too late to be taken; not lost


async def test_a_blocked_receive_with_a_timeout_ends_at_once_by_a_timeout(runtime):
    seen = []

    async def kernel(ctx):
        try:
            await ctx.receive(timeout=60)
        except TimeoutError:
            seen.append(ctx.should_terminate)

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k"), 1.0)
    assert seen == [True]


async def test_a_blocked_receive_without_a_timeout_ends_the_kernel_by_kernel_exit(runtime):
    seen = []

    async def kernel(ctx):
        try:
            while True:
                try:
                    await ctx.receive()
                except Exception as error:  # noqa: BLE001
                    seen.append(error)
        except KernelExit:
            seen.append("exit")
            raise
        finally:
            seen.append("finally")

    kernel_object = await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k"), 1.0)
    assert seen == ["exit", "finally"]
    assert kernel_object.error is None
    assert not issubclass(KernelExit, Exception)


@pytest.mark.parametrize("timeout", [None, 0, 0.001])
async def test_a_kernel_that_ignores_its_end_does_not_freeze_the_loop(runtime, timeout):
    async def kernel(ctx):
        while True:
            try:
                await ctx.receive(timeout=timeout)
            except (TimeoutError, KernelExit):
                nonlocal ignored
                ignored += 1

    ignored = 0
    loop = asyncio.get_running_loop()
    kernel_object = await start(runtime, "k", kernel)
    async with Ticker(lambda: ignored) as ticker:
        begun = loop.time()
        await within(runtime.terminate("k", timeout=0.1))
        assert loop.time() - begun < 0.1 + 0.1 + SLACK_S
    assert ignored > 1
    assert ticker.longest <= MAX_OPERATIONS
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert kernel_object.task.cancelled()


async def test_a_kernel_that_waits_for_something_else_is_cancelled_after_the_timeout(runtime):
    seen = []

    async def kernel(ctx):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    loop = asyncio.get_running_loop()
    await start(runtime, "k", kernel)
    await turns()
    begun = loop.time()
    await within(runtime.terminate("k", timeout=0.1))
    assert 0.1 <= loop.time() - begun < 0.1 + 0.1 + SLACK_S
    assert seen == ["cancelled"]
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_terminate_without_patience(runtime):
    async def kernel(ctx):
        await asyncio.Event().wait()

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k", timeout=0), 0.1 + SLACK_S)
    assert runtime.get_state("k") is KernelState.TERMINATED


@pytest.fixture
async def stubborn(runtime):
    """A kernel that swallows every exception until the test is over."""
    over = False
    task = None

    async def stubborn(ctx):
        nonlocal task
        task = asyncio.current_task()
        await ctx.receive()
        while not over:
            try:
                await asyncio.sleep(0.01)
            except BaseException:  # noqa: BLE001
                continue

    await runtime.launch("stubborn", stubborn)
    yield "stubborn"
    over = True
    if task is not None:
        await asyncio.wait([task])


async def test_a_kernel_that_refuses_to_die_is_abandoned_and_reported(stubborn, runtime, caplog):
    await start(runtime, "sibling", echo)
    kernel = runtime.kernels[stubborn]
    await runtime.activate(stubborn)
    await runtime.send_batch(stubborn, ["in hand", "waiting"])
    await eventually(lambda: runtime.statistics(stubborn).in_flight == 1)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with caplog.at_level(logging.WARNING, "ringkernel"):
        await within(runtime.terminate(stubborn, timeout=0.1))
    assert 0.1 <= loop.time() - begun < 0.1 + 0.1 + SLACK_S
    assert runtime.get_state(stubborn) is KernelState.TERMINATED
    assert any("'stubborn'" in record.getMessage() and "abandoned" in record.getMessage() for record in caplog.records)
    assert isinstance(kernel.error, KernelStateError)
    assert "'stubborn'" in str(kernel.error)
    assert not kernel.task.done()
    with pytest.raises(KernelFailedError, match="abandoned"):
        await within(runtime.receive(stubborn))
    counts = check_books(runtime, stubborn)
    assert counts.in_flight + counts.failed + counts.unprocessed + counts.processed == 2
    assert counts.processed == 0
    assert runtime.unprocessed(stubborn)[-1] == "waiting"
    await runtime.send("sibling", 1)
    assert await within(runtime.receive("sibling")) == 1


async def test_an_abandoned_kernel_can_do_nothing_more(runtime):
    outcome = []
    go_on, done = asyncio.Event(), asyncio.Event()

    async def kernel(ctx):
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        try:
            await ctx.send("late")
        except BaseException as error:  # noqa: BLE001
            outcome.append(type(error))
        try:
            outcome.append(await ctx.receive(timeout=0.01))
        except BaseException as error:  # noqa: BLE001
            outcome.append(type(error))
        done.set()

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await turns()
    await within(runtime.terminate("k", timeout=0.02))
    assert runtime.unprocessed("k") == [1]
    emitted = runtime.statistics("k").emitted
    go_on.set()
    await within(done.wait())
    assert runtime.statistics("k").emitted == emitted
    assert len(outcome) == 2
    assert issubclass(outcome[0], (KernelStateError, KernelExit))
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_a_receive_in_an_abandoned_kernel_ends_instead_of_waiting_for_ever(runtime):
    outcome = []
    go_on, done = asyncio.Event(), asyncio.Event()

    async def kernel(ctx):
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        try:
            await ctx.receive()
        except (KernelExit, KernelStateError) as error:
            outcome.append(error)
        finally:
            done.set()

    kernel_object = await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k", timeout=0.02))
    go_on.set()
    try:
        await within(done.wait(), 1.0)
    finally:
        kernel_object.task.cancel()
        await asyncio.wait([kernel_object.task])
    assert len(outcome) == 1


async def test_a_drain_that_makes_no_progress_ends_early(runtime):
    await start(runtime, "k", echo, queue_size=2)
    await runtime.send_batch("k", [0, 1, 2, 3, 4])
    await eventually(lambda: runtime.statistics("k").unprocessed == 2)
    await within(runtime.terminate("k", timeout=10), 1.0)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (2, 1, 2)
    assert runtime.unprocessed("k") == [3, 4]
    assert drain(runtime, "k") == [0, 1]
    assert runtime.kernels["k"].error is None


async def test_a_drain_goes_on_while_somebody_receives(runtime):
    await start(runtime, "k", echo, queue_size=1)
    await runtime.send_batch("k", [0, 1, 2])
    await eventually(lambda: runtime.statistics("k").unprocessed == 1)
    ending = asyncio.create_task(runtime.terminate("k", timeout=10))
    taken = []
    for _ in range(3):
        await asyncio.sleep(0.07)  # less than the 0.1 s that a drain waits for room
        taken.append(await within(runtime.receive("k")))
    await within(ending, 1.0)
    assert taken == [0, 1, 2]
    assert check_books(runtime, "k").processed == 3


async def test_a_slow_kernel_is_not_taken_for_one_that_makes_no_progress(runtime):
    async def slow(ctx):
        async for value in ctx:
            await asyncio.sleep(0.25)
            await ctx.send(value)

    await start(runtime, "k", slow)
    await runtime.send("k", 1)
    await eventually(lambda: runtime.statistics("k").in_flight)
    await within(runtime.terminate("k"))
    assert drain(runtime, "k") == [1]


async def test_terminate_waits_for_the_end_of_a_pause_of_the_kernels_own(runtime):
    lines = []

    async def kernel(ctx):
        while not ctx.should_terminate:
            await ctx.wait_active()
            try:
                await ctx.send(await ctx.receive(timeout=0.05))
            except TimeoutError:
                lines.append("timeout")
        lines.append("last")

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    await runtime.send("k", 1)
    await within(runtime.terminate("k"), 1.0)
    assert lines[-1] == "last"
    assert runtime.unprocessed("k") == [1]
    assert drain(runtime, "k") == []


# --- ends of its own accord ---------------------------------------------------------------------------------------


async def test_a_kernel_that_returns_has_terminated_without_error(runtime):
    async def takes_two(ctx):
        for _ in range(2):
            await ctx.send(await ctx.receive())

    kernel = await start(runtime, "k", takes_two)
    await runtime.send_batch("k", [1, 2, 3, 4])
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert kernel.state is KernelState.TERMINATED
    assert kernel.error is None
    assert runtime.unprocessed("k") == [3, 4]
    assert await receive_all(runtime, "k", 2) == [1, 2]
    with pytest.raises(KernelStateError) as caught:
        await within(runtime.receive("k"))
    assert not isinstance(caught.value, KernelFailedError)
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.send("k", 5)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (2, 0, 2)


async def test_a_kernel_may_return_while_paused(runtime):
    async def kernel(ctx):
        while ctx.is_active:
            await asyncio.sleep(0)

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.reactivate("k")


async def test_request_termination_leaves_the_state_to_the_kernels_return(runtime):
    seen = []

    async def kernel(ctx):
        while not ctx.should_terminate:
            value = await ctx.receive()
            await ctx.send(value)
            if value == 2:
                ctx.request_termination()
                seen.append((ctx.should_terminate, ctx.state, ctx.is_active))
        seen.append("last")

    kernel_object = await start(runtime, "k", kernel)
    await runtime.send_batch("k", [1, 2, 3])
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert seen == [(True, KernelState.ACTIVE, True), "last"]
    assert kernel_object.error is None
    assert runtime.unprocessed("k") == [3]
    assert drain(runtime, "k") == [1, 2]


async def test_request_termination_ends_an_async_for(runtime):
    async def kernel(ctx):
        async for value in ctx:
            await ctx.send(value)
            ctx.request_termination()

    await start(runtime, "k", kernel)
    await runtime.send_batch("k", [1, 2])
    await within(runtime.wait("k"))
    assert drain(runtime, "k") == [1]
    assert runtime.unprocessed("k") == [2]


async def test_request_termination_from_a_task_of_the_kernel_ends_an_async_for_that_waits(runtime):
    lines = []

    async def kernel(ctx):
        async def watchdog():
            await turns()
            ctx.request_termination()

        task = asyncio.create_task(watchdog())
        async for value in ctx:
            lines.append(value)
        await task
        lines.append("last")

    await start(runtime, "k", kernel)
    await within(runtime.wait("k"), 1.0)
    assert lines == ["last"]


async def test_a_kernel_may_await_its_own_runtimes_other_kernels(runtime):
    await start(runtime, "helper", echo)

    async def kernel(ctx):
        async for value in ctx:
            await runtime.send("helper", value)
            await ctx.send(await runtime.receive("helper"))

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 1


# --- crashes ------------------------------------------------------------------------------------------------------


async def test_a_crash_is_reported_after_the_outputs_and_with_its_cause(runtime, caplog):
    boom = ValueError("boom")

    async def kernel(ctx):
        async for value in ctx:
            if value == 3:
                raise boom
            await ctx.send(value)

    kernel_object = await start(runtime, "k", kernel)
    await start(runtime, "sibling", echo)
    with caplog.at_level(logging.ERROR, "ringkernel"):
        await runtime.send_batch("k", [1, 2, 3, 4, 5])
        assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert kernel_object.error is boom
    assert any("'k'" in record.getMessage() and record.exc_info for record in caplog.records)
    assert await receive_all(runtime, "k", 2) == [1, 2]
    for receive in (runtime.receive("k"), runtime.receive_batch("k")):
        with pytest.raises(KernelFailedError, match=r"'k'.*ValueError: boom") as caught:
            await within(receive)
        assert caught.value.__cause__ is boom
    with pytest.raises(KernelFailedError):
        runtime.receive_nowait("k")
    with pytest.raises(KernelFailedError) as caught:
        await runtime.send("k", 6)
    assert caught.value.__cause__ is boom
    assert runtime.unprocessed("k") == [4, 5]
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.failed, counts.unprocessed) == (5, 2, 1, 2)
    assert runtime.get_state("sibling") is KernelState.ACTIVE
    await runtime.send("sibling", 1)
    assert await within(runtime.receive("sibling")) == 1


async def test_a_crash_wakes_receivers_and_senders(runtime):
    async def kernel(ctx):
        await asyncio.sleep(0.02)
        raise ValueError("boom")

    await start(runtime, "k", kernel, queue_size=1)
    await runtime.send("k", 0)
    receivers = [asyncio.create_task(runtime.receive("k")) for _ in range(3)]
    senders = [asyncio.create_task(runtime.send("k", 1 + i)) for i in range(3)]
    for task in (*receivers, *senders):
        with pytest.raises(KernelFailedError, match="boom"):
            await within(task)
    assert runtime.unprocessed("k") == [0]


async def test_a_crash_before_the_first_message(runtime):
    async def kernel(ctx):
        raise ValueError("at once")

    await runtime.launch("k", kernel)
    await runtime.send("k", 1)
    await runtime.activate("k")
    await within(runtime.wait("k"))
    assert isinstance(runtime.kernels["k"].error, ValueError)
    assert runtime.unprocessed("k") == [1]
    assert check_books(runtime, "k").failed == 0


async def test_a_crash_while_paused(runtime):
    async def kernel(ctx):
        while ctx.is_active:
            await asyncio.sleep(0)
        raise ValueError("paused")

    await start(runtime, "k", kernel)
    await runtime.deactivate("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert isinstance(runtime.kernels["k"].error, ValueError)


async def test_a_crash_after_a_receive_that_timed_out_counts_no_failed_message(runtime):
    async def kernel(ctx):
        await ctx.send(await ctx.receive())
        try:
            await ctx.receive(timeout=0.01)
        except TimeoutError:
            raise ValueError("nothing in hand") from None

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await within(runtime.wait("k"))
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed) == (1, 0)


async def test_an_exception_in_finally_is_the_kernels_error(runtime):
    async def kernel(ctx):
        try:
            await echo(ctx)
        finally:
            raise RuntimeError("closing")

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    await within(runtime.terminate("k"))
    assert isinstance(runtime.kernels["k"].error, RuntimeError)
    assert await runtime.receive("k") == 1
    with pytest.raises(KernelFailedError, match="closing"):
        await runtime.receive("k")


async def test_an_exception_in_finally_after_a_cancellation_is_the_kernels_error(runtime):
    async def kernel(ctx):
        try:
            await asyncio.Event().wait()
        finally:
            raise RuntimeError("closing")

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k", timeout=0.02))
    assert isinstance(runtime.kernels["k"].error, RuntimeError)
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_finally_may_await_and_send(runtime):
    async def kernel(ctx):
        try:
            while True:
                await ctx.receive()
        finally:
            await asyncio.sleep(0.01)
            await ctx.send("goodbye")

    await start(runtime, "k", kernel)
    await turns()
    await within(runtime.terminate("k"))
    assert await runtime.receive("k") == "goodbye"


async def test_a_task_that_somebody_cancels_is_a_failure(runtime):
    kernel = await start(runtime, "k", echo)
    await turns()
    kernel.task.cancel()
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert isinstance(kernel.error, asyncio.CancelledError)
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")


async def test_raising_kernel_exit_is_a_normal_return(runtime):
    async def kernel(ctx):
        await ctx.send(1)
        raise KernelExit

    kernel_object = await start(runtime, "k", kernel)
    await within(runtime.wait("k"))
    assert kernel_object.error is None
    assert await runtime.receive("k") == 1


@pytest.mark.parametrize("ends", ["returns", "raises"])
async def test_a_kernel_that_ends_while_it_is_being_terminated_is_terminated(runtime, ends):
    async def kernel(ctx):
        await ctx.receive()
        await asyncio.sleep(0)
        if ends == "raises":
            raise ValueError

    await start(runtime, "k", kernel)
    await turns()
    await runtime.send("k", 1)
    await asyncio.gather(runtime.terminate("k"), runtime.wait("k"))
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert (runtime.kernels["k"].error is None) == (ends == "returns")


# --- managed_kernel -----------------------------------------------------------------------------------------------


async def test_managed_kernel_ends_the_kernel_when_its_block_raises(runtime):
    with pytest.raises(ZeroDivisionError):
        async with managed_kernel(runtime, "k", echo):
            _ = 1 / 0
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_managed_kernel_does_not_mind_a_kernel_that_has_ended(runtime):
    async def once(ctx):
        await ctx.send(await ctx.receive())

    async with managed_kernel(runtime, "k", once) as kernel_id:
        await runtime.send(kernel_id, 1)
        await within(runtime.wait(kernel_id))
    async with managed_kernel(runtime, "l", echo) as kernel_id:
        await runtime.terminate(kernel_id)


async def test_managed_kernel_does_not_mind_a_kernel_that_was_removed(runtime):
    async with managed_kernel(runtime, "k", echo) as kernel_id:
        await runtime.terminate(kernel_id)
        runtime.remove(kernel_id)
    assert "k" not in runtime.kernels


async def test_managed_kernel_waits_for_a_kernel_that_is_ending(runtime):
    async def slow(ctx):
        await ctx.wait_active()
        while not ctx.should_terminate:
            await asyncio.sleep(0)
        await asyncio.sleep(0.02)

    async with managed_kernel(runtime, "k", slow) as kernel_id:
        ending = asyncio.create_task(runtime.terminate(kernel_id))
        await eventually(lambda: runtime.get_state(kernel_id) is KernelState.TERMINATING)
    assert runtime.get_state("k") is KernelState.TERMINATED
    await ending


async def test_managed_kernel_ends_a_paused_kernel(runtime):
    async with managed_kernel(runtime, "k", echo) as kernel_id:
        await runtime.deactivate(kernel_id)
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_managed_kernel_of_an_unknown_id(runtime):
    with pytest.raises(KernelNotFoundError):
        async with managed_kernel(runtime, "nobody"):
            pytest.fail("the block must not run")


# --- batches and streams ------------------------------------------------------------------------------------------


async def test_batches_go_through(runtime):
    await start(runtime, "k", echo, queue_size=8)
    sending = asyncio.create_task(runtime.send_batch("k", [str(i) for i in range(100)]))
    taken = []
    while len(taken) < 100:
        batch = await within(runtime.receive_batch("k", 5))
        assert isinstance(batch, list)
        assert 1 <= len(batch) <= 5
        taken.extend(batch)
    await sending
    assert taken == [str(i) for i in range(100)]


async def test_a_batch_that_times_out_says_how_many_were_sent(runtime):
    await runtime.launch("k", echo, queue_size=4)
    with pytest.raises(BatchTimeoutError) as caught:
        await runtime.send_batch("k", list(range(10)), timeout=0.02)
    assert caught.value.sent == 4
    assert runtime.statistics("k").accepted == 4


async def test_a_batch_whose_kernel_ends_meanwhile(runtime):
    await runtime.launch("k", echo, queue_size=4)
    sending = asyncio.create_task(runtime.send_batch("k", list(range(10))))
    await turns()
    await runtime.terminate("k")
    with pytest.raises(KernelStateError):
        await within(sending)
    assert runtime.unprocessed("k") == [0, 1, 2, 3]


async def test_receive_batch_waits_for_the_first_and_times_out(runtime):
    await start(runtime, "k", echo)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive_batch("k", timeout=0.01)
    receiving = asyncio.create_task(runtime.receive_batch("k"))
    await turns()
    await runtime.send("k", 1)
    assert await within(receiving) == [1]
    for bad in (0, -1, 1.5):
        with pytest.raises(ConfigurationError, match="max_messages"):
            await runtime.receive_batch("k", bad)


async def test_receive_nowait(runtime):
    await start(runtime, "k", echo)
    with pytest.raises(QueueEmptyError):
        runtime.receive_nowait("k")
    runtime.send_nowait("k", 1)
    await eventually(lambda: runtime.statistics("k").output_depth == 1)
    assert runtime.receive_nowait("k") == 1


async def test_stream_yields_batches_until_the_kernel_has_ended(runtime):
    await start(runtime, "k", echo)
    taken = []

    async def read():
        async for batch in runtime.stream("k", max_messages=3):
            assert 1 <= len(batch) <= 3
            taken.extend(batch)

    reading = asyncio.create_task(read())
    for i in range(20):
        await runtime.send("k", i)
        await turns(i % 3)
    await runtime.terminate("k")
    await within(reading)
    assert taken == list(range(20))


async def test_stream_raises_at_the_end_of_a_kernel_that_failed(runtime):
    async def kernel(ctx):
        await ctx.send(await ctx.receive())
        raise ValueError("boom")

    await start(runtime, "k", kernel)
    await runtime.send("k", 1)
    batches = runtime.stream("k")
    assert await within(anext(batches)) == [1]
    with pytest.raises(KernelFailedError, match="boom"):
        await within(anext(batches))


# --- types --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def typed(runtime):
    """A kernel that takes integers and emits floats, half of each."""

    @ring_kernel("typed", input_type=int, output_type=float, queue_size=8)
    async def typed(ctx):
        async for value in ctx:
            assert isinstance(value, int)
            await ctx.send(value / 2)

    await runtime.launch("typed")
    return "typed"


async def test_a_typed_kernel_checks_what_comes_in(typed, runtime):
    with pytest.raises(MessageTypeError, match="int64"):
        await runtime.send(typed, "x")
    with pytest.raises(MessageTypeError):
        await runtime.send_batch(typed, [1, 2.5])
    assert runtime.statistics(typed).accepted == 0
    await runtime.activate(typed)
    await runtime.send(typed, 3)
    assert await within(runtime.receive(typed)) == 1.5


async def test_a_typed_kernel_gives_arrays_for_batches(typed, runtime):
    await runtime.activate(typed)
    await runtime.send_batch(typed, np.arange(8))
    await eventually(lambda: runtime.statistics(typed).emitted == 8)
    batch = await runtime.receive_batch(typed)
    assert batch.dtype == np.float64
    np.testing.assert_array_equal(batch, np.arange(8) / 2)
    await runtime.deactivate(typed)
    await runtime.send_batch(typed, [1, 2])
    await runtime.terminate(typed)
    left = runtime.unprocessed(typed)
    assert left.dtype == np.int64
    np.testing.assert_array_equal(left, [1, 2])


async def test_a_typed_kernel_that_emits_something_else_fails(runtime):
    @ring_kernel("k", output_type=float)
    async def kernel(ctx):
        await ctx.send("x")

    await start(runtime, "k", kernel)
    await within(runtime.wait("k"))
    assert isinstance(runtime.kernels["k"].error, MessageTypeError)


async def test_a_typed_kernel_waits_drains_and_pauses_like_any_other(typed, runtime):
    await runtime.activate(typed)
    feeding = asyncio.create_task(runtime.send_batch(typed, np.arange(1_000)))
    taken = []
    while len(taken) < 500:
        taken.extend(await within(runtime.receive_batch(typed)))
    await runtime.deactivate(typed)
    counts = check_books(runtime, typed)
    at_pause = counts.accepted - counts.unprocessed
    await eventually(lambda: runtime.statistics(typed).unprocessed == 8)
    await turns(20)
    assert check_books(runtime, typed).accepted - 8 == at_pause
    await runtime.reactivate(typed)
    while len(taken) < 1_000:
        taken.extend(await within(runtime.receive_batch(typed)))
    await feeding
    np.testing.assert_array_equal(taken, np.arange(1_000) / 2)
    await runtime.terminate(typed)
    assert check_books(runtime, typed).processed == 1_000


# --- connections --------------------------------------------------------------------------------------------------


def adds(amount):
    async def kernel(ctx):
        async for value in ctx:
            await ctx.send(value + amount)

    return kernel


async def test_a_chain(runtime):
    for i in range(3):
        await runtime.launch(f"k{i}", adds(10**i), queue_size=2)
    runtime.connect("k0", "k1")
    runtime.connect("k1", "k2")
    for i in range(3):
        await runtime.activate(f"k{i}")
    sending = asyncio.create_task(runtime.send_batch("k0", list(range(100))))
    assert await receive_all(runtime, "k2", 100) == [n + 111 for n in range(100)]
    await sending
    await runtime.send("k1", 5)  # the host can still send to a connected target
    assert await within(runtime.receive("k2")) == 115
    for i in range(3):
        check_books(runtime, f"k{i}")


async def test_receive_on_a_connected_source_names_the_target(runtime):
    await runtime.launch("a", echo)
    await runtime.launch("b", echo)
    waiting = asyncio.create_task(runtime.receive("a"))
    await turns()
    runtime.connect("a", "b")
    with pytest.raises(KernelStateError, match=r"'a'.*'b'"):
        await within(waiting)
    with pytest.raises(KernelStateError, match=r"'a'.*'b'"):
        await runtime.receive("a")
    with pytest.raises(KernelStateError, match=r"'a'.*'b'"):
        runtime.receive_nowait("a")
    with pytest.raises(KernelStateError, match=r"'a'.*'b'"):
        await anext(runtime.stream("a"))


async def test_fan_in_keeps_the_order_of_each_source(runtime):
    for name in ("a", "b", "c"):
        await runtime.launch(name, echo, queue_size=4)
    await runtime.launch("sink", echo, queue_size=4)
    for name in ("a", "b", "c"):
        runtime.connect(name, "sink")
    for name in ("a", "b", "c", "sink"):
        await runtime.activate(name)
    feeds = [asyncio.create_task(runtime.send_batch(n, [(n, i) for i in range(50)])) for n in ("a", "b", "c", "sink")]
    taken = await receive_all(runtime, "sink", 200)
    await asyncio.gather(*feeds)
    for name in ("a", "b", "c", "sink"):
        assert [i for n, i in taken if n == name] == list(range(50))
    assert check_books(runtime, "sink").accepted == 200


async def test_fan_in_serves_its_sources_in_turn(runtime):
    for name in ("a", "b"):
        await runtime.launch(name, echo)
    await runtime.launch("sink", echo)
    for name in ("a", "b"):
        runtime.connect(name, "sink")
        await runtime.activate(name)
        await runtime.send_batch(name, [name] * 20)
        await eventually(lambda name=name: runtime.statistics(name).emitted == 20)
    await runtime.activate("sink")
    taken = await receive_all(runtime, "sink", 40)
    assert set(taken[:4]) == {"a", "b"}


async def test_fan_out_shows_every_message_to_every_target(runtime):
    await runtime.launch("source", echo, queue_size=4)
    for i in range(3):
        await runtime.launch(f"t{i}", adds(1000 * i), queue_size=4)
        runtime.connect("source", f"t{i}")
    for name in ("source", "t0", "t1", "t2"):
        await runtime.activate(name)
    sending = asyncio.create_task(runtime.send_batch("source", list(range(50))))
    outputs = await asyncio.gather(*(receive_all(runtime, f"t{i}", 50) for i in range(3)))
    await sending
    assert outputs == [[1000 * i + n for n in range(50)] for i in range(3)]


async def test_the_slowest_target_holds_the_source_back(runtime):
    await runtime.launch("source", echo, queue_size=4)
    for name in ("fast", "paused"):
        await runtime.launch(name, echo)
        runtime.connect("source", name)
    await runtime.activate("source")
    await runtime.activate("fast")
    with pytest.raises(BatchTimeoutError):
        await runtime.send_batch("source", list(range(100)), timeout=0.05)
    assert runtime.statistics("source").emitted == 4
    assert await receive_all(runtime, "fast", 4) == [0, 1, 2, 3]
    await runtime.activate("paused")
    assert await receive_all(runtime, "paused", 9) == list(range(9))


async def test_the_first_target_takes_over_what_already_waits_and_a_later_one_sees_what_comes(runtime):
    await start(runtime, "source", echo)
    await runtime.send_batch("source", [1, 2])
    await eventually(lambda: runtime.statistics("source").emitted == 2)
    await runtime.deactivate("source")
    for name in ("first", "second"):
        await runtime.launch(name, echo)
        runtime.connect("source", name)
    for name in ("first", "second"):
        await runtime.activate(name)
    await runtime.reactivate("source")
    await runtime.send("source", 3)
    assert await receive_all(runtime, "first", 3) == [1, 2, 3]
    assert await receive_all(runtime, "second", 1) == [3]
    assert check_books(runtime, "first").accepted == 3
    assert check_books(runtime, "second").accepted == 1


async def test_a_target_that_ends_keeps_what_it_had_not_taken_and_frees_the_source(runtime):
    await runtime.launch("source", echo, queue_size=4)
    for name in ("lives", "ends"):
        await runtime.launch(name, echo)
        runtime.connect("source", name)
    for name in ("source", "lives"):
        await runtime.activate(name)
    sending = asyncio.create_task(runtime.send_batch("source", list(range(10))))
    await eventually(lambda: runtime.statistics("source").emitted == 4)
    await runtime.terminate("ends")
    await within(sending)
    assert await receive_all(runtime, "lives", 10) == list(range(10))
    assert runtime.unprocessed("ends") == [0, 1, 2, 3]
    assert check_books(runtime, "ends").unprocessed == 4
    assert runtime.statistics("source").emitted == 10


async def test_a_source_whose_only_target_has_ended_waits_and_ends_early(runtime):
    await runtime.launch("source", echo)
    await runtime.launch("target", echo)
    runtime.connect("source", "target")
    await runtime.activate("source")
    await runtime.activate("target")
    await runtime.terminate("target")
    await runtime.send_batch("source", [1, 2])
    await eventually(lambda: runtime.statistics("source").in_flight == 1)
    await within(runtime.terminate("source", timeout=10), 1.0)
    assert runtime.unprocessed("source") == [2]
    assert check_books(runtime, "source").failed == 1


async def test_a_source_that_ends_leaves_its_outputs_to_the_target(runtime):
    await runtime.launch("source", echo)
    await runtime.launch("target", echo)
    runtime.connect("source", "target")
    await runtime.activate("source")
    await runtime.send_batch("source", [1, 2, 3])
    await runtime.terminate("source")
    runtime.remove("source")
    await runtime.activate("target")
    assert await receive_all(runtime, "target", 3) == [1, 2, 3]
    await runtime.send("target", 4)
    assert await within(runtime.receive("target")) == 4


async def test_a_source_forgets_the_targets_that_have_ended(runtime):
    await runtime.launch("source", echo)
    for _ in range(20):
        await runtime.launch("target", echo)
        runtime.connect("source", "target")
        await runtime.terminate("target")
        runtime.remove("target")
    assert len(runtime.kernels["source"].engine.output.edges) <= 2
    await runtime.launch("target", echo)
    runtime.connect("source", "target")
    await runtime.activate("source")
    await runtime.activate("target")
    await runtime.send("source", 1)
    assert await within(runtime.receive("target")) == 1


@pytest.mark.parametrize("active", ["source", "target"])
async def test_connect_needs_both_at_rest(runtime, active):
    await runtime.launch("source", echo)
    await runtime.launch("target", echo)
    await runtime.activate(active)
    with pytest.raises(KernelStateError, match=f"'{active}' is ACTIVE"):
        runtime.connect("source", "target")
    await runtime.deactivate(active)
    runtime.connect("source", "target")
    with pytest.raises(KernelStateError, match="already"):
        runtime.connect("source", "target")


async def test_connect_checks_types_and_changes_nothing(runtime):
    @ring_kernel("floats", output_type=float)
    async def floats(ctx):
        await echo(ctx)

    @ring_kernel("ints", input_type=int)
    async def ints(ctx):
        await echo(ctx)

    await runtime.launch("floats")
    await runtime.launch("ints")
    with pytest.raises(MessageTypeError, match=r"'floats'.*float64.*'ints'.*int64"):
        runtime.connect("floats", "ints")
    await runtime.activate("floats")
    await runtime.send("floats", 1.5)
    assert await within(runtime.receive("floats")) == 1.5


async def test_an_untyped_source_gets_the_type_of_its_target(runtime):
    @ring_kernel("ints", input_type=int)
    async def ints(ctx):
        await echo(ctx)

    await runtime.launch("source", echo)
    await runtime.launch("ints")
    runtime.connect("source", "ints")
    await runtime.activate("source")
    await runtime.activate("ints")
    await runtime.send("source", 7)
    assert await within(runtime.receive("ints")) == 7
    await runtime.send("source", "seven")
    await within(runtime.wait("source"))
    assert isinstance(runtime.kernels["source"].error, MessageTypeError)
    assert runtime.get_state("ints") is KernelState.ACTIVE


async def test_a_typed_source_feeds_an_untyped_target(typed, runtime):
    await runtime.launch("any", echo)
    runtime.connect(typed, "any")
    await runtime.activate(typed)
    await runtime.activate("any")
    await runtime.send_batch(typed, [1, 2, 3])
    assert await receive_all(runtime, "any", 3) == [0.5, 1.0, 1.5]


async def test_a_typed_source_and_the_host_feed_an_untyped_target(typed, runtime):
    await runtime.launch("any", echo)
    runtime.connect(typed, "any")
    await runtime.send_batch(typed, [1, 2])
    await runtime.activate(typed)
    await eventually(lambda: runtime.statistics(typed).emitted == 2)
    await runtime.send("any", "text")
    await runtime.terminate("any")
    assert sorted(map(str, runtime.unprocessed("any"))) == ["0.5", "1.0", "text"]


async def test_a_compiled_kernel_between_two_coroutine_kernels(runtime):
    @ring_kernel("double", input_type=int, output_type=int, queue_size=4)
    def double(msg, out):
        out.value = 2 * msg.value

    await runtime.launch("before", adds(1), queue_size=4)
    await runtime.launch("double")
    await runtime.launch("after", adds(100), queue_size=4)
    runtime.connect("before", "double")
    runtime.connect("double", "after")
    for name in ("after", "double", "before"):
        await runtime.activate(name)
    sending = asyncio.create_task(runtime.send_batch("before", list(range(200))))
    assert await receive_all(runtime, "after", 200) == [2 * (n + 1) + 100 for n in range(200)]
    await sending
    for name in ("before", "double", "after"):
        assert check_books(runtime, name).processed == 200


# --- map ----------------------------------------------------------------------------------------------------------


async def drops_odd(ctx):
    async for value in ctx:
        if value % 2 == 0:
            await ctx.send(value)


async def test_map_returns_all_outputs_in_order(runtime):
    await start(runtime, "k", adds(1), queue_size=4)
    assert await within(runtime.map("k", list(range(1_000)))) == list(range(1, 1_001))
    assert await within(runtime.map("k", [])) == []
    assert await within(runtime.map("k", [5])) == [6]
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 2
    assert check_books(runtime, "k").processed == 1_002


async def test_map_over_a_kernel_that_drops(runtime):
    await start(runtime, "k", drops_odd, queue_size=4)
    assert await within(runtime.map("k", list(range(101)))) == list(range(0, 101, 2))
    assert await within(runtime.map("k", [1, 3, 5])) == []


async def test_map_waits_for_the_last_message_to_be_handled(runtime):
    async def slow_at_the_end(ctx):
        async for value in ctx:
            if value == 9:
                await asyncio.sleep(0.05)
            await ctx.send(value)

    await start(runtime, "k", slow_at_the_end)
    assert await within(runtime.map("k", list(range(10)))) == list(range(10))


async def test_map_over_a_kernel_that_handles_messages_in_pairs(runtime):
    async def pairs(ctx):
        while True:
            a = await ctx.receive()
            b = await ctx.receive()
            await ctx.send((a, b))

    await start(runtime, "k", pairs, queue_size=2)
    assert await within(runtime.map("k", list(range(20)))) == [(n, n + 1) for n in range(0, 20, 2)]


async def test_map_over_a_chain(runtime):
    await runtime.launch("a", adds(1), queue_size=4)
    await runtime.launch("b", drops_odd, queue_size=2)
    await runtime.launch("c", adds(1000), queue_size=4)
    runtime.connect("a", "b")
    runtime.connect("b", "c")
    for name in ("a", "b", "c"):
        await runtime.activate(name)
    for _ in range(3):
        result = await within(runtime.map(("a", "c"), list(range(300))))
        assert result == [n + 1 + 1000 for n in range(300) if n % 2]
    with pytest.raises(KernelStateError, match=r"'a'.*'b'|whole chain"):
        await runtime.map("a", [1])
    with pytest.raises(KernelStateError, match="fed by 'a'"):
        await runtime.map(("b", "c"), [1])
    with pytest.raises(KernelStateError, match="no connection leads from"):
        await runtime.map(("c", "a"), [1])


async def test_map_over_a_chain_of_both_kinds(runtime):
    @ring_kernel("double", input_type=int, output_type=int, queue_size=8)
    def double(msg, out):
        out.value = 2 * msg.value

    await runtime.launch("before", adds(1), queue_size=8)
    await runtime.launch("double")
    runtime.connect("before", "double")
    await runtime.activate("before")
    await runtime.activate("double")
    result = await within(runtime.map(("before", "double"), list(range(500))))
    np.testing.assert_array_equal(result, 2 * (np.arange(500) + 1))


async def test_map_over_a_typed_kernel_takes_and_gives_arrays(typed, runtime):
    await runtime.activate(typed)
    result = await within(runtime.map(typed, np.arange(100)))
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, np.arange(100) / 2)
    empty = await within(runtime.map(typed, np.arange(0)))
    assert (empty.dtype, len(empty)) == (np.float64, 0)
    with pytest.raises(MessageTypeError):
        await runtime.map(typed, ["x"])
    assert check_books(runtime, typed).processed == 100


async def test_a_map_whose_kernel_fails_gives_what_had_come_out(runtime):
    async def kernel(ctx):
        async for value in ctx:
            if value == 50:
                raise ValueError("fifty")
            await ctx.send(value)

    await start(runtime, "k", kernel, queue_size=4)
    with pytest.raises(KernelFailedError, match="fifty") as caught:
        await within(runtime.map("k", list(range(100))))
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.partial == list(range(50))


async def test_a_map_whose_kernel_is_terminated_gives_what_had_come_out(runtime):
    async def slow(ctx):
        async for value in ctx:
            await ctx.send(value)
            await asyncio.sleep(0.005)

    await start(runtime, "k", slow, queue_size=4)
    mapping = asyncio.create_task(runtime.map("k", list(range(1_000))))
    await eventually(lambda: runtime.statistics("k").processed > 5)
    await runtime.terminate("k")
    with pytest.raises(KernelFailedError) as caught:
        await within(mapping)
    assert caught.value.partial == list(range(len(caught.value.partial)))
    assert len(caught.value.partial) == runtime.statistics("k").processed


async def test_a_kernel_may_be_paused_during_a_map(runtime):
    await start(runtime, "k", adds(1), queue_size=4)
    mapping = asyncio.create_task(runtime.map("k", list(range(2_000))))
    for _ in range(5):
        await turns(5)
        if mapping.done():
            break
        await runtime.deactivate("k")
        await turns(5)
        assert not mapping.done()
        await runtime.reactivate("k")
    assert await within(mapping) == list(range(1, 2_001))


async def test_a_cancelled_map_leaves_a_kernel_that_works(runtime):
    await start(runtime, "k", adds(1), queue_size=4)
    mapping = asyncio.create_task(runtime.map("k", list(range(100_000))))
    await eventually(lambda: runtime.statistics("k").processed > 10)
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(mapping)
    await eventually(lambda: runtime.statistics("k").unprocessed == runtime.statistics("k").in_flight == 0)
    drain(runtime, "k")
    assert await within(runtime.map("k", [1, 2, 3])) == [2, 3, 4]
    check_books(runtime, "k")


async def test_map_is_refused_while_it_could_mix_with_other_messages(runtime):
    await runtime.launch("k", echo)
    with pytest.raises(KernelStateError, match="'k' is LAUNCHED"):
        await runtime.map("k", [1])
    await runtime.activate("k")
    await runtime.send("k", 1)
    await eventually(lambda: runtime.statistics("k").output_depth == 1)
    with pytest.raises(KernelStateError, match="outputs of kernel 'k'"):
        await runtime.map("k", [2])
    assert await runtime.receive("k") == 1
    assert await within(runtime.map("k", [2])) == [2]


async def test_map_is_refused_while_a_message_is_in_hand(runtime):
    gate = asyncio.Event()

    async def kernel(ctx):
        async for value in ctx:
            await gate.wait()
            await ctx.send(value)

    await start(runtime, "k", kernel)
    await runtime.send("k", "earlier")
    await eventually(lambda: runtime.statistics("k").in_flight == 1)
    mapping = asyncio.create_task(runtime.map("k", ["mapped"]))
    await turns()
    gate.set()
    with pytest.raises(KernelStateError, match="'k'"):
        pytest.fail(f"mapped ['mapped'] to {await within(mapping)}")
    assert await within(runtime.receive("k")) == "earlier"


async def test_two_maps_over_one_kernel_at_once(runtime):
    await start(runtime, "k", adds(1), queue_size=4)
    mapping = asyncio.create_task(runtime.map("k", list(range(500))))
    await turns(3)
    assert await within(runtime.map("k", [1])) == [2]  # waits in line
    assert mapping.done()
    assert await mapping == list(range(1, 501))


@pytest.mark.parametrize("values", ["text", b"bytes", 5, None, iter([1])])
async def test_map_refuses_what_is_no_batch(runtime, values):
    await start(runtime, "k", echo)
    with pytest.raises(MessageTypeError, match="sequence"):
        await runtime.map("k", values)
