"""A span that several threads share comes to what one thread would have made of it: order, drops, faults, counts."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import check_books, eventually, start, within
from inside import chunks_by_helpers, is_helped, set_cores, set_hold, threads_left_to_a_handler, word_of_block

from ringkernel import ConfigurationError, KernelFailedError, KernelState, RingKernelRuntime, ring_kernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

N = 400_000
LONG = np.dtype([("value", "i8"), ("rounds", "i8")])


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: threads share them, then."""
    set_cores(monkeypatch, 3)


@pytest.fixture
async def team(three_cores: None) -> AsyncIterator[RingKernelRuntime]:
    """A runtime of three workers."""
    async with RingKernelRuntime(workers=3) as runtime:
        yield runtime


@ring_kernel("split_double", input_type=np.int64, output_type=np.int64)
def double(msg: Any, out: Any) -> None:
    x = msg.value
    for _ in range(20):
        x = x * 1103515245 + 12345 & 0xFFFFFFFF
    out.value = 2 * msg.value if x >= 0 else x


@ring_kernel("split_thirds", input_type=np.int64, output_type=np.int64)
def thirds(msg: Any, out: Any) -> bool:
    x = msg.value
    for _ in range(20):
        x = x * 1103515245 + 12345 & 0xFFFFFFFF
    out.value = msg.value
    return bool(msg.value % 3 == 0) and x >= 0


@ring_kernel("split_runs", input_type=np.int64, output_type=np.int64, batch=True, max_outputs=2)
def runs(msgs: Any, outs: Any) -> int:
    emitted = 0
    for i in range(len(msgs)):
        x = msgs[i].value
        for _ in range(20):
            x = x * 1103515245 + 12345 & 0xFFFFFFFF
        for _ in range(msgs[i].value % 3 if x >= 0 else 0):
            outs[emitted].value = msgs[i].value
            emitted += 1
    return emitted


@ring_kernel("split_refuses", input_type=np.int64, output_type=np.int64)
def refuses(msg: Any, out: Any) -> bool:
    x = msg.value
    for _ in range(20):
        x = x * 1103515245 + 12345 & 0xFFFFFFFF
    if msg.value < 0 and x >= 0:
        raise ValueError("below zero")
    out.value = msg.value
    return bool(msg.value % 2 == 0)


@ring_kernel("split_long", input_type=LONG, output_type=np.int64)
def long(msg: Any, out: Any) -> None:
    x = msg.value
    for _ in range(msg.rounds):
        x = x * 1103515245 + 12345 & 0xFFFFFFFF
    out.value = msg.value if x >= 0 else x


async def map_until_helped(runtime: RingKernelRuntime, kernel_id: str, messages: Any) -> Any:
    """The result of a map in which helpers have taken part."""
    deadline = time.monotonic() + 20
    while True:
        before = chunks_by_helpers(runtime)
        result = await within(runtime.map(kernel_id, messages), 20)
        if chunks_by_helpers(runtime) > before:
            return result
        assert time.monotonic() < deadline, "nobody has helped"


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        (double, 2 * np.arange(N)),
        (thirds, np.arange(0, N, 3)),
        (runs, np.repeat(np.arange(N), np.arange(N) % 3)),
    ],
)
async def test_outputs_are_in_order_whoever_has_computed_them(
    team: RingKernelRuntime, handler: Any, expected: Any
) -> None:
    await start(team, "k", handler)
    result = await map_until_helped(team, "k", np.arange(N))
    assert np.array_equal(result, expected)
    counts = check_books(team, "k")
    maps = counts.accepted // N
    assert counts.processed == maps * N
    assert counts.emitted == maps * len(expected)
    assert counts.dropped == (maps * (N - len(expected)) if handler is thirds else 0)


async def test_batches_through_the_queues_are_shared_too(team: RingKernelRuntime) -> None:
    await start(team, "k", double, queue_size=1 << 19)
    deadline = time.monotonic() + 20
    while not chunks_by_helpers(team):
        await team.send_batch("k", np.arange(N))
        got: list[Any] = []
        while sum(map(len, got)) < N:
            got.append(await within(team.receive_batch("k")))
        assert np.array_equal(np.concatenate(got), 2 * np.arange(N))
        assert time.monotonic() < deadline, "nobody has helped"
    check_books(team, "k")


@pytest.mark.parametrize("seed", range(4))
async def test_the_first_fault_decides_and_what_came_later_was_never_taken(team: RingKernelRuntime, seed: int) -> None:
    await start(team, "helped", refuses)
    await map_until_helped(team, "helped", np.arange(N))  # helpers are there
    await start(team, "k", refuses)
    bad = np.sort(np.random.default_rng(seed).choice(N, 5, replace=False))
    messages = np.arange(N)
    messages[bad] = -1
    with pytest.raises(KernelFailedError) as caught:
        await within(team.map("k", messages), 20)
    assert isinstance(caught.value.__cause__, ValueError)
    first = int(bad[0])
    assert np.array_equal(caught.value.partial, np.arange(0, first, 2))
    counts = check_books(team, "k")
    assert (counts.processed, counts.failed) == (first, 1)
    assert counts.emitted == (first + 1) // 2
    assert counts.dropped == first // 2


async def test_pauses_lose_nothing(team: RingKernelRuntime) -> None:
    await start(team, "k", double)
    messages = np.arange(20 * N)
    mapping = asyncio.ensure_future(team.map("k", messages))
    pauses = 0
    while not mapping.done():
        await asyncio.sleep(0.002)
        await within(team.deactivate("k"))
        before = team.statistics("k").processed
        await asyncio.sleep(0.002)
        assert team.statistics("k").processed == before
        await within(team.reactivate("k"))
        pauses += 1
    assert np.array_equal(await mapping, 2 * messages)
    assert pauses > 1
    assert check_books(team, "k").processed == len(messages)


