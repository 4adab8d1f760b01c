"""A state for each key, beside the loops that keep the states in an array by key, and in a dict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import typed, types

import ringkernel as rk
from ringkernel.bench.kernels import Array, running, start
from ringkernel.bench.loops import by_key, in_dict, long_by_key, put_all_in_dict
from ringkernel.bench.method import per_call, timed
from ringkernel.bench.model import Row, at_most
from ringkernel.bench.rivals.smoothing import ALPHA

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

READING = np.dtype([("key", np.int64), ("value", np.float64)])
MEAN = np.zeros((), [("mean", np.float64)])
KEYS = (1, 1000, 1_000_000)
READINGS = 4_000_000
STEPS, LONG_READINGS = 85, 400_000
LEVEL = np.zeros((), [("level", np.float64)])
TARGETS = {("array", 1000): at_most(2.0)}


def smoothing(keys: int) -> Any:
    """A kernel that averages the values of each key."""

    @rk.ring_kernel(f"bench.keyed-{keys}", input_type=READING, output_type=float, state=MEAN, key="key", keys=keys)
    def smooth(msg: Any, out: Any, state: Any) -> None:
        state.mean = ALPHA * msg.value + (1.0 - ALPHA) * state.mean
        out.value = state.mean

    return smooth


class Keyed:
    """Readings of keys that are drawn at random, the averages that have to come of them, and who makes them."""

    def __init__(self, runtime: rk.RingKernelRuntime, keys: int, count: int) -> None:
        random = np.random.default_rng(1)
        self.runtime, self.kernel_id = runtime, f"bench.keyed-{keys}"
        self.readings = np.zeros(count, READING)
        self.readings["key"], self.readings["value"] = random.integers(0, keys, count), random.random(count)
        self.expected, self.results = averages(self.readings), np.zeros(count)
        self.means, self.dict = np.zeros(keys), typed.Dict.empty(types.int64, types.float64)
        self.states = np.zeros(keys, [("key", np.int64), ("mean", np.float64)])
        self.states["key"] = np.arange(keys)

    async def new_states(self) -> None:
        """All keys are there, and their averages 0."""
        await self.runtime.deactivate(self.kernel_id)
        await self.runtime.write_state(self.kernel_id, self.states)
        await self.runtime.reactivate(self.kernel_id)

    async def new_means(self) -> None:
        """The same in the array."""
        self.means[...] = 0.0

    async def new_dict(self) -> None:
        """The same in the dict."""
        put_all_in_dict(self.dict, len(self.means))

    def contender(self, begin: Callable[[], Any], work: Callable[[], Any], name: str) -> Measure[float]:
        """Nanoseconds of each message, after all averages are 0 again."""

        def is_right(_: object) -> bool:
            verdict = np.allclose(self.results, self.expected, rtol=1e-12, atol=0.0)
            self.results[...] = 0.0  # of which nothing must be taken for the next round's
            return verdict

        call_us = per_call(work, is_right, name)

        async def each_ns() -> float:
            await begin()
            return await call_us() * 1e3 / len(self.readings)

        return each_ns

    @property
    def contenders(self) -> dict[str, Measure[float]]:
        """ringkernel, and the loops."""
        mapped = partial(self.runtime.map, self.kernel_id, self.readings, out=self.results)
        in_array = partial(by_key, self.readings, ALPHA, self.means, self.results)
        among_keys = partial(in_dict, self.readings, ALPHA, self.dict, self.results)
        return {
            "ringkernel": self.contender(self.new_states, mapped, "map"),
            "array": self.contender(self.new_means, in_array, "the loop over an array"),
            "dict": self.contender(self.new_dict, among_keys, "the loop over a dict"),
        }


def averages(readings: Array) -> Array:
    """What has to come out, in plain Python."""
    means: dict[int, float] = {}
    found = []
    for key, value in readings.tolist():
        means[key] = mean = ALPHA * value + (1.0 - ALPHA) * means.get(key, 0.0)
        found.append(mean)
    return np.array(found)


async def keys(bench: Bench) -> list[Row]:
    """A running average for each of 1, 1,000 and 1,000,000 keys, beside compiled loops with an array and a dict.

        map      array =(lent)=> kernel with key= and a state for each key =(lent)=> result array, reused (`out=`)
        array    for each reading: means[key] = ...      an njit loop; keys are 0 to their number - 1
        dict     the same with a numba typed dict

    Nanoseconds of each message; all keys are known before, and drawn at random.
    """
    count = bench.count(READINGS, least=1000)
    contenders: dict[tuple[str, int], Measure[float]] = {}
    async with running() as runtime:
        for n in KEYS:
            await start(runtime, f"bench.keyed-{n}", smoothing(n))
            contenders |= {(name, n): measure for name, measure in Keyed(runtime, n, count).contenders.items()}
        found = await bench.race_numbers("ns", contenders)
    return [
        Row.of(
            f"{name}-{n}",
            f"average for each of {n:,} keys, by map",
            found["ringkernel", n],
            found[name, n].named(f"njit, {name}"),
            target=TARGETS.get((name, n)),
            params={"keys": n},
        )
        for n in KEYS
        for name in ("array", "dict")
    ]


WAYS: dict[str, dict[str, Any]] = {"all": {}, "unordered": {"ordered": False}, "one": {"parallel": False}}


def long(way: str) -> Any:
    """A kernel that computes for some 100 ns on each reading, with a level for each key."""

    @rk.ring_kernel(f"bench.shards-{way}", input_type=READING, output_type=READING, state=LEVEL, key="key", **WAYS[way])
    def compute(msg: Any, out: Any, state: Any) -> None:
        x = 0.5 * state.level + 0.5 * msg.value
        state.level = x
        for _ in range(STEPS):
            x = 3.7 * x * (1.0 - x)
        out.key = msg.key
        out.value = x

    return compute


class Levels:
    """Readings of 1,000 keys, and what has to come of them in a round that begins with the levels of the one before."""

    def __init__(self, count: int) -> None:
        random = np.random.default_rng(2)
        self.readings, self.results = np.zeros(count, READING), np.zeros(count, READING)
        self.readings["key"], self.readings["value"] = random.integers(0, 1000, count), random.random(count)
        self.levels, self.expected = np.zeros(1000), np.zeros(count, READING)
        self.by_key = np.argsort(self.readings["key"], kind="stable")

    def is_right(self, _: object) -> bool:
        """Whether the results are there, each key's in order; and now they are not any more."""
        long_by_key(self.readings, STEPS, self.levels, self.expected)
        found = self.results[np.argsort(self.results["key"], kind="stable")]
        self.results[...] = 0
        return np.array_equal(found, self.expected[self.by_key])


