"""Connected kernels: who sees what, who waits for whom, and what is left when one of them ends."""

from __future__ import annotations

import asyncio
import ctypes
import itertools
import os
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, turns, within

from ringkernel import (
    KernelFailedError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    ring_kernel,
)

if os.name != "posix":
    pytest.skip("the handlers that take their time call usleep", allow_module_level=True)

usleep = ctypes.CDLL(None).usleep
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int


@ring_kernel(kernel_id="cn_add", input_type=int, output_type=int)
def add_one(msg, out):
    out.value = msg.value + 1


@ring_kernel(kernel_id="cn_even", input_type=int, output_type=int)
def only_even(msg, out):
    out.value = msg.value
    return msg.value % 2 == 0


@ring_kernel(kernel_id="cn_count", input_type=int, state=np.zeros(2, np.int64))
def count(msg, state):
    state[0] += 1
    state[1] += msg.value


@ring_kernel(kernel_id="cn_slow", input_type=int, output_type=int)
def slow(msg, out):
    usleep(3_000)
    out.value = msg.value


@ring_kernel(kernel_id="cn_fail", input_type=int, output_type=int)
def fail_at_five(msg, out):
    if msg.value == 5:
        raise ValueError("five")
    out.value = msg.value


@ring_kernel(kernel_id="cn_float", input_type=float, output_type=float)
def floats(msg, out):
    out.value = msg.value


PAIR = np.dtype([("a", "i8"), ("b", "i8")])


@ring_kernel(kernel_id="cn_pair", input_type=int, output_type=PAIR)
def to_pair(msg, out):
    out.a = msg.value
    out.b = -msg.value


async def start(runtime: RingKernelRuntime, *kernel_ids: str) -> None:
    for kernel_id in kernel_ids:
        await runtime.activate(kernel_id)


async def receive_all(runtime: RingKernelRuntime, kernel_id: str, count: int) -> list[Any]:
    got: list[Any] = []
    while len(got) < count:
        got.extend(await within(runtime.receive_batch(kernel_id)))
    assert len(got) == count
    return got


def collector(seen: list[Any]) -> Any:
    """A coroutine kernel that keeps what it sees and passes it on."""

    async def collect(ctx):
        async for message in ctx:
            seen.append(message)
            await ctx.send(message)

    return collect


# --- shapes ------------------------------------------------------------------------------------------------------


async def test_a_timeout_names_the_first_kernel_upstream_that_takes_nothing(runtime):
    for name in ("a", "b", "c"):
        await runtime.launch(name, add_one)
    runtime.connect("a", "b")
    runtime.connect("b", "c")
    await start(runtime, "c")
    with pytest.raises(asyncio.TimeoutError, match=r"'c' within 0 s; kernel 'b' is LAUNCHED: activate\(\) it"):
        await runtime.receive("c", timeout=0)
    await start(runtime, "b")
    with pytest.raises(asyncio.TimeoutError, match=r"'c' within 0 s; kernel 'a' is LAUNCHED: activate\(\) it"):
        await runtime.receive("c", timeout=0)
    await start(runtime, "a")
    with pytest.raises(asyncio.TimeoutError, match=r"'c' within 0 s$"):
        await runtime.receive("c", timeout=0)


async def test_a_chain_hands_messages_on_in_order(runtime):
    names = [f"k{i}" for i in range(5)]
    for name in names:
        await runtime.launch(name, add_one, queue_size=16)
    for source, target in itertools.pairwise(names):
        runtime.connect(source, target)
    await start(runtime, *names)
    sending = asyncio.create_task(runtime.send_batch("k0", np.arange(1000)))
    assert await receive_all(runtime, "k4", 1000) == list(range(5, 1005))
    await within(sending)
    for name in names:
        await eventually(lambda name=name: runtime.statistics(name).processed == 1000)
        counts = check_books(runtime, name)
        assert (counts.accepted, counts.emitted, counts.received) == (1000, 1000, 1000)


