"""One streaming job, a running average, beside the streaming libraries that do it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.kernels import Array, afresh, running
from ringkernel.bench.loops import smoothed
from ringkernel.bench.method import timed
from ringkernel.bench.model import Row, at_least
from ringkernel.bench.rivals.smoothing import ALPHA, averages, numbers, step
from ringkernel.bench.traffic import millions_per_s, receive_all

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

NUMBERS, BATCH = 50_000, 256
STREAMED = 1_000_000
ONE_IN = 5  # a part of them is enough one by one, and for the streaming libraries
LOOPS = 20
GRAPHS = ("csp", "bytewax", "streamz")
STREAMS = *GRAPHS, "river"
NEW = np.zeros(2)  # the average, and whether there is one


@rk.ring_kernel("bench.ewma", input_type=float, output_type=float, state=NEW)
def average(msg: Any, out: Any, state: Any) -> None:
    """The average after one more number."""
    state[0] = ALPHA * msg.value + (1.0 - ALPHA) * state[0] if state[1] else msg.value
    state[1] = 1.0
    out.value = state[0]


TICK = np.dtype([("time", np.int64), ("value", np.float64)])


@rk.ring_kernel("bench.ewma-by-time", input_type=TICK, output_type=float, state=NEW, order_by="time")
def average_by_time(msg: Any, out: Any, state: Any) -> None:
    """The same, of what has a time."""
    state[0] = ALPHA * msg.value + (1.0 - ALPHA) * state[0] if state[1] else msg.value
    state[1] = 1.0
    out.value = state[0]


Way = Callable[[rk.RingKernelRuntime, Array], Awaitable[Array]]


async def by_map(runtime: rk.RingKernelRuntime, values: Array) -> Array:
    """All at once."""
    found: Array = await runtime.map("bench.ewma", values)
    return found


async def in_batches(runtime: rk.RingKernelRuntime, values: Array) -> Array:
    """A batch, and what comes of it, before the next one."""
    results = np.empty_like(values)
    for first in range(0, len(values), BATCH):
        await runtime.send_batch("bench.ewma", values[first : first + BATCH])
        await receive_all(runtime, "bench.ewma", results[first : first + BATCH])
    return results


async def one_by_one(runtime: rk.RingKernelRuntime, values: Array) -> Array:
    """One number, and its average, before the next one."""
    send, receive, found = runtime.send, runtime.receive, []
    for value in values.tolist():
        await send("bench.ewma", value)
        found.append(await receive("bench.ewma"))
    return np.array(found)


def by_function(values: list[float]) -> list[float]:
    """A Python function for each number, as the handler is called."""
    mean, found = None, []
    for value in values:
        mean = step(mean, value)
        found.append(mean)
    return found


def _from_new(runtime: rk.RingKernelRuntime, rate: Measure[float]) -> Measure[float]:
    """The same contender, from a new average on."""

    async def measure() -> float:
        await runtime.deactivate("bench.ewma")
        await runtime.write_state("bench.ewma", NEW)
        await runtime.reactivate("bench.ewma")
        return await rate()

    return measure


def _ours(runtime: rk.RingKernelRuntime, way: Way, values: Array, expected: Array) -> Measure[float]:
    """Millions of numbers/s by that way, from a new average on."""
    rate = timed(len(values) / 1e6, partial(way, runtime, values), partial(np.allclose, expected), way.__name__)
    return _from_new(runtime, rate)


async def ewma(bench: Bench) -> list[Row]:
    """A running average, by `map`, in batches of 256 and one by one, beside loops and the streaming libraries.

        one by one   for each number: await send --> kernel with a state --> await receive
        batches      for each 256:    await send_batch --> ... --> await receive_batch
        map          array =(lent)=> kernel =(lent)=> result array
        function     for each number: mean = step(mean, number)      a Python function, called directly
        rivals       a process each; the numbers are there, the averages are collected

    Millions of numbers/s.
    """
    count = bench.count(NUMBERS, least=2 * BATCH)
    values = np.array(numbers(count))
    expected, results = np.array(averages(values.tolist())), np.empty(count)
    some = count // ONE_IN

    def loop() -> Array:
        smoothed(values, ALPHA, results)
        return results

    with bench.opponents("ewma") as rivals:
        async with running("bench.ewma") as runtime:
            is_right = partial(np.allclose, expected)
            contenders: dict[str, Measure[float]] = {
                "map": _ours(runtime, by_map, values, expected),
                "batches": _ours(runtime, in_batches, values, expected),
                "one by one": _ours(runtime, one_by_one, values[:some], expected[:some]),
                "njit loop": timed(count / 1e6, loop, is_right, "njit loop", repeats=LOOPS),
                "Python function": timed(count / 1e6, partial(by_function, values.tolist()), is_right, "by_function"),
                **{rival.name: rival.contender("ewma", millions_per_s, count=count) for rival in rivals},
            }
            found = await bench.race_numbers("M/s", contenders)
    notes = {rival.name: rival.spec.note for rival in rivals}
    beside = {"map": ("njit loop", "pandas"), "batches": ("njit loop", "Python function", *STREAMS)}
    beside["one by one"] = "Python function", *STREAMS
    return [
        Row.of(
            f"{way}-{name}",
            f"running average, {way}",
            found[way].named("ringkernel"),
            found[name],
            note=notes.get(name, ""),
        )
        for way, names in beside.items()
        for name in names
        if name in found
    ]


async def ewma_stream(bench: Bench) -> list[Row]:
    """The same average over more numbers at once, by `map` and replayed by time, beside the streaming libraries.

        map       array =(lent)=> kernel with a state =(lent)=> result array, reused (`out=`)
        replay    array of times and numbers =(lent)=> kernel with order_by and a state =(lent)=> averages
        njit      a loop into a reused array
        rivals    a process each; a fifth of the numbers is there, the averages are collected

    Millions of numbers/s.
    """
    count = bench.count(STREAMED, least=2 * BATCH)
    ticks = np.zeros(count, TICK)
    ticks["time"], ticks["value"] = np.arange(count), numbers(count)
    values, results = ticks["value"].copy(), np.empty(count)
    expected = np.array(averages(values.tolist()))

    def loop() -> Array:
        smoothed(values, ALPHA, results)
        return results

    def rate(work: Callable[[], Any], name: str) -> Measure[float]:
        return timed(count / 1e6, work, partial(np.allclose, expected), name)

    with bench.opponents("ewma", only=GRAPHS) as rivals:
        async with running("bench.ewma") as runtime:
            by_time = partial(runtime.replay, {average_by_time: ticks}, until=average_by_time)
            contenders: dict[str, Measure[float]] = {
                "map": _from_new(runtime, rate(partial(runtime.map, "bench.ewma", values, out=results), "map")),
                "replay": afresh(runtime, "bench.ewma-by-time", rate(by_time, "replay")),
                "njit loop": rate(loop, "njit loop"),
                **{rival.name: rival.contender("ewma", millions_per_s, count=count // ONE_IN) for rival in rivals},
            }
            found = await bench.race_numbers("M/s", contenders)
    notes = {rival.name: rival.spec.note for rival in rivals}
    return [
        Row.of(
            f"{way}-{name}",
            f"running average of {count:,} numbers, {figure}",
            found[way].named("ringkernel"),
            found[name],
            target=at_least(20) if name in notes else None,
            note=notes.get(name, ""),
        )
        for way, figure in {"map": "by map", "replay": "replayed by time"}.items()
        for name in ("njit loop", *notes)
    ]
