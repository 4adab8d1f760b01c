"""A map returns the outputs of its own inputs, in order, as its own array; it is refused where it could mix with other
messages."""

from __future__ import annotations

import asyncio
import gc
import io
import sys
from typing import Any

import numpy as np
import pytest
from helpers import activate, check_books, eventually, receive_all, start, start_chain, turns, within
from inside import arena_of
from kinds import Kind, add_one, copies, drops_thirds, gated, same, slow

from ringkernel import (
    ConfigurationError,
    KernelContext,
    KernelNotFoundError,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    message,
    ring_kernel,
)

PAIR = np.dtype([("a", "i4"), ("b", "f8")], align=True)


@message
class Point:
    x: float
    y: float


@ring_kernel("mp_running", input_type=float, output_type=float, state=np.zeros(1))
def running(msg: Any, out: Any, state: Any) -> None:
    state[0] += msg.value
    out.value = state[0]


@ring_kernel("mp_sum", input_type=int, state=np.zeros(2, np.int64))
def add_up(msg: Any, state: Any) -> None:
    state[0] += 1
    state[1] += msg.value


@ring_kernel("mp_signs", input_type=PAIR, output_type=PAIR)
def swap_signs(msg: Any, out: Any) -> None:
    out.a = -msg.a
    out.b = -msg.b


@ring_kernel("mp_mirror", input_type=Point, output_type=Point)
def mirror(msg: Any, out: Any) -> None:
    out.x = msg.y
    out.y = msg.x


# --- results ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 1023, 1024, 1025])
async def test_a_map_is_the_function_over_the_array(runtime: RingKernelRuntime, kind: Kind, length: int) -> None:
    await start(runtime, "k", kind(add_one), queue_size=1024)
    values = np.arange(length)
    assert list(await within(runtime.map("k", values))) == list(range(1, length + 1))
    np.testing.assert_array_equal(values, np.arange(length))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.emitted, counts.received) == (length,) * 4
    await runtime.send("k", 1)
    assert await within(runtime.receive("k")) == 2


async def test_a_long_map_is_an_array(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(add_one))
    got = await within(runtime.map("k", np.arange(100_000)))
    np.testing.assert_array_equal(got, np.arange(1, 100_001))


async def test_a_map_keeps_what_the_kernel_keeps(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(drops_thirds), queue_size=16)
    values = np.random.default_rng(1).integers(0, 1000, 5_000)
    assert list(await within(runtime.map("k", values))) == values[values % 3 != 0].tolist()
    counts = check_books(runtime, "k")
    assert counts.processed - counts.emitted == (values % 3 == 0).sum()
    assert len(await within(runtime.map("k", [3] * 1000))) == 0


@pytest.mark.parametrize("length", [1, 3, 5, 1000, 4097])
async def test_a_map_multiplies_what_the_kernel_multiplies(runtime: RingKernelRuntime, length: int) -> None:
    await start(runtime, "k", copies)
    values = np.random.default_rng(length).integers(0, 1000, length)
    np.testing.assert_array_equal(await within(runtime.map("k", values)), np.repeat(values, values % 4))


@pytest.mark.parametrize("queue_size", [4, 16, 4096])
async def test_a_map_over_a_chain_that_drops_and_multiplies(
    runtime: RingKernelRuntime, compiled_kind: Kind, queue_size: int
) -> None:
    drops, adds = compiled_kind(drops_thirds), compiled_kind(add_one)
    await start_chain(runtime, queue_size=queue_size, a=drops, b=copies, c=adds, d=copies, e=drops)
    values = np.random.default_rng(7).integers(0, 1000, 2000)
    wanted = values[values % 3 != 0]
    wanted = np.repeat(wanted, wanted % 4) + 1
    wanted = np.repeat(wanted, wanted % 4)
    wanted = wanted[wanted % 3 != 0]
    assert len(wanted) > 100
    for _ in range(3):
        np.testing.assert_array_equal(await within(runtime.map(("a", "e"), values)), wanted)
    for name in "abcde":
        assert check_books(runtime, name).unprocessed == 0