async def test_a_fan_out_shows_every_message_to_every_target(runtime):
    await runtime.launch("source", add_one, queue_size=16)
    await runtime.launch("counter", count)
    for name in ("left", "right"):
        await runtime.launch(name, add_one, queue_size=16)
    for name in ("left", "counter", "right"):
        runtime.connect("source", name)
    await start(runtime, "source", "left", "right", "counter")
    sending = asyncio.create_task(runtime.send_batch("source", np.arange(500)))
    left, right = await asyncio.gather(receive_all(runtime, "left", 500), receive_all(runtime, "right", 500))
    await within(sending)
    assert left == right == list(range(2, 502))
    await eventually(lambda: runtime.statistics("counter").processed == 500)
    assert (await runtime.read_state("counter")).tolist() == [500, sum(range(1, 501))]
    assert check_books(runtime, "source").emitted == 500


async def test_a_fan_in_takes_from_every_source_and_keeps_the_order_of_each(runtime):
    for name in ("a", "b", "c"):
        await runtime.launch(name, add_one, queue_size=16)
    await runtime.launch("target", add_one, queue_size=16)
    for name in ("a", "b", "c"):
        runtime.connect(name, "target")
    await start(runtime, "a", "b", "c", "target")
    sending = [asyncio.create_task(runtime.send_batch(name, np.arange(200) + 1000 * i)) for i, name in enumerate("abc")]
    got = await receive_all(runtime, "target", 600)
    await within(asyncio.gather(*sending))
    for i in range(3):
        mine = [v for v in got if 1000 * i <= v - 2 < 1000 * (i + 1)]
        assert mine == [v + 2 for v in range(1000 * i, 1000 * i + 200)]
    assert check_books(runtime, "target").accepted == 600


async def test_more_sources_and_targets_than_the_first_tables_hold(runtime):
    sources, targets = [f"s{i}" for i in range(20)], [f"t{i}" for i in range(20)]
    for name in ("hub", *sources, *targets):
        await runtime.launch(name, add_one, queue_size=32)
    for name in sources:
        runtime.connect(name, "hub")
    for name in targets:
        runtime.connect("hub", name)
    await start(runtime, "hub", *sources, *targets)
    for i, name in enumerate(sources):
        await runtime.send(name, 100 * i)
    wanted = sorted(100 * i + 3 for i in range(20))
    for name in targets:
        assert sorted(await receive_all(runtime, name, 20)) == wanted
    assert runtime.statistics("hub").emitted == 20


async def test_a_diamond_gives_both_sides_to_the_sink(runtime):
    for name, func in [("top", add_one), ("left", add_one), ("right", only_even), ("sink", count)]:
        await runtime.launch(name, func, queue_size=32)
    for source, target in [("top", "left"), ("top", "right"), ("left", "sink"), ("right", "sink")]:
        runtime.connect(source, target)
    await start(runtime, "top", "left", "right", "sink")
    await runtime.send_batch("top", np.arange(400))
    await eventually(lambda: runtime.statistics("sink").processed == 600)
    values = np.arange(1, 401)
    assert (await runtime.read_state("sink")).tolist() == [600, int((values + 1).sum() + values[values % 2 == 0].sum())]


async def test_a_compiled_kernel_feeds_a_coroutine_kernel(runtime):
    seen: list[Any] = []
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("target", collector(seen))
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await within(runtime.send_batch("source", np.arange(300)))
    await eventually(lambda: len(seen) == 300)
    assert seen == list(range(1, 301))
    assert type(seen[0]) is int
    assert await receive_all(runtime, "target", 300) == seen


async def test_records_arrive_in_a_coroutine_kernel_as_records(runtime):
    seen: list[Any] = []
    await runtime.launch("source", to_pair)
    await runtime.launch("target", collector(seen))
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.send("source", 3)
    await eventually(lambda: seen)
    assert (seen[0].a, seen[0].b) == (3, -3)


