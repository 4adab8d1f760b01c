"""Each launch starts from a fresh copy of the declared state; `read_state` is one moment's; what does not fit is
refused."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, eventually, receive_all, start, within
from kinds import Kind, same

from ringkernel import KernelStateError, MessageTypeError, RingKernelRuntime, message, ring_kernel
from ringkernel.declaration.decorator import find_declaration

PAIR = np.dtype([("a", "i8"), ("b", "i8")])


@message
class Mean:
    n: int = 0
    total: float = 0.0


@message
class Other:
    mean: float
    n: int


INITIAL = Mean(10, 5.0)
TABLE = np.ones((3, 2), np.float32)


@ring_kernel("st_mean", input_type=float, state=INITIAL)
def keep_mean(msg: Any, state: Any) -> None:
    state.n += 1
    state.total += msg.value


@ring_kernel("st_above", input_type=float, output_type=float, state=Mean())
def above_mean(msg: Any, out: Any, state: Any) -> bool:
    state.n += 1
    state.total += msg.value
    out.value = msg.value
    return msg.value >= state.total / state.n  # type: ignore[no-any-return]


@ring_kernel("st_twin", input_type=int, state=np.array((1, 2), PAIR))
def twins(msg: Any, state: Any) -> None:
    """Two fields that keep their distance between any two messages."""
    state.a += msg.value
    for _ in range(200):  # so that a reader has something to fall into
        state.b += 1
        state.b -= 1
    state.b += msg.value


@ring_kernel("st_table", input_type=int, output_type=float, state=TABLE)
def counted(msg: Any, out: Any, state: Any) -> None:
    state[msg.value, 1] += np.float32(1.0)
    out.value = state[msg.value, 1]


@ring_kernel("st_rows", input_type=int, state=np.zeros(4, PAIR))
def rows(msg: Any, state: Any) -> None:
    state[msg.value].a += 1


async def processed(runtime: RingKernelRuntime, kernel_id: str, count: int) -> None:
    await eventually(lambda: runtime.statistics(kernel_id).processed == count)


# --- what a state may be ------------------------------------------------------------------------------------------


async def test_state_may_be_a_message_instance(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", keep_mean)
    await runtime.send_batch("k", np.array([1.0, 2.0]))
    await processed(runtime, "k", 2)
    got = await runtime.read_state("k")
    assert got == Mean(12, 8.0)
    assert isinstance(got, Mean)


async def test_state_may_be_a_record(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", twins)
    await runtime.send("k", 5)
    await processed(runtime, "k", 1)
    got = await runtime.read_state("k")
    assert isinstance(got, np.record)
    assert got.item() == (6, 7)


async def test_state_may_be_an_array(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", counted)
    await runtime.send_batch("k", [0, 2, 2])
    assert await receive_all(runtime, "k", 3) == [2.0, 2.0, 3.0]
    state = await runtime.read_state("k")
    assert state.dtype == np.float32
    np.testing.assert_array_equal(state, [[1, 2], [1, 1], [1, 3]])


async def test_state_may_be_an_array_of_records(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", rows)
    await runtime.send_batch("k", np.array([1, 3, 3]))
    await processed(runtime, "k", 3)
    assert (await runtime.read_state("k"))["a"].tolist() == [0, 1, 0, 2]


def test_a_state_of_foreign_byte_order_is_turned_around() -> None:
    @ring_kernel("st_foreign", input_type=int, state=np.array([1, 2], ">i8"))
    def foreign(msg: Any, state: Any) -> None:
        state[0] += msg.value

    state = find_declaration("st_foreign", foreign).state
    assert state is not None
    assert (state.dtype.isnative, state.tolist()) == (True, [1, 2])


@pytest.mark.parametrize("wrong", [5, "x", [1, 2], {"a": 1}, np.array(3.0), np.array([object()])])
def test_what_is_no_state_is_refused_at_the_declaration(wrong: Any) -> None:
    with pytest.raises(MessageTypeError):

        @ring_kernel("st_bad", input_type=int, state=wrong)
        def bad(msg: Any, state: Any) -> None:
            pass


async def test_a_kernel_without_state_says_so(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(same))
    with pytest.raises(MessageTypeError, match="'k'"):
        await runtime.read_state("k")
    with pytest.raises(MessageTypeError, match="'k'"):
        await runtime.write_state("k", 1)


@ring_kernel("st_unchecked", input_type=int, output_type=float, state=np.arange(4.0), check=False)
def unchecked(msg: Any, out: Any, state: Any) -> None:
    out.value = state[msg.value]


async def test_a_handler_without_index_checks_computes_the_same(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", unchecked)
    await runtime.send_batch("k", [3, 0, 2])
    assert await receive_all(runtime, "k", 3) == [3.0, 0.0, 2.0]


# --- whose it is --------------------------------------------------------------------------------------------------


async def test_each_launch_starts_from_a_fresh_copy(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    for _ in range(2):
        await start(runtime, "mean", keep_mean)
        await start(runtime, "table", counted)
        await runtime.send("mean", 1.0)
        await runtime.send("table", 1)
        await processed(runtime, "mean", 1)
        assert await within(runtime.receive("table")) == 2.0
        assert await runtime.read_state("mean") == Mean(11, 6.0)
        for name in ("mean", "table"):
            await runtime.terminate(name)
            runtime.remove(name)
    assert Mean(10, 5.0) == INITIAL
    np.testing.assert_array_equal(TABLE, 1)


async def test_two_launches_of_one_function_do_not_share_state(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "one", keep_mean)
    await start(runtime, "two", keep_mean)
    await runtime.send("one", 1.0)
    await processed(runtime, "one", 1)
    assert await runtime.read_state("one") == Mean(11, 6.0)
    assert await runtime.read_state("two") == Mean(10, 5.0)


@pytest.mark.parametrize("queue_size", [1, 2, 1024])
async def test_state_goes_on_over_batches_of_random_sizes(
    runtime: RingKernelRuntime, compiled_kind: Kind, queue_size: int
) -> None:
    """A running mean that drops what is below it, against NumPy."""
    rng = np.random.default_rng(queue_size)
    await start(runtime, "k", above_mean, queue_size=queue_size)
    values = rng.normal(size=200 if queue_size < 8 else 20_000)
    means = np.cumsum(values) / np.arange(1, len(values) + 1)
    wanted = values[values >= means]

    async def feed() -> None:
        rest = values
        while len(rest):
            size = int(rng.integers(0, 3 * queue_size + 2))
            await runtime.send_batch("k", rest[:size])
            rest = rest[size:]

    feeding = asyncio.create_task(feed())
    got: list[float] = []
    while len(got) < len(wanted):
        most = int(rng.integers(1, 2 * queue_size + 2))
        batch = await within(runtime.receive_batch("k", most))
        assert 1 <= len(batch) <= most
        got.extend(batch)
    await within(feeding)
    await processed(runtime, "k", len(values))
    np.testing.assert_array_equal(got, wanted)
    assert check_books(runtime, "k").dropped == len(values) - len(wanted)


# --- reading and writing ------------------------------------------------------------------------------------------


async def test_state_reads_are_consistent_while_the_kernel_is_busy(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", twins, queue_size=1024)
    await runtime.deactivate("k")
    await runtime.write_state("k", (0, 0))
    await runtime.reactivate("k")

    async def feed() -> None:
        while True:
            await runtime.send_batch("k", np.ones(512, np.int64))

    seen: list[int] = []

    async def kernel_was_seen_at_work() -> bool:
        state = await within(runtime.read_state("k"))
        assert state.a == state.b
        seen.append(int(state.a))
        return len(set(seen)) > 3

    feeding = asyncio.create_task(feed())
    for _ in range(300):
        await kernel_was_seen_at_work()
        await asyncio.sleep(0)
    await eventually(kernel_was_seen_at_work)
    feeding.cancel()
    await asyncio.gather(feeding, return_exceptions=True)
    assert seen == sorted(seen)
    await eventually(lambda: check_books(runtime, "k").unprocessed == 0)
    state, counts = await runtime.read_state("k"), runtime.statistics("k")
    assert state.a == counts.processed == counts.accepted


async def test_what_was_read_is_a_copy(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await runtime.launch("k", counted)
    first = await runtime.read_state("k")
    first[:] = 99
    np.testing.assert_array_equal(await runtime.read_state("k"), 1)


async def test_state_is_written_while_the_kernel_is_at_rest_only(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await runtime.launch("k", keep_mean)
    await runtime.write_state("k", Mean(100, 1.0))
    await runtime.activate("k")
    await runtime.send("k", 1.0)
    await processed(runtime, "k", 1)
    assert await runtime.read_state("k") == Mean(101, 2.0)
    with pytest.raises(KernelStateError, match="ACTIVE"):
        await runtime.write_state("k", Mean(0, 0.0))
    await runtime.deactivate("k")
    await runtime.write_state("k", Mean(7, 7.0))
    await runtime.reactivate("k")
    await runtime.send("k", 1.0)
    await processed(runtime, "k", 2)
    assert await runtime.read_state("k") == Mean(8, 8.0)
    await runtime.terminate("k")
    assert await runtime.read_state("k") == Mean(8, 8.0)
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.write_state("k", Mean(0, 0.0))


async def test_a_written_array_must_fit(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", counted)
    await runtime.write_state("k", np.full((3, 2), 5))
    np.testing.assert_array_equal(await runtime.read_state("k"), 5)
    for wrong in (np.zeros((2, 3)), np.zeros(6), np.zeros((3, 2), complex), 3.0, "x"):
        with pytest.raises(MessageTypeError):
            await runtime.write_state("k", wrong)
    np.testing.assert_array_equal(await runtime.read_state("k"), 5)


async def test_a_written_record_must_fit(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", keep_mean)
    for wrong in (Other(1.0, 1), (1, 2.0), 3, None):
        with pytest.raises(MessageTypeError):
            await runtime.write_state("k", wrong)
    assert await runtime.read_state("k") == INITIAL
