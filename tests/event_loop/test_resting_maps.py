"""A map over kernels that rest: their rings are exchanged by the event loop's thread, and nobody is asked."""

from __future__ import annotations

import asyncio
from typing import Any

import inside
import numpy as np
import pytest
from helpers import check_books, drain, eventually, partial_of, start, start_chain, within

from ringkernel import KernelFailedError, KernelStateError, RingKernelRuntime, ring_kernel

pytestmark = pytest.mark.workers

LONG = 5_000
"""More messages than the queues of these kernels hold, and few enough for the event loop's thread."""


@ring_kernel("rm_next", input_type=int, output_type=int)
def following(msg: Any, out: Any) -> None:
    out.value = msg.value + 1


@ring_kernel("rm_fails", input_type=int, output_type=int)
def fails_at_4321(msg: Any, out: Any) -> None:
    if msg.value == 4_321:
        raise ValueError("too much")
    out.value = msg.value + 1


async def settle(runtime: RingKernelRuntime, first: str, last: str, more: int = 1) -> None:
    """Feed a chain one by one until the workers have nothing to do with it."""

    async def settled() -> bool:
        before = inside.turns_of_workers(runtime)
        for i in range(20):
            await runtime.send(first, i)
            assert await within(runtime.receive(last)) == i + more
        await asyncio.sleep(0.002)
        return inside.turns_of_workers(runtime) == before

    await eventually(settled)


async def needs_no_worker(
    runtime: RingKernelRuntime, first: str, last: str, more: int, length: int, out: Any = None
) -> bool:
    """Whether a map was run by the loop alone, and without a command. It is so once the kernels rest, it is known how
    little a message costs in a long span, and the loop has earned the time that it takes."""
    before = inside.turns_of_workers(runtime), inside.commands_to(runtime, first)
    result = await within(runtime.map((first, last), np.arange(length), out=out))
    np.testing.assert_array_equal(result, np.arange(more, length + more))
    return (inside.turns_of_workers(runtime), inside.commands_to(runtime, first)) == before


@pytest.mark.both_loops
@pytest.mark.parametrize("given", [False, True])
async def test_a_map_of_more_than_the_queue_holds_needs_no_worker(runtime: RingKernelRuntime, *, given: bool) -> None:
    await start(runtime, "k", following, queue_size=64)
    out = np.full(LONG, -1) if given else None
    await eventually(lambda: needs_no_worker(runtime, "k", "k", 1, LONG, out))
    await settle(runtime, "k", "k")
    check_books(runtime, "k")


async def test_a_map_over_a_chain_needs_no_worker(runtime: RingKernelRuntime) -> None:
    await start_chain(runtime, queue_size=64, a=following, b=following, c=following)
    await eventually(lambda: needs_no_worker(runtime, "a", "c", 3, 1_000))
    for kernel_id in "abc":
        check_books(runtime, kernel_id)


async def test_a_long_one_goes_to_a_worker_without_a_command(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", following, queue_size=64)
    await settle(runtime, "k", "k")
    before, commands = inside.turns_of_workers(runtime), inside.commands_to(runtime, "k")
    mapping = asyncio.create_task(runtime.map("k", np.arange(3_000_000)))
    await asyncio.sleep(0)
    assert inside.commands_to(runtime, "k") == commands
    np.testing.assert_array_equal(await within(mapping), np.arange(1, 3_000_001))
    assert inside.turns_of_workers(runtime) > before
    await settle(runtime, "k", "k")
    check_books(runtime, "k")


async def test_a_long_one_ends_without_a_command_too(runtime: RingKernelRuntime) -> None:
    """The worker lets the kernel rest as soon as it has read the array to its end."""
    await start(runtime, "k", following, queue_size=64)
    await settle(runtime, "k", "k")
    values = np.arange(3_000_000)

    async def needs_no_command() -> bool:
        before, turns = inside.commands_to(runtime, "k"), inside.turns_of_workers(runtime)
        np.testing.assert_array_equal(await within(runtime.map("k", values)), values + 1)
        return inside.turns_of_workers(runtime) > turns and inside.commands_to(runtime, "k") == before

    await eventually(needs_no_command)
    check_books(runtime, "k")


async def test_maps_that_need_nobody_let_other_tasks_run(runtime: RingKernelRuntime) -> None:
    """One that is cancelled there has all of its result."""
    await start(runtime, "k", following, queue_size=64)
    await settle(runtime, "k", "k")

    async def maps() -> None:
        while True:
            await runtime.map("k", [1, 2, 3])

    mapping = asyncio.create_task(maps())
    await asyncio.sleep(0.01)
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await within(mapping)
    assert partial_of(cancelled.value) == [2, 3, 4]
    check_books(runtime, "k")


async def test_a_failure_in_the_loop_s_own_turn_is_the_map_s(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", fails_at_4321, queue_size=64)
    await settle(runtime, "k", "k")
    with pytest.raises(KernelFailedError, match="too much") as failed:
        await within(runtime.map("k", np.arange(LONG)))
    assert partial_of(failed.value) == list(range(1, 4_322))
    counts = check_books(runtime, "k")
    assert counts.failed == 1


async def test_other_senders_and_receivers_are_refused_or_wait(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", following, queue_size=64)
    await settle(runtime, "k", "k")
    mapping = asyncio.create_task(runtime.map("k", np.arange(3_000_000)))
    await asyncio.sleep(0)
    sending = asyncio.create_task(runtime.send("k", 77))
    receiving = asyncio.create_task(runtime.receive("k"))
    assert len(await within(mapping)) == 3_000_000
    await within(sending)
    assert await within(receiving) == 78


async def test_maps_of_all_lengths_pauses_and_cancellations_in_any_order(runtime: RingKernelRuntime) -> None:
    """The kernel goes to and fro between worker and loop, its own rings and lent ones; nothing is lost or swapped."""
    await start(runtime, "k", following, queue_size=1024)
    rng = np.random.default_rng(11)
    first = 0
    for length in rng.choice([1, 100, 2_000, 20_000, 300_000], 300).tolist():
        messages = np.arange(first, first + length)
        first += length
        what = rng.random()
        if what < 0.1:
            await runtime.deactivate("k")
            await runtime.reactivate("k")
        if what < 0.7:
            result = await within(runtime.map("k", messages))
            assert (len(result), result[0], result[-1]) == (length, messages[0] + 1, messages[-1] + 1)
            continue
        mapping = asyncio.create_task(runtime.map("k", messages))
        for _ in range(int(rng.integers(0, 4))):
            await asyncio.sleep(0)
        mapping.cancel()
        try:
            got = list(await within(mapping))
        except asyncio.CancelledError as cancelled:
            got = partial_of(cancelled)
        got += await what_is_left(runtime)
        assert got == (messages[: len(got)] + 1).tolist()
    check_books(runtime, "k")


async def what_is_left(runtime: RingKernelRuntime) -> list[int]:
    """What a map has left to be received, once another one may begin."""
    left: list[int] = []
    while True:
        left += drain(runtime, "k")
        try:
            assert len(await within(runtime.map("k", []))) == 0
        except KernelStateError:
            continue
        return left
