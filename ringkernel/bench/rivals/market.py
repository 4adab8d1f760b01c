"""The job `as_of` of the array rivals: each trade is joined with the last quote at its time or before.

Quotes and trades are the same in every process, made from a seed, and in the order of their times. The clock runs for
the join alone: making the frames, and checking what came of it, is outside.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .serving import serve

Array = npt.NDArray[Any]
QUOTE = np.dtype([("time", np.int64), ("bid", np.float64), ("ask", np.float64)])
TRADE = np.dtype([("time", np.int64), ("price", np.float64)])
PRICED = np.dtype([("time", np.int64), ("price", np.float64), ("bid", np.float64), ("ask", np.float64)])
EVERY = 1000
"""Times of each go on by so much on average: nanoseconds, if they are to be something."""


def market(count: int) -> tuple[Array, Array]:
    """So many quotes, of which the first comes before all trades, and as many trades."""
    random = np.random.default_rng(1)
    quotes, trades = np.zeros(count, QUOTE), np.zeros(count, TRADE)
    quotes["time"][1:], trades["time"] = (np.cumsum(random.integers(0, 2 * EVERY, n)) for n in (count - 1, count))
    quotes["bid"] = 100 + random.standard_normal(count)
    quotes["ask"] = quotes["bid"] + 0.01
    trades["price"] = quotes["bid"] + 0.005
    return quotes, trades


def joined(quotes: Array, trades: Array) -> Array:
    """What has to come out, by NumPy."""
    last = quotes[np.searchsorted(quotes["time"], trades["time"], side="right") - 1]
    found = np.zeros(len(trades), PRICED)
    for name in TRADE.names or ():
        found[name] = trades[name]
    found["bid"], found["ask"] = last["bid"], last["ask"]
    return found


def check_joined(found: Any, expected: Array) -> None:
    """Raise unless the columns of a frame, by name, are those of `expected`."""
    for name in PRICED.names or ():
        if not np.array_equal(found[name].to_numpy(), expected[name]):
            raise AssertionError(f"the column {name!r} is wrong")


def serve_as_of(about: str, frame: Callable[[dict[str, Array]], Any], join: Callable[[Any, Any], Any]) -> None:
    """Be a rival: `frame` makes what it joins of columns, outside of the time, and `join` takes trades and quotes."""

    @cache
    def given(count: int) -> tuple[Any, Any, Array]:
        quotes, trades = market(count)
        left, right = (
            frame({name: np.array(table[name]) for name in table.dtype.names or ()}) for table in (trades, quotes)
        )
        return left, right, joined(quotes, trades)

    def as_of(count: int) -> dict[str, float]:
        left, right, expected = given(count)
        start = time.perf_counter()
        found = join(left, right)
        seconds = time.perf_counter() - start
        check_joined(found, expected)
        return {"seconds": seconds, "messages": 2 * count}

    serve(about, {"as_of": as_of})
