"""Kernels that run as one, seen from outside: nothing tells them from kernels that run one by one, but the time."""

from __future__ import annotations

import asyncio
import functools
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from fault_kernels import gated, worker_threads
from helpers import eventually, live_state, partial_of, within
from inside import chain_of, chains_that_can_be_one, commands_to, fuse, set_answer_timeout, word_of_block

from ringkernel import KernelFailedError, KernelState, KernelStateError, RingKernelRuntime, ring_kernel
from ringkernel.devices.cpu.executor import WorkerExecutor
from ringkernel.ring.turns.loop_turns import FEW

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.workers, pytest.mark.timeout(60)]

IDS = ["a", "b", "c"]
COUNT = np.dtype([("seen", "i8")])
BLOCK = np.dtype([("n", "i8"), ("x", "f8", (64,))])


@ring_kernel("plus_one", input_type=int, output_type=int)
def plus_one(msg: Any, out: Any) -> None:
    if msg.value == 1_013:
        raise ValueError("thirteen")
    out.value = msg.value + 1


@ring_kernel("keep_even", input_type=int, output_type=int, state=np.zeros((), COUNT))
def keep_even(msg: Any, out: Any, state: Any) -> bool:
    if msg.value == 2_014:
        raise ValueError("fourteen")
    state.seen += 1
    out.value = msg.value
    return bool(msg.value % 2 == 0)


@ring_kernel("number", input_type=int, output_type=int, state=np.zeros((), COUNT))
def number(msg: Any, out: Any, state: Any) -> None:
    if msg.value == 3_014:
        raise ValueError("fourteen, too")
    out.value = 10 * msg.value + state.seen % 10
    state.seen += 1


@ring_kernel("spread", input_type=int, output_type=BLOCK)
def spread(msg: Any, out: Any) -> None:
    out.n = msg.value
    for i in range(64):
        out.x[i] = msg.value + i


@ring_kernel("gather", input_type=BLOCK, output_type=int)
def gather(msg: Any, out: Any) -> None:
    if msg.n == 77:
        raise ValueError("a block")
    total = 0.0
    for i in range(64):
        total += msg.x[i]
    out.value = int(total)


@ring_kernel("endless", input_type=int, output_type=int)
def endless(msg: Any, out: Any) -> None:
    n = msg.value
    while n < 0:
        n -= 1
    out.value = n


HANDLERS: dict[str, Callable[..., Any]] = {"a": plus_one, "b": keep_even, "c": number}


def right(values: Any, seen: int = 0) -> list[int]:
    """What the three make of values, of which `number` has seen some before."""
    kept = [value + 1 for value in values if (value + 1) % 2 == 0]
    return [10 * value + (seen + i) % 10 for i, value in enumerate(kept)]


async def start(runtime: RingKernelRuntime, handlers: dict[str, Callable[..., Any]], queue_size: int = 64) -> None:
    for kernel_id, handler in handlers.items():
        await runtime.launch(kernel_id, handler, queue_size=queue_size)
    ids = list(handlers)
    for source, target in itertools.pairwise(ids):
        runtime.connect(source, target)
    for kernel_id in ids:
        await runtime.activate(kernel_id)


@pytest.fixture
async def chain(runtime: RingKernelRuntime) -> RingKernelRuntime:
    """Three kernels that run as one."""
    await start(runtime, HANDLERS)
    assert await fuse(runtime, *IDS)
    return runtime


async def send(runtime: RingKernelRuntime, values: Any, kernel_id: str = "a") -> None:
    await within(runtime.send_batch(kernel_id, np.asarray(values)), 5)


async def receive(runtime: RingKernelRuntime, count: int, kernel_id: str = "c") -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found.extend((await runtime.receive_batch(kernel_id, timeout=5)).tolist())
    return found


def is_fused(runtime: RingKernelRuntime) -> bool:
    return chain_of(runtime, "a") == IDS


