"""Numbers as people read them, short enough for a table of 80 columns."""

from __future__ import annotations

_TIMES = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def duration(ns: float) -> str:
    """A duration in nanoseconds: '1.2µs'."""
    for size, unit in _TIMES:
        if ns >= size:
            return f"{ns / size:.3g}{unit}"
    return f"{ns:.3g}ns"


def amount(count: float) -> str:
    """A number of messages: '1.2M'."""
    for size, unit in _COUNTS:
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def share(part: float | None) -> str:
    """A part of the whole: '12%'."""
    return "" if part is None else f"{part:.0%}"
