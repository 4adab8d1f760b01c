"""Spans of chains that run as one, shared by several threads: they come to what one thread would have made of them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import check_books, start_chain, within
from inside import chain_of, chunks_by_helpers, fuse, set_cores

from ringkernel import KernelFailedError, KernelState, RingKernelRuntime, ring_kernel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.workers, pytest.mark.timeout(60)]

IDS = ["a", "b", "c"]
N = 400_000
LARGE = np.dtype([("value", "i8"), ("rest", "f8", (64,))])


@pytest.fixture
async def team(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RingKernelRuntime]:
    """A runtime of three workers, on three cores however many there are."""
    set_cores(monkeypatch, 3)
    async with RingKernelRuntime(workers=3) as runtime:
        yield runtime


@ring_kernel("sc_work", input_type=int, output_type=int)
def work(msg: Any, out: Any) -> None:
    x = msg.value
    for _ in range(20):
        x = x * 1103515245 + 12345 & 0xFFFFFFFF
    out.value = 2 * msg.value if x >= 0 else x


@ring_kernel("sc_refuses", input_type=int, output_type=int)
def refuses(msg: Any, out: Any) -> None:
    if msg.value < 0:
        raise ValueError("below zero")
    out.value = msg.value


@ring_kernel("sc_next", input_type=int, output_type=int)
def following(msg: Any, out: Any) -> None:
    out.value = msg.value + 1


@ring_kernel("sc_even", input_type=int, output_type=int)
def even(msg: Any, out: Any) -> bool:
    out.value = msg.value
    return bool(msg.value % 2 == 0)


@ring_kernel("sc_state", input_type=int, output_type=int, state=np.zeros(1, np.int64))
def number(msg: Any, out: Any, state: Any) -> None:
    out.value = msg.value
    state[0] += 1


@ring_kernel("sc_widen", input_type=int, output_type=LARGE)
def widen(msg: Any, out: Any) -> None:
    out.value = msg.value


@ring_kernel("sc_narrow", input_type=LARGE, output_type=int)
def narrow(msg: Any, out: Any) -> None:
    out.value = msg.value


async def one_of(runtime: RingKernelRuntime, **handlers: Any) -> None:
    """Start a chain that runs as one."""
    await start_chain(runtime, **handlers)
    assert await fuse(runtime, *handlers)


async def map_until_helped(runtime: RingKernelRuntime, messages: Any) -> Any:
    """The result of a map over the chain in which helpers have taken part."""
    deadline = time.monotonic() + 20
    while True:
        before = chunks_by_helpers(runtime)
        result = await within(runtime.map(("a", "c"), messages), 20)
        if chunks_by_helpers(runtime) > before:
            return result
        assert time.monotonic() < deadline, "nobody has helped"


async def test_outputs_are_in_order_and_each_stage_has_its_books(team: RingKernelRuntime) -> None:
    await one_of(team, a=following, b=work, c=following)
    result = await map_until_helped(team, np.arange(N))
    assert np.array_equal(result, 2 * (np.arange(N) + 1) + 1)
    assert chain_of(team, "a") == IDS
    counts = [check_books(team, kernel_id) for kernel_id in IDS]
    assert len({one.processed for one in counts}) == 1
    assert counts[0].processed % N == 0
    assert {(one.dropped, one.failed, one.emitted - one.processed) for one in counts} == {(0, 0, 0)}
    assert counts[1].busy_s > 0


async def test_batches_through_the_queues_are_shared_too(team: RingKernelRuntime) -> None:
    await start_chain(team, queue_size=1 << 19, a=following, b=work, c=following)
    assert await fuse(team, *IDS)
    deadline = time.monotonic() + 20
    while not chunks_by_helpers(team):
        await team.send_batch("a", np.arange(N))
        got: list[Any] = []
        while sum(map(len, got)) < N:
            got.append(await within(team.receive_batch("c")))
        assert np.array_equal(np.concatenate(got), 2 * (np.arange(N) + 1) + 1)
        assert time.monotonic() < deadline, "nobody has helped"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("failing", IDS)
async def test_the_first_fault_decides_and_what_came_later_was_never_taken(
    team: RingKernelRuntime, failing: str, seed: int
) -> None:
    handlers = {"a": work, "b": work, "c": work, failing: refuses}
    await one_of(team, **handlers)
    await map_until_helped(team, np.arange(N))
    before = {kernel_id: team.statistics(kernel_id) for kernel_id in IDS}
    bad = np.sort(np.random.default_rng(seed).choice(N, 5, replace=False))
    messages = np.arange(N)
    messages[bad] = -1
    with pytest.raises(KernelFailedError, match=f"'{failing}'") as caught:
        await within(team.map(("a", "c"), messages), 20)
    assert isinstance(caught.value.__cause__, ValueError)
    first = int(bad[0])
    assert np.array_equal(caught.value.partial, 4 * np.arange(first))
    assert team.get_state(failing) is KernelState.TERMINATED
    counts = check_books(team, failing)
    assert (counts.processed - before[failing].processed, counts.failed) == (first, 1)
    for later in IDS[IDS.index(failing) + 1 :]:
        assert team.statistics(later).processed - before[later].processed == first


async def test_pauses_of_any_stage_lose_nothing(team: RingKernelRuntime) -> None:
    await one_of(team, a=work, b=work, c=work)
    messages = np.arange(10 * N)
    mapping = asyncio.ensure_future(team.map(("a", "c"), messages))
    pauses = 0
    while not mapping.done():
        await asyncio.sleep(0.002)
        stage = IDS[pauses % 3]
        await within(team.deactivate(stage))
        before = team.statistics(stage).processed
        await asyncio.sleep(0.002)
        assert team.statistics(stage).processed == before
        await within(team.reactivate(stage))
        pauses += 1
        await fuse(team, *IDS)  # if it can be: not while the map has lent its rings
    assert np.array_equal(await mapping, 8 * messages)
    assert pauses
    assert {check_books(team, kernel_id).processed for kernel_id in IDS} == {len(messages)}


@pytest.mark.parametrize("stages", [(work, even), (work, number), (widen, narrow)], ids=["drops", "a state", "large"])
async def test_what_needs_one_thread_has_one(team: RingKernelRuntime, stages: tuple[Any, Any]) -> None:
    await one_of(team, a=work, b=stages[0], c=stages[1])
    for _ in range(3):
        before = chunks_by_helpers(team)
        result = await within(team.map(("a", "c"), np.arange(N)), 20)
        assert chain_of(team, "a") == IDS
        assert chunks_by_helpers(team) == before
    factor = 4 if stages[0] is work else 2
    assert np.array_equal(result, factor * np.arange(N))
