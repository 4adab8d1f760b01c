"""Percentiles, from an HDR histogram: three significant digits from 1 ns to a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .context import series_of
from .model import Distribution, Series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .method import Samples

_HIGHEST_NS = 60_000_000_000
_DIGITS = 3
PERCENTILES = (50.0, 99.0, 99.9)
CURVE = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0)


class Latencies:
    """Latencies in ns of one round, or of several."""

    def __init__(self, values_ns: Iterable[int] = ()) -> None:
        from hdrh.histogram import HdrHistogram

        self._histogram: Any = HdrHistogram(1, _HIGHEST_NS, _DIGITS)
        for value in values_ns:
            self._histogram.record_value(max(1, int(value)))

    def add(self, other: Latencies) -> None:
        """Take those in, too."""
        self._histogram.add(other._histogram)

    def ns(self, percentile: float) -> float:
        """The latency at a percentile."""
        return float(self._histogram.get_value_at_percentile(percentile))

    def distribution(self, name: str) -> Distribution:
        """The curve that is plotted."""
        return Distribution(name, tuple((percentile, self.ns(percentile)) for percentile in CURVE))


def all_of(samples: Samples[Latencies]) -> Latencies:
    """Those of all rounds together."""
    total = Latencies()
    for part in samples.values:
        total.add(part)
    return total


def percentile_of(name: str, samples: Samples[Latencies], percentile: float) -> Series:
    """A percentile of each round, in microseconds."""
    return series_of(name, "us", samples, lambda part: part.ns(percentile) / 1e3)
