"""What a run came to, in a few lines, for every kind of output."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Report


def failures(report: Report) -> list[str]:
    """Every result that did not hold."""
    lines = [f"{case.name}: {case.error}" for case in report.cases if case.error]
    lines += [f"{case.name}: {row.figure}: {row.wrong}" for case in report.cases for row in case.rows if row.wrong]
    return lines


def summary(report: Report) -> str:
    """How it went, in a line."""
    verdicts = Counter(row.verdict for case in report.cases for row in case.rows if row.target is not None)
    targets = ", ".join(f"{verdicts[word]} {word}" for word in ("met", "missed", "unknown") if verdicts[word])
    compile_s = sum(case.compile_s for case in report.cases)
    return (
        f"{len(report.cases)} case{'s' * (len(report.cases) != 1)} in {report.seconds:.0f} s, "
        f"of which {compile_s:.0f} s compiling"
        + (f"; targets: {targets}" if targets else "")
        + ("." if report.holds else "; NOT every result held.")
    )
