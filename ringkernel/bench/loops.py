"""Compiled loops over whole arrays: what a user would write instead of a kernel, with `njit` and `prange`.

    linear          2 x + 1 of float64: the memory is what takes time
    black_scholes   the price of a call option: arithmetic takes the time
    ewma            a running mean of all before, one after the other

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