async def test_a_coroutine_kernel_feeds_a_compiled_kernel(runtime):
    async def source(ctx):
        async for message in ctx:
            for i in range(message):
                await ctx.send(i)

    await runtime.launch("source", source)
    await runtime.launch("target", add_one, queue_size=8)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.send("source", 100)
    assert await receive_all(runtime, "target", 100) == list(range(1, 101))


async def test_a_coroutine_kernel_that_sends_the_wrong_type_to_a_compiled_one_fails(runtime):
    async def source(ctx):
        await ctx.send("no number")

    await runtime.launch("source", source)
    await runtime.launch("target", add_one)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await within(runtime.wait("source"))
    assert isinstance(runtime.kernels["source"].error, MessageTypeError)
    assert runtime.get_state("target") is KernelState.ACTIVE
    assert runtime.statistics("target").accepted == 0


@pytest.mark.parametrize("first", ["compiled", "coroutine"])
async def test_a_coroutine_kernel_feeds_both_kinds_at_once(runtime, first):
    seen: list[Any] = []

    async def source(ctx):
        for i in range(20):
            await ctx.send(i)

    await runtime.launch("source", source)
    await runtime.launch("compiled", add_one)
    await runtime.launch("coroutine", collector(seen))
    for name in [first, *({"compiled", "coroutine"} - {first})]:
        runtime.connect("source", name)
    await start(runtime, "compiled", "coroutine", "source")
    assert await receive_all(runtime, "compiled", 20) == list(range(1, 21))
    await eventually(lambda: len(seen) == 20)
    assert seen == list(range(20))


async def test_two_coroutine_kernels_may_be_connected(runtime):
    seen: list[Any] = []
    await runtime.launch("source", collector([]))
    await runtime.launch("target", collector(seen))
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    for message in ("a", {"b": 1}, None):
        await runtime.send("source", message)
    await eventually(lambda: len(seen) == 3)
    assert seen == ["a", {"b": 1}, None]


async def test_a_cycle_runs_and_ends(runtime):
    """Halving until nothing is left: a kernel that feeds itself."""
    await runtime.launch("loop", halve)
    runtime.connect("loop", "loop")
    await start(runtime, "loop")
    await runtime.send("loop", 1024)
    await eventually(lambda: runtime.statistics("loop").processed == 12)
    counts = check_books(runtime, "loop")
    assert (counts.accepted, counts.emitted, counts.dropped) == (12, 11, 1)


@ring_kernel(kernel_id="cn_halve", input_type=int, output_type=int)
def halve(msg, out):
    out.value = msg.value // 2
    return msg.value > 0


# --- the host beside it ------------------------------------------------------------------------------------------


async def test_the_host_may_still_send_to_a_connected_target(runtime):
    await runtime.launch("source", add_one)
    await runtime.launch("target", add_one)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.send("target", 100)
    await runtime.send("source", 0)
    assert sorted(await receive_all(runtime, "target", 2)) == [2, 101]
    assert check_books(runtime, "target").accepted == 2


async def test_receive_on_a_connected_source_names_the_target(runtime):
    await runtime.launch("source", add_one)
    await runtime.launch("target", add_one)
    waiting = [asyncio.create_task(runtime.receive("source")) for _ in range(3)]
    await turns()
    runtime.connect("source", "target")
    for task in waiting:
        with pytest.raises(KernelStateError, match="'target'"):
            await within(task)
    for attempt in (
        lambda: runtime.receive("source"),
        lambda: runtime.receive_batch("source"),
        lambda: anext(runtime.stream("source")),
    ):
        with pytest.raises(KernelStateError, match="'target'"):
            await within(attempt())
    with pytest.raises(KernelStateError, match="'target'"):
        runtime.receive_nowait("source")


