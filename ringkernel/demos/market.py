"""A day of a stock market that never was: quotes and trades, drawn from a seed.

It has what makes recorded days awkward: much happens at the open and at the close, buyers come in runs and move the
price, and many times are equal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "HHH")
PRICES = (38.0, 212.0, 96.0, 17.0, 145.0, 61.0, 310.0, 8.0)  # at the open
OPEN, CLOSE = np.datetime64("2026-01-05T09:30", "ms"), np.datetime64("2026-01-05T16:00", "ms")
QUOTES_PER_TRADE = 5
TICK = 0.01

QUOTE = np.dtype([("time", "M8[ms]"), ("symbol", "i8"), ("bid", "f8"), ("ask", "f8")])
TRADE = np.dtype([("time", "M8[ms]"), ("symbol", "i8"), ("price", "f8"), ("size", "i8")])
"""Symbols by their place in SYMBOLS, prices in dollars."""


def make(n_trades: int, seed: int = 1) -> tuple[Any, Any]:
    """All quotes and all trades of the day, each in the order of their times."""
    rng = np.random.default_rng(seed)
    shares = np.diff(np.linspace(0, n_trades, len(SYMBOLS) + 1).astype(int))
    days = [_day_of(symbol, int(count), rng) for symbol, count in enumerate(shares) if count]
    quotes, trades = (np.concatenate(each) for each in zip(*days, strict=True))
    return _by_time(quotes), _by_time(trades)


def _by_time(records: Any) -> Any:
    return records[np.argsort(records["time"], kind="stable")]


def _day_of(symbol: int, n_trades: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Quotes and trades of one symbol: a price that wanders, and goes with who is in a hurry."""
    n_quotes = QUOTES_PER_TRADE * n_trades
    is_trade = np.append(rng.permutation(np.arange(n_quotes + n_trades - 1) < n_trades - 1), [True])
    day = (CLOSE - OPEN).astype(int)
    times = OPEN + np.sort((rng.beta(0.7, 0.8, len(is_trade)) * day).astype(int)).astype("m8[ms]")
    times[-1] = CLOSE  # the auction at the close
    turns = np.where(rng.random(len(is_trade)) < 0.1, -1, 1)
    side = np.cumprod(turns) * is_trade  # runs of ten buyers, and of ten sellers
    steps = 0.01 * rng.normal(0, 1, len(is_trade)) + 0.01 * side
    middle = PRICES[symbol] * np.exp(np.cumsum(steps) / np.sqrt(len(steps)))
    half = 0.0002 * PRICES[symbol] * rng.uniform(0.5, 1.5, len(steps)) + TICK / 2
    bid, ask = np.floor((middle - half) / TICK) * TICK, np.ceil((middle + half) / TICK) * TICK

    quotes = np.zeros(n_quotes, QUOTE)
    quotes["time"], quotes["symbol"] = times[~is_trade], symbol
    quotes["bid"], quotes["ask"] = bid[~is_trade].round(2), ask[~is_trade].round(2)
    trades = np.zeros(n_trades, TRADE)
    trades["time"], trades["symbol"] = times[is_trade], symbol
    trades["price"] = np.where(side > 0, ask, bid)[is_trade].round(2)
    trades["size"] = 100 * rng.geometric(0.4, n_trades)
    return quotes, trades