async def test_a_map_over_a_chain_with_small_queues(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=4, a=kind(add_one), b=kind(drops_thirds), c=kind(add_one))
    for _ in range(3):
        result = await within(runtime.map(("a", "c"), list(range(300))))
        assert list(result) == [n + 2 for n in range(300) if (n + 1) % 3]
    with pytest.raises(KernelStateError, match=r"'a'.*'b'|whole chain"):
        await runtime.map("a", [1])
    if kind.is_compiled:  # what 'a' feeds to it waits meanwhile
        assert list(await within(runtime.map(("b", "c"), [1]))) == [2]
    else:
        with pytest.raises(KernelStateError, match="fed by 'a'"):
            await runtime.map(("b", "c"), [1])
    with pytest.raises(KernelStateError, match="no connection leads from"):
        await runtime.map(("c", "a"), [1])


@pytest.mark.parametrize(("first", "second"), [("coroutine", "cpu"), ("cpu", "coroutine"), ("cpu", "typed_coroutine")])
async def test_a_map_over_a_chain_of_both_kinds(runtime: RingKernelRuntime, first: str, second: str) -> None:
    one, other = Kind(first), Kind(second)
    await start_chain(runtime, queue_size=8, a=one(add_one), b=other(drops_thirds), c=one(add_one))
    result = await within(runtime.map(("a", "c"), np.arange(500)))
    assert list(result) == [n + 2 for n in range(500) if (n + 1) % 3]


async def test_a_map_of_nothing_is_empty_and_of_the_output_type(runtime: RingKernelRuntime, typed_kind: Kind) -> None:
    await start_chain(runtime, a=typed_kind(same), b=typed_kind(same))
    await start(runtime, "pair", swap_signs)
    got = await within(runtime.map(("a", "b"), np.zeros(0, np.int64)))
    assert got.dtype == np.int64
    assert len(got) == 0
    assert (await within(runtime.map("pair", []))).dtype.names == ("a", "b")
    await start(runtime, "untyped", Kind("coroutine")(same))
    assert await within(runtime.map("untyped", [])) == []


