"""A keyed kernel whose messages several threads share comes to what one thread would have made of it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import check_books, eventually, start_chain, within
from inside import chunks_by_helpers, fuse, is_helped, set_cores, threads_left_to_a_handler, word_of_block

import ringkernel as rk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

N = 60_000
STATE = np.dtype([("sum", "i8"), ("n", "i8")])
OUT = np.dtype([("sum", "i8"), ("n", "i8"), ("number", "i8")])
KEYS = {
    "i1": np.arange(-100, 100),
    "u2": np.arange(0, 60000, 61),
    "i4": np.arange(-500, 500),
    "u8": np.arange(1000, dtype=np.uint64) + np.uint64(2**63),
    "i8": np.array([-0x2D358DCCAA6C78A5, *range(300)]),  # the first has a slot of its own
    "S3": np.array([f"{i:x}" for i in range(500)]),
    "S8": np.array([f"key{i:x}" for i in range(500)]),
    "S20": np.array([f"a rather long key {i % 100:02}"[-20 + i % 3 :] for i in range(300)]),
}


pytestmark = pytest.mark.workers


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cores(monkeypatch, 3)


@pytest.fixture
async def team(three_cores: None) -> AsyncIterator[rk.RingKernelRuntime]:
    async with rk.RingKernelRuntime(workers=3) as runtime:
        yield runtime


def messages_of(key: str, seed: int = 0) -> Any:
    """Messages, in which few keys have many and most have some."""
    random = np.random.default_rng(seed)
    messages = np.zeros(N, [("number", "i8"), ("symbol", key), ("x", "i4"), ("rounds", "i8")])
    choice = random.integers(0, len(KEYS[key]), N) * random.integers(0, 2, N)
    messages["symbol"], messages["x"] = KEYS[key][choice], random.integers(0, 1000, N)
    messages["number"], messages["rounds"] = np.arange(N), 100
    return messages


def summed(msg: Any, out: Any, state: Any) -> bool:
    x = np.int64(msg.x)
    for _ in range(msg.rounds):
        x = x * 1103515245 + 12345 & 0xFFFFFFFF
    state.n += 1
    state.sum += x
    if msg.x < 0:
        raise ValueError("below zero")
    out.sum = state.sum
    out.n = state.n
    out.number = msg.number
    return bool(state.n % 3 != 0)


async def start_twins(runtime: rk.RingKernelRuntime, key: str, **options: Any) -> Any:
    """Kernels "shared" and "alone", of the same handler."""
    messages = messages_of(key)
    declared = {"input_type": messages.dtype, "output_type": OUT, "state": np.zeros((), STATE), "key": "symbol"}
    for kernel_id, parallel in (("shared", None), ("alone", False)):
        rk.ring_kernel(kernel_id, parallel=parallel, **{**declared, **options})(_copy_of(summed, kernel_id))
        await runtime.launch(kernel_id)
        await runtime.activate(kernel_id)
    return messages


def _copy_of(handler: Any, name: str) -> Any:
    copy = type(handler)(handler.__code__, handler.__globals__, name)
    copy.__annotations__ = handler.__annotations__
    return copy


async def map_until_helped(runtime: rk.RingKernelRuntime, messages: Any) -> list[tuple[Any, Any]]:
    """What both have made of the same messages, sent again until helpers have taken part."""
    results: list[tuple[Any, Any]] = []
    deadline = time.monotonic() + 80
    while not results or not chunks_by_helpers(runtime):
        results.append((await runtime.map("shared", messages), await runtime.map("alone", messages)))
        assert time.monotonic() < deadline, "nobody has helped"
    return results


async def until_consumed(runtime: rk.RingKernelRuntime, kernel_id: str) -> None:
    await eventually(lambda: runtime.statistics(kernel_id).processed == runtime.statistics(kernel_id).accepted)


async def compare(runtime: rk.RingKernelRuntime) -> None:
    """The states of both, and what they have counted."""
    shared, alone = [await runtime.read_state(kernel_id) for kernel_id in ("shared", "alone")]
    assert np.array_equal(shared, alone)
    counts = [check_books(runtime, kernel_id) for kernel_id in ("shared", "alone")]
    for name in ("processed", "failed", "emitted", "dropped"):
        assert getattr(counts[0], name) == getattr(counts[1], name), name


@pytest.mark.sampled(3)
@pytest.mark.parametrize("key", KEYS)
async def test_it_comes_to_what_one_thread_makes_of_it(team: rk.RingKernelRuntime, key: str) -> None:
    messages = await start_twins(team, key)
    for shared, alone in await map_until_helped(team, messages):
        assert shared.tobytes() == alone.tobytes()
    await compare(team)


async def test_unordered_outputs_are_in_order_for_each_key(team: rk.RingKernelRuntime) -> None:
    messages = await start_twins(team, "i4", ordered=False)
    differ = False
    for shared, alone in await map_until_helped(team, messages):
        differ = differ or shared.tobytes() != alone.tobytes()
        symbols = messages["symbol"][shared["number"]]
        by_key = np.argsort(symbols, kind="stable")
        expected = np.argsort(messages["symbol"][alone["number"]], kind="stable")
        assert shared[by_key].tobytes() == alone[expected].tobytes()
    assert differ
    await compare(team)


async def test_queues_do_as_well_as_maps(team: rk.RingKernelRuntime) -> None:
    messages = await start_twins(team, "S8", queue_size=1 << 16)
    messages["rounds"] = 1000
    deadline = time.monotonic() + 80
    while not chunks_by_helpers(team):
        got = []
        for kernel_id in ("shared", "alone"):
            await team.send_batch(kernel_id, messages)
            await until_consumed(team, kernel_id)
            outputs = []
            while team.statistics(kernel_id).output_depth:
                outputs.append(await team.receive_batch(kernel_id))
            got.append(np.concatenate(outputs))
        assert got[0].tobytes() == got[1].tobytes()
        assert time.monotonic() < deadline, "nobody has helped"
    await compare(team)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ordered", [True, False])
async def test_after_a_failure_nobody_can_tell(team: rk.RingKernelRuntime, seed: int, ordered: bool) -> None:
    messages = await start_twins(team, "i8", ordered=ordered)
    await map_until_helped(team, messages[messages["symbol"] < 200])
    failing = messages.copy()
    bad = np.random.default_rng(seed).choice(N, 5, replace=False)
    failing["x"][bad] = -1
    partials = []
    for kernel_id in ("shared", "alone"):
        with pytest.raises(rk.KernelFailedError) as caught:
            await team.map(kernel_id, failing)
        assert isinstance(caught.value.__cause__, ValueError)
        partials.append(np.sort(caught.value.partial, order="number") if not ordered else caught.value.partial)
    assert partials[0].tobytes() == partials[1].tobytes()
    await compare(team)


async def test_a_full_table_fails_on_the_same_message(team: rk.RingKernelRuntime) -> None:
    messages = await start_twins(team, "i4", keys=200)
    known = messages[np.isin(messages["symbol"], KEYS["i4"][:200])]
    await map_until_helped(team, known)
    partials = []
    for kernel_id in ("shared", "alone"):
        with pytest.raises(rk.KernelFailedError, match="keys") as caught:
            await team.map(kernel_id, messages)
        partials.append(caught.value.partial)
    assert partials[0].tobytes() == partials[1].tobytes()
    await compare(team)


async def test_a_pause_waits_for_few_messages_that_suddenly_take_long(team: rk.RingKernelRuntime) -> None:
    messages = await start_twins(team, "i4")
    await map_until_helped(team, messages)
    messages["rounds"][N // 2 :] = 100_000  # 100 us each
    done = team.statistics("shared").processed
    mapping = asyncio.ensure_future(team.map("shared", messages))
    await eventually(lambda: team.statistics("shared").processed >= done + N // 4)
    await asyncio.sleep(0.05)
    begin = time.monotonic()
    await within(team.deactivate("shared"))
    assert time.monotonic() - begin < 5
    mapping.cancel()
    await asyncio.wait([mapping])
    taken = check_books(team, "shared").processed - done
    if taken < N // 2 + 2000:  # or else it would take long
        await team.map("alone", messages[:taken])
        shared, alone = [await team.read_state(kernel_id) for kernel_id in ("shared", "alone")]
        assert np.array_equal(shared, alone)


async def test_a_handler_that_does_not_return_is_given_up_with_the_kernel(team: rk.RingKernelRuntime) -> None:
    messages = await start_twins(team, "i4")
    await map_until_helped(team, messages)
    stuck = messages.copy()
    stuck["rounds"][::64] = 1 << 31  # seconds, in every shard: whoever takes one does not leave before the test looks
    mapping = asyncio.ensure_future(team.map("shared", stuck))
    await eventually(lambda: is_helped(team), 60)  # as soon as the system runs its thread
    await within(team.terminate("shared", timeout=0.1))
    with pytest.raises(rk.KernelFailedError, match="did not return from its handler"):
        await within(mapping)
    assert team.get_state("shared") is rk.KernelState.TERMINATED
    assert (await team.map("alone", messages[:1000])).size > 0
    lost = threads_left_to_a_handler(team)
    assert lost
    await eventually(lambda: not any(thread.is_alive() for thread in lost), 60)


async def test_each_input_is_shared(team: rk.RingKernelRuntime) -> None:
    other = np.dtype([("x", "f8"), ("symbol", "i4")])
    messages = messages_of("i4")
    others = np.zeros(N, other)
    others["symbol"], others["x"] = messages["symbol"][::-1], messages["x"]

    def declare(kernel_id: str, parallel: Any) -> None:
        rk.ring_kernel(
            kernel_id,
            input_type=messages.dtype,
            output_type=OUT,
            state=np.zeros((), STATE),
            key="symbol",
            parallel=parallel,
            queue_size=1 << 16,
        )(_copy_of(summed, kernel_id))

        @rk.on_input(kernel_id, "others", other)
        def counted(msg: Any, out: Any, state: Any) -> bool:
            x = np.int64(msg.x)
            for _ in range(1000):
                x = x * 1103515245 + 12345 & 0xFFFFFFFF
            state.sum -= x
            return False

    for kernel_id, parallel in (("shared", None), ("alone", False)):
        declare(kernel_id, parallel)
        await team.launch(kernel_id)
        await team.activate(kernel_id)
    deadline = time.monotonic() + 80
    while not chunks_by_helpers(team):
        for kernel_id in ("shared", "alone"):
            await team.send_batch(kernel_id, others, input="others")
            await until_consumed(team, kernel_id)
        assert time.monotonic() < deadline, "nobody has helped"
    await compare(team)


async def test_who_may_be_shared(team: rk.RingKernelRuntime) -> None:
    timed = np.dtype([("symbol", "i8"), ("time", "i8")])
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 3),
        ({"parallel": 2}, 2),
        ({"parallel": False}, 1),
        ({"order_by": "time"}, 1),
    ]
    for number, (options, threads) in enumerate(cases):

        @rk.ring_kernel(f"shared_{number}", input_type=timed, state=np.zeros(1), key="symbol", **options)
        def handler(msg: Any, state: Any) -> None:
            state[0] += 1

        assert word_of_block(await team.launch(f"shared_{number}"), "max_threads") == threads


async def test_random_numbers_are_not(team: rk.RingKernelRuntime) -> None:
    @rk.ring_kernel("shared_rng", input_type=np.dtype([("symbol", "i8")]), state=np.zeros(1), key="symbol", rng=1)
    def handler(msg: Any, state: Any, rng: Any) -> None:
        state[0] += rng.random()

    assert word_of_block(await team.launch("shared_rng"), "max_threads") == 1
    with pytest.raises(rk.ConfigurationError, match="random numbers"):
        await team.launch("two", handler, parallel=2)


async def test_one_stage_of_a_chain_is_not(team: rk.RingKernelRuntime) -> None:
    """What runs as one with others is run by one thread."""

    def first(msg: Any, out: Any, state: Any) -> None:
        x = np.int64(1)
        for _ in range(100):
            x = x * 1103515245 + 12345 & 0xFFFFFFFF
        state[0] += 1
        out.value = state[0] if x >= 0 else x

    def second(msg: Any, out: Any) -> None:
        out.value = msg.value

    keyed = np.dtype([("symbol", "i8")])
    rk.ring_kernel("a", input_type=keyed, output_type=np.int64, state=np.zeros(1, np.int64), key="symbol")(first)
    rk.ring_kernel("b", input_type=np.int64, output_type=np.int64)(second)
    await start_chain(team, a=first, b=second)
    assert await fuse(team, "a", "b")
    messages = np.zeros(N, keyed)
    messages["symbol"] = np.arange(N) % 6
    for round_ in range(5):
        got = await team.map(("a", "b"), messages)
        assert np.array_equal(got, np.arange(N) // 6 + 1 + round_ * (N // 6))
    assert not chunks_by_helpers(team)
