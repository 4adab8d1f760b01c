"""Who waits for room where nobody will ever make any is told so, and by whose end; nothing is lost."""

from __future__ import annotations

import asyncio

import pytest
from helpers import check_books, drain, eventually, start_chain, turns, within

from ringkernel import KernelFailedError, KernelStateError, RingKernelRuntime, ring_kernel

SIZE = 8


@ring_kernel("de_same", input_type=int, output_type=int, queue_size=SIZE)
def same(msg, out):
    out.value = msg.value


@ring_kernel("de_poisoned", input_type=int, output_type=int, queue_size=SIZE)
def poisoned(msg, out):
    if msg.value < 0:
        raise ValueError("poison")
    out.value = msg.value


@ring_kernel("de_sink", input_type=int, queue_size=SIZE)
def sink(msg):
    if msg.value == 13:
        raise ValueError("thirteen")


@ring_kernel("de_relay", input_type=int, output_type=int, queue_size=SIZE)
async def relay(ctx):
    async for value in ctx:
        await ctx.send(value)


async def send_until_refused(runtime: RingKernelRuntime, name: str, most: int = 1000) -> tuple[int, KernelStateError]:
    """How many were sent, and why no more."""
    for sent in range(most):
        try:
            await within(runtime.send(name, sent))
        except KernelStateError as error:
            return sent, error
    pytest.fail(f"{most} messages were taken")


@pytest.mark.parametrize("func", [same, relay])
async def test_a_sender_that_waits_is_told_when_the_consumer_fails(runtime, func):
    await start_chain(runtime, a=func, b=poisoned)
    await runtime.deactivate("b")
    await runtime.send("a", -1)
    sending = asyncio.create_task(runtime.send_batch("a", range(100)))
    await eventually(lambda: runtime.statistics("a").input_depth == SIZE)
    await turns()
    assert not sending.done()
    await runtime.reactivate("b")
    with pytest.raises(
        KernelStateError, match=r"'a' cannot get on.*kernel 'b' has failed: ValueError: poison"
    ) as caught:
        await within(sending)
    assert isinstance(caught.value.__cause__, ValueError)
    await within(runtime.terminate("a", timeout=0.2))
    left = [*runtime.unprocessed("b").tolist(), *runtime.unprocessed("a").tolist()]
    accounted = len(left) + runtime.statistics("a").in_flight + runtime.statistics("a").failed
    assert accounted + runtime.statistics("b").processed == caught.value.sent
    assert left == sorted(left)
    check_books(runtime, "b")


async def test_a_sender_is_told_through_a_chain_once_it_is_full(runtime):
    await start_chain(runtime, a=same, b=relay, c=same, d=poisoned)
    await runtime.send("a", -1)
    await within(runtime.wait("d"))
    sent, error = await send_until_refused(runtime, "a")
    assert "nobody takes the outputs of kernel 'c' any more, since kernel 'd' has failed" in str(error)
    assert 3 * SIZE <= sent <= 3 * SIZE + 1  # all queues on the way are full, and the coroutine may have one in hand
    for name in "abc":
        await within(runtime.terminate(name, timeout=0.2))
    counts = [runtime.statistics(name) for name in "abcd"]
    left = sum(one.unprocessed + one.in_flight + one.failed for one in counts) - counts[3].failed
    assert left == sent


async def test_a_consumer_that_was_terminated_is_named(runtime):
    await start_chain(runtime, a=same, b=sink)
    await runtime.terminate("b")
    _, error = await send_until_refused(runtime, "a")
    assert "since kernel 'b' has ended" in str(error)
    assert error.__cause__ is None
    runtime.remove("b")
    with pytest.raises(KernelStateError, match="since kernel 'b' has ended"):
        runtime.send_nowait("a", 1)


async def test_as_long_as_another_consumer_takes_all_goes_on(runtime):
    await start_chain(runtime, a=same, b=sink)
    await runtime.launch("c", same)
    await runtime.deactivate("a")
    runtime.connect("a", "c")
    await runtime.reactivate("a")
    await runtime.activate("c")
    await runtime.send("a", 13)
    await within(runtime.wait("b"))
    assert await within(runtime.receive("c")) == 13
    for i in range(100):
        await within(runtime.send("a", i))
        assert await within(runtime.receive("c")) == i
    await runtime.terminate("c")
    _, error = await send_until_refused(runtime, "a")
    assert "since kernel 'b' has failed" in str(error)


async def test_one_of_two_consumers_that_cannot_get_on_holds_up_the_source(runtime):
    """The source goes on until that one is full: its senders are told then, and not before."""
    await start_chain(runtime, a=same, b=same, c=poisoned)
    await runtime.launch("free", sink)
    await runtime.deactivate("a")
    runtime.connect("a", "free")
    await runtime.reactivate("a")
    await runtime.activate("free")
    await runtime.send("a", -1)
    await within(runtime.wait("c"))
    sent, error = await send_until_refused(runtime, "a")
    assert "'c' has failed" in str(error)
    assert sent >= 2 * SIZE
    await eventually(lambda: runtime.kernels["free"].error is not None or runtime.statistics("free").processed >= SIZE)


async def test_a_new_consumer_makes_it_go_on(runtime):
    await start_chain(runtime, a=same, b=poisoned)
    await runtime.send("a", -1)
    await within(runtime.wait("b"))
    sent, _ = await send_until_refused(runtime, "a")
    await runtime.deactivate("a")
    await runtime.launch("new", same)
    runtime.connect("a", "new")
    await runtime.activate("new")
    await runtime.reactivate("a")
    received: list[int] = []
    while len(received) < sent:
        received.append(await within(runtime.receive("new")))
    await within(runtime.send("a", 7))
    assert await within(runtime.receive("new")) == 7
    assert received == sorted(received)


async def test_a_map_that_is_held_up_by_a_dead_end_beside_it_is_told(runtime):
    await start_chain(runtime, a=same, b=same)
    await start_chain(runtime, side=same, end=poisoned)
    await runtime.deactivate("a")
    await runtime.deactivate("side")
    runtime.connect("a", "side")
    await runtime.reactivate("side")
    await runtime.reactivate("a")
    await runtime.send("side", -1)
    await within(runtime.wait("end"))
    with pytest.raises(KernelStateError, match="'end' has failed") as caught:
        await within(runtime.map(("a", "b"), range(1000)))
    assert not isinstance(caught.value, KernelFailedError)
    received = caught.value.partial.tolist()
    await eventually(lambda: runtime.statistics("b").processed == runtime.statistics("a").emitted)
    received += drain(runtime, "b")
    assert received == list(range(len(received)))
    assert len(received) >= SIZE
