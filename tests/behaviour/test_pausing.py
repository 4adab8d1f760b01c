"""After `await deactivate()` nothing more is taken; what is sent waits, and what was emitted can be received."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest
from helpers import check_books, connect_chain, eventually, receive_all, start, start_chain, turns, within
from kinds import Kind, add_one, same

if TYPE_CHECKING:
    from ringkernel import RingKernelRuntime


async def test_no_message_is_taken_after_deactivate_returns(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    chance = random.Random(2)
    sent = 0

    def taken() -> int:
        counts = runtime.statistics("k")
        return counts.accepted - counts.unprocessed

    for _ in range(100):
        for _ in range(chance.randrange(5)):
            await runtime.send("k", sent)
            sent += 1
        await turns(chance.randrange(3))
        await runtime.deactivate("k")
        before = taken()
        await runtime.send("k", sent)
        sent += 1
        await turns()
        assert taken() == before
        assert check_books(runtime, "k").unprocessed == sent - before
        await runtime.reactivate("k")
    assert await receive_all(runtime, "k", sent) == list(range(sent))


async def test_a_pause_in_the_middle_of_a_batch(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=8)
    feeding = asyncio.create_task(runtime.send_batch("k", range(1_000)))
    received: list[int] = []
    while len(received) < 500:
        received.extend(await within(runtime.receive_batch("k")))
    await runtime.deactivate("k")
    counts = check_books(runtime, "k")
    taken = counts.accepted - counts.unprocessed
    await eventually(lambda: runtime.statistics("k").unprocessed == 8)  # its queue is full again
    await turns(20)
    assert check_books(runtime, "k").accepted - 8 == taken
    await runtime.reactivate("k")
    while len(received) < 1_000:
        received.extend(await within(runtime.receive_batch("k")))
    await feeding
    assert received == list(range(1_000))
    await runtime.terminate("k")
    assert check_books(runtime, "k").processed == 1_000


async def test_a_paused_kernel_holds_what_was_emitted_and_what_comes(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    await runtime.send_batch("k", [1, 2, 3])
    await eventually(lambda: runtime.statistics("k").emitted == 3)
    await runtime.deactivate("k")
    await runtime.send_batch("k", [4, 5])
    assert [await runtime.receive("k", timeout=5) for _ in range(3)] == [1, 2, 3]
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive("k", timeout=0.05)
    await runtime.reactivate("k")
    assert await receive_all(runtime, "k", 2) == [4, 5]


async def test_a_paused_target_holds_its_source_back(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=8, source=kind(add_one), target=kind(add_one))
    await runtime.deactivate("target")
    in_hand = 0 if kind.is_compiled else 1
    count = 16 + in_hand
    await within(runtime.send_batch("source", range(count)))
    await eventually(lambda: runtime.statistics("source").emitted == 8)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("source", 99, timeout=0.02)
    assert runtime.statistics("target").processed == 0
    assert runtime.statistics("target").unprocessed == 8
    await runtime.reactivate("target")
    assert await receive_all(runtime, "target", count) == list(range(2, count + 2))


async def test_a_kernel_that_is_held_up_lets_its_senders_use_the_room_there_is(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    """A sender is woken once per half ring; a kernel that waits for its target may never make so much room."""
    await start_chain(runtime, queue_size=8, source=compiled_kind(add_one), target=compiled_kind(add_one))
    await runtime.deactivate("target")
    await runtime.send_batch("source", range(5))
    await eventually(lambda: runtime.statistics("source").emitted == 5)
    await runtime.deactivate("source")
    await runtime.send_batch("source", range(5, 13))
    sending = asyncio.create_task(runtime.send_batch("source", range(13, 16)))
    await eventually(lambda: runtime.kernels["source"].input_queue.statistics().waiting_putters == 1)
    await runtime.reactivate("source")  # has room for three outputs, and takes three
    await within(sending)
    await runtime.reactivate("target")
    assert await receive_all(runtime, "target", 16) == list(range(2, 18))


async def test_a_timeout_names_the_first_kernel_upstream_that_takes_nothing(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    await connect_chain(runtime, a=kind(same), b=kind(same), c=kind(same))
    for held, further in (("b", "c"), ("a", "b")):
        await runtime.activate(further)
        with pytest.raises(
            asyncio.TimeoutError, match=rf"'c' within 0 s; kernel '{held}' is LAUNCHED: activate\(\) it"
        ):
            await runtime.receive("c", timeout=0)
    await runtime.activate("a")
    with pytest.raises(asyncio.TimeoutError, match=r"'c' within 0 s$"):
        await runtime.receive("c", timeout=0)
