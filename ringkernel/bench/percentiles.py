"""Percentiles, from an HDR histogram: three significant digits from 1 ns to a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .context import series_of
from .model import Distribution, Series

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .method import Samples

PERCENTILES = (50.0, 99.0, 99.9)
CURVE = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0)


class Latencies:
    """Latencies in ns of one round, or of several."""

    def __init__(self, values_ns: Iterable[int] = ()) -> None:
        from hdrh.histogram import HdrHistogram

        self.histogram: Any = HdrHistogram(1, 60_000_000_000, 3)
        for value in values_ns:
            self.histogram.record_value(max(1, int(value)))

    def ns(self, percentile: float) -> float:
        """The latency at a percentile."""
        return float(self.histogram.get_value_at_percentile(percentile))

    @classmethod
    def curve(cls, name: str, samples: Samples[Latencies]) -> Distribution:
        """What is plotted: those of all rounds together."""
        total = cls()
        for part in samples.values:
            total.histogram.add(part.histogram)
        return Distribution(name, tuple((percentile, total.ns(percentile)) for percentile in CURVE))


def percentile_of(name: str, samples: Samples[Latencies], percentile: float) -> Series:
    """A percentile of each round, in microseconds."""
    return series_of(name, "us", samples, lambda part: part.ns(percentile) / 1e3)