async def test_a_waiting_receive_on_a_coroutine_source_is_told_when_a_compiled_target_comes(runtime):
    await runtime.launch("source", collector([]))
    await runtime.launch("target", add_one)
    waiting = asyncio.create_task(runtime.receive("source"))
    await turns()
    runtime.connect("source", "target")
    with pytest.raises(KernelStateError, match="'target'"):
        await within(waiting)


async def test_what_already_waits_goes_to_the_first_target_only(runtime):
    await runtime.launch("source", add_one)
    await runtime.activate("source")
    await runtime.send_batch("source", np.arange(5))
    await eventually(lambda: runtime.statistics("source").emitted == 5)
    assert await within(runtime.receive("source")) == 1
    await runtime.deactivate("source")
    await runtime.launch("first", add_one)
    await runtime.launch("second", add_one)
    runtime.connect("source", "first")
    runtime.connect("source", "second")
    await start(runtime, "first", "second")
    await runtime.reactivate("source")
    await runtime.send("source", 100)
    assert await receive_all(runtime, "first", 5) == [3, 4, 5, 6, 102]
    assert await receive_all(runtime, "second", 1) == [102]
    assert check_books(runtime, "first").accepted == 5
    assert check_books(runtime, "second").accepted == 1


# --- refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("active", ["source", "target"])
async def test_connect_is_refused_while_one_side_is_active(runtime, active):
    await runtime.launch("source", add_one)
    await runtime.launch("target", add_one)
    await runtime.activate(active)
    with pytest.raises(KernelStateError, match=f"{active}.*ACTIVE"):
        runtime.connect("source", "target")
    await runtime.deactivate(active)
    runtime.connect("source", "target")


@pytest.mark.parametrize("ended", ["source", "target"])
async def test_connect_is_refused_once_one_side_has_ended(runtime, ended):
    await runtime.launch("source", add_one)
    await runtime.launch("target", add_one)
    await runtime.terminate(ended)
    with pytest.raises(KernelStateError, match=f"{ended}.*TERMINATED"):
        runtime.connect("source", "target")


async def test_types_that_do_not_match_are_refused_and_nothing_changes(runtime):
    await runtime.launch("source", add_one)
    await runtime.launch("floats", floats)
    await runtime.launch("sink", count)
    with pytest.raises(MessageTypeError, match=r"int64.*float64"):
        runtime.connect("source", "floats")
    with pytest.raises(MessageTypeError, match="'sink'"):
        runtime.connect("sink", "source")
    await start(runtime, "source", "floats")
    await runtime.send("source", 1)
    assert await within(runtime.receive("source")) == 2
    await runtime.send("floats", 1.0)
    assert await within(runtime.receive("floats")) == 1.0
    assert runtime.kernels["source"].targets == ()


async def test_a_coroutine_source_that_has_emitted_objects_is_refused(runtime):
    await runtime.launch("source", collector([]))
    await runtime.launch("target", add_one)
    await runtime.activate("source")
    await runtime.send("source", "an object")
    await eventually(lambda: runtime.statistics("source").emitted == 1)
    await runtime.deactivate("source")
    with pytest.raises(KernelStateError, match="'source'"):
        runtime.connect("source", "target")
    assert await within(runtime.receive("source")) == "an object"


async def test_the_same_connection_twice_is_refused(runtime):
    await runtime.launch("source", add_one)
    await runtime.launch("target", add_one)
    runtime.connect("source", "target")
    with pytest.raises(KernelStateError, match="already"):
        runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.send("source", 0)
    assert await receive_all(runtime, "target", 1) == [2]


async def test_unknown_ids_are_refused(runtime):
    await runtime.launch("source", add_one)
    with pytest.raises(KernelNotFoundError, match="'nobody'"):
        runtime.connect("source", "nobody")
    with pytest.raises(KernelNotFoundError, match="'nobody'"):
        runtime.connect("nobody", "source")


@ring_kernel(kernel_id="cn_step", input_type=int, output_type=int)
def slow_step(msg, out):
    usleep(200)
    out.value = msg.value + 1


