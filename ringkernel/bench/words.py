"""How every output says it: numbers, marks, and in a line what a run came to."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING

from .method import spread_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Report, Row, Series

_MARKS = "*†‡§¶abcdefghijklmnopqrstuvwxyz"


def number(value: float) -> str:
    """Three significant digits, or whole numbers from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def figure_of(series: Series) -> str:
    """A median with its unit, as in "2.05 µs"."""
    if not series.values:
        return "-"
    return f"{number(series.median)} {'µs' if series.unit == 'us' else series.unit}".rstrip()


def ratio(row: Row) -> str:
    """The median of the ratios, as in "1.05x"; nothing without one."""
    return f"{number(statistics.median(row.ratios))}x" if row.ratios else ""


def quartiles(row: Row) -> str:
    """The quartiles of the ratios, or of the values where there are none."""
    values: Sequence[float] = row.ratios or row.ours.values
    if len(values) < 2:
        return ""
    found = spread_of(values)
    return f"{number(found.low)} to {number(found.high)}"


def target_of(row: Row) -> str:
    """The target, with its unit as it is written."""
    return "" if row.target is None else str(row.target).replace(" us", " µs")


def footnotes(report: Report) -> dict[str, str]:
    """A mark for each different note, in the order in which they appear."""
    texts = dict.fromkeys(row.note for _, row in report.rows if row.note)
    return {text: _MARKS[i % len(_MARKS)] for i, text in enumerate(texts)}


def failures(report: Report) -> list[str]:
    """Every result that did not hold."""
    lines = [f"{case.name}: {case.error}" for case in report.cases if case.error]
    lines += [f"{case.name}: {row.figure}: {row.wrong}" for case, row in report.rows if row.wrong]
    return lines


def summary(report: Report) -> str:
    """How it went, in a line."""
    verdicts = Counter(row.verdict for _, row in report.rows if row.target is not None)
    targets = ", ".join(f"{verdicts[word]} {word}" for word in ("met", "missed", "unknown") if verdicts[word])
    compile_s = sum(case.compile_s for case in report.cases)
    return (
        f"{len(report.cases)} case{'s' * (len(report.cases) != 1)} in {report.seconds:.0f} s, "
        f"of which {compile_s:.0f} s compiling"
        + (f"; targets: {targets}" if targets else "")
        + ("." if report.holds else "; NOT every result held.")
    )
