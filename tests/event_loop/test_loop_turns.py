"""The event loop's thread takes the turns of kernels whose messages come one by one and cost little, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import inside
import numpy as np
import pytest
from helpers import check_books, eventually, receive_all, start, start_chain, within
from kinds import usleep
from numba import njit
from spans import compile_span

from ringkernel import RingKernelRuntime, ring_kernel
from ringkernel.declaration.registry import declared
from ringkernel.devices.compiled.compiling import spec_of

pytestmark = pytest.mark.workers

VECTOR = np.dtype([("x", "f8", (4,)), ("n", "i8"), ("small", "u1")])
LIMIT = 7


def plain(msg: Any, out: Any) -> None:
    out.value = msg.n + np.sum(msg.x)


def over_an_array(msg: Any, out: Any) -> None:
    for x in msg.x:
        out.value += x


def over_a_constant(msg: Any, out: Any) -> None:
    for i in range(LIMIT):
        out.value += i


def over_a_length(msg: Any, out: Any) -> None:
    for i in range(len(msg.x)):
        out.value += msg.x[i]


def over_a_tuple(msg: Any, out: Any) -> None:
    for x in (1, 2, msg.n):
        out.value += x


def over_a_byte(msg: Any, out: Any) -> None:
    for i in range(msg.small):
        out.value += i


def backwards(msg: Any, out: Any) -> None:
    for i in range(10, 0, -1):
        out.value += i


def from_a_field(msg: Any, out: Any) -> None:
    for i in range(msg.n, 10):
        out.value += i


def two_deep(msg: Any, out: Any) -> None:
    for i in range(4_000):
        for j in range(4_000):
            out.value += i * j


def three_deep(msg: Any, out: Any) -> None:
    for i in range(400):
        for j in range(400):
            for k in range(400):
                out.value += i * j * k


def over_a_field(msg: Any, out: Any) -> None:
    for i in range(msg.n):
        out.value += i


def while_it_holds(msg: Any, out: Any) -> None:
    left = msg.n
    while left > 0:
        left -= 1


def prints(msg: Any, out: Any) -> None:
    print(msg.n)  # noqa: T201 (it is what the test is about)


def calls_c(msg: Any, out: Any) -> None:
    usleep(1)


@njit  # type: ignore[untyped-decorator]
def endless(n: Any) -> Any:
    while n > 0:
        n -= 1
    return n


def calls_what_loops(msg: Any, out: Any) -> None:
    out.value = endless(msg.n)


@njit  # type: ignore[untyped-decorator]
def many() -> Any:
    total = 0
    for i in range(5_000):
        total += i
    return total


def calls_two_that_loop(msg: Any, out: Any) -> None:
    for i in range(5_000):
        out.value += i + many()


@pytest.mark.parametrize(
    ("handler", "bounded"),
    [
        (plain, True),
        (over_an_array, True),
        (over_a_constant, True),
        (over_a_length, True),
        (over_a_tuple, True),
        (over_a_byte, True),
        (backwards, True),
        (two_deep, True),
        (three_deep, False),
        (calls_two_that_loop, False),
        (from_a_field, False),
        (over_a_field, False),
        (while_it_holds, False),
        (prints, False),
        (calls_c, False),
        (calls_what_loops, False),
    ],
)
def test_only_what_provably_ends_may_run_there(handler: Callable[..., Any], bounded: bool) -> None:
    ring_kernel("bounded", input_type=VECTOR, output_type=float)(handler)
    declaration = declared("bounded")
    assert declaration is not None
    assert compile_span(declaration.func, spec_of(declaration)).is_bounded is bounded


@ring_kernel("loop_cheap", input_type=int, output_type=int)
def cheap(msg: Any, out: Any) -> None:
    out.value = msg.value + 1


@ring_kernel("loop_dear", input_type=int, output_type=int)
def dear(msg: Any, out: Any) -> None:
    total = 0.0
    for i in range(30_000):
        total += np.sqrt(i + msg.value)
    out.value = msg.value + 1 if total >= 0 else 0


@ring_kernel("loop_unbounded", input_type=int, output_type=int)
def unbounded(msg: Any, out: Any) -> None:
    usleep(1)
    out.value = msg.value + 1


async def one_by_one(runtime: RingKernelRuntime, first: str, last: str, count: int, more: int = 1) -> None:
    """Send and receive; each kernel on the way adds one."""
    for i in range(count):
        await runtime.send(first, i)
        assert await within(runtime.receive(last)) == i + more


async def settle(runtime: RingKernelRuntime, first: str, last: str, more: int = 1, count: int = 20) -> None:
    """Feed a chain one by one until so many messages have passed with which the workers had nothing to do: they have
    where the loop's thread was held up in the middle of a turn, by another process."""

    async def settled() -> bool:
        before = inside.turns_of_workers(runtime)
        await one_by_one(runtime, first, last, count, more)
        await asyncio.sleep(0.002)
        return inside.turns_of_workers(runtime) == before

    await eventually(settled)


