"""`terminate` takes what was queued when it came, and no more; what is left is handed back; who waits is woken."""

from __future__ import annotations

import asyncio

import pytest
from helpers import activate, check_books, drain, eventually, in_line, start, start_chain, turns, within
from kinds import Kind, gated, same, slow

from ringkernel import KernelContext, KernelState, KernelStateError, RingKernelRuntime, managed_kernel, ring_kernel

BEFORE_THE_END = [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED]
AT_REST = [KernelState.LAUNCHED, KernelState.DEACTIVATED]


async def launch_into(
    state: KernelState, runtime: RingKernelRuntime, kind: Kind, queue_size: int | None = None
) -> None:
    await runtime.launch("k", kind(same), queue_size=queue_size)
    if state is not KernelState.LAUNCHED:
        await runtime.activate("k")
    if state is KernelState.DEACTIVATED:
        await runtime.deactivate("k")


# --- what was queued ----------------------------------------------------------------------------------------------


async def test_terminate_processes_what_was_queued(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same))
    await runtime.send_batch("k", range(1000))
    await runtime.activate("k")
    await within(runtime.terminate("k"))
    assert drain(runtime, "k") == list(range(1000))
    assert list(runtime.unprocessed("k")) == []
    assert runtime.kernels["k"].error is None
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed) == (1000, 0)


@pytest.mark.parametrize("state", AT_REST)
async def test_terminate_takes_nothing_from_a_kernel_at_rest(
    runtime: RingKernelRuntime, kind: Kind, state: KernelState
) -> None:
    await launch_into(state, runtime, kind)
    await runtime.send_batch("k", [1, 2, 3])
    await runtime.terminate("k")
    assert list(runtime.unprocessed("k")) == [1, 2, 3]
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (3, 0, 3)
    assert drain(runtime, "k") == []


async def test_what_comes_after_the_command_is_left(runtime: RingKernelRuntime, kind: Kind) -> None:
    """A source goes on while its target drains: that is not taken, and not lost."""
    emit = asyncio.Event()

    @ring_kernel("source", output_type=int)
    async def source(ctx: KernelContext[None, int]) -> None:
        await emit.wait()
        for i in range(3, 6):
            await ctx.send(i)

    await runtime.launch("source")
    await runtime.launch("k", kind(gated))
    runtime.connect("source", "k")
    await activate(runtime, "k", "source")
    gate = kind.gate(runtime, "k")
    await runtime.send_batch("k", [-1, 1, 2])
    await eventually(lambda: gate.entered)
    ending = asyncio.create_task(runtime.terminate("k"))
    await eventually(lambda: runtime.get_state("k") is KernelState.TERMINATING)
    emit.set()
    await within(runtime.wait("source"))
    assert runtime.get_state("k") is KernelState.TERMINATING
    gate.open()
    await within(ending)
    assert drain(runtime, "k") == [-1, 1, 2]
    assert list(runtime.unprocessed("k")) == [3, 4, 5]
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed) == (6, 3)
    assert runtime.statistics("source").emitted == 3


async def test_unprocessed_is_known_only_at_the_end(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    with pytest.raises(KernelStateError, match="ACTIVE"):
        runtime.unprocessed("k")
    await runtime.terminate("k")
    assert len(runtime.unprocessed("k")) == 0


async def test_a_drain_that_waits_for_room_ends_early_and_loses_nothing(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=8)
    await runtime.send_batch("k", range(16))
    await eventually(lambda: runtime.statistics("k").output_depth == 8)
    await within(runtime.terminate("k", timeout=60))
    in_hand = 0 if kind.is_compiled else 1  # a coroutine waits with a message in its hand
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (8, in_hand, 8 - in_hand)
    assert drain(runtime, "k") == list(range(8))
    assert list(runtime.unprocessed("k")) == list(range(8 + in_hand, 16))
    assert runtime.kernels["k"].error is None


async def test_a_drain_goes_on_while_somebody_receives(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same), queue_size=2)
    await runtime.send_batch("k", range(4))
    await eventually(lambda: runtime.statistics("k").output_depth == 2)
    ending = asyncio.create_task(runtime.terminate("k", timeout=10))
    received = []
    for _ in range(4):
        await asyncio.sleep(0.07)  # less than the 0.1 s that a drain waits for room
        received.append(await within(runtime.receive("k")))
    await within(ending, 1.0)
    assert received == [0, 1, 2, 3]
    assert check_books(runtime, "k").processed == 4


