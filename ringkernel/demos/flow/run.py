"""The demo from the command line: make the day, run it, print what happened, and draw it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from ringkernel.demos.market import SYMBOLS, make

from . import drawing, reference
from .streaming import stream

if TYPE_CHECKING:
    from .streaming import Outcome

TRADES = 200_000


def run(limit: int | None = None, queue_size: int = 4096, picture: str = "flow.png") -> int:
    """Run the demo and print what happened; 0 if the result equals what pandas computes, else 1."""
    console = Console(highlight=False, soft_wrap=True)
    quotes, trades = make(limit or TRADES)
    console.print(
        f"Made {len(trades):,} trades and {len(quotes):,} quotes of one day\nfrom a seed: this market never was."
    )
    outcome = asyncio.run(
        stream(quotes, trades, queue_size, lambda s: console.print(f"Launched 4 kernels, 6 handlers, in {s:.2f} s."))
    )
    rate = (len(quotes) + len(trades)) / outcome.running_s
    console.print(f"Ran for {outcome.running_s:.3f} s: {rate:,.0f} records/s.")
    started = time.perf_counter()
    joined, found = reference.compute(quotes, trades)
    console.print(f"pandas took {time.perf_counter() - started:.3f} s, over whole tables.")
    report(console, outcome)
    wrong = reference.differences(outcome, joined, found)
    if wrong:
        console.print(f"[bold red]NOT what pandas computes:[/] {', '.join(wrong)} differs.")
        return 1
    console.print(
        f"[bold green]Equal to what pandas computes[/], for all\n{len(joined):,} joined trades and {len(found):,} bars."
    )
    if len(found):
        drawing.save(outcome, picture)
        console.print(f"Picture: {Path(picture).resolve()}")
    return 0


def report(console: Console, outcome: Outcome) -> None:
    """Print a table of the kernels and one of the symbols, where buyers press most first."""
    headings = [Column(name, justify="right") for name in ("In", "Out", "ns each")]
    kernels = Table("Kernel", *headings)
    for kernel_id, counts in outcome.statistics.items():
        each_ns = 1e9 * counts.busy_s / max(counts.processed, 1)
        kernels.add_row(kernel_id, f"{counts.processed:,}", f"{counts.emitted:,}", f"{each_ns:.1f}")
    headings = [Column(name, justify="right") for name in ("Trades", "Cost, c", "Last, $", "Flow, k", "Pressure")]
    symbols = Table("Symbol", *headings)
    rows = [row for row in (of_symbol(outcome, i) for i in range(len(SYMBOLS))) if row is not None]
    for name, count, cost, last, flow, pressure in sorted(rows, key=lambda row: -row[-1]):
        symbols.add_row(name, f"{count:,}", f"{cost:.2f}", f"{last:.2f}", f"{flow / 1e3:,.0f}", f"{pressure:+.2f}")
    console.print(kernels, symbols)


def of_symbol(outcome: Outcome, symbol: int) -> tuple[Any, ...] | None:
    """Say of a symbol: cents that a share cost, the last price, shares bought less those sold, the last signal."""
    costs = outcome.costs[outcome.costs["symbol"] == symbol]
    signals = outcome.signals[outcome.signals["symbol"] == symbol]
    if not len(signals):
        return None
    cents = 100 * costs["cost"].sum() / costs["size"].sum()
    last = signals[-1]
    return SYMBOLS[symbol], len(costs), cents, last["last"], int(np.sum(signals["flow"])), last["pressure"]