@pytest.mark.workers
async def test_a_saturated_worker_hands_kernels_to_an_idle_one_and_nothing_is_lost():
    """A chain starts on one worker; while it keeps that busy, half of it moves."""
    names = [f"k{i}" for i in range(4)]
    async with RingKernelRuntime(workers=2) as runtime:
        for name in names:
            await runtime.launch(name, slow_step, queue_size=64)
        for source, target in itertools.pairwise(names):
            runtime.connect(source, target)
        await start(runtime, *names)

        def workers() -> set[int]:
            return {runtime.kernels[name].engine.executor.run_entry.worker.number for name in names}

        assert workers() == {0}
        sent, received = 0, []
        while len(workers()) == 1:
            assert sent < 100_000, "the worker was never relieved"
            await runtime.send_batch("k0", np.arange(sent, sent + 16))
            sent += 16
            received.extend(drain(runtime, "k3"))
        assert workers() == {0, 1}
        received.extend(await receive_all(runtime, "k3", sent - len(received)))
        assert received == list(range(4, sent + 4))
        for name in names:
            assert check_books(runtime, name).processed == sent


async def test_a_coroutine_that_waits_already_hears_of_a_source_that_is_connected_later(runtime):
    seen: list[Any] = []
    await runtime.launch("target", collector(seen))
    await runtime.activate("target")
    await eventually(lambda: runtime.kernels["target"].engine.source.line.waiters)
    await runtime.deactivate("target")
    await runtime.launch("source", add_one)
    runtime.connect("source", "target")
    await runtime.reactivate("target")
    await runtime.activate("source")
    for i in range(3):
        await runtime.send("source", i)
        await eventually(lambda n=i + 1: len(seen) == n)
    assert seen == [1, 2, 3]


# --- pausing and ending ------------------------------------------------------------------------------------------


async def test_a_paused_target_holds_its_source_back(runtime):
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("target", add_one, queue_size=8)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.deactivate("target")
    await runtime.send_batch("source", np.arange(16))
    await eventually(lambda: runtime.statistics("source").emitted == 8)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("source", 16, timeout=0.02)
    assert runtime.statistics("target").processed == 0
    await runtime.reactivate("target")
    assert await receive_all(runtime, "target", 16) == list(range(2, 18))


async def test_a_kernel_that_is_held_up_lets_its_senders_use_the_room_there_is(runtime):
    """A sender is woken once per half ring; a kernel that waits for its target may never make so much room."""
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("target", add_one, queue_size=8)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.deactivate("target")
    await runtime.send_batch("source", np.arange(5))
    await eventually(lambda: runtime.statistics("source").emitted == 5)
    await runtime.deactivate("source")
    await runtime.send_batch("source", np.arange(5, 13))
    sending = asyncio.create_task(runtime.send_batch("source", np.arange(13, 16)))
    await eventually(lambda: runtime.kernels["source"].input_queue.statistics().waiting_putters == 1)
    await runtime.reactivate("source")  # has room for three outputs, and takes three
    await within(sending)
    await runtime.reactivate("target")
    assert await receive_all(runtime, "target", 16) == list(range(2, 18))


async def test_a_target_is_terminated_while_its_source_goes_on(runtime):
    """Every message that the source has emitted is either processed by its only target or in its leftovers."""
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("target", slow, queue_size=64)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    sending = asyncio.create_task(runtime.send_batch("source", np.arange(200)))
    await eventually(lambda: runtime.statistics("target").processed >= 2)
    await within(runtime.terminate("target"))
    assert runtime.kernels["target"].error is None
    emitted = runtime.statistics("source").emitted
    counts = check_books(runtime, "target")
    left = runtime.unprocessed("target").tolist()
    done = drain(runtime, "target")
    assert counts.processed == len(done)
    assert done + left == list(range(1, emitted + 1))
    assert counts.accepted == emitted
    assert runtime.get_state("source") is KernelState.ACTIVE
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