async def test_a_kernel_that_takes_its_time_is_not_taken_for_one_without_room(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    await start(runtime, "k", kind(gated))
    gate = kind.gate(runtime, "k")
    await runtime.send("k", -1)
    await eventually(lambda: gate.entered)
    ending = asyncio.create_task(runtime.terminate("k"))
    await asyncio.sleep(0.25)  # more than the 0.1 s that a drain waits for room
    gate.open()
    await within(ending)
    assert drain(runtime, "k") == [-1]
    assert runtime.kernels["k"].error is None


# --- who waits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", BEFORE_THE_END)
async def test_a_blocked_receive_is_woken_when_the_kernel_ends(
    runtime: RingKernelRuntime, kind: Kind, state: KernelState
) -> None:
    await launch_into(state, runtime, kind)
    queue = runtime.kernels["k"].output_queue
    waiters = [await in_line(queue, runtime.receive("k")) for _ in range(3)]
    await runtime.terminate("k")
    for waiter in waiters:
        with pytest.raises(KernelStateError, match="TERMINATED"):
            await within(waiter, 1.0)


@pytest.mark.parametrize("state", AT_REST)
async def test_a_blocked_send_is_woken_when_the_kernel_ends(
    runtime: RingKernelRuntime, kind: Kind, state: KernelState
) -> None:
    await launch_into(state, runtime, kind, queue_size=1)
    await runtime.send("k", 1)
    queue = runtime.kernels["k"].input_queue
    senders = [await in_line(queue, runtime.send("k", 2 + i)) for i in range(3)]
    senders.append(await in_line(queue, runtime.send_batch("k", [7, 8])))
    await runtime.terminate("k")
    for sender in senders:
        with pytest.raises(KernelStateError, match="TERMINAT"):
            await within(sender, 1.0)
    assert list(runtime.unprocessed("k")) == [1]
    assert check_books(runtime, "k").accepted == 1


async def test_a_batch_whose_kernel_ends_meanwhile_has_sent_a_prefix(runtime: RingKernelRuntime, kind: Kind) -> None:
    await launch_into(KernelState.LAUNCHED, runtime, kind, queue_size=4)
    sending = await in_line(runtime.kernels["k"].input_queue, runtime.send_batch("k", range(10)))
    await runtime.terminate("k")
    with pytest.raises(KernelStateError):
        await within(sending)
    assert list(runtime.unprocessed("k")) == [0, 1, 2, 3]


# --- managed kernels ----------------------------------------------------------------------------------------------


async def test_managed_kernel_ends_the_kernel_when_its_block_raises(runtime: RingKernelRuntime, kind: Kind) -> None:
    with pytest.raises(ZeroDivisionError):
        async with managed_kernel(runtime, "k", kind(same)):
            _ = 1 / 0
    assert runtime.get_state("k") is KernelState.TERMINATED


async def test_managed_kernel_does_not_mind_what_its_block_has_done_already(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    async with managed_kernel(runtime, "paused", kind(same)) as paused:
        await runtime.deactivate(paused)
    assert runtime.get_state("paused") is KernelState.TERMINATED
    async with managed_kernel(runtime, "ended", kind(same)) as ended:
        await runtime.terminate(ended)
    assert runtime.get_state("ended") is KernelState.TERMINATED
    async with managed_kernel(runtime, "removed", kind(same)) as removed:
        await runtime.terminate(removed)
        runtime.remove(removed)
    assert "removed" not in runtime.kernels


async def test_managed_kernel_waits_for_a_kernel_that_is_ending(runtime: RingKernelRuntime, kind: Kind) -> None:
    async with managed_kernel(runtime, "k", kind(slow)) as kernel_id:
        await runtime.send_batch(kernel_id, range(20))
        ending = asyncio.create_task(runtime.terminate(kernel_id))
        await eventually(lambda: runtime.get_state(kernel_id) is not KernelState.ACTIVE)
        assert runtime.get_state(kernel_id) is KernelState.TERMINATING
    assert runtime.get_state("k") is KernelState.TERMINATED
    await within(ending)
    assert drain(runtime, "k") == list(range(20))


# --- the runtime --------------------------------------------------------------------------------------------------


async def test_a_closed_runtime_launches_nothing_and_closes_twice(kind: Kind, loop_errors: list[object]) -> None:
    kind.declare("late", same)
    runtime = RingKernelRuntime()
    async with runtime:
        pass
    with pytest.raises(KernelStateError, match="closed"):
        await runtime.launch("late")
    await runtime.close()
    assert runtime.get_state("late") is KernelState.CREATED


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
async def test_leaving_the_runtime_ends_sources_before_targets(
    kind: Kind, loop_errors: list[object], order: str
) -> None:
    """So that all that was sent arrives at the end of the chain, in whatever order the kernels were launched."""
    async with RingKernelRuntime(workers=1) as runtime:
        for name in order:
            await runtime.launch(name, kind(same), queue_size=256)
        runtime.connect("a", "b")
        runtime.connect("b", "c")
        await activate(runtime, *order)
        await runtime.send_batch("a", range(200))
    for name in order:
        counts = check_books(runtime, name)
        assert (counts.processed, counts.unprocessed, counts.state) == (200, 0, KernelState.TERMINATED)
    assert drain(runtime, "c") == list(range(200))


async def test_leaving_the_runtime_ends_a_cycle(kind: Kind, loop_errors: list[object]) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await start_chain(runtime, a=kind(same), b=kind(same))
        await runtime.deactivate("a")
        await runtime.deactivate("b")
        runtime.connect("b", "a")
        await runtime.reactivate("a")
        await runtime.reactivate("b")
        await runtime.send("a", 1000)
        await eventually(lambda: runtime.statistics("a").processed > 2)
    assert {runtime.get_state("a"), runtime.get_state("b")} == {KernelState.TERMINATED}


async def test_leaving_the_runtime_ends_kernels_side_by_side(loop_errors: list[object]) -> None:
    """Each waits at its end until all others have come there, too."""
    count, ending = 10, 0

    async def waits_for_the_others(ctx: KernelContext[None, None]) -> None:
        nonlocal ending
        try:
            await ctx.receive()
        finally:
            ending += 1
            while ending < count:
                await asyncio.sleep(0)

    async with RingKernelRuntime() as runtime:
        for i in range(count):
            await start(runtime, f"k{i}", waits_for_the_others)
        await turns()
    assert [kernel.error for kernel in runtime.kernels.values()] == [None] * count
    assert {kernel.state for kernel in runtime.kernels.values()} == {KernelState.TERMINATED}


async def test_a_runtime_belongs_to_its_loop(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same))

    def elsewhere() -> None:
        async def use() -> None:
            await runtime.activate("k")

        with pytest.raises(KernelStateError, match="another event loop"):
            asyncio.run(use())
        with pytest.raises(KernelStateError, match="outside of its event loop"):
            runtime.send_nowait("k", 1)
        assert runtime.get_state("k") is KernelState.LAUNCHED  # looking is allowed from any thread

    await asyncio.to_thread(elsewhere)
    assert runtime.get_state("k") is KernelState.LAUNCHED
