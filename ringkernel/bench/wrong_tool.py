"""Where ringkernel is the wrong tool, by the figures of a run: five lines at most, the worst first.

Each line stands for a row whose other side is what a user would take instead. It is said only where that side was
better by more than noise.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from .words import figure_of, number

if TYPE_CHECKING:
    from .model import Report, Row

LINES = 5
LEAST = 1.1
SIZES = "map_sizes"
INSTEAD = {
    (SIZES, "linear-reused-1"): "A few records at a time, in a plain loop: call an njit function.",
    ("cores", "linear-map-njit"): "Arrays and nothing else, a few operations each: call an njit function.",
    ("cores", "prices-map-prange"): "Arrays and nothing else, much work for each record: call a prange loop.",
    ("ewma", "one by one-Python function"): "One number after another, a few operations each: call a Python function.",
    ("ewma", "one by one-csp"): "Ticks one by one through a graph of small nodes: take csp.",
    ("fused", "map"): "A chain that you can write as one loop: write it, with njit.",
    ("coroutine", "flood"): "Coroutines that pass objects on: an asyncio.Queue.",
    ("send", "rate"): "Sends into another task of the same loop: an asyncio.Queue.",
    ("latency_open", "p99-10000"): "Answers at a steady rate, of which the slowest counts: an asyncio.Queue.",
    ("idle", "first-1ms"): "A message now and then, answered at once: an asyncio.Queue.",
    ("launch", "whole-cached"): "A program that is over in a second: an njit function.",
    ("launch", "whole-cold"): "A program that runs once on a machine: an njit function, or no compiler at all.",
}
"""What to say, by the case and the key of a row."""


def factor(row: Row) -> float:
    """How many times better the other side was; below 1 if it was worse, 0 without another side."""
    if row.beside is None or row.wrong or not row.ratios:
        return 0.0
    ratio = statistics.median(row.ratios)
    ours_is_better_above_1 = row.higher_is_better or row.inverted
    return (1 / ratio if ratio else 0.0) if ours_is_better_above_1 else ratio


def wrong_tool(report: Report) -> list[str]:
    """The lines, with this run's numbers."""
    there = {(case.name, row.key): row for case, row in report.rows}
    found = {name: factor(there[name]) for name in INSTEAD if name in there}
    worst = sorted((name for name in found if found[name] >= LEAST), key=lambda name: -found[name])[:LINES]
    return [f"{INSTEAD[name]} {_figures(there[name], found[name])}{_notes(report, name[0])}" for name in worst]


def _figures(row: Row, times: float) -> str:
    assert row.beside is not None
    return f"{row.beside.name}: {figure_of(row.beside)}, ringkernel: {figure_of(row.ours)} ({number(times)}x)."


def _notes(report: Report, name: str) -> str:
    """What is to be said of sizes: from how many records on it is otherwise."""
    case = report.case(name)
    return f" {'; '.join(case.notes)}." if case is not None and name == SIZES else ""