def has_processed(runtime: RingKernelRuntime, kernel_id: str, count: int) -> bool:
    return runtime.statistics(kernel_id).processed == count


async def parted(runtime: RingKernelRuntime) -> None:
    await eventually(lambda: not any(chain_of(runtime, kernel_id) for kernel_id in IDS))


async def test_messages_pass_in_order_and_are_counted_stage_by_stage(chain: RingKernelRuntime) -> None:
    got = []
    for first in range(0, 1000, 50):
        await send(chain, range(first, first + 50))
        got += await receive(chain, 25)
    assert got == right(range(1000))
    assert is_fused(chain)
    a, b, c = (chain.statistics(kernel_id) for kernel_id in IDS)
    for one, accepted, emitted in ((a, 1000, 1000), (b, 1000, 500), (c, 500, 500)):
        assert (one.accepted, one.processed, one.failed, one.in_flight) == (accepted, accepted, 0, 0)
        assert (one.emitted, one.received, one.dropped) == (emitted, emitted, accepted - emitted)
        assert one.unprocessed == one.input_depth == one.output_depth == 0
        assert one.busy_s > 0
        assert one.turns > 0
        assert sum(count for _, count in one.histogram_ns) == accepted
    assert word_of_block(chain.kernels["b"], "turns") <= word_of_block(chain.kernels["a"], "turns")


async def test_states_are_read_while_they_run_as_one(chain: RingKernelRuntime) -> None:
    await send(chain, range(20))
    await receive(chain, 10)
    assert (await chain.read_state("b"))["seen"] == 20
    assert (await chain.read_state("c"))["seen"] == 10
    assert is_fused(chain)


async def test_a_map_passes_through_them_as_one(chain: RingKernelRuntime) -> None:
    values = [value for value in range(10_000) if value not in (1_013, 2_013, 3_013)]
    for i in range(3):
        result = await within(chain.map(("a", "c"), np.array(values)), 10)
        assert result.tolist() == right(values, seen=i * len(result))
        assert is_fused(chain)
    assert chain.statistics("b").processed == 3 * len(values)
    await send(chain, range(10))
    assert await receive(chain, 5) == right(range(10), seen=3 * len(result))


async def test_a_map_over_a_chain_that_rests_gives_no_command(chain: RingKernelRuntime) -> None:
    seen = 0

    async def gives_none(count: int) -> bool:
        """It does give some as long as the chain's worker is not through with laying it to rest."""
        nonlocal seen
        before = [commands_to(chain, kernel_id) for kernel_id in IDS]
        values = np.arange(count) * 10
        assert (await within(chain.map(("a", "c"), values), 10)).tolist() == right(values, seen)
        seen += len(right(values))
        return before == [commands_to(chain, kernel_id) for kernel_id in IDS]

    for count in (100, 5_000, 50_000):
        await eventually(functools.partial(gives_none, count))
    assert is_fused(chain)


