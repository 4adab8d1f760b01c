"""The job `ewma` of the streaming rivals: numbers come one after the other, and after each the average is asked for.

    mean = x                                  for the first
    mean = ALPHA * x + (1 - ALPHA) * mean     for every other one

The clock runs from the first number to the last average; making the numbers and checking the averages is outside.
Standard library only.
"""

import itertools
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .serving import serve

ALPHA = 0.05
TOLERANCE = 1e-9


def numbers(count: int) -> list[float]:
    """`count` of them, the same in every process."""
    return [math.sin(0.01 * i) + (i % 7) for i in range(count)]


def step(mean: float | None, value: float) -> float:
    """The average after one more number. It is None before the first."""
    return value if mean is None else ALPHA * value + (1 - ALPHA) * mean


def averages(values: Iterable[float]) -> list[float]:
    """What has to come out."""
    return list(itertools.accumulate(values, step))


def check_averages(values: Sequence[float], found: Sequence[float]) -> None:
    """Raise unless `found` are the averages of `values`."""
    expected = averages(values)
    if len(found) != len(expected):
        raise AssertionError(f"{len(expected)} numbers went in and {len(found)} averages came out")
    if not all(abs(a - b) <= TOLERANCE for a, b in zip(found, expected, strict=True)):
        raise AssertionError("the averages are wrong")


def serve_ewma(
    about: str, smooth: Callable[[Any], Sequence[float]], prepare: Callable[[list[float]], Any] = list
) -> None:
    """Be a rival: `smooth` takes what `prepare` makes of the numbers, outside of the time, and gives the averages."""

    def ewma(count: int) -> dict[str, float]:
        values = numbers(count)
        given = prepare(values)
        start = time.perf_counter()
        found = smooth(given)
        seconds = time.perf_counter() - start
        check_averages(values, found)
        return {"seconds": seconds, "messages": count}

    serve(about, {"ewma": ewma})