async def test_a_map_into_a_sink_is_none(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", add_up)
    await start_chain(runtime, a=compiled_kind(add_one), b=add_up)
    assert await within(runtime.map("k", np.arange(10_000))) is None
    assert (await runtime.read_state("k")).tolist() == [10_000, 49_995_000]
    assert await within(runtime.map(("a", "b"), np.arange(10_000))) is None
    assert (await runtime.read_state("b")).tolist() == [10_000, 50_005_000]
    assert await within(runtime.map("k", np.zeros(0, np.int64))) is None


async def test_a_map_waits_for_the_last_message_to_be_handled(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(slow))
    assert list(await within(runtime.map("k", list(range(10))))) == list(range(10))
    assert check_books(runtime, "k").processed == 10


async def test_state_goes_on_from_map_to_map_and_from_message_to_message(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", running)
    assert (await within(runtime.map("k", np.ones(1000))))[-1] == 1000
    await runtime.send("k", 1.0)
    assert await within(runtime.receive("k")) == 1001
    assert (await within(runtime.map("k", np.ones(10))))[-1] == 1011


async def test_maps_over_two_kernels_run_side_by_side(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "a", kind(slow))
    await start(runtime, "b", kind(slow))
    one, two = await within(
        asyncio.gather(runtime.map("a", list(range(50))), runtime.map("b", list(range(50, 100))))
    )  # fmt: skip
    assert (list(one), list(two)) == (list(range(50)), list(range(50, 100)))


async def test_a_coroutine_may_handle_messages_in_pairs(runtime: RingKernelRuntime) -> None:
    async def pairs(ctx: KernelContext[Any, Any]) -> None:
        while True:
            await ctx.send((await ctx.receive(), await ctx.receive()))

    await start(runtime, "k", pairs, queue_size=2)
    assert await within(runtime.map("k", list(range(20)))) == [(n, n + 1) for n in range(0, 20, 2)]


# --- arrays in and out --------------------------------------------------------------------------------------------


async def test_a_map_takes_sequences_of_messages(runtime: RingKernelRuntime) -> None:
    await start(runtime, "points", mirror)
    await start(runtime, "pairs", swap_signs)
    await start(runtime, "numbers", add_one.handler)
    got = await within(runtime.map("points", [Point(i, -i) for i in range(5)]))
    assert got["x"].tolist() == [0, -1, -2, -3, -4]
    got = await within(runtime.map("pairs", [(1, 2.0), (3, 4.0)]))
    assert got.tolist() == [(-1, -2.0), (-3, -4.0)]
    assert (await within(runtime.map("numbers", range(5)))).tolist() == [1, 2, 3, 4, 5]
    assert (await within(runtime.map("numbers", np.arange(5, dtype=np.int8)))).tolist() == [1, 2, 3, 4, 5]


async def test_a_map_reads_arrays_as_they_come(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    """Unaligned records, strides, read-only memory, an odd address."""
    packed = np.zeros(500, np.dtype([("a", "i4"), ("b", "f8")]))
    packed["a"], packed["b"] = np.arange(500), np.arange(500) / 2
    await start(runtime, "pairs", swap_signs)
    await start(runtime, "numbers", compiled_kind(add_one))
    got = await within(runtime.map("pairs", packed))
    np.testing.assert_array_equal(got["a"], -np.arange(500))
    np.testing.assert_array_equal(got["b"], -np.arange(500) / 2)
    strided = np.arange(500)[::-3]
    np.testing.assert_array_equal(await within(runtime.map("numbers", strided)), strided + 1)
    frozen = np.frombuffer(b"x" + np.arange(500).tobytes(), np.int64, offset=1)
    assert not frozen.flags.aligned
    assert not frozen.flags.writeable
    np.testing.assert_array_equal(await within(runtime.map("numbers", frozen)), np.arange(1, 501))


async def test_results_stay_what_they_are_after_later_maps(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    """Their memory is pooled: it must not be used again while anything still refers to it."""
    await start(runtime, "k", compiled_kind(add_one))
    rng = np.random.default_rng(3)
    kept: list[tuple[Any, Any]] = []
    for i in range(24):
        values = rng.integers(0, 1000, int(rng.integers(900, 1100)))
        got: Any = await within(runtime.map("k", values))
        wanted: Any = values + 1
        if i % 3 == 0:
            got, wanted = got[10:20], wanted[10:20]  # only a view is left of it
        elif i % 3 == 1:
            got, wanted = got.view(np.uint8).reshape(-1, 8)[5:], wanted.view(np.uint8).reshape(-1, 8)[5:]
        if i % 4:
            kept.append((got, wanted.copy()))
        del got
    for got, wanted in kept:
        np.testing.assert_array_equal(got, wanted)


async def test_results_outlive_the_runtime(compiled_kind: Kind, loop_errors: list[object]) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, "k", compiled_kind(add_one))
        first = await within(runtime.map("k", np.arange(10_000)))
        for _ in range(3):
            await within(runtime.map("k", np.zeros(10_000, np.int64)))
    del runtime
    gc.collect()
    np.testing.assert_array_equal(first, np.arange(1, 10_001))


async def test_a_map_does_not_keep_its_arrays_for_ever(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(add_one))
    await within(runtime.map("k", np.arange(1000)))
    before = len(arena_of(runtime).chunks)
    for _ in range(20):
        await within(runtime.map("k", np.arange(1000)))
    assert len(arena_of(runtime).chunks) == before


# --- progress -----------------------------------------------------------------------------------------------------


async def test_progress_draws_and_changes_nothing(
    runtime: RingKernelRuntime, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    await start_chain(runtime, a=kind(drops_thirds), b=kind(add_one))
    got = await within(runtime.map(("a", "b"), list(range(3000)), progress=True))
    assert list(got) == [n + 1 for n in range(3000) if n % 3]
    assert "map a → b" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


async def test_progress_without_rich_says_what_to_install(
    runtime: RingKernelRuntime, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(runtime, "k", kind(add_one))
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ConfigurationError, match="rich"):
        await within(runtime.map("k", list(range(10)), progress=True))
    assert list(await within(runtime.map("k", list(range(3))))) == [1, 2, 3]


# --- refused ------------------------------------------------------------------------------------------------------


async def test_a_map_is_refused_unless_all_are_active(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same))
    with pytest.raises(KernelStateError, match="'k' is LAUNCHED"):
        await runtime.map("k", [1])
    await start_chain(runtime, a=kind(same), b=kind(same))
    await runtime.deactivate("b")
    with pytest.raises(KernelStateError, match="'b' is DEACTIVATED"):
        await runtime.map(("a", "b"), [1])
    await runtime.reactivate("b")
    assert list(await within(runtime.map(("a", "b"), [1, 2]))) == [1, 2]
    await runtime.terminate("a")
    with pytest.raises(KernelStateError, match="'a' is TERMINATED"):
        await runtime.map(("a", "b"), [1])


async def test_a_map_is_refused_while_outputs_wait(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(same))
    await runtime.send("k", 1)
    await eventually(lambda: runtime.statistics("k").emitted == 1)
    with pytest.raises(KernelStateError, match="outputs of kernel 'k'"):
        await runtime.map("k", [2])
    assert await within(runtime.receive("k")) == 1
    assert list(await within(runtime.map("k", [2]))) == [2]


async def test_a_map_is_refused_while_inputs_wait(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    await runtime.send_batch("k", [-1, -2])
    await eventually(lambda: gate.entered)
    with pytest.raises(KernelStateError, match="'k'"):
        await runtime.map("k", np.arange(5))
    gate.open()
    assert await receive_all(runtime, "k", 2) == [-1, -2]


async def test_a_map_is_refused_while_a_coroutine_has_a_message_in_hand(runtime: RingKernelRuntime) -> None:
    """Whether that comes to an output is known only when it is done: the map waits for it, and is then refused."""
    kind = Kind("coroutine")
    await start(runtime, "k", kind(gated))
    await runtime.send("k", -1)
    await eventually(lambda: kind.gate(runtime, "k").entered)
    mapping = asyncio.create_task(runtime.map("k", [1]))
    await turns()
    kind.gate(runtime, "k").open()
    with pytest.raises(KernelStateError, match="'k'"):
        pytest.fail(f"mapped [1] to {await within(mapping)}")
    assert await within(runtime.receive("k")) == -1


async def test_a_map_is_refused_where_its_outputs_go_elsewhere_or_come_from_its_own_branches(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    for name in "abcd":
        await runtime.launch(name, kind(same))
    for source, target in ("ab", "bd", "ac", "cd"):
        runtime.connect(source, target)
    await activate(runtime, *"abcd")
    with pytest.raises(KernelStateError, match="'b'"):
        await runtime.map("a", [1])
    with pytest.raises(KernelStateError, match=r"'c', too, which the path .* send_batch\(\) to 'a' .* outputs of 'd'"):
        await runtime.map(("a", "d"), [1])
    assert runtime.statistics("a").accepted == 0


async def test_a_map_over_kernels_that_are_not_connected_is_refused(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "a", kind(same))
    await start(runtime, "b", kind(same))
    with pytest.raises(KernelStateError, match="connect"):
        await runtime.map(("a", "b"), [1])
    with pytest.raises(KernelNotFoundError):
        await runtime.map(("a", "nobody"), [1])


@pytest.mark.parametrize("chain", [("a", "b", "c"), ["a", "c"], ["a", "b", "c"], ("a",), ()])
async def test_a_chain_that_is_no_pair_is_refused(runtime: RingKernelRuntime, kind: Kind, chain: Any) -> None:
    await start_chain(runtime, a=kind(same), b=kind(same), c=kind(same))
    with pytest.raises(ConfigurationError, match=r"as in \('(a', '[ac]|first', 'last)'\); got"):
        await runtime.map(chain, [1])
    assert runtime.statistics("a").accepted == 0


@pytest.mark.parametrize("wrong", ["text", b"bytes", 5, None, iter([1])])
async def test_what_is_no_batch_is_refused(runtime: RingKernelRuntime, kind: Kind, wrong: Any) -> None:
    await start(runtime, "k", kind(same))
    with pytest.raises(MessageTypeError, match="sequence"):
        await within(runtime.map("k", wrong))
    assert list(await within(runtime.map("k", [0, 1]))) == [0, 1]


@pytest.mark.parametrize("wrong", [np.arange(5.0), np.zeros((2, 2), int), [1, 2.5], np.int64(3), ["x"]])
async def test_what_is_no_batch_of_its_type_is_refused(
    runtime: RingKernelRuntime, typed_kind: Kind, wrong: Any
) -> None:
    await start(runtime, "k", typed_kind(same))
    with pytest.raises(MessageTypeError):
        await within(runtime.map("k", wrong))
    assert list(await within(runtime.map("k", [0, 1]))) == [0, 1]
    assert check_books(runtime, "k").processed == 2
