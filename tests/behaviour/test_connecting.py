"""Connected kernels: every target sees every message, in order; types must match, and both ends must be at rest."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import activate, check_books, connect_chain, eventually, in_line, receive_all, start, start_chain, within
from kinds import Kind, add_one, drops_thirds, same, sink

from ringkernel import KernelContext, KernelStateError, MessageTypeError, RingKernelRuntime, ring_kernel

PAIR = np.dtype([("a", "i8"), ("b", "i8")])
MIXED = [("coroutine", "cpu"), ("cpu", "coroutine"), ("typed_coroutine", "cpu"), ("coroutine", "typed_coroutine")]


# --- shapes -------------------------------------------------------------------------------------------------------


async def test_a_chain_hands_messages_on_in_order(runtime: RingKernelRuntime, kind: Kind) -> None:
    names = [f"k{i}" for i in range(5)]
    await start_chain(runtime, queue_size=16, **{name: kind(add_one) for name in names})
    sending = asyncio.create_task(runtime.send_batch("k0", range(1000)))
    assert await receive_all(runtime, "k4", 1000) == list(range(5, 1005))
    await within(sending)
    for name in names:
        await eventually(lambda: runtime.statistics(name).processed == 1000)  # noqa: B023 (awaited in this round)
        counts = check_books(runtime, name)
        assert (counts.accepted, counts.emitted, counts.received) == (1000, 1000, 1000)


async def test_a_fan_out_shows_every_message_to_every_target(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("source", kind(add_one), queue_size=16)
    await runtime.launch("sink", kind(drops_thirds))
    for name in ("left", "right"):
        await runtime.launch(name, kind(add_one), queue_size=16)
    for name in ("left", "sink", "right"):
        runtime.connect("source", name)
    await activate(runtime, "source", "left", "right", "sink")
    sending = asyncio.create_task(runtime.send_batch("source", range(500)))
    left, right = await asyncio.gather(receive_all(runtime, "left", 500), receive_all(runtime, "right", 500))
    await within(sending)
    assert left == right == list(range(2, 502))
    kept = [n for n in range(1, 501) if n % 3]
    assert await receive_all(runtime, "sink", len(kept)) == kept
    assert check_books(runtime, "source").emitted == 500


async def test_a_fan_in_takes_from_every_source_and_keeps_the_order_of_each(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    for name in ("a", "b", "c", "target"):
        await runtime.launch(name, kind(add_one), queue_size=16)
    for name in "abc":
        runtime.connect(name, "target")
    await activate(runtime, "a", "b", "c", "target")
    feeds = {"a": 0, "b": 1000, "c": 2000, "target": 3001}  # the host may send to the target, too
    sending = [asyncio.create_task(runtime.send_batch(n, range(first, first + 200))) for n, first in feeds.items()]
    got = await receive_all(runtime, "target", 800)
    await within(asyncio.gather(*sending))
    for first in (2, 1002, 2002, 3002):
        assert [n for n in got if first <= n < first + 200] == list(range(first, first + 200))
    assert check_books(runtime, "target").accepted == 800


async def test_a_fan_in_serves_its_sources_in_turn(runtime: RingKernelRuntime, kind: Kind) -> None:
    for name in ("a", "b", "target"):
        await runtime.launch(name, kind(same), queue_size=1024)
    for name, first in (("a", 0), ("b", 10_000)):
        runtime.connect(name, "target")
        await runtime.activate(name)
        await runtime.send_batch(name, range(first, first + 1000))
        await eventually(lambda: runtime.statistics(name).emitted == 1000)  # noqa: B023 (awaited in this round)
    await runtime.activate("target")
    got: list[int] = []
    while len(got) < 2000:
        got.extend(await within(runtime.receive_batch("target")))
    first_of_each = got.index(0), got.index(10_000)
    assert max(first_of_each) < 1000, "one source was served to its end before the other"
    if not kind.is_compiled:
        assert max(first_of_each) == 1


async def test_more_sources_and_targets_than_the_first_tables_hold(runtime: RingKernelRuntime, kind: Kind) -> None:
    count = 20 if kind.name != "grid" else 8
    sources, targets = [f"s{i}" for i in range(count)], [f"t{i}" for i in range(count)]
    for name in ("hub", *sources, *targets):
        await runtime.launch(name, kind(add_one), queue_size=32)
    for name in sources:
        runtime.connect(name, "hub")
    for name in targets:
        runtime.connect("hub", name)
    await activate(runtime, "hub", *sources, *targets)
    for i, name in enumerate(sources):
        await runtime.send(name, 100 * i)
    wanted = sorted(100 * i + 3 for i in range(count))
    for name in targets:
        assert sorted(await receive_all(runtime, name, count)) == wanted
    assert runtime.statistics("hub").emitted == count


async def test_a_diamond_gives_both_sides_to_the_sink(runtime: RingKernelRuntime, kind: Kind) -> None:
    for name, kernel in [("top", add_one), ("left", add_one), ("right", drops_thirds), ("end", same)]:
        await runtime.launch(name, kind(kernel), queue_size=512)
    for source, target in [("top", "left"), ("top", "right"), ("left", "end"), ("right", "end")]:
        runtime.connect(source, target)
    await activate(runtime, "top", "left", "right", "end")
    await runtime.send_batch("top", range(300))
    values = range(1, 301)
    wanted = sorted([*(n + 1 for n in values), *(n for n in values if n % 3)])
    received: list[int] = []
    while len(received) < len(wanted):
        received.extend(await within(runtime.receive_batch("end")))
    assert sorted(received) == wanted


@ring_kernel("cn_halve", input_type=int, output_type=int)
def halve(msg: Any, out: Any) -> bool:
    out.value = msg.value // 2
    return msg.value > 0  # type: ignore[no-any-return]


async def test_a_cycle_runs_and_comes_to_rest(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    """Halving until nothing is left: a kernel that feeds itself."""
    await runtime.launch("loop", halve)
    runtime.connect("loop", "loop")
    await runtime.activate("loop")
    await runtime.send("loop", 1024)
    await eventually(lambda: runtime.statistics("loop").processed == 12)
    counts = check_books(runtime, "loop")
    assert (counts.accepted, counts.emitted, counts.dropped) == (12, 11, 1)


@pytest.mark.parametrize(("first", "second"), MIXED)
async def test_kinds_go_together_in_a_chain(runtime: RingKernelRuntime, first: str, second: str) -> None:
    one, other = Kind(first), Kind(second)
    await start_chain(runtime, queue_size=4, a=one(add_one), b=other(add_one), c=one(add_one))
    sending = asyncio.create_task(runtime.send_batch("a", range(200)))
    received = await receive_all(runtime, "c", 200)
    assert received == list(range(3, 203))
    await within(sending)
    for name in "abc":
        assert check_books(runtime, name).processed == 200


async def test_records_arrive_in_a_coroutine_kernel_as_records_and_scalars_as_scalars(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    seen: list[Any] = []

    async def collects(ctx: KernelContext[Any, Any]) -> None:
        async for message in ctx:
            seen.append(message)

    @ring_kernel("cn_pair", input_type=int, output_type=PAIR)
    def to_pair(msg: Any, out: Any) -> None:
        out.a = msg.value
        out.b = -msg.value

    await start_chain(runtime, pairs=to_pair, records=collects)
    await runtime.send("pairs", 3)
    await eventually(lambda: seen)
    assert (seen[0].a, seen[0].b) == (3, -3)
    await start_chain(runtime, numbers=compiled_kind(same), scalars=collects)
    await runtime.send("numbers", 3)
    await eventually(lambda: len(seen) == 2)
    assert type(seen[1]) is int


@pytest.mark.parametrize("first", ["compiled", "coroutine"])
async def test_a_coroutine_kernel_feeds_both_kinds_at_once(
    runtime: RingKernelRuntime, compiled_kind: Kind, first: str
) -> None:
    coroutine = Kind("coroutine")
    await runtime.launch("source", coroutine(same))
    await runtime.launch("compiled", compiled_kind(add_one))
    await runtime.launch("coroutine", coroutine(same))
    for name in [first, *({"compiled", "coroutine"} - {first})]:
        runtime.connect("source", name)
    await activate(runtime, "compiled", "coroutine", "source")
    await runtime.send_batch("source", range(20))
    assert await receive_all(runtime, "compiled", 20) == list(range(1, 21))
    assert await receive_all(runtime, "coroutine", 20) == list(range(20))


# --- the host beside it -------------------------------------------------------------------------------------------


async def test_receive_on_a_connected_source_names_the_target(runtime: RingKernelRuntime, kind: Kind) -> None:
    kernel = await runtime.launch("source", kind(same))
    await runtime.launch("target", kind(same))
    waiting = [await in_line(kernel.output_queue, runtime.receive("source")) for _ in range(3)]
    runtime.connect("source", "target")
    for task in waiting:
        with pytest.raises(KernelStateError, match=r"'source'.*'target'"):
            await within(task)
    for attempt in (runtime.receive("source"), runtime.receive_batch("source"), anext(runtime.stream("source"))):
        with pytest.raises(KernelStateError, match=r"'source'.*'target'"):
            await within(attempt)
    with pytest.raises(KernelStateError, match=r"'source'.*'target'"):
        runtime.receive_nowait("source")


async def test_a_receive_that_waits_on_a_coroutine_is_told_when_a_compiled_target_comes(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    """The ring of objects is replaced by one of records."""
    kernel = await runtime.launch("source", Kind("coroutine")(same))
    await runtime.launch("target", compiled_kind(same))
    waiting = await in_line(kernel.output_queue, runtime.receive("source"))
    runtime.connect("source", "target")
    with pytest.raises(KernelStateError, match="'target'"):
        await within(waiting)


async def test_what_already_waits_goes_to_the_first_target_only(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "source", kind(add_one))
    await runtime.send_batch("source", range(5))
    await eventually(lambda: runtime.statistics("source").emitted == 5)
    assert await within(runtime.receive("source")) == 1
    await runtime.deactivate("source")
    for name in ("first", "second"):
        await runtime.launch(name, kind(add_one))
        runtime.connect("source", name)
    await activate(runtime, "first", "second")
    await runtime.reactivate("source")
    await runtime.send("source", 100)
    assert await receive_all(runtime, "first", 5) == [3, 4, 5, 6, 102]
    assert await receive_all(runtime, "second", 1) == [102]
    assert check_books(runtime, "first").accepted == 5
    assert check_books(runtime, "second").accepted == 1


async def test_a_coroutine_that_waits_already_hears_of_a_source_that_is_connected_later(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    kernel = await start(runtime, "target", Kind("coroutine")(same))
    engine: Any = kernel.engine
    await eventually(lambda: engine.source.line.waiters)
    await runtime.deactivate("target")
    await runtime.launch("source", kind(add_one))
    runtime.connect("source", "target")
    await runtime.reactivate("target")
    await runtime.activate("source")
    for i in range(3):
        await runtime.send("source", i)
        assert await within(runtime.receive("target")) == i + 1


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("active", ["source", "target"])
async def test_connect_is_refused_while_one_side_is_active(runtime: RingKernelRuntime, kind: Kind, active: str) -> None:
    for name in ("source", "target"):
        await runtime.launch(name, kind(same))
    await runtime.activate(active)
    with pytest.raises(KernelStateError, match=f"'{active}' is ACTIVE"):
        runtime.connect("source", "target")
    await runtime.deactivate(active)
    runtime.connect("source", "target")


@pytest.mark.parametrize("ended", ["source", "target"])
async def test_connect_is_refused_once_one_side_has_ended(runtime: RingKernelRuntime, kind: Kind, ended: str) -> None:
    for name in ("source", "target"):
        await runtime.launch(name, kind(same))
    await runtime.terminate(ended)
    with pytest.raises(KernelStateError, match=f"{ended}.*TERMINATED"):
        runtime.connect("source", "target")


async def test_the_same_connection_twice_is_refused(runtime: RingKernelRuntime, kind: Kind) -> None:
    await connect_chain(runtime, source=kind(add_one), target=kind(add_one))
    with pytest.raises(KernelStateError, match="already"):
        runtime.connect("source", "target")
    await activate(runtime, "source", "target")
    await runtime.send("source", 0)
    assert await receive_all(runtime, "target", 1) == [2]


async def test_types_that_do_not_match_are_refused_and_nothing_changes(
    runtime: RingKernelRuntime, typed_kind: Kind
) -> None:
    @ring_kernel("cn_floats", input_type=float, output_type=float)
    async def floats(ctx: KernelContext[float, float]) -> None:
        async for value in ctx:
            await ctx.send(value)

    await runtime.launch("source", typed_kind(same))
    await runtime.launch("floats", floats)
    with pytest.raises(MessageTypeError, match=r"'source'.*int64.*'floats'.*float64"):
        runtime.connect("source", "floats")
    await activate(runtime, "source", "floats")
    await runtime.send("source", 1)
    assert await within(runtime.receive("source")) == 1
    await runtime.send("floats", 1.5)
    assert await within(runtime.receive("floats")) == 1.5
    assert runtime.kernels["source"].targets == ()


async def test_a_compiled_kernel_without_output_is_no_source(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await runtime.launch("sink", compiled_kind(sink))
    await runtime.launch("target", compiled_kind(same))
    with pytest.raises(MessageTypeError, match="'sink'"):
        runtime.connect("sink", "target")


async def test_a_coroutine_source_that_has_emitted_objects_is_refused(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "source", Kind("coroutine")(same))
    await runtime.launch("target", compiled_kind(same))
    await runtime.send("source", "an object")
    await eventually(lambda: runtime.statistics("source").emitted == 1)
    await runtime.deactivate("source")
    with pytest.raises(KernelStateError, match="'source'"):
        runtime.connect("source", "target")
    assert await within(runtime.receive("source")) == "an object"


async def test_an_untyped_source_gets_the_type_of_its_target(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start_chain(runtime, source=Kind("coroutine")(same), target=typed_kind(same))
    await runtime.send("source", 7)
    assert await within(runtime.receive("target")) == 7
    await runtime.send("source", "seven")
    await within(runtime.wait("source"))
    assert isinstance(runtime.kernels["source"].error, MessageTypeError)
    assert runtime.get_state("target").value == "active"
    assert runtime.statistics("target").accepted == 1
