"""A state for each key, beside the loops that keep the states in an array by key, and in a dict."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import typed, types

import ringkernel as rk
from ringkernel.bench.kernels import Array, running, start
from ringkernel.bench.loops import by_key, in_dict, put_all_in_dict
from ringkernel.bench.method import per_call
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