async def test_a_source_without_consumers_stalls_and_loses_nothing(runtime):
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("target", add_one, queue_size=8)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.terminate("target")
    await runtime.send_batch("source", np.arange(8))
    with pytest.raises(KernelStateError, match="'target' has ended"):
        await runtime.send("source", 8, timeout=0.05)
    counts = check_books(runtime, "source")
    assert (counts.processed, counts.emitted, counts.unprocessed) == (0, 0, 8)
    runtime.remove("target")
    with pytest.raises(KernelStateError, match="'source' went to 'target', which has ended"):
        await within(runtime.receive("source"))
    await runtime.deactivate("source")
    await runtime.launch("target", add_one, queue_size=16)
    runtime.connect("source", "target")
    await runtime.activate("target")
    await runtime.reactivate("source")
    assert await receive_all(runtime, "target", 8) == list(range(2, 10))
    await within(runtime.terminate("source"))


async def test_a_stalled_source_is_terminated_promptly(runtime):
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("target", add_one, queue_size=8)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.terminate("target")
    await runtime.send_batch("source", np.arange(8))
    await within(runtime.terminate("source", timeout=60), 5)
    assert runtime.unprocessed("source").tolist() == list(range(8))


async def test_a_paused_consumer_that_is_removed_lets_the_others_go_on(runtime):
    for name in ("source", "stays", "goes"):
        await runtime.launch(name, add_one, queue_size=8)
    runtime.connect("source", "stays")
    runtime.connect("source", "goes")
    await start(runtime, "source", "stays", "goes")
    await runtime.send_batch("source", np.arange(4))
    await eventually(lambda: runtime.statistics("goes").processed == 4)
    await runtime.deactivate("goes")
    sending = asyncio.create_task(runtime.send_batch("source", np.arange(4, 100)))
    receiving = asyncio.create_task(receive_all(runtime, "stays", 100))
    await eventually(lambda: runtime.statistics("stays").received == 12)
    assert not receiving.done()
    await runtime.terminate("goes")
    assert await within(receiving) == list(range(2, 102))
    await within(sending)
    counts = check_books(runtime, "goes")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (12, 4, 8)
    assert runtime.unprocessed("goes").tolist() == list(range(5, 13))
    assert drain(runtime, "goes") == [2, 3, 4, 5]
    runtime.remove("goes")
    await eventually(lambda: runtime.statistics("stays").processed == 100)
    assert check_books(runtime, "source").emitted == 100
    assert [k.kernel_id for k in runtime.kernels["source"].targets] == ["stays"]


async def test_a_target_that_fails_leaves_its_source_and_its_sibling_alone(runtime, loop_errors):
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("fails", fail_at_five, queue_size=8)
    await runtime.launch("lives", add_one, queue_size=64)
    runtime.connect("source", "fails")
    runtime.connect("source", "lives")
    await start(runtime, "source", "fails", "lives")
    await within(runtime.send_batch("source", np.arange(50)))
    await within(runtime.wait("fails"))
    assert isinstance(runtime.kernels["fails"].error, ValueError)
    assert await receive_all(runtime, "lives", 50) == list(range(2, 52))
    counts = check_books(runtime, "fails")
    assert (counts.processed, counts.failed) == (4, 1)
    assert runtime.unprocessed("fails").tolist()[:1] in ([6], [])
    assert drain(runtime, "fails") == [1, 2, 3, 4]
    with pytest.raises(KernelFailedError):
        await runtime.receive("fails")


async def test_a_source_that_ends_leaves_its_target_everything(runtime):
    await runtime.launch("source", add_one, queue_size=8)
    await runtime.launch("target", add_one, queue_size=8)
    runtime.connect("source", "target")
    await runtime.activate("source")
    await runtime.send_batch("source", np.arange(8))
    await eventually(lambda: runtime.statistics("source").emitted == 8)
    await runtime.terminate("source")
    runtime.remove("source")
    await runtime.activate("target")
    assert await receive_all(runtime, "target", 8) == list(range(2, 10))
    assert runtime.kernels["target"].sources == ()
    await runtime.send("target", 50)
    assert await receive_all(runtime, "target", 1) == [51]