@pytest.mark.both_loops
async def test_the_turns_of_a_kernel_that_is_fed_one_by_one_are_taken_by_the_loop(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", cheap)
    await settle(runtime, "k", "k", count=2_000)
    check_books(runtime, "k")


@pytest.mark.parametrize("handler", [unbounded, dear])
async def test_one_that_may_take_long_is_run_by_a_worker(runtime: RingKernelRuntime, handler: Any) -> None:
    await start(runtime, "k", handler)
    await one_by_one(runtime, "k", "k", 50)
    before = inside.turns_of_workers(runtime)
    await one_by_one(runtime, "k", "k", 50)
    assert inside.turns_of_workers(runtime) >= before + 50


async def test_a_chain_is_run_from_end_to_end(runtime: RingKernelRuntime) -> None:
    await start_chain(runtime, a=cheap, b=cheap, c=cheap)
    await settle(runtime, "a", "c", 3, count=200)


async def test_what_comes_after_a_worker_wakes_the_loop(runtime: RingKernelRuntime) -> None:
    await start_chain(runtime, slow=unbounded, k=cheap)
    await one_by_one(runtime, "slow", "k", 200, 2)
    check_books(runtime, "slow")
    check_books(runtime, "k")


async def test_a_backlog_goes_to_a_worker(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", cheap, queue_size=65_536)
    await settle(runtime, "k", "k")
    before = inside.turns_of_workers(runtime)
    sending = asyncio.create_task(runtime.send_batch("k", np.arange(1_000_000)))
    assert (await receive_all(runtime, "k", 1_000_000))[-1] == 1_000_000
    await sending
    assert inside.turns_of_workers(runtime) > before + 10  # a turn may take all that is in the queue
    check_books(runtime, "k")


async def test_what_the_loop_s_credit_does_not_cover_goes_to_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    inside.set_credit(monkeypatch, 10)
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, "k", cheap)
        await one_by_one(runtime, "k", "k", 50)
        before = inside.turns_of_workers(runtime)
        await one_by_one(runtime, "k", "k", 50)
        assert inside.turns_of_workers(runtime) >= before + 50
        check_books(runtime, "k")


async def test_commands_are_obeyed_without_a_worker(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", cheap)
    await settle(runtime, "k", "k")
    before = inside.turns_of_workers(runtime)
    await runtime.deactivate("k")
    await runtime.send("k", 1)
    assert runtime.statistics("k").unprocessed == 1
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 2
    await runtime.terminate("k")
    assert inside.turns_of_workers(runtime) == before


async def test_a_worker_and_the_loop_take_turns_one_after_the_other(runtime: RingKernelRuntime) -> None:
    """The kernel goes to and fro between them, at every moment of a turn and a rest; nothing is lost or swapped."""
    await start(runtime, "k", cheap, queue_size=4096)
    rng = np.random.default_rng(5)
    sent = received = 0
    for count in rng.choice([1, 1, 1, 1, 3, 500, 4096], 3_000).tolist():
        if rng.random() < 0.02:
            await runtime.deactivate("k")
            await runtime.reactivate("k")
        await runtime.send_batch("k", np.arange(sent, sent + count))
        sent += count
        got = await receive_all(runtime, "k", count)
        assert got[0] == received + 1
        assert got[-1] == received + count
        received += count
    check_books(runtime, "k")
