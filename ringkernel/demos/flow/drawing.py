"""A picture of one symbol's day: its bars, what was bought and sold, and the signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.demos.market import SYMBOLS

from .kernels import SPAN

if TYPE_CHECKING:
    from .streaming import Outcome

UP, DOWN, INK = "#0b6e99", "#c05621", "#222222"


def save(outcome: Outcome, path: str) -> None:
    """Write it as PNG: of the symbol whose pressure was greatest, one way or the other."""
    import matplotlib.dates as mdates
    from matplotlib.figure import Figure

    greatest = abs(outcome.signals["pressure"]).argmax()
    symbol = outcome.signals["symbol"][greatest]
    bars = outcome.signals[outcome.signals["symbol"] == symbol]
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    prices, flow, signal = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 1))
    colours = [UP if bar["last"] >= bar["first"] else DOWN for bar in bars]
    prices.vlines(bars["time"], bars["low"], bars["high"], colors=colours, linewidth=1)
    prices.vlines(bars["time"], bars["first"], bars["last"], colors=colours, linewidth=2.5)
    prices.set_title(f"{SYMBOLS[symbol]}, a bar a minute (a market made from a seed)", loc="left", color=INK)
    prices.set_ylabel("$")
    flow.vlines(bars["time"], 0, bars["flow"] / 1000, colors=[UP if each > 0 else DOWN for each in bars["flow"]])
    flow.set_ylabel("bought less\nsold, 1000")
    signal.plot(bars["time"], bars["pressure"], color=INK, linewidth=1.2)
    signal.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    signal.set_ylabel(f"pressure,\n{SPAN} bars")
    signal.xaxis.set_major_formatter(mdates.DateFormatter("%H:%M"))
    for axes in (prices, flow, signal):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130, format="png")