async def test_an_untyped_coroutine_target_leaves_what_it_would_have_received(runtime):
    async def idle(ctx):
        while not ctx.should_terminate:
            await ctx.wait_active()
            await asyncio.sleep(0.001)

    await runtime.launch("source", add_one)
    await runtime.launch("target", idle)
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.send_batch("source", np.arange(3))
    await runtime.send("target", "from the host")
    await eventually(lambda: runtime.statistics("target").unprocessed == 4)
    await within(runtime.terminate("target"))
    left = runtime.unprocessed("target")
    assert left == ["from the host", 1, 2, 3]
    assert all(type(message) is int for message in left[1:])


async def test_messages_of_a_paused_coroutine_target_wait_in_its_source(runtime):
    seen: list[Any] = []
    await runtime.launch("source", add_one, queue_size=4)
    await runtime.launch("target", collector(seen))
    runtime.connect("source", "target")
    await start(runtime, "source", "target")
    await runtime.deactivate("target")
    await runtime.send_batch("source", np.arange(8))
    await eventually(lambda: runtime.statistics("source").emitted == 4)
    assert seen == []
    await runtime.reactivate("target")
    await eventually(lambda: len(seen) == 8)
    assert seen == list(range(1, 9))


@pytest.mark.parametrize("order", [("a", "b", "c"), ("c", "b", "a"), ("b", "c", "a")])
async def test_leaving_the_runtime_ends_sources_before_targets(loop_errors, order):
    """So that all that was sent arrives at the end of the chain, in whatever order the kernels were launched."""
    async with RingKernelRuntime(workers=1) as runtime:
        for name in order:
            await runtime.launch(name, add_one, queue_size=256)
        runtime.connect("a", "b")
        runtime.connect("b", "c")
        await start(runtime, *order)
        await runtime.send_batch("a", np.arange(200))
    for name in "abc":
        counts = check_books(runtime, name)
        assert (counts.processed, counts.unprocessed, counts.state) == (200, 0, KernelState.TERMINATED)
    assert drain(runtime, "c") == list(range(3, 203))


async def test_leaving_the_runtime_ends_a_cycle(loop_errors):
    async with RingKernelRuntime(workers=1) as runtime:
        for name in ("a", "b"):
            await runtime.launch(name, halve)
        runtime.connect("a", "b")
        runtime.connect("b", "a")
        await start(runtime, "a", "b")
        await runtime.send("a", 1000)
    assert {runtime.get_state("a"), runtime.get_state("b")} == {KernelState.TERMINATED}


async def test_a_chain_may_be_reconnected_while_it_is_paused_many_times(runtime):
    """Targets come and go under a source; every message goes to exactly the targets of its time."""
    await runtime.launch("source", add_one, queue_size=16)
    await runtime.launch("keeps", count)
    runtime.connect("source", "keeps")
    await start(runtime, "source", "keeps")
    for round_ in range(12):
        await runtime.deactivate("source")
        await runtime.launch("guest", add_one, queue_size=16)
        runtime.connect("source", "guest")
        await runtime.activate("guest")
        await runtime.reactivate("source")
        await runtime.send_batch("source", np.arange(10) + round_)
        assert await receive_all(runtime, "guest", 10) == [round_ + i + 2 for i in range(10)]
        await runtime.terminate("guest")
        assert check_books(runtime, "guest").unprocessed == 0
        runtime.remove("guest")
    await eventually(lambda: runtime.statistics("keeps").processed == 120)
    assert check_books(runtime, "keeps").accepted == check_books(runtime, "source").emitted == 120
