"""How everything here is measured: interleaved, rotated rounds, and medians with their spread.

Absolute times on a shared machine drift by a factor of ten within minutes, so every figure is compared with
something that ran in the same round. The order of the contenders rotates by one each round, so that none always runs
after the same one; one more round runs first and is not counted (it compiles, faults pages in and fills caches).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
Measure = Callable[[], Awaitable[T]]
Work = Callable[[], Any]

SETTLE_S = 0.005  # between two measurements: lets spinning workers park before the next contender runs
SAMPLE_NS = 50_000_000  # about how long one sample of two spinning threads takes
NOISY = 2.0
"""A floor that moves by more than this factor within a run says that the machine was busy with something else."""


class WrongResultError(AssertionError):
    """A measured run returned wrong data; its time means nothing."""


def check(is_right: object, what: str) -> None:
    """Raise `WrongResultError(what)` unless `is_right`: the only thing that makes the benchmark fail."""
    if not is_right:
        raise WrongResultError(what)


def sized(cost_ns: Callable[[int], float], most: int, few: int, budget_ns: float = SAMPLE_NS) -> float:
    """`cost_ns` of as many repetitions as fit into about `budget_ns`, and of at most `most`.

    Two threads that spin and have no core each take a thousand times as long: such a machine gets a short sample
    instead of a run without end. `cost_ns(count)` measures `count` of something and returns ns for each.
    """
    count = min(few, most)
    each = cost_ns(count)
    spent = count * each
    while count < most and spent < budget_ns:  # one hiccup in a short try must not make for a short sample
        count = min(most, max(2 * count, int((budget_ns - spent) / each)))
        each = cost_ns(count)
        spent += count * each
    return each


def timed(
    amount: float, work: Work, is_right: Callable[[Any], object], what: str = "ringkernel", *, repeats: int = 1
) -> Measure[float]:
    """A contender: `amount` per second of so many calls of `work`, awaited if they are to be. The last one's result is
    checked outside the timed part."""

    async def rate() -> float:
        result, elapsed_s = await _time(work, repeats)
        check(is_right(result), f"{what} brought something else")
        return amount * repeats / elapsed_s

    return rate


def per_call(
    work: Work, is_right: Callable[[Any], object], what: str = "ringkernel", *, repeats: int = 1
) -> Measure[float]:
    """A contender: microseconds of each of so many calls; as `timed`."""
    rate = timed(1e-6, work, is_right, what, repeats=repeats)

    async def us() -> float:
        return 1 / await rate()

    return us


async def _time(work: Work, repeats: int) -> tuple[Any, float]:
    """The last of so many results, and the seconds that all of them took."""
    start = time.perf_counter()
    result = work()
    if isinstance(result, Awaitable):
        result = await result
        for _ in range(repeats - 1):
            result = await work()
    else:
        for _ in range(repeats - 1):
            result = work()
    return result, time.perf_counter() - start


class Spread(NamedTuple):
    """The quartiles of the rounds."""

    low: float
    median: float
    high: float

    @property
    def relative(self) -> float:
        """Half the distance between the quartiles, relative to the median."""
        return (self.high - self.low) / 2 / abs(self.median) if self.median else 0.0


def spread_of(values: Sequence[float]) -> Spread:
    """The spread of one or more values; quartiles are interpolated between the values."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [float(values[0])]
    return Spread(*quartiles)


def repeated(times: int, once: Measure[float]) -> Measure[float]:
    """A contender: the median of so many measurements."""

    async def median() -> float:
        return statistics.median([await once() for _ in range(times)])

    return median


def moved(values: Sequence[float]) -> float:
    """Greatest value over the least one."""
    return max(values) / min(values) if min(values) > 0 else float("inf") if max(values) > 0 else 1.0


@dataclass
class Samples(Generic[T]):
    """What one contender brought, once per round. `wrong` ends its part in the race: why, or ""."""

    values: list[T] = field(default_factory=list)
    wrong: str = ""


def order(names: Sequence[K], rounds: int) -> Iterator[tuple[int, list[K]]]:
    """(round, who runs in which order) from round -1, which warms up, to `rounds - 1`."""
    for number in range(-1, rounds):
        shift = number % len(names)
        yield number, [*names[shift:], *names[:shift]]


async def interleave(
    rounds: int,
    contenders: Mapping[K, Measure[T]],
    *,
    warm_up: bool = True,
    step: Callable[[], None] = lambda: None,
) -> dict[K, Samples[T]]:
    """Call every contender once per round, in rotated order. Their samples by name.

    A contender whose result is wrong takes no further part, with the reason; the others go on. `step` is called after
    each measurement.
    """
    samples: dict[K, Samples[T]] = {name: Samples() for name in contenders}
    for number, names in order(list(contenders), rounds):
        if number < 0 and not warm_up:
            continue
        for name in names:
            if samples[name].wrong:
                continue
            await asyncio.sleep(SETTLE_S)
            try:
                value = await contenders[name]()
            except WrongResultError as error:
                samples[name].wrong = str(error) or type(error).__name__
            else:
                if number >= 0:
                    samples[name].values.append(value)
            step()
    return samples
