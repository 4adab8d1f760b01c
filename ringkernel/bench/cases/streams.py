"""One streaming job, a running average, beside the streaming libraries that do it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.kernels import Array, running
from ringkernel.bench.loops import smoothed
from ringkernel.bench.method import timed
from ringkernel.bench.model import Row
from ringkernel.bench.rivals.smoothing import ALPHA, averages, numbers, step
from ringkernel.bench.traffic import millions_per_s, receive_all

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

NUMBERS, BATCH = 50_000, 256
ONE_IN = 5  # a part of them is enough one by one
LOOPS = 20
STREAMS = ("csp", "bytewax", "streamz", "river")
NEW = np.zeros(2)  # the average, and whether there is one


@rk.ring_kernel("bench.ewma", input_type=float, output_type=float, state=NEW)
def average(msg: Any, out: Any, state: Any) -> None:
    """The average after one more number."""
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


def _ours(runtime: rk.RingKernelRuntime, way: Way, values: Array, expected: Array) -> Measure[float]:
    """Millions of numbers/s by that way, from a new average on."""
    rate = timed(len(values) / 1e6, partial(way, runtime, values), partial(np.allclose, expected), way.__name__)

    async def afresh() -> float:
        await runtime.deactivate("bench.ewma")
        await runtime.write_state("bench.ewma", NEW)
        await runtime.reactivate("bench.ewma")
        return await rate()

    return afresh


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
