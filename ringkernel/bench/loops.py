"""Compiled loops over whole arrays: what a user would write instead of a kernel, with `njit` and `prange`.

    linear          2 x + 1 of float64: the memory is what takes time
    black_scholes   the price of a call option: arithmetic takes the time
    ewma            a running mean of all before, one after the other
    merged, as_of   two arrays in the order of their times
    by_key, in_dict a running mean for each key, in an array by key, and in a dict

What is compiled here is kept by numba's own cache, as a user would keep it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit, prange

RATE, VOLATILITY = 0.02, 0.3
SAXPY_A, SAXPY_B = np.float32(0.999), np.float32(0.001)
OPTION = np.dtype([("spot", np.float64), ("strike", np.float64), ("years", np.float64)])


@njit(cache=True)
def price(spot: float, strike: float, years: float) -> float:
    """Black and Scholes's price of a European call option."""
    deviation = VOLATILITY * math.sqrt(years)
    d = (math.log(spot / strike) + (RATE + 0.5 * VOLATILITY * VOLATILITY) * years) / deviation
    discounted = strike * math.exp(-RATE * years)
    half = math.sqrt(0.5)
    return float(0.5 * (spot * math.erfc(-d * half) - discounted * math.erfc((deviation - d) * half)))


@njit(cache=True)
def linear(values: Any, results: Any) -> None:
    """On one core, into an array that is given; as the next three."""
    for i in range(values.shape[0]):
        results[i] = 2.0 * values[i] + 1.0


@njit(cache=True, parallel=True)
def linear_prange(values: Any, results: Any) -> None:
    """On all cores."""
    for i in prange(values.shape[0]):
        results[i] = 2.0 * values[i] + 1.0


@njit(cache=True)
def prices(given: Any, results: Any) -> None:
    """On one core."""
    for i in range(given.shape[0]):
        results[i] = price(given[i].spot, given[i].strike, given[i].years)


@njit(cache=True, parallel=True)
def prices_prange(given: Any, results: Any) -> None:
    """On all cores."""
    for i in prange(given.shape[0]):
        results[i] = price(given[i].spot, given[i].strike, given[i].years)


@njit(cache=True, error_model="numpy")
def fused_saxpy(x: Any, y: Any) -> None:
    """Eight stages of y = a x + b in one loop, written by hand."""
    a, b = SAXPY_A, SAXPY_B
    for i in range(x.shape[0]):
        v = x[i]
        v = a * v + b
        v = a * v + b
        v = a * v + b
        v = a * v + b
        v = a * v + b
        v = a * v + b
        v = a * v + b
        y[i] = a * v + b


@njit(cache=True)
def smoothed(values: Any, alpha: float, results: Any) -> None:
    """The exponentially weighted moving average after each value."""
    mean = values[0]
    for i in range(values.shape[0]):
        mean = alpha * values[i] + (1.0 - alpha) * mean
        results[i] = mean


@njit(cache=True)
def merged(first: Any, second: Any, results: Any) -> None:
    """Both in the order of their times, each value twice itself. Of equal times the first one's comes first."""
    i = j = 0
    for k in range(results.shape[0]):
        if j == second.shape[0] or (i < first.shape[0] and first[i].time <= second[j].time):
            results[k].time, results[k].value = first[i].time, 2.0 * first[i].value
            i += 1
        else:
            results[k].time, results[k].value = second[j].time, 2.0 * second[j].value
            j += 1


@njit(cache=True)
def as_of(quotes: Any, trades: Any, results: Any) -> None:
    """Each trade with the last quote at its time or before, of which there is one."""
    j = 0
    for i in range(trades.shape[0]):
        while j + 1 < quotes.shape[0] and quotes[j + 1].time <= trades[i].time:
            j += 1
        results[i].time, results[i].price = trades[i].time, trades[i].price
        results[i].bid, results[i].ask = quotes[j].bid, quotes[j].ask


@njit(cache=True)
def by_key(readings: Any, alpha: float, means: Any, results: Any) -> None:
    """The running mean of each key, from 0 on, in an array by key."""
    for i in range(readings.shape[0]):
        key = readings[i].key
        means[key] = alpha * readings[i].value + (1.0 - alpha) * means[key]
        results[i] = means[key]


@njit(cache=True)
def long_by_key(readings: Any, steps: int, levels: Any, results: Any) -> None:
    """A long computation for each reading, and a level for each key that goes into it."""
    for i in range(readings.shape[0]):
        key = readings[i].key
        levels[key] = x = 0.5 * levels[key] + 0.5 * readings[i].value
        for _ in range(steps):
            x = 3.7 * x * (1.0 - x)
        results[i].key = key
        results[i].value = x


@njit(cache=True)
def in_dict(readings: Any, alpha: float, means: Any, results: Any) -> None:
    """The same in numba's dict."""
    for i in range(readings.shape[0]):
        key = readings[i].key
        mean = alpha * readings[i].value + (1.0 - alpha) * means.get(key, 0.0)
        means[key] = mean
        results[i] = mean


@njit(cache=True)
def put_all_in_dict(means: Any, count: int) -> None:
    """Each key of so many, and 0 for its mean."""
    for key in range(count):
        means[key] = 0.0


def options(count: int) -> Any:
    """So many call options, around the money."""
    found = np.zeros(count, OPTION)
    random = np.random.default_rng(1)
    found["spot"], found["strike"] = random.uniform(80, 120, (2, count))
    found["years"] = random.uniform(0.1, 2, count)
    return found


def prices_by_numpy(given: Any) -> Any:
    """What `price` gives, by NumPy and the standard library."""
    erf = np.frompyfunc(math.erf, 1, 1)
    spot, strike, years = given["spot"], given["strike"], given["years"]
    deviation = VOLATILITY * np.sqrt(years)
    d = (np.log(spot / strike) + (RATE + VOLATILITY**2 / 2) * years) / deviation
    normal = [0.5 * (1 + erf(x / math.sqrt(2)).astype(np.float64)) for x in (d, d - deviation)]
    return spot * normal[0] - strike * np.exp(-RATE * years) * normal[1]
