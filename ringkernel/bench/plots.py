"""Pictures of a report: throughput by batch size, latency distribution, scaling by kernels, the saxpy chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError

from .method import spread_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .model import Report, Row

INK, OURS, FLOOR = "#222222", "#0b6e99", "#c05621"
OTHERS = ("#7a8b99", "#a0aec0", "#8d6e97", "#6b8f71", "#b7950b", "#a04747", "#4d6fb0")
SECOND = "#58a4c4"
_STYLE = {
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.titlesize": 12.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
}


class NothingToPlotError(ValueError):
    """None of the cases that have a picture are in the report."""


def check_picture(path: str, cases: Iterable[str]) -> None:
    """Raises `ConfigurationError` for cases without a picture, and for a name that promises something else than PNG."""
    if not PANELS.keys() & set(cases):
        raise ConfigurationError(f"there is nothing to plot: only {', '.join(PANELS)} have pictures")
    if Path(path).suffix.lower() not in ("", ".png"):
        raise ConfigurationError(f"{path!r} is the name of something else; pictures are PNG, as in report.png")


def save(report: Report, path: str | Path) -> None:
    """Write the figure as PNG. Raises `NothingToPlotError`."""
    figure_of(report).savefig(path, dpi=150, format="png")


def figure_of(report: Report) -> Any:
    """A matplotlib figure with one panel for each case that has a picture. Raises `NothingToPlotError`."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    panels = [draw for name, draw in PANELS.items() if _rows(report, name)]
    if not panels:
        raise NothingToPlotError(f"there is nothing to plot: none of {', '.join(PANELS)} has results in this report")
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.0 * columns, 4.6 * lines + 0.7), layout="constrained")
        places = figure.subplots(lines, columns, squeeze=False).flatten()
        for draw, axes in zip(panels, places, strict=False):
            draw(axes, report)
        for axes in places[len(panels) :]:
            axes.set_axis_off()
        machine, budget = report.machine, report.options.get("budget")
        rounds = budget.get("rounds", "?") if isinstance(budget, Mapping) else "?"
        where = f"{machine.get('cpu', '?')}, {machine.get('cores', '?')} cores, {machine.get('python', '?')}"
        text = f"{where}, {report.created[:10]}; medians of {rounds} rounds, bars: quartiles"
        figure.supxlabel(text, fontsize=9, color="#666666")
    return figure


def _rows(report: Report, case: str, prefix: str = "") -> list[Row]:
    found = report.case(case)
    rows = found.rows if found is not None else ()
    return [row for row in rows if row.key.startswith(prefix) and row.ours.values and not row.wrong]


def _line(axes: Any, x: Sequence[float], values: Iterable[Sequence[float]], **style: Any) -> None:
    """Medians, with the quartiles as bars."""
    spreads = [spread_of(value) for value in values]
    bars = [[s.median - s.low for s in spreads], [s.high - s.median for s in spreads]]
    axes.errorbar(x, [s.median for s in spreads], yerr=bars, marker="o", capsize=3, elinewidth=1.2, **style)


def _label(axes: Any, title: str, ticks: Mapping[Any, str], x: str, y: str) -> None:
    """What is written beside a panel: at the ticks of its x axis, at both axes, above it."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()


def _plain_numbers(axes: Any, steps: tuple[int, ...]) -> None:
    """Label a logarithmic axis with 10, 30, 100 instead of powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=steps))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _batches(axes: Any, report: Report) -> None:
    rows = [row for row in _rows(report, "ring_one_way", "batch") if "batched" not in row.key]
    capacities = sorted({row.params["capacity"] for row in rows})
    for colour, capacity in zip((SECOND, OURS), capacities, strict=False):
        mine = sorted((r for r in rows if r.params["capacity"] == capacity), key=lambda row: int(row.params["batch"]))
        label = f"ringkernel, {capacity:,} slots"
        _line(axes, [r.params["batch"] for r in mine], [r.ours.values for r in mine], color=colour, label=label)
        if mine and mine[0].beside is not None and mine[0].beside.values:
            median, dashes = mine[0].beside.median, "--" if capacity == capacities[-1] else ":"
            axes.axhline(median, color=FLOOR, linestyle=dashes, label=f"C++ ring, one by one, {capacity:,} slots")
    ticks = {batch: str(batch) for batch in sorted({row.params["batch"] for row in rows})}
    axes.set(xscale="log", yscale="log")
    _plain_numbers(axes, (1, 3))
    _label(axes, "16-byte records, one thread to another", ticks, "records per batch", "million records/s")
    axes.legend(fontsize=9)


def _latencies(axes: Any, report: Report) -> None:
    others = iter(OTHERS * 3)
    for name, ours, dashes in ("latency", OURS, "-"), ("latency_open", SECOND, "--"):
        case = report.case(name)
        for distribution in case.distributions if case is not None else ():
            # a percentile p at 1/(1-p): 90 %, 99 % and 99.9 % are equally far apart
            points = [(1 / (1 - p / 100), ns / 1e3) for p, ns in distribution.points if p < 99.99]
            is_ours = distribution.name.startswith("ringkernel")
            style = {"color": ours if is_ours else next(others), "linewidth": 2.6 if is_ours else 1.4}
            axes.plot(*zip(*points, strict=True), linestyle=dashes, label=distribution.name, **style)
    axes.set(xscale="log", yscale="log")
    _plain_numbers(axes, (1,))
    ticks = {1: "0", 2: "50 %", 10: "90 %", 100: "99 %", 1_000: "99.9 %"}
    _label(axes, "Python to a kernel and back", ticks, "percentile", "round trip, µs")
    axes.legend(fontsize=8.5, ncols=2)


def _kernels(axes: Any, report: Report) -> None:
    rows = _rows(report, "many", "shared-")
    sizes = [row.params["kernels"] for row in rows]
    _line(axes, sizes, [row.ours.values for row in rows], color=OURS)
    axes.set(xscale="log")
    axes.set_ylim(bottom=0)
    ticks, y = {size: f"{size:,}" for size in sizes}, "µs per message, there and back"
    _label(axes, "1 to 10,000 kernels on the pool", ticks, "kernels that share the traffic", y)


def _chain(axes: Any, report: Report) -> None:
    found = _rows(report, "saxpy", "stages-")
    rows = [row for row in found if row.key.removeprefix("stages-").isdecimal() and row.ratios]
    stages = [row.params["stages"] for row in rows]
    _line(axes, stages, [row.ratios for row in rows], color=OURS, label="per stage, one worker")
    axes.axhline(1.0, color=FLOOR, linestyle="--", label="bare loop in cache")
    axes.set_ylim(bottom=0)
    ticks = {n: str(n) for n in stages}
    _label(axes, "The saxpy chain", ticks, "stages of y = a·x + b", "fraction of the bare loop")
    axes.legend(fontsize=9)


PANELS: dict[str, Callable[[Any, Report], None]] = {
    "ring_one_way": _batches,
    "latency": _latencies,
    "many": _kernels,
    "saxpy": _chain,
}
