"""csp: a graph of one node, its own compiled `stats.ema`, played over historical ticks.

Its documented way for bulk data: the ticks are a NumPy curve, and the output is collected as NumPy arrays. The time
is that of `csp.run`, which also builds the graph.
"""

from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any

import csp
import numpy as np
from csp import stats

from .smoothing import ALPHA, serve_ewma

START = datetime(2020, 1, 1)  # noqa: DTZ001 - csp's times have no zone
TICK = timedelta(microseconds=1)


@csp.graph
def _graph(ticks: object) -> None:
    csp.add_graph_output("mean", stats.ema(csp.curve(float, ticks), alpha=ALPHA, adjust=False))


def _ticks(values: list[float]) -> Any:
    times = np.datetime64(START, "ns") + np.arange(len(values)) * np.timedelta64(TICK)
    return times, np.array(values)


def _smooth(ticks: Any) -> Any:
    end = START + len(ticks[0]) * TICK
    return csp.run(_graph, ticks, starttime=START, endtime=end, output_numpy=True)["mean"][1]


if __name__ == "__main__":
    serve_ewma(f"csp {version('csp')}", _smooth, _ticks)
