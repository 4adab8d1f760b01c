"""Format numbers for people, short enough for a table of 80 columns."""

from __future__ import annotations

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def duration(ns: float) -> str:
    """Return a duration in nanoseconds as text: '1.2µs'."""
    return _short(ns, _TIMES) or f"{ns:.3g}ns"


def amount(count: float) -> str:
    """Return a number of messages as text: '1.2M'."""
    return _short(count, _COUNTS) or f"{count:.0f}"


def _short(value: float, units: tuple[tuple[float, str], ...]) -> str:
    return next((f"{value / size:.3g}{unit}" for size, unit in units if value >= size), "")


def share(part: float | None) -> str:
    """Return a part of the whole as text: '12%'."""
    return "" if part is None else f"{part:.0%}"
