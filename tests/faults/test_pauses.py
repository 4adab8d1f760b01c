"""A pause is complete when it returns, and has not happened when it is cancelled or gets no answer."""

from __future__ import annotations

import asyncio
import itertools
import time
from functools import partial
from typing import Any

import inside
import numpy as np
import pytest
from fault_kernels import (
    check_alive,
    echo,
    echo_on_worker,
    enter_gate,
    fail_at_57,
    gated,
    on_each_device,
)
from helpers import PATIENCE_S, check_books, drain, eventually, live_state, start, turns, within
from inside import has_poller, notice_status, parker_of, poller_of, set_answer_timeout, set_hold, word_of_block

from ringkernel import (
    KernelState,
    KernelStateError,
    RingKernelRuntime,
)
from ringkernel.memory.layout import BLOCK, COMMAND_PAUSE, STATUS_DEACTIVATED, STATUS_FAILED


async def test_nothing_is_taken_after_a_pause_while_messages_pour_in(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo, queue_size=64)

    async def feed() -> None:
        for i in itertools.count(0, 16):
            await runtime.send_batch("k", np.arange(i, i + 16))

    async def collect() -> None:
        async for batch in runtime.stream("k"):
            got.extend(batch.tolist())

    def has_more(taken: int) -> bool:
        return runtime.statistics("k").processed > taken

    got: list[int] = []
    tasks = [asyncio.create_task(feed()), asyncio.create_task(collect())]
    for _ in range(20):
        taken = runtime.statistics("k").processed
        await eventually(partial(has_more, taken))
        await runtime.deactivate("k")
        before = runtime.statistics("k")
        await eventually(lambda: runtime.statistics("k").unprocessed == 64)
        after = runtime.statistics("k")
        assert (after.processed, after.emitted) == (before.processed, before.emitted)
        check_books(runtime, "k")
        await runtime.reactivate("k")
    tasks[0].cancel()
    await runtime.terminate("k")
    await within(asyncio.wait(tasks))
    assert got == list(range(len(got)))
    assert len(got) == check_books(runtime, "k").processed


async def test_many_pauses_under_traffic_lose_nothing(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo, queue_size=32)
    sending = asyncio.create_task(runtime.send_batch("k", np.arange(20_000)))
    got: list[int] = []

    async def collect() -> None:
        while len(got) < 20_000:
            got.extend((await runtime.receive_batch("k")).tolist())

    collecting = asyncio.create_task(collect())
    pauses = 0
    while not collecting.done():
        await within(runtime.deactivate("k"))
        await within(runtime.reactivate("k"))
        pauses += 1
    await within(sending)
    await collecting
    assert pauses > 10
    assert got == list(range(20_000))
    await eventually(lambda: runtime.statistics("k").processed == 20_000)
    check_books(runtime, "k")


@on_each_device
async def test_a_pause_waits_for_the_handler_and_takes_nothing_more(runtime: RingKernelRuntime, on: str) -> None:
    gate = await enter_gate(runtime, messages=5, on=on)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns(50)
    assert not pausing.done()
    assert runtime.get_state("k") is KernelState.ACTIVE
    gate["open"] = 1
    await within(pausing)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed, counts.in_flight) == (1, 4, 0)
    assert gate["entered"] == 1
    await runtime.reactivate("k")
    await eventually(lambda: runtime.statistics("k").processed == 5)


async def test_a_sender_that_waits_is_let_in_when_a_pause_leaves_room(runtime: RingKernelRuntime) -> None:
    """Who waits for room is woken once per half ring; but a paused kernel will not free that half."""
    await runtime.launch("k", gated, queue_size=8)
    await runtime.send_batch("k", np.arange(8))
    await runtime.activate("k")
    gate = live_state(runtime, "k")
    await eventually(lambda: gate["entered"] == 1)
    sending = asyncio.create_task(runtime.send("k", 8))
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    gate["open"] = 1
    await within(pausing)
    assert runtime.statistics("k").processed == 1
    await within(sending)
    assert runtime.statistics("k").unprocessed == 8
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 9, timeout=0.02)


@on_each_device
async def test_a_pause_that_gets_no_answer_changes_nothing(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, on: str
) -> None:
    set_answer_timeout(monkeypatch, 0.05)
    gate = await enter_gate(runtime, messages=5, on=on)
    with pytest.raises(KernelStateError, match=r"'k'.*still in its handler"):
        await runtime.deactivate("k")
    assert runtime.get_state("k") is KernelState.ACTIVE
    gate["open"] = 1
    await eventually(lambda: runtime.statistics("k").processed == 5)
    monkeypatch.undo()
    await within(runtime.deactivate("k"))
    await within(runtime.reactivate("k"))
    drain(runtime, "k")
    await check_alive(runtime, "k")


@on_each_device
async def test_a_cancelled_pause_lets_the_kernel_run_on(runtime: RingKernelRuntime, on: str) -> None:
    gate = await enter_gate(runtime, messages=5, on=on)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(pausing)
    assert runtime.get_state("k") is KernelState.ACTIVE
    gate["open"] = 1
    await eventually(lambda: runtime.statistics("k").processed == 5)
    drain(runtime, "k")
    await check_alive(runtime, "k")