@pytest.mark.parametrize("count", [900, 50_000])
async def test_a_map_over_a_chain_that_rests_fails_with_its_stage(runtime: RingKernelRuntime, count: int) -> None:
    await start(runtime, {"a": plus_one, "b": plus_one, "c": plus_one})
    assert await fuse(runtime, *IDS)
    await within(runtime.map(("a", "c"), np.arange(900)))
    values = np.arange(count) % 1_000
    values[count // 2] = 1_012
    with pytest.raises(KernelFailedError, match="thirteen") as failed:
        await within(runtime.map(("a", "c"), values), 10)
    assert partial_of(failed.value) == (values[: count // 2] + 3).tolist()
    assert runtime.get_state("b") is KernelState.TERMINATED
    assert [runtime.statistics(kernel_id).failed for kernel_id in IDS] == [0, 1, 0]


@pytest.mark.parametrize("kernel_id", IDS)
async def test_a_pause_takes_one_out_and_the_others_go_on(chain: RingKernelRuntime, kernel_id: str) -> None:
    await send(chain, range(20))
    await within(chain.deactivate(kernel_id), 2)
    assert not is_fused(chain)
    assert chain.get_state(kernel_id) is KernelState.DEACTIVATED
    await send(chain, range(20, 40))
    before = IDS[: IDS.index(kernel_id)]
    for other in before:
        await eventually(functools.partial(has_processed, chain, other, 40))
    assert chain.statistics(kernel_id).processed <= 20
    await chain.reactivate(kernel_id)
    assert await receive(chain, 20) == right(range(40))


@pytest.mark.parametrize("kernel_id", IDS)
async def test_an_end_drains_what_is_queued(chain: RingKernelRuntime, kernel_id: str) -> None:
    await send(chain, range(40))
    for other in IDS[: IDS.index(kernel_id)]:  # what comes after the command is left
        await eventually(functools.partial(has_processed, chain, other, 40))
    await within(chain.terminate(kernel_id), 3)
    assert not is_fused(chain)
    assert chain.get_state(kernel_id) is KernelState.TERMINATED
    assert chain.statistics(kernel_id).unprocessed == 0
    others = [one for one in IDS if one != kernel_id]
    assert all(chain.get_state(one) is KernelState.ACTIVE for one in others)


@pytest.mark.parametrize(("kernel_id", "poison"), [("a", 1_013), ("b", 2_013), ("c", 3_013)])
async def test_a_stage_that_fails_leaves_what_it_would_have_left_alone(
    chain: RingKernelRuntime, kernel_id: str, poison: int
) -> None:
    values = [*range(20), poison, *range(20, 40)]
    await send(chain, values)
    assert await within(chain.wait(kernel_id), 3) is KernelState.TERMINATED
    error = chain.kernels[kernel_id].error
    assert isinstance(error, ValueError)
    number = IDS.index(kernel_id)
    assert any(f"failed on message {poison + (number > 0)}" in note for note in error.__notes__)
    failed = chain.statistics(kernel_id)
    assert (failed.failed, failed.in_flight) == (1, 0)
    assert failed.accepted == failed.processed + 1 + failed.unprocessed
    for other in IDS[:number]:
        assert (chain.statistics(other).failed, chain.get_state(other)) == (0, KernelState.ACTIVE)
        await within(chain.terminate(other, timeout=0.2))
    left = chain.unprocessed(kernel_id).tolist()
    right_left = [[*range(20, 40)], [*range(21, 41)], [value + 1 for value in range(20, 40) if value % 2]][number]
    assert left == right_left[: len(left)]
    ends = [chain.statistics(one) for one in IDS[: number + 1]]
    assert sum(one.unprocessed + one.failed + one.dropped for one in ends) + ends[-1].emitted == len(values)
    assert all(one.accepted == one.processed + one.failed + one.unprocessed for one in ends)
    if number < 2:
        got = await receive(chain, 10)
    else:
        got = (await chain.receive_batch("c", timeout=5)).tolist()
        with pytest.raises(KernelFailedError):
            await chain.receive("c", timeout=5)
    assert got == right(range(20))


async def test_a_large_message_that_fails_is_shown_whole(runtime: RingKernelRuntime) -> None:
    await start(runtime, {"a": plus_one, "b": spread, "c": gather})
    assert await fuse(runtime, *IDS)
    await send(runtime, [1, 2])
    assert await receive(runtime, 2) == [64 * 2 + 2016, 64 * 3 + 2016]
    await send(runtime, [5, 76, 6])
    await within(runtime.wait("c"), 3)
    assert runtime.unprocessed("c")["n"].tolist() in ([], [7])
    assert "Record(n=77, x=array([ 77," in str(runtime.kernels["c"].error.__notes__).replace(".", "")  # type: ignore[union-attr]
    assert (await runtime.receive_batch("c")).tolist() == [64 * 6 + 2016]


@pytest.mark.parametrize("kernel_id", ["b", "c"])
async def test_what_the_host_sends_to_a_later_stage_takes_them_apart(chain: RingKernelRuntime, kernel_id: str) -> None:
    await chain.send(kernel_id, 6)
    assert await within(chain.receive("c"), 5) == 60
    await parted(chain)
    await send(chain, range(10))
    assert await receive(chain, 5) == right(range(10), seen=1)
    assert await fuse(chain, *IDS)
    await send(chain, range(10))
    assert await receive(chain, 5) == right(range(10), seen=6)


async def test_who_does_not_receive_gets_the_room_of_all_rings(chain: RingKernelRuntime) -> None:
    sent = 0
    values = np.arange(64)
    with pytest.raises(TimeoutError):
        while True:
            await chain.send_batch("a", values, timeout=1.0)
            sent += 64
    assert sent >= 3 * 64
    await parted(chain)


async def test_the_first_waits_for_input_and_the_last_for_room(
    chain: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringkernel.devices.compiled.fused_chain.HELD_UP_S", 600.0)
    counts = [chain.statistics(kernel_id) for kernel_id in IDS]
    starved = [seconds for one in counts for _, seconds in one.starved_by]
    await eventually(lambda: dict(chain.statistics("a").starved_by)["host"] > starved[0])
    for _ in range(3):
        await send(chain, range(64))  # half of them come out
    await eventually(lambda: dict(chain.statistics("c").blocked_by)["host"] > 0.001)
    assert is_fused(chain)
    counts = [chain.statistics(kernel_id) for kernel_id in IDS]
    assert [one.blocked_s for one in counts[:2]] == [0, 0]
    assert [seconds for one in counts[1:] for _, seconds in one.starved_by] == pytest.approx(starved[1:], rel=1e-3)
    before = counts[2].blocked_s
    await chain.deactivate("b")  # now each waits by itself
    assert chain.statistics("c").blocked_s >= before * 0.999
    await receive(chain, 32)
    await receive(chain, 32)


async def test_messages_on_their_way_are_through_first(runtime: RingKernelRuntime) -> None:
    await start(runtime, HANDLERS)
    for first in range(0, 200, 20):
        sending = asyncio.ensure_future(send(runtime, range(first, first + 20)))
        assert await fuse(runtime, *IDS) or not chain_of(runtime, "a")
        await sending
        await runtime.deactivate("b")
        await runtime.reactivate("b")
    assert await receive(runtime, 100) == right(range(200))


async def test_a_handler_that_does_not_return_takes_the_chain_with_it(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where it was fused all the same: what may take for ever is left alone."""
    set_answer_timeout(monkeypatch, 0.2)
    threads = worker_threads()
    await start(runtime, {"a": gated, "b": gated, "c": HANDLERS["c"]})
    gates = [live_state(runtime, one) for one in ("a", "b")]
    assert not await fuse(runtime, *IDS)
    monkeypatch.setattr(WorkerExecutor, "is_bounded", True)
    assert await fuse(runtime, *IDS)
    values = [3, -5] * FEW
    await send(runtime, values)  # more than an event loop runs itself before it knows what they cost
    await eventually(lambda: runtime.statistics("a").in_flight > 0)
    with pytest.raises(KernelStateError):
        await within(runtime.deactivate("c"), 3)
    await within(runtime.terminate("c", timeout=0.1), 3)
    assert all(runtime.get_state(one) is KernelState.TERMINATED for one in IDS)
    assert all("abandoned" in str(runtime.kernels[one].error) for one in IDS)
    a = runtime.statistics("a")
    assert (a.accepted, a.in_flight + a.processed + a.unprocessed) == (len(values), len(values))
    assert a.in_flight >= 1
    for gate in gates:
        gate["open"] = 1
    await eventually(lambda: worker_threads() == threads)


async def test_a_busy_chain_becomes_one_by_itself(runtime: RingKernelRuntime) -> None:
    await start(runtime, HANDLERS, queue_size=4096)

    async def feed() -> None:
        while not is_fused(runtime):
            await runtime.send_batch("a", np.zeros(512, np.int64))

    async def drain() -> None:
        while True:
            await runtime.receive_batch("c")

    draining = asyncio.ensure_future(drain())
    await within(feed(), 30)
    draining.cancel()
    assert runtime.statistics("b").failed == 0


@pytest.mark.parametrize("kernel_id", IDS)
async def test_while_one_of_them_rests_the_others_do_not_become_a_shorter_one(
    runtime: RingKernelRuntime, kernel_id: str
) -> None:
    """As for a moment at the beginning of a map."""
    await start(runtime, HANDLERS)
    assert chains_that_can_be_one(runtime) == [IDS]
    await runtime.deactivate(kernel_id)
    assert chains_that_can_be_one(runtime) == []
    await runtime.reactivate(kernel_id)
    assert chains_that_can_be_one(runtime) == [IDS]


async def test_commands_while_much_goes_through_lose_nothing(runtime: RingKernelRuntime) -> None:
    await start(runtime, HANDLERS)
    values, got = list(range(1_000)), list[int]()

    async def feed() -> None:
        for first in range(0, len(values), 30):
            await runtime.send_batch("a", np.array(values[first : first + 30]))

    async def disturb() -> None:
        for i in range(30):
            await fuse(runtime, *IDS)
            await asyncio.sleep(0)
            await runtime.deactivate(IDS[i % 3])
            await runtime.reactivate(IDS[i % 3])

    async def drain() -> None:
        while len(got) < len(right(values)):
            got.extend((await runtime.receive_batch("c", timeout=5)).tolist())

    await within(asyncio.gather(feed(), disturb(), drain()), 30)
    assert got == right(values)


@ring_kernel("halves", input_type=int, output_type=int, batch=True)
def halves(msgs: Any, outs: Any) -> None:
    for i in range(len(msgs)):
        outs[i].value = msgs[i].value // 2


@ring_kernel("fused_steps", input_type=int, output_type=int)
def steps(msg: Any, out: Any) -> None:
    for _ in range(msg.value):
        out.value += 1


@pytest.mark.parametrize("handler", [halves, endless, steps])
async def test_what_takes_batches_or_may_never_end_stays_alone(runtime: RingKernelRuntime, handler: Any) -> None:
    await start(runtime, {"a": plus_one, "b": handler, "c": plus_one, "d": plus_one})
    assert not await fuse(runtime, "a", "b")
    assert not await fuse(runtime, "b", "c")
    assert await fuse(runtime, "c", "d")
    await send(runtime, [3, 5])
    assert len(await receive(runtime, 2, "d")) == 2
    assert chain_of(runtime, "c") == ["c", "d"]


async def test_kernels_with_other_readers_or_sources_stay_apart(runtime: RingKernelRuntime) -> None:
    for kernel_id in ("a", "other", "b", "reader"):
        await runtime.launch(kernel_id, plus_one)
    for pair in (("a", "b"), ("other", "b")):
        runtime.connect(*pair)
    for kernel_id in ("a", "other", "b", "reader"):
        await runtime.activate(kernel_id)
    assert not await fuse(runtime, "a", "b")  # two sources
    await runtime.terminate("other")
    assert await fuse(runtime, "a", "b")
    await runtime.deactivate("a")
    await runtime.deactivate("reader")
    runtime.connect("a", "reader")
    await runtime.reactivate("a")
    await runtime.reactivate("reader")
    assert not await fuse(runtime, "a", "b")  # two readers


async def test_a_runtime_that_is_told_so_keeps_them_apart() -> None:
    async with RingKernelRuntime(workers=1, fuse=False) as runtime:
        await start(runtime, HANDLERS, queue_size=4096)
        for _ in range(50):
            await send(runtime, np.zeros(2_000, np.int64))
            await asyncio.sleep(0)
        await eventually(lambda: runtime.statistics("c").unprocessed == 0)
        assert not chain_of(runtime, "a")
