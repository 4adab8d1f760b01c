"""The same with pandas, of whole tables: an as-of join, bars, moving averages; and in what the kernels differ."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .kernels import SPAN

if TYPE_CHECKING:
    from .streaming import Outcome

EXACT = ("time", "symbol", "price", "size", "bid", "ask", "first", "high", "low", "last", "volume", "flow")


def join(quotes: Any, trades: Any) -> pd.DataFrame:
    """Give each trade the last quote of its symbol; those before the first quote are left out."""
    joined = pd.merge_asof(pd.DataFrame(trades), pd.DataFrame(quotes), on="time", by="symbol").dropna(subset=["ask"])
    middle = (joined["bid"] + joined["ask"]) / 2
    joined["cost"] = joined["size"] * (joined["price"] - middle).abs()
    joined["flow"] = joined["size"] * np.sign(joined["price"] - middle).astype("int64")
    return joined


def bars(joined: pd.DataFrame) -> pd.DataFrame:
    """Make a row of each minute of a symbol that has trades, and that is over when the last one comes."""
    minute = pd.Grouper(key="time", freq="1min", closed="left", label="right")
    groups = joined.groupby(["symbol", minute])
    found: pd.DataFrame = groups.agg(
        first=("price", "first"),
        high=("price", "max"),
        low=("price", "min"),
        last=("price", "last"),
        volume=("size", "sum"),
        flow=("flow", "sum"),
    )
    is_there = (found["volume"] > 0) & (found.index.get_level_values("time") <= joined["time"].iloc[-1])
    there: pd.DataFrame = found[is_there]
    return there.reset_index()


def signals(found: pd.DataFrame) -> pd.DataFrame:
    """Weigh what was bought against what was sold."""
    means = found.groupby("symbol")[["flow", "volume"]].ewm(span=SPAN, adjust=False).mean().reset_index(drop=True)
    return found.assign(pressure=means["flow"] / means["volume"])


def compute(quotes: Any, trades: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All of it: the trades, and the bars with their signals."""
    joined = join(quotes, trades)
    return joined, signals(bars(joined))


def differences(outcome: Outcome, joined: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Name everything in which the kernels and pandas differ: prices and counts to the last bit, sums to 1e-12."""
    wrong = []
    by_symbol = outcome.signals[np.argsort(outcome.signals["symbol"], kind="stable")]
    for ours, theirs in ((outcome.costs, joined), (by_symbol, found)):
        if len(ours) != len(theirs):
            return [f"{len(ours):,} rows, not {len(theirs):,}"]
        for name in ours.dtype.names:
            there = theirs[name].to_numpy()
            is_equal = (
                np.array_equal(ours[name], there) if name in EXACT else np.allclose(ours[name], there, 1e-12, 1e-12)
            )
            wrong += [] if is_equal else [name]
    return wrong