def ring_while_a_pause_is_answered(patch: pytest.MonkeyPatch, kernel: Any) -> None:
    """A late ring has the host look at the answer to each pause just when it is written: the first word that it reads
    is that of before, the next one is new."""

    def command_and_ring(block: Any, given: int, epoch: int, *rest: Any) -> int:
        before = {offset: read(block, offset) for offset in (BLOCK.echo, BLOCK.status)}
        said: int = command(block, given, epoch, *rest)
        if given != COMMAND_PAUSE:
            return said
        deadline = time.monotonic() + PATIENCE_S
        while read(block, BLOCK.echo) != epoch:  # the loop stands still
            assert time.monotonic() < deadline

        def read_first(block: Any, offset: int) -> int:
            word: int = read(block, offset)
            was_first = not read_by_now
            read_by_now.append(offset)
            return before.get(offset, word) if was_first else word

        read_by_now: list[int] = []
        with patch.context() as halfway:
            inside.replace(halfway, inside.READ_WORD, read_first)
            notice_status(kernel)
        return said

    read = inside.original(inside.READ_WORD)
    command = inside.replace(patch, inside.COMMAND, command_and_ring)


async def test_an_answer_that_is_read_while_it_is_written_is_whole(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = await start(runtime, "k", echo)
    ring_while_a_pause_is_answered(monkeypatch, kernel)
    for _ in range(20):
        await within(runtime.deactivate("k"))
        await within(runtime.reactivate("k"))
        await check_alive(runtime, "k")


@pytest.mark.workers
async def test_the_ring_for_a_pause_that_was_seen_half_answered_does_not_end_the_next_start(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_hold(monkeypatch, 1_000.0)
    await start(runtime, "beside", gated)
    gate = live_state(runtime, "beside")
    kernel = await start(runtime, "k", echo_on_worker)
    with monkeypatch.context() as patch:
        dispatch = inside.replace(patch, inside.DISPATCH, lambda _: None)  # rings come late
        ring_while_a_pause_is_answered(patch, kernel)
        await within(runtime.deactivate("k"))
        runtime.send_nowait("beside", 1)
        await eventually(lambda: gate["entered"] == 1)  # so the start is not obeyed yet
        starting = asyncio.create_task(runtime.reactivate("k"))
        await eventually(lambda: has_poller(kernel))
        before = poller_of(kernel)
        notice_status(kernel)
        assert poller_of(kernel) is before
    gate["open"] = 1
    dispatch(parker_of(runtime))
    await within(starting)
    await check_alive(runtime, "k")


async def test_an_end_that_is_told_twice_counts_once(runtime: RingKernelRuntime) -> None:
    """The ring for the start is answered when the kernel has failed already; then the doorbell rings for the end."""
    kernel = await start(runtime, "k", fail_at_57)
    await runtime.send_batch("k", [1, 57, 2])
    deadline = time.monotonic() + 5
    while word_of_block(kernel, "status") != STATUS_FAILED:  # the loop stands still
        assert time.monotonic() < deadline
    notice_status(kernel)
    notice_status(kernel)
    await within(runtime.wait("k"))
    await turns()
    counts = runtime.statistics("k")
    assert (counts.accepted, counts.processed, counts.failed, counts.unprocessed) == (3, 1, 1, 1)
    assert runtime.unprocessed("k").tolist() == [2]


async def test_a_pause_is_cancelled_when_it_has_been_obeyed_and_nobody_knows_yet(runtime: RingKernelRuntime) -> None:
    kernel = await start(runtime, "k", echo)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await asyncio.sleep(0)
    deadline = time.monotonic() + 5
    while word_of_block(kernel, "status") != STATUS_DEACTIVATED:  # the loop stands still, so it cannot see the answer
        assert time.monotonic() < deadline
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(pausing)
    assert runtime.get_state("k") is KernelState.ACTIVE
    await check_alive(runtime, "k")


@on_each_device
async def test_a_pause_is_cancelled_at_every_early_moment(runtime: RingKernelRuntime, on: str) -> None:
    await start(runtime, "k", echo, device=on)
    for count in range(60):
        pausing = asyncio.create_task(runtime.deactivate("k"))
        await turns(count % 12)
        pausing.cancel()
        await asyncio.wait({pausing})
        if runtime.get_state("k") is KernelState.DEACTIVATED:
            assert not pausing.cancelled()
            await runtime.reactivate("k")
        await check_alive(runtime, "k")


@on_each_device
async def test_a_cancelled_activation_leaves_a_state_that_is_true(runtime: RingKernelRuntime, on: str) -> None:
    """ACTIVE and running, or as before and stopped."""
    for count in range(12):
        await runtime.launch("k", echo, device=on)
        await runtime.send("k", 1)
        starting = asyncio.create_task(runtime.activate("k"))
        await turns(count)
        starting.cancel()
        await asyncio.wait({starting})
        if runtime.get_state("k") is KernelState.LAUNCHED:
            for _ in range(20):
                await asyncio.sleep(0.001)  # it must never happen, so there is nothing to wait for
                assert runtime.statistics("k").processed == 0, "a kernel that is LAUNCHED has taken a message"
            await runtime.activate("k")
        assert await within(runtime.receive("k")) == 1
        await within(runtime.terminate("k"))
        runtime.remove("k")