async def test_messages_that_suddenly_take_long_delay_a_pause_by_a_few_of_them(team: RingKernelRuntime) -> None:
    await start(team, "k", long)
    messages = np.zeros(2 * N, LONG)
    messages["value"] = np.arange(len(messages))
    messages["rounds"][1000:] = 20
    await map_until_helped(team, "k", messages)
    messages["rounds"][N:] = 100_000  # 100 us each
    mapping = asyncio.ensure_future(team.map("k", messages))
    await eventually(lambda: team.statistics("k").processed % len(messages) >= N)
    begin = time.monotonic()
    await within(team.deactivate("k"))
    assert time.monotonic() - begin < 2  # 1024 of them take 0.1 s
    mapping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await mapping
    check_books(team, "k")


STUCK = 1 << 33
"""Rounds that take seconds."""


async def test_a_helper_that_does_not_return_is_given_up_with_the_kernel(
    team: RingKernelRuntime, caplog: pytest.LogCaptureFixture
) -> None:
    await start(team, "k", long)
    messages = np.zeros(N, LONG)
    messages["rounds"] = 20
    await map_until_helped(team, "k", messages)
    await start(team, "neighbour", double)
    messages["rounds"][N // 2 :: N // 16] = STUCK  # the leader and its helpers, each in one of them
    mapping = asyncio.ensure_future(team.map("k", messages))
    await eventually(lambda: is_helped(team), 60)  # as soon as the system runs its thread
    await asyncio.sleep(0.05)
    begin = time.monotonic()
    await within(team.terminate("k", timeout=0.1))
    assert time.monotonic() - begin < 1
    assert team.get_state("k") is KernelState.TERMINATED
    with pytest.raises(KernelFailedError, match="did not return from its handler"):
        await within(mapping)
    counts = check_books(team, "k")
    assert 0 < counts.in_flight < N
    await map_until_helped(team, "neighbour", np.arange(N))  # by threads that are new
    lost = threads_left_to_a_handler(team)
    assert lost
    await eventually(lambda: not any(thread.is_alive() for thread in lost), 60)  # late, but they leave
    late = check_books(team, "k")
    assert (late.processed, late.in_flight, late.emitted) == (counts.processed, counts.in_flight, counts.emitted)


async def test_kernels_of_a_helper_that_is_held_move_on(
    team: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_hold(monkeypatch, 0.01)
    await start(team, "k", long)
    messages = np.zeros(N, LONG)
    messages["rounds"] = 20
    await map_until_helped(team, "k", messages)
    for i in range(6):  # on all workers
        await start(team, f"n{i}", double)
        await team.send(f"n{i}", 1)
        assert await within(team.receive(f"n{i}")) == 2
    messages["rounds"][N // 2 :: N // 16] = STUCK >> 2
    mapping = asyncio.ensure_future(team.map("k", messages))
    await asyncio.sleep(0.05)
    for i in range(6):
        await team.send(f"n{i}", 2)
        assert await within(team.receive(f"n{i}")) == 4
    await within(team.terminate("k", timeout=0.0))
    with pytest.raises(KernelFailedError):
        await within(mapping)


# --- who may, and how many ----------------------------------------------------------------------------------------


async def test_as_many_threads_as_there_are_cores_or_as_were_asked_for(team: RingKernelRuntime) -> None:
    for asked, there in ((None, 3), (False, 1), (1, 1), (2, 2), (8, 3)):
        kernel = await team.launch(f"k{asked}", double, parallel=asked)
        assert word_of_block(kernel, "max_threads") == there


async def test_a_handler_with_a_state_or_one_that_prints_runs_in_order(team: RingKernelRuntime) -> None:
    @ring_kernel("split_state", input_type=np.int64, state=np.zeros(1, np.int64))
    def counts(msg: Any, state: Any) -> None:
        state[0] += 1

    @ring_kernel("split_print", input_type=np.int64)
    def prints(msg: Any) -> None:
        print(msg.value)  # noqa: T201

    for handler in (counts, prints):
        kernel = await team.launch(handler.__name__, handler)
        assert word_of_block(kernel, "max_threads") == 1
        with pytest.raises(ConfigurationError, match="parallel=2"):
            await team.launch("two", handler, parallel=2)


@pytest.mark.parametrize("given", [0, -1, True, 1.5, "all"])
def test_what_is_no_number_of_threads_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="parallel"):
        ring_kernel("split_bad", input_type=int, parallel=given)(lambda msg: None)


def test_parallel_is_refused_where_there_is_a_state_or_a_coroutine() -> None:
    with pytest.raises(ConfigurationError, match="has a state"):

        @ring_kernel("split_bad", input_type=int, state=np.zeros(1), parallel=2)
        def handler(msg: Any, state: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="needs a compiled kernel"):

        @ring_kernel("split_bad", parallel=2)
        async def coroutine(ctx: Any) -> None: ...


async def test_one_core_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cores(monkeypatch, 1)
    async with RingKernelRuntime() as runtime:
        kernel = await start(runtime, "k", double)
        assert word_of_block(kernel, "max_threads") == 1
        assert np.array_equal(await runtime.map("k", np.arange(N)), 2 * np.arange(N))
        assert not chunks_by_helpers(runtime)
