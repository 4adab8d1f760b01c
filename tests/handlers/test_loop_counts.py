"""Loops like `while end <= time: end += 1_000`, whose count LLVM works out by a division of 128 bits: a function of the
compiler's own. If that is not found the process ends, so all of this runs in a child."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest
from helpers import eventually, start, start_chain, within
from inside import chain_of, force_fusing, set_cores
from spans import call, in_a_child

import ringkernel as rk
from ringkernel.codegen.span_types import SpanTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.compiles, pytest.mark.timeout(300)]

TICK = np.dtype([("time", "i8"), ("price", "f8")], align=True)
BAR = np.dtype(
    [("time", "i8"), ("open", "f8"), ("high", "f8"), ("low", "f8"), ("close", "f8"), ("n", "i8")], align=True
)
OPEN = np.zeros((), BAR)
LAST = 4_000_000_000


def next_end(end: int, time: int) -> int:
    """The end of the bar that a time is in."""
    if end < 0:
        return end
    while end <= time and end < LAST:
        end += 1_000_000
    return end


def bar_by_bar(msg: Any, out: Any, state: Any) -> bool:
    """Each bar once the first tick of the next one comes."""
    end = next_end(state.time, msg.time)
    ended = end > state.time and state.n > 0
    if ended:
        out.time, out.open, out.high = state.time, state.open, state.high
        out.low, out.close, out.n = state.low, state.close, state.n
    if ended or state.n == 0:
        state.open = state.high = state.low = msg.price
        state.n = 0
    state.time, state.close, state.n = end, msg.price, state.n + 1
    state.high, state.low = max(state.high, msg.price), min(state.low, msg.price)
    return bool(ended)


def all_bars(msgs: Any, outs: Any) -> int:
    """The bars of a batch, but for the last: records of two arrays, in loops within each other."""
    k = n = 0
    end = msgs[0].time // 1_000_000 * 1_000_000 + 1_000_000
    first = high = low = last = 0.0
    if end < 0:
        return 0
    for i in range(len(msgs)):
        while end <= msgs[i].time and end < LAST:
            if n > 0:
                bar = outs[k]
                bar.time, bar.open, bar.high, bar.low, bar.close, bar.n = end, first, high, low, last, n
                k += 1
            n = 0
            end += 1_000_000
        price = msgs[i].price
        if n == 0:
            first = high = low = price
        high, low, last, n = max(high, price), min(low, price), price, n + 1
    return k


def its_end(msg: Any, out: Any) -> None:
    """The end of the bar that a tick is in, which any thread may find."""
    out.value = next_end(msg.time % 1_000, msg.time)


def end_of(msg: Any, out: Any) -> None:
    out.value = next_end(msg.value % 1_000, msg.value)


@numba.njit
def of_its_author(end: int, time: int) -> int:
    while time >= end:
        end += 1_000_000
    return end


def ticks(count: int = 10_000) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    made = np.zeros(count, TICK)
    made["time"] = np.cumsum(rng.integers(0, 20_000, count))
    made["price"] = 100 + rng.random(count)
    return made


def in_python(handler: Callable[..., Any], given: Any, dtype: Any, state: Any = None) -> np.ndarray[Any, Any]:
    """The outputs of a handler of single messages."""
    out = np.zeros(1, dtype).view(np.recarray)
    states = [] if state is None else [state.reshape(1).copy().view(np.recarray)[0]]
    kept = [out.copy() for msg in given.view(np.recarray) if handler(msg, out[0], *states) is not False]
    return np.concatenate(kept)


async def in_one_map(handler: Any, given: Any) -> Any:
    async with rk.RingKernelRuntime(workers=3) as runtime:
        await start(runtime, "k", handler)
        return await within(runtime.map("k", given), 20)


async def as_one(given: Any) -> Any:
    """Through a chain that has become one loop."""
    async with rk.RingKernelRuntime(workers=3) as runtime:
        first = rk.ring_kernel("a", input_type=TICK, output_type=np.int64)(its_end)
        second = rk.ring_kernel("b", input_type=np.int64, output_type=np.int64)(end_of)
        await start_chain(runtime, a=first, b=second)
        await eventually(lambda: chain_of(runtime, "a") == ["a", "b"], 20)
        return await within(runtime.map(("a", "b"), given), 20)


def results() -> Iterator[list[Any]]:
    """Each shape, and whether it is what Python makes of it."""
    given = ticks()
    yield ["one by one"]
    scalar = rk.ring_kernel("k", input_type=TICK, output_type=BAR, state=OPEN)(bar_by_bar)
    made = asyncio.run(in_one_map(scalar, given))
    yield ["one by one", made.tobytes() == in_python(bar_by_bar, given, BAR, OPEN).tobytes() and len(made) > 50]
    yield ["a batch"]
    made = np.zeros(300, BAR).view(np.recarray)
    want = made[: all_bars(given.view(np.recarray), made)]
    yield ["a batch", call(all_bars, SpanTypes(TICK, BAR, None, batch=True), given).tobytes() == want.tobytes()]
    with pytest.MonkeyPatch.context() as patch:
        set_cores(patch, 3)
        yield ["several threads"]
        many = np.tile(given, 40)
        split = rk.ring_kernel("k", input_type=TICK, output_type=np.int64)(its_end)
        want = np.tile(in_python(its_end, given, [("value", "i8")])["value"], 40)
        yield ["several threads", bool(np.array_equal(asyncio.run(in_one_map(split, many)), want))]
        force_fusing(patch, 2)
        yield ["a chain"]
        want = in_python(end_of, in_python(its_end, given, [("value", "i8")]), [("value", "i8")])["value"]
        yield ["a chain", bool(np.array_equal(asyncio.run(as_one(given)), want))]
    yield ["its author's"]
    yield ["its author's", of_its_author(500, 10_000_000) == 10_000_500]


@pytest.fixture(scope="module", params=["compiled", pytest.param("from the cache", marks=pytest.mark.long)])
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What a process finds, and then another one, which has the code of the first."""
    return in_a_child("test_loop_counts", "results")


@pytest.mark.parametrize("shape", ["one by one", "a batch", "several threads", "a chain", "its author's"])
def test_a_loop_until_a_time_is_past_does_what_python_does(shape: str, found: dict[str, Any]) -> None:
    assert found[shape]
