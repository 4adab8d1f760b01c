"""Numbers and marks as they are written in every output."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from .method import spread_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Report, Row, Series

_MARKS = "*†‡§¶abcdefghijklmnopqrstuvwxyz"
NAMES = {"us": "µs"}


def number(value: float) -> str:
    """Three significant digits, or whole numbers from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def figure_of(series: Series) -> str:
    """A median with its unit, as in "2.05 µs"."""
    if not series.values:
        return "-"
    return f"{number(series.median)} {NAMES.get(series.unit, series.unit)}".rstrip()


def ratio(row: Row) -> str:
    """The median of the ratios, as in "1.05x"; nothing without one."""
    return f"{number(statistics.median(row.ratios))}x" if row.ratios else ""


def judged(row: Row) -> Sequence[float]:
    """What the spread is shown of: the ratios, or the values where there are none."""
    return row.ratios or row.ours.values


def spread(values: Sequence[float]) -> str:
    """The quartiles."""
    if len(values) < 2:
        return ""
    found = spread_of(values)
    return f"{number(found.low)} to {number(found.high)}"


def target_of(row: Row) -> str:
    """The target, with its unit as it is written."""
    if row.target is None:
        return ""
    text = str(row.target)
    return text.replace(" us", " µs")


def footnotes(report: Report) -> dict[str, str]:
    """A mark for each different note, in the order in which they appear."""
    texts = dict.fromkeys(row.note for case in report.cases for row in case.rows if row.note)
    return {text: _MARKS[i % len(_MARKS)] for i, text in enumerate(texts)}


def mark_of(row: Row, notes: dict[str, str]) -> str:
    """The row's footnote mark, or nothing if it is like for like."""
    return f" {notes[row.note]}" if row.note in notes else ""
