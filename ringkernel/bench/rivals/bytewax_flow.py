"""bytewax: a flow of one key and a `stateful_map`, in this process.

Its testing source and sink, which cost least; the source gives a thousand numbers at once, which takes a tenth of the
time that its default of one does.
"""

from importlib.metadata import version
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from .smoothing import serve_ewma, step

AT_ONCE = 1000


def _smooth(values: list[float]) -> list[float]:
    found: list[float] = []
    flow = Dataflow("ewma")
    numbers: Any = op.input("numbers", flow, TestingSource(values, batch_size=AT_ONCE))
    keyed = op.key_on("key", numbers, lambda _value: "all")
    means = op.stateful_map("mean", keyed, lambda mean, value: 2 * (step(mean, value),))
    op.output("means", op.map("bare", means, lambda item: item[1]), TestingSink(found))
    run_main(flow)
    return found


if __name__ == "__main__":
    serve_ewma(f"bytewax {version('bytewax')}", _smooth)
