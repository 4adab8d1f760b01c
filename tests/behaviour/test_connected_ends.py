"""When one of several connected kernels ends, all that was sent is processed, with its target, or handed back, and the
others go on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from helpers import activate, check_books, connect_chain, drain, eventually, receive_all, start, start_chain, within
from inside import output_of
from kinds import Kind, add_one, same, slow

from ringkernel import BatchTimeoutError, KernelContext, KernelState, KernelStateError, RingKernelRuntime


async def fan_out(runtime: RingKernelRuntime, kind: Kind, *targets: str, queue_size: int) -> None:
    """A kernel `source` that feeds the targets; all are LAUNCHED."""
    for name in ("source", *targets):
        await runtime.launch(name, kind(add_one), queue_size=queue_size)
    for name in targets:
        runtime.connect("source", name)


# --- targets that end ---------------------------------------------------------------------------------------------


async def test_a_target_is_terminated_while_its_source_goes_on(runtime: RingKernelRuntime, kind: Kind) -> None:
    """Every message that the source has emitted is either processed by its only target or in its leftovers."""
    await runtime.launch("source", kind(add_one), queue_size=8)
    await runtime.launch("target", kind(slow), queue_size=64)
    runtime.connect("source", "target")
    await activate(runtime, "source", "target")
    sending = asyncio.create_task(runtime.send_batch("source", range(200)))
    await eventually(lambda: runtime.statistics("target").processed >= 2)
    await within(runtime.terminate("target"))
    assert runtime.kernels["target"].error is None
    emitted = runtime.statistics("source").emitted
    counts = check_books(runtime, "target")
    done = drain(runtime, "target")
    assert counts.processed == len(done)
    assert done + list(runtime.unprocessed("target")) == list(range(1, emitted + 1))
    assert counts.accepted == emitted
    assert runtime.get_state("source") is KernelState.ACTIVE
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_source_without_consumers_stalls_and_loses_nothing(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=8, source=kind(add_one), target=kind(add_one))
    await runtime.terminate("target")
    in_hand = 0 if kind.is_compiled else 1
    count = 8 + in_hand
    await runtime.send_batch("source", range(8))
    await eventually(lambda: runtime.statistics("source").in_flight == in_hand)
    if in_hand:
        await within(runtime.send("source", 8))
    with pytest.raises(KernelStateError, match="'target' has ended"):
        await runtime.send("source", 99, timeout=0.05)
    counts = check_books(runtime, "source")
    assert (counts.processed, counts.emitted, counts.unprocessed) == (0, 0, 8)
    runtime.remove("target")
    with pytest.raises(KernelStateError, match="'source' went to 'target', which has ended"):
        await within(runtime.receive("source"))
    await runtime.deactivate("source")
    await runtime.launch("target", kind(add_one), queue_size=16)
    runtime.connect("source", "target")
    await runtime.activate("target")
    await runtime.reactivate("source")
    assert await receive_all(runtime, "target", count) == list(range(2, count + 2))
    await within(runtime.terminate("source"))


async def test_a_stalled_source_is_terminated_promptly(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=8, source=kind(add_one), target=kind(add_one))
    await runtime.terminate("target")
    await runtime.send_batch("source", range(8))
    in_hand = 0 if kind.is_compiled else 1
    await eventually(lambda: runtime.statistics("source").in_flight == in_hand)
    await within(runtime.terminate("source", timeout=60))
    assert list(runtime.unprocessed("source")) == list(range(in_hand, 8))
    assert check_books(runtime, "source").failed == in_hand


async def test_the_slowest_target_holds_the_source_back(runtime: RingKernelRuntime, kind: Kind) -> None:
    await fan_out(runtime, kind, "fast", "held", queue_size=4)
    await activate(runtime, "source", "fast")
    with pytest.raises(BatchTimeoutError) as caught:
        await runtime.send_batch("source", range(100), timeout=0.05)
    sent = caught.value.sent
    assert sent == 8 + (0 if kind.is_compiled else 1)
    assert runtime.statistics("source").emitted == 4
    assert await receive_all(runtime, "fast", 4) == [2, 3, 4, 5]
    await runtime.activate("held")
    received: list[int] = []
    while len(received) < sent:
        received.append(await within(runtime.receive("held")))
    assert received == list(range(2, sent + 2))


async def test_a_paused_target_that_ends_keeps_what_it_had_not_taken_and_lets_the_others_go_on(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    await fan_out(runtime, kind, "stays", "goes", queue_size=8)
    await activate(runtime, "source", "stays", "goes")
    await runtime.send_batch("source", range(4))
    await eventually(lambda: runtime.statistics("goes").processed == 4)
    await runtime.deactivate("goes")
    sending = asyncio.create_task(runtime.send_batch("source", range(4, 100)))
    receiving = asyncio.create_task(receive_all(runtime, "stays", 100))
    await eventually(lambda: runtime.statistics("stays").received == 12)
    assert not receiving.done()
    await runtime.terminate("goes")
    assert await within(receiving) == list(range(2, 102))
    await within(sending)
    counts = check_books(runtime, "goes")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (12, 4, 8)
    assert list(runtime.unprocessed("goes")) == list(range(5, 13))
    assert drain(runtime, "goes") == [2, 3, 4, 5]
    runtime.remove("goes")
    await eventually(lambda: runtime.statistics("stays").processed == 100)
    assert check_books(runtime, "source").emitted == 100
    assert [k.kernel_id for k in runtime.kernels["source"].targets] == ["stays"]


# --- sources that end ---------------------------------------------------------------------------------------------


async def test_a_source_that_ends_leaves_its_target_everything(runtime: RingKernelRuntime, kind: Kind) -> None:
    await connect_chain(runtime, queue_size=8, source=kind(add_one), target=kind(add_one))
    await runtime.activate("source")
    await runtime.send_batch("source", range(8))
    await eventually(lambda: runtime.statistics("source").emitted == 8)
    await runtime.terminate("source")
    runtime.remove("source")
    await runtime.activate("target")
    assert await receive_all(runtime, "target", 8) == list(range(2, 10))
    assert runtime.kernels["target"].sources == ()
    await runtime.send("target", 50)
    assert await receive_all(runtime, "target", 1) == [51]


# --- targets that come and go -------------------------------------------------------------------------------------


async def test_a_chain_may_be_reconnected_while_it_is_paused_many_times(runtime: RingKernelRuntime, kind: Kind) -> None:
    """Targets come and go under a source; every message goes to exactly the targets of its time."""
    await runtime.launch("source", kind(add_one), queue_size=16)
    await runtime.launch("keeps", kind(same), queue_size=128)
    runtime.connect("source", "keeps")
    await activate(runtime, "source", "keeps")
    for first in range(12):
        await runtime.deactivate("source")
        await runtime.launch("guest", kind(add_one), queue_size=16)
        runtime.connect("source", "guest")
        await runtime.activate("guest")
        await runtime.reactivate("source")
        await runtime.send_batch("source", range(first, first + 10))
        assert await receive_all(runtime, "guest", 10) == list(range(first + 2, first + 12))
        await runtime.terminate("guest")
        assert check_books(runtime, "guest").unprocessed == 0
        runtime.remove("guest")
    assert await receive_all(runtime, "keeps", 120) == [first + i + 1 for first in range(12) for i in range(10)]
    assert check_books(runtime, "keeps").accepted == check_books(runtime, "source").emitted == 120


async def test_a_source_forgets_the_targets_that_have_ended(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("source", kind(same))
    for _ in range(20):
        await runtime.launch("target", kind(same))
        runtime.connect("source", "target")
        await runtime.terminate("target")
        runtime.remove("target")
    assert len(output_of(runtime, "source").edges) <= 2
    await runtime.launch("target", kind(same))
    runtime.connect("source", "target")
    await activate(runtime, "source", "target")
    await runtime.send("source", 1)
    assert await within(runtime.receive("target")) == 1


# --- an untyped coroutine behind typed ones -----------------------------------------------------------------------


async def idle(ctx: KernelContext[Any, Any]) -> None:
    while not ctx.should_terminate:
        await ctx.wait_active()
        await asyncio.sleep(0.001)


async def test_an_untyped_target_leaves_what_it_would_have_received(
    runtime: RingKernelRuntime, typed_kind: Kind
) -> None:
    await start_chain(runtime, source=typed_kind(add_one), target=idle)
    await runtime.send_batch("source", range(3))
    await runtime.send("target", "from the host")
    await eventually(lambda: runtime.statistics("target").unprocessed == 4)
    await within(runtime.terminate("target"))
    left = runtime.unprocessed("target")
    assert left == ["from the host", 1, 2, 3]
    assert all(type(message) is int for message in left[1:])


async def test_messages_of_a_paused_untyped_target_wait_in_its_source(
    runtime: RingKernelRuntime, typed_kind: Kind
) -> None:
    await start(runtime, "target", Kind("coroutine")(same))
    await runtime.deactivate("target")
    await runtime.launch("source", typed_kind(add_one), queue_size=4)
    runtime.connect("source", "target")
    await runtime.activate("source")
    await runtime.send_batch("source", range(8))
    await eventually(lambda: runtime.statistics("source").emitted == 4)
    assert runtime.statistics("target").processed == 0
    await runtime.reactivate("target")
    assert await receive_all(runtime, "target", 8) == list(range(1, 9))
