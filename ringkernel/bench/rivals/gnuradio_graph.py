"""GNU Radio: a flow graph of y = a * x + b on float32.

Its own compiled blocks, one for the product and one for the sum of each stage, which is how GNU Radio spells it;
each block has a thread of its own. Buffers and the scheduler are left as they are, which its guide recommends.

Distributions package it for their own Python, so this file is run by its path, in an interpreter that needs to
know only GNU Radio and NumPy.
"""

from __future__ import annotations

import time

import numpy as np
from gnuradio import blocks as parts
from gnuradio import gr
from serving import serve  # type: ignore[import-not-found]  # beside this file, which is run by its path

A, B = 0.999, 0.25
TOLERANCE = 1e-5


def saxpy(stages: int, blocks: int, block_size: int) -> dict[str, float]:
    """`blocks` times a block of samples through `stages` stages; one sample per block, each at another place in it,
    is kept and compared with NumPy."""
    count = blocks * block_size
    samples = np.random.default_rng(1).standard_normal(block_size).astype(np.float32)
    stride = max(1, block_size - 1)

    graph = gr.top_block()
    source = parts.vector_source_f(samples.tolist(), True)
    head = parts.head(gr.sizeof_float, count)
    chain = [block for _ in range(stages) for block in (parts.multiply_const_ff(A), parts.add_const_ff(B))]
    thinned = parts.keep_one_in_n(gr.sizeof_float, stride)
    sink = parts.vector_sink_f()
    graph.connect(source, head, *chain, thinned, sink)

    start = time.perf_counter()
    graph.run()
    seconds = time.perf_counter() - start

    if thinned.nitems_read(0) != count:
        raise AssertionError(f"{thinned.nitems_read(0)} of {count} samples reached the end")
    expected = samples
    for _ in range(stages):
        expected = np.float32(A) * expected + np.float32(B)
    places = np.arange(stride - 1, count, stride) % block_size
    if not np.allclose(sink.data(), expected[places], rtol=TOLERANCE, atol=TOLERANCE):
        raise AssertionError("the flow graph computed something else")
    return {"seconds": seconds, "samples": count}


if __name__ == "__main__":
    serve("GNU Radio " + gr.version(), {"saxpy": saxpy})
