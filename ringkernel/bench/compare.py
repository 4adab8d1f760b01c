"""Two reports side by side: what got better, what got worse, and what is within noise.

Absolute times on a shared machine mean little from one day to the next, so a row that has something beside it is
compared by its ratio to that, and only a row without by its own figure. A change is noise if it is smaller than 5 %,
or than half the distance between the quartiles, relative to the median, of either run.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from .method import spread_of
from .words import number

if TYPE_CHECKING:
    from rich.console import Console

    from .model import Report, Row

Change = Literal["better", "worse", "within noise", "new", "gone"]
LEAST = 0.05
_COLOURS: dict[Change, str] = {"better": "green", "worse": "red", "within noise": "dim", "new": "dim", "gone": "dim"}
_FACTS = ("cpu", "cores", "python", "packages")


@dataclass(frozen=True)
class Difference:
    """One row in both reports. `factor` is new over old, `noise` the relative change that would say nothing."""

    case: str
    figure: str
    change: Change
    what: str = ""
    old: float = math.nan
    new: float = math.nan
    noise: float = math.nan

    @property
    def factor(self) -> float:
        """New over old."""
        return self.new / self.old if self.old else math.nan


def compare(old: Report, new: Report) -> list[Difference]:
    """Every row of either report, in the order of the new one."""
    before = {(case.name, row.key): row for case, row in old.rows}
    ran = {case.name for case in new.cases}
    found = []
    for case, row in new.rows:
        other = before.pop((case.name, row.key), None)
        found.append(Difference(case.name, row.figure, "new") if other is None else _compared(case.name, other, row))
    return found + [Difference(case, row.figure, "gone") for (case, _), row in before.items() if case in ran]


def _compared(case: str, old: Row, new: Row) -> Difference:
    if old.ratios and new.ratios:
        was, now, higher, what = old.ratios, new.ratios, new.higher_is_better or new.inverted, "ratio"
    elif old.ours.values and new.ours.values and not (old.wrong or new.wrong):
        was, now, higher, what = old.ours.values, new.ours.values, new.higher_is_better, new.ours.unit
    else:
        return Difference(case, new.figure, "new" if not new.wrong else "gone")
    a, b = statistics.median(was), statistics.median(now)
    noise = max(LEAST, spread_of(was).relative, spread_of(now).relative)
    change: Change = "better" if (b > a) == higher else "worse"
    if a == b or (a > 0 and b > 0 and abs(math.log(b / a)) <= math.log1p(noise)):
        change = "within noise"
    return Difference(case, new.figure, change, what, a, b, noise)


def different_machines(old: Report, new: Report) -> list[str]:
    """Facts about the machine in which the two differ."""
    facts = [(fact, old.machine.get(fact, "?"), new.machine.get(fact, "?")) for fact in _FACTS]
    return [f"{fact}: {before} then, {now} now" for fact, before, now in facts if before != now]


def print_comparison(old: Report, new: Report, console: Console) -> None:
    """A table of what changed, and how many rows did not."""
    from rich import box
    from rich.markup import escape
    from rich.table import Column, Table

    differences = compare(old, new)
    for line in different_machines(old, new):
        console.print(f"[yellow]Warning:[/] not the same circumstances: {escape(line)}", highlight=False)
    figures = [Column(name, justify="right") for name in ("then", "now", "change", "noise")]
    title = f"Compared with the run of {old.created}"
    columns: list[Column | str] = ["case", "figure", "compared", *figures, ""]
    table = Table(*columns, title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for item in differences:
        if item.change == "within noise":
            continue
        cells = [item.what, "", "", "", ""]
        if not math.isnan(item.factor):
            change, noise = f"{100 * (item.factor - 1):+.0f} %", f"± {100 * item.noise:.0f} %"
            cells = [item.what, number(item.old), number(item.new), change, noise]
        texts = map(escape, (item.case, item.figure, *cells))
        table.add_row(*texts, f"[{_COLOURS[item.change]}]{item.change}[/]")
    if table.row_count:
        console.print(table)
    counts = Counter(item.change for item in differences)
    changes = ", ".join(f"{counts[word]} {word}" for word in _COLOURS if counts[word])
    console.print(f"{title}: {changes}.", highlight=False, markup=False)