async def shards(bench: Bench) -> list[Row]:
    """A handler of 100 ns with a state for each of 1,000 keys, by all cores, beside one thread and a compiled loop.

        map         array =(lent)=> kernel with key= and a state for each key =(lent)=> result array, reused (`out=`)
        unordered   the same with ordered=False
        one         the same with parallel=False
        njit        for each reading: levels[key] = ..., and the computation

    Millions of messages/s. Without a core that is free there is nothing to gain.
    """
    count = bench.count(LONG_READINGS, least=1000)
    contenders: dict[str, Measure[float]] = {}
    async with running() as runtime:
        for way in WAYS:
            await start(runtime, f"bench.shards-{way}", long(way))
            levels = Levels(count)
            work = partial(runtime.map, f"bench.shards-{way}", levels.readings, out=levels.results)
            contenders[way] = timed(count / 1e6, work, levels.is_right, way)
        beside = Levels(count)
        loop = partial(long_by_key, beside.readings, STEPS, np.zeros(1000), beside.results)
        contenders["njit"] = timed(count / 1e6, loop, beside.is_right, "njit")
        found = await bench.race_numbers("M/s", contenders)
    figures = {"all": "by all cores", "unordered": "by all cores, in any order"}
    return [
        Row.of(f"{way}-{other}", f"100 ns for each message, 1,000 keys, {figure}", found[way], found[other])
        for way, figure in figures.items()
        for other in ("one", "njit")
    ]
