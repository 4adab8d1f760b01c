"""`map`: a whole array through one kernel or a chain, undisturbed, disturbed, and cut short."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import os
import sys
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, live_state, turns, within

from ringkernel import (
    ConfigurationError,
    KernelFailedError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    message,
    ring_kernel,
)

if os.name != "posix":
    pytest.skip("the handlers that take their time call usleep", allow_module_level=True)

usleep = ctypes.CDLL(None).usleep
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int

PAIR = np.dtype([("a", "i4"), ("b", "f8")])


@message
class Point:
    x: float
    y: float


@ring_kernel(kernel_id="mp_twice", input_type=int, output_type=int)
def twice(msg, out):
    out.value = 2 * msg.value


@ring_kernel(kernel_id="mp_third", input_type=int, output_type=int)
def drop_thirds(msg, out):
    out.value = msg.value
    return msg.value % 3 != 0


@ring_kernel(kernel_id="mp_copies", input_type=int, output_type=int, batch=True, max_outputs=3)
def copies(msgs, outs):
    """`value % 4` copies of each, none to three."""
    n = 0
    for i in range(len(msgs)):
        for _ in range(msgs[i].value % 4):
            outs[n].value = msgs[i].value
            n += 1
    return n


@ring_kernel(kernel_id="mp_sum", input_type=int, state=np.zeros(2, np.int64))
def add_up(msg, state):
    state[0] += 1
    state[1] += msg.value


@ring_kernel(kernel_id="mp_running", input_type=float, output_type=float, state=np.zeros(1))
def running(msg, out, state):
    state[0] += msg.value
    out.value = state[0]


@ring_kernel(kernel_id="mp_split", input_type=PAIR, output_type=PAIR)
def swap_signs(msg, out):
    out.a = -msg.a
    out.b = -msg.b


@ring_kernel(kernel_id="mp_norm", input_type=Point, output_type=Point)
def mirror(msg, out):
    out.x = msg.y
    out.y = msg.x


@ring_kernel(kernel_id="mp_slow", input_type=int, output_type=int)
def slow(msg, out):
    usleep(1_000)
    out.value = msg.value


@ring_kernel(kernel_id="mp_fails", input_type=int, output_type=int)
def fail_at_hundred(msg, out):
    if msg.value == 100:
        raise ValueError("a hundred")
    out.value = msg.value
    return msg.value % 2 == 0


GATE = np.dtype([("open", "i8"), ("entered", "i8")])


@ring_kernel(kernel_id="mp_gate", input_type=int, output_type=int, state=np.zeros((), GATE))
def gated(msg, out, state):
    """Stands still until the test opens it."""
    state.entered += 1
    while state.open == 0:
        usleep(100)
    out.value = msg.value


def gate_of(runtime: RingKernelRuntime, kernel_id: str) -> Any:
    """The live state of a gated kernel: the test writes to it while the handler stands in it."""
    return live_state(runtime, kernel_id)


async def start(runtime: RingKernelRuntime, *kernels: tuple[str, Any], queue_size: int = 1024) -> None:
    """Launch, connect in a row, and activate."""
    for name, func in kernels:
        await runtime.launch(name, func, queue_size=queue_size)
    for (source, _), (target, _) in itertools.pairwise(kernels):
        runtime.connect(source, target)
    for name, _ in kernels:
        await runtime.activate(name)


@pytest.fixture
async def runtime(loop_errors):
    """As the shared one, but a runtime that cannot be closed fails the test and not the whole run."""
    entered = RingKernelRuntime(workers=1)
    await entered.__aenter__()
    yield entered
    closing = asyncio.create_task(entered.close())
    await asyncio.wait({closing}, timeout=10)
    assert closing.done(), {name: kernel.state.name for name, kernel in entered.kernels.items()}
    await closing


# --- undisturbed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 1023, 1024, 1025, 100_000])
async def test_a_map_is_the_function_over_the_array(runtime, length):
    await start(runtime, ("k", twice))
    values = np.arange(length)
    got = await within(runtime.map("k", values))
    np.testing.assert_array_equal(got, 2 * values)
    np.testing.assert_array_equal(values, np.arange(length))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.emitted, counts.received) == (length,) * 4


async def test_a_map_keeps_what_the_kernel_keeps(runtime):
    await start(runtime, ("k", drop_thirds))
    values = np.random.default_rng(1).integers(0, 1000, 50_000)
    got = await within(runtime.map("k", values))
    np.testing.assert_array_equal(got, values[values % 3 != 0])
    assert check_books(runtime, "k").dropped == (values % 3 == 0).sum()


@pytest.mark.parametrize("length", [1, 3, 5, 1000, 4097])
async def test_a_map_multiplies_what_the_kernel_multiplies(runtime, length):
    await start(runtime, ("k", copies))
    values = np.random.default_rng(length).integers(0, 1000, length)
    np.testing.assert_array_equal(await within(runtime.map("k", values)), np.repeat(values, values % 4))


@pytest.mark.parametrize("queue_size", [4, 16, 4096])
async def test_a_map_over_a_chain_that_drops_and_multiplies(runtime, queue_size):
    await start(
        runtime,
        ("a", drop_thirds),
        ("b", copies),
        ("c", twice),
        ("d", copies),
        ("e", drop_thirds),
        queue_size=queue_size,
    )
    values = np.random.default_rng(7).integers(0, 1000, 2000)
    wanted = values[values % 3 != 0]
    wanted = 2 * np.repeat(wanted, wanted % 4)
    wanted = np.repeat(wanted, wanted % 4)
    wanted = wanted[wanted % 3 != 0]
    assert len(wanted) > 100
    for _ in range(3):
        np.testing.assert_array_equal(await within(runtime.map(("a", "e"), values)), wanted)
    for name in "abcde":
        assert check_books(runtime, name).unprocessed == 0


async def test_a_map_of_nothing_is_an_empty_array_of_the_output_type(runtime):
    await start(runtime, ("a", twice), ("b", twice))
    await start(runtime, ("pair", swap_signs))
    got = await within(runtime.map(("a", "b"), np.zeros(0, np.int64)))
    assert got.dtype == np.int64
    assert len(got) == 0
    assert (await within(runtime.map("pair", []))).dtype.names == ("a", "b")


async def test_a_map_where_everything_is_dropped_is_an_empty_array(runtime):
    await start(runtime, ("k", drop_thirds))
    got = await within(runtime.map("k", np.full(1000, 3)))
    assert got.dtype == np.int64
    assert len(got) == 0


async def test_a_map_into_a_sink_is_none(runtime):
    await start(runtime, ("k", add_up))
    await start(runtime, ("a", twice), ("b", add_up))
    assert await within(runtime.map("k", np.arange(10_000))) is None
    assert (await runtime.read_state("k")).tolist() == [10_000, 49_995_000]
    assert await within(runtime.map(("a", "b"), np.arange(10_000))) is None
    assert (await runtime.read_state("b")).tolist() == [10_000, 99_990_000]
    assert await within(runtime.map("k", np.zeros(0, np.int64))) is None


async def test_a_map_takes_sequences_of_messages(runtime):
    await start(runtime, ("points", mirror))
    await start(runtime, ("pairs", swap_signs))
    await start(runtime, ("numbers", twice))
    got = await within(runtime.map("points", [Point(i, -i) for i in range(5)]))
    assert got["x"].tolist() == [0, -1, -2, -3, -4]
    got = await within(runtime.map("pairs", [(1, 2.0), (3, 4.0)]))
    assert got.tolist() == [(-1, -2.0), (-3, -4.0)]
    assert (await within(runtime.map("numbers", range(5)))).tolist() == [0, 2, 4, 6, 8]
    assert (await within(runtime.map("numbers", np.arange(5, dtype=np.int8)))).tolist() == [0, 2, 4, 6, 8]


async def test_a_map_reads_arrays_as_they_come(runtime):
    """Unaligned records, strides, read-only memory, an odd address."""
    packed = np.zeros(500, np.dtype([("a", "i4"), ("b", "f8")]))
    packed["a"], packed["b"] = np.arange(500), np.arange(500) / 2
    await start(runtime, ("pairs", swap_signs))
    await start(runtime, ("numbers", twice))
    got = await within(runtime.map("pairs", packed))
    np.testing.assert_array_equal(got["a"], -np.arange(500))
    np.testing.assert_array_equal(got["b"], -np.arange(500) / 2)
    np.testing.assert_array_equal(await within(runtime.map("numbers", np.arange(500)[::-3])), 2 * np.arange(500)[::-3])
    frozen = np.frombuffer(b"x" + np.arange(500).tobytes(), np.int64, offset=1)
    assert not frozen.flags.aligned
    assert not frozen.flags.writeable
    np.testing.assert_array_equal(await within(runtime.map("numbers", frozen)), 2 * np.arange(500))


async def test_state_goes_on_from_map_to_map_and_from_message_to_message(runtime):
    await start(runtime, ("k", running))
    assert (await within(runtime.map("k", np.ones(1000))))[-1] == 1000
    await runtime.send("k", 1.0)
    assert await within(runtime.receive("k")) == 1001
    assert (await within(runtime.map("k", np.ones(10))))[-1] == 1011


async def test_results_stay_what_they_are_after_later_maps(runtime):
    """Their memory is pooled: it must not be used again while anything still refers to it."""
    await start(runtime, ("k", twice))
    rng = np.random.default_rng(3)
    kept: list[tuple[Any, Any]] = []
    for i in range(24):
        values = rng.integers(0, 1000, int(rng.integers(900, 1100)))
        got = await within(runtime.map("k", values))
        wanted = 2 * values
        if i % 3 == 0:
            got, wanted = got[10:20], wanted[10:20]  # only a view is left of it
        elif i % 3 == 1:
            got, wanted = got.view(np.uint8).reshape(-1, 8)[5:], wanted.view(np.uint8).reshape(-1, 8)[5:]
        if i % 4:
            kept.append((got, wanted.copy()))
        del got
    for got, wanted in kept:
        np.testing.assert_array_equal(got, wanted)


async def test_results_outlive_the_runtime(loop_errors):
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, ("k", twice))
        first = await within(runtime.map("k", np.arange(10_000)))
        for _ in range(3):
            await within(runtime.map("k", np.zeros(10_000, np.int64)))
    del runtime
    gc.collect()
    np.testing.assert_array_equal(first, 2 * np.arange(10_000))


async def test_a_map_does_not_keep_its_arrays_for_ever(runtime):
    await start(runtime, ("k", twice))
    chunks = runtime.kernels["k"].engine.arena.chunks
    await within(runtime.map("k", np.arange(1000)))
    before = len(chunks)
    for _ in range(20):
        await within(runtime.map("k", np.arange(1000)))
    assert len(chunks) == before


async def test_progress_draws_and_changes_nothing(runtime, capsys):
    pytest.importorskip("rich")
    await start(runtime, ("a", drop_thirds), ("b", twice))
    got = await within(runtime.map(("a", "b"), np.arange(3000), progress=True))
    values = np.arange(3000)
    np.testing.assert_array_equal(got, 2 * values[values % 3 != 0])


async def test_progress_without_rich_says_what_to_install(runtime, monkeypatch):
    await start(runtime, ("k", twice))
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with pytest.raises(ConfigurationError, match="rich"):
        await within(runtime.map("k", np.arange(10), progress=True))
    assert (await within(runtime.map("k", np.arange(3)))).tolist() == [0, 2, 4]


async def test_maps_over_two_kernels_run_side_by_side(runtime):
    await start(runtime, ("a", slow))
    await start(runtime, ("b", slow))
    one, two = await within(asyncio.gather(runtime.map("a", np.arange(50)), runtime.map("b", np.arange(50, 100))))
    np.testing.assert_array_equal(one, np.arange(50))
    np.testing.assert_array_equal(two, np.arange(50, 100))


async def test_a_map_through_coroutine_kernels(runtime):
    async def text(ctx):
        async for number in ctx:
            if number % 2:
                await ctx.send(f"n{number}")

    await start(runtime, ("a", twice), ("b", twice))
    await runtime.launch("c", text)
    await runtime.deactivate("b")
    runtime.connect("b", "c")
    await runtime.reactivate("b")
    await runtime.activate("c")
    got = await within(runtime.map(("a", "c"), np.arange(300)))
    assert got == []
    await runtime.launch("d", text)
    await runtime.activate("d")
    assert await within(runtime.map("d", range(6))) == ["n1", "n3", "n5"]
    assert await within(runtime.map("d", [])) == []


# --- refused -----------------------------------------------------------------------------------------------------


async def test_a_map_is_refused_unless_all_are_active(runtime):
    await start(runtime, ("a", twice), ("b", twice))
    await runtime.deactivate("b")
    with pytest.raises(KernelStateError, match="'b' is DEACTIVATED"):
        await runtime.map(("a", "b"), np.arange(5))
    await runtime.reactivate("b")
    assert (await within(runtime.map(("a", "b"), np.arange(2)))).tolist() == [0, 4]
    await runtime.terminate("a")
    with pytest.raises(KernelStateError, match="'a' is TERMINATED"):
        await runtime.map(("a", "b"), np.arange(5))


async def test_a_map_is_refused_while_outputs_wait(runtime):
    await start(runtime, ("k", twice))
    await runtime.send("k", 1)
    await eventually(lambda: runtime.statistics("k").emitted == 1)
    with pytest.raises(KernelStateError, match="'k'"):
        await runtime.map("k", np.arange(5))
    assert await within(runtime.receive("k")) == 2
    assert (await within(runtime.map("k", np.arange(2)))).tolist() == [0, 2]


async def test_a_map_is_refused_while_inputs_wait(runtime):
    await start(runtime, ("k", gated))
    await runtime.send_batch("k", [1, 2])
    await eventually(lambda: gate_of(runtime, "k")["entered"] == 1)
    with pytest.raises(KernelStateError, match="'k'"):
        await runtime.map("k", np.arange(5))
    gate_of(runtime, "k")["open"] = 1
    assert await within(runtime.receive("k")) == 1
    assert await within(runtime.receive("k")) == 2


async def test_a_map_is_refused_where_its_outputs_go_elsewhere_or_come_from_its_own_branches(runtime):
    await start(runtime, ("a", twice), ("b", twice), ("d", twice))
    await runtime.launch("c", twice)
    for name in ("a", "d"):
        await runtime.deactivate(name)
    runtime.connect("a", "c")
    runtime.connect("c", "d")
    for name in ("a", "d"):
        await runtime.reactivate(name)
    await runtime.activate("c")
    with pytest.raises(KernelStateError, match="'b'"):
        await runtime.map("a", np.arange(5))
    with pytest.raises(KernelStateError, match="'c', too, which the path itself feeds"):
        await runtime.map(("a", "d"), np.arange(5))
    assert runtime.statistics("a").accepted == 0


async def test_a_map_over_kernels_that_are_not_connected_is_refused(runtime):
    await start(runtime, ("a", twice))
    await start(runtime, ("b", twice))
    with pytest.raises(KernelStateError, match="connect"):
        await runtime.map(("a", "b"), np.arange(5))
    with pytest.raises(KernelNotFoundError):
        await runtime.map(("a", "nobody"), np.arange(5))


@pytest.mark.parametrize("chain", [("a", "b", "c"), ["a", "c"], ["a", "b", "c"], ("a",), ()])
async def test_a_chain_that_is_no_pair_is_refused(runtime, chain):
    await start(runtime, ("a", twice), ("b", twice), ("c", twice))
    with pytest.raises(ConfigurationError, match=r"as in \('(a', '[ac]|first', 'last)'\); got"):
        await runtime.map(chain, np.arange(5))
    assert runtime.statistics("a").accepted == 0


@ring_kernel("mp_fails_at_two", input_type=int, output_type=int)
def fails_at_two(msg, out):
    if msg.value == 2:
        raise ValueError("two")
    out.value = msg.value


@ring_kernel("mp_same", input_type=int, output_type=int)
def same(msg, out):
    out.value = msg.value


@ring_kernel("mp_relay", input_type=int, output_type=int)
async def relay(ctx):
    async for value in ctx:
        await ctx.send(value)


@ring_kernel("mp_relay_fails_at_two", input_type=int, output_type=int)
async def relay_fails_at_two(ctx):
    async for value in ctx:
        if value == 2:
            raise ValueError("two")
        await ctx.send(value)


@pytest.mark.parametrize("names", ["f", "fs", "sf", "fr", "rf", "F", "Fs", "sF", "rF"])
@pytest.mark.parametrize("before", [0, 1, 5000])
async def test_a_map_fails_with_its_last_message(runtime, names, before):
    kinds = {"f": fails_at_two, "F": relay_fails_at_two, "s": same, "r": relay}
    await start(runtime, *((name, kinds[name]) for name in names))
    with pytest.raises(KernelFailedError, match="two") as caught:
        await within(runtime.map((names[0], names[-1]), [1] * before + [2]))
    last = names[-1]
    await eventually(lambda: runtime.statistics(last).input_depth == runtime.statistics(last).in_flight == 0)
    assert caught.value.partial.tolist() + drain(runtime, last) == [1] * before
    counts = runtime.statistics("f" if "f" in names else "F")
    assert (counts.processed, counts.failed, counts.unprocessed) == (before, 1, 0)


async def test_a_map_over_a_kernel_that_has_failed_says_why(runtime):
    @ring_kernel("mp_failed", input_type=int, output_type=int)
    def fails(msg, out):
        raise ValueError("no such luck")

    await start(runtime, ("a", fails))
    await runtime.send("a", 1)
    await within(runtime.wait("a"))
    with pytest.raises(KernelFailedError, match="no such luck") as caught:
        await runtime.map("a", np.arange(5))
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("wrong", ["text", 5, None, np.arange(5.0), np.zeros((2, 2), int), [1, 2.5], np.int64(3)])
async def test_what_is_no_batch_of_messages_is_refused(runtime, wrong):
    await start(runtime, ("k", twice))
    with pytest.raises(MessageTypeError):
        await within(runtime.map("k", wrong))
    assert (await within(runtime.map("k", np.arange(2)))).tolist() == [0, 2]


# --- disturbed ---------------------------------------------------------------------------------------------------


async def test_a_map_is_paused_and_resumed(runtime):
    await start(runtime, ("a", twice), ("b", slow))
    mapping = asyncio.create_task(runtime.map(("a", "b"), np.arange(200)))
    for _ in range(3):
        taken = runtime.statistics("b").processed
        await eventually(lambda taken=taken: runtime.statistics("b").processed > taken)
        await runtime.deactivate("b")
        frozen = runtime.statistics("b").processed
        await runtime.deactivate("a")
        assert runtime.get_state("b") is KernelState.DEACTIVATED
        await turns(50)
        assert runtime.statistics("b").processed == frozen
        assert not mapping.done()
        await runtime.reactivate("b")
        await runtime.reactivate("a")
    np.testing.assert_array_equal(await within(mapping), 2 * np.arange(200))
    assert check_books(runtime, "b").processed == 200


async def test_a_map_ends_while_its_kernel_is_paused(runtime):
    """The last message may be done before the pause is: the kernel then stays paused, and its own queue is back."""
    await start(runtime, ("k", gated))
    mapping = asyncio.create_task(runtime.map("k", np.arange(1)))
    await eventually(lambda: gate_of(runtime, "k")["entered"] == 1)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    gate_of(runtime, "k")["open"] = 1
    await within(pausing)
    assert (await within(mapping)).tolist() == [0]
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    await runtime.send("k", 7)
    await turns(50)
    assert runtime.statistics("k").processed == 1
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 7


async def test_a_cancelled_map_leaves_the_kernel_as_it_was(runtime):
    await start(runtime, ("k", slow))
    mapping = asyncio.create_task(runtime.map("k", np.arange(100_000)))
    await eventually(lambda: runtime.statistics("k").processed > 5)
    sending = asyncio.create_task(runtime.send_batch("k", np.arange(1000, 1010)))  # waits until the map is over
    await turns()
    assert not sending.done()
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await within(mapping)
    await within(sending)
    taken = runtime.statistics("k").accepted - 10
    assert taken < 1000
    np.testing.assert_array_equal(caught.value.partial, np.arange(taken))
    assert [await within(runtime.receive("k")) for _ in range(10)] == list(range(1000, 1010))
    await eventually(lambda: runtime.statistics("k").processed == taken + 10)
    check_books(runtime, "k")
    np.testing.assert_array_equal(await within(runtime.map("k", np.arange(5))), np.arange(5))


async def test_a_map_is_cancelled_while_the_kernel_is_paused(runtime):
    await start(runtime, ("k", slow))
    mapping = asyncio.create_task(runtime.map("k", np.arange(100_000)))
    await eventually(lambda: runtime.statistics("k").processed > 5)
    await runtime.deactivate("k")
    sending = asyncio.create_task(runtime.send("k", 77))
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(mapping)
    await within(sending)
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 77


async def test_a_map_is_cancelled_at_every_early_moment(runtime):
    """Before, during and after the array is put in place; whatever happens, the kernel is back afterwards."""
    await start(runtime, ("a", twice), ("b", twice))
    for count in range(40):
        mapping = asyncio.create_task(runtime.map(("a", "b"), np.arange(2000)))
        await turns(count)
        mapping.cancel()
        try:
            got = await within(mapping)
        except asyncio.CancelledError:
            pass
        else:
            np.testing.assert_array_equal(got, 4 * np.arange(2000))
        # what had passed the first kernel may still come out of the second
        await eventually(lambda: runtime.statistics("b").processed == runtime.statistics("a").emitted)
        drain(runtime, "b")
        np.testing.assert_array_equal(await within(runtime.map(("a", "b"), np.arange(3))), [0, 4, 8])


async def test_messages_sent_during_a_map_are_kept_apart_from_it(runtime):
    """They may go first or last, or the map may be refused, but they neither change its result nor get lost."""
    await start(runtime, ("a", drop_thirds), ("b", copies))
    values = np.arange(1, 20_000)
    wanted = values[values % 3 != 0]
    wanted = np.repeat(wanted, wanted % 4)
    done = 0
    for count in range(30):
        mapping = asyncio.create_task(runtime.map(("a", "b"), values))
        await turns(count)
        await runtime.send("a", 1_000_003)
        try:
            got = await within(mapping)
        except KernelStateError as error:
            assert not isinstance(error, KernelFailedError)
        else:
            np.testing.assert_array_equal(got, wanted)
            done += 1
        assert [await within(runtime.receive("b")) for _ in range(3)] == [1_000_003] * 3
    assert done > 0


async def test_a_short_map_among_many_messages_stays_within_its_result(runtime):
    """The result of a map has room for what its own messages can give, and for nothing else."""
    await start(runtime, ("a", twice), ("b", copies), queue_size=256)
    for count in range(30):
        mapping = asyncio.create_task(runtime.map(("a", "b"), np.array([1])))
        await turns(count)
        await runtime.send_batch("a", np.full(200, 500_001))
        try:
            np.testing.assert_array_equal(await within(mapping), [2, 2])
        except KernelStateError as error:
            assert not isinstance(error, KernelFailedError)
        got: list[int] = []
        while len(got) < 400:
            got.extend((await within(runtime.receive_batch("b"))).tolist())
        assert got == [1_000_002] * 400


async def test_a_failing_handler_leaves_what_had_come_out_on_the_exception(runtime):
    await start(runtime, ("k", fail_at_hundred))
    with pytest.raises(KernelFailedError, match="'k'") as caught:
        await within(runtime.map("k", np.arange(1000)))
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.partial.tolist() == list(range(0, 100, 2))
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.emitted) == (100, 1, 50)
    assert runtime.get_state("k") is KernelState.TERMINATED
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")


async def test_a_failure_at_the_end_of_a_chain(runtime):
    await start(runtime, ("a", twice), ("b", fail_at_hundred), queue_size=16)
    with pytest.raises(KernelFailedError, match="'b'") as caught:
        await within(runtime.map(("a", "b"), np.arange(1000)))
    assert caught.value.partial.tolist() == list(range(0, 100, 2))
    assert runtime.get_state("a") is KernelState.ACTIVE
    assert runtime.unprocessed("b").tolist()[:1] == [102]
    counts = check_books(runtime, "a")
    assert counts.emitted == check_books(runtime, "b").accepted


async def test_a_failure_at_the_start_of_a_chain(runtime):
    """What had passed the first kernel comes out: in the partial result, or afterwards."""
    await start(runtime, ("a", fail_at_hundred), ("b", twice), queue_size=16)
    with pytest.raises(KernelFailedError, match="'a'") as caught:
        await within(runtime.map(("a", "b"), np.arange(1000)))
    await eventually(lambda: runtime.statistics("b").processed == 50)
    assert caught.value.partial.tolist() + drain(runtime, "b") == list(range(0, 200, 4))
    assert runtime.get_state("b") is KernelState.ACTIVE


async def test_terminate_during_a_map_lets_it_finish(runtime):
    """What was queued may still be taken, and the array is queued."""
    await start(runtime, ("k", slow))
    mapping = asyncio.create_task(runtime.map("k", np.arange(100)))
    await eventually(lambda: runtime.statistics("k").processed > 5)
    await within(runtime.terminate("k"))
    try:
        np.testing.assert_array_equal(await within(mapping), np.arange(100))
    except KernelFailedError as error:
        np.testing.assert_array_equal(error.partial, np.arange(100))
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.state) == (100, KernelState.TERMINATED)
    assert runtime.kernels["k"].error is None


async def test_terminate_without_time_cuts_a_map_short(runtime):
    await start(runtime, ("k", slow))
    mapping = asyncio.create_task(runtime.map("k", np.arange(100_000)))
    await eventually(lambda: runtime.statistics("k").processed > 5)
    await within(runtime.terminate("k", timeout=0.02))
    with pytest.raises(KernelFailedError) as caught:
        await within(mapping)
    counts = check_books(runtime, "k")
    np.testing.assert_array_equal(caught.value.partial, np.arange(counts.processed))
    assert 5 < counts.processed < 10_000
    assert runtime.kernels["k"].error is None


async def test_a_map_is_cancelled_while_its_kernel_is_being_terminated(runtime, loop_errors):
    await start(runtime, ("k", slow))
    mapping = asyncio.create_task(runtime.map("k", np.arange(100_000)))
    await eventually(lambda: runtime.statistics("k").processed > 5)
    ending = asyncio.create_task(runtime.terminate("k", timeout=1.0))
    await turns()
    assert runtime.get_state("k") is KernelState.TERMINATING
    mapping.cancel()
    with pytest.raises((asyncio.CancelledError, KernelStateError)):
        await within(mapping)
    await within(ending)
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert runtime.kernels["k"].error is None
    check_books(runtime, "k")


async def test_terminate_at_every_early_moment_of_a_map(runtime, loop_errors):
    for count in range(0, 30, 2):
        await start(runtime, ("a", twice), ("b", twice))
        mapping = asyncio.create_task(runtime.map(("a", "b"), np.arange(5000)))
        await turns(count)
        await within(asyncio.gather(runtime.terminate("b", timeout=0.5), runtime.terminate("a", timeout=0.5)))
        try:
            got = await within(mapping)
        except KernelStateError as error:
            got = getattr(error, "partial", None)
        if got is not None:
            np.testing.assert_array_equal(got, 4 * np.arange(len(got)))
        for name in ("a", "b"):
            assert runtime.kernels[name].error is None
            check_books(runtime, name)
        for name in ("a", "b"):
            runtime.remove(name)


async def test_the_runtime_is_left_during_a_map(loop_errors):
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, ("k", slow))
        mapping = asyncio.create_task(runtime.map("k", np.arange(50)))
        await eventually(lambda: runtime.statistics("k").processed > 5)
    try:
        got = await within(mapping)
    except KernelFailedError as error:
        got = error.partial
    np.testing.assert_array_equal(got, np.arange(50))


async def test_a_map_over_a_handler_that_is_abandoned(runtime, caplog):
    """The thread may come back to the arrays long after the map has failed."""
    await start(runtime, ("k", gated))
    gate = gate_of(runtime, "k")
    mapping = asyncio.create_task(runtime.map("k", np.arange(10)))
    await eventually(lambda: gate["entered"] == 1)
    ending = asyncio.create_task(runtime.terminate("k", timeout=0.05))
    with pytest.raises(KernelFailedError) as caught:
        await within(mapping)
    await within(ending)
    assert len(caught.value.partial) == 0
    assert "abandoned" in str(runtime.kernels["k"].error)
    counts = runtime.statistics("k")
    assert (counts.processed, counts.in_flight) == (0, 1)
    await runtime.launch("next", twice)
    await runtime.activate("next")
    gate["open"] = 1
    for _ in range(10):
        np.testing.assert_array_equal(await within(runtime.map("next", np.arange(10))), 2 * np.arange(10))
    assert runtime.statistics("k").processed == 0
