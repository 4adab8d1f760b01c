"""Writing the records of new rings and edges: a map makes two rings, and as NumPy records they take longer than all the
rest of it. Compiled."""

from __future__ import annotations

from ringkernel.codegen.operations import fence, load, store, store_release, ticks
from ringkernel.memory.layout import EDGE, LINE, NEVER, NO_TIME, RING, RING_DTYPE
from ringkernel.memory.span_layout import LANE, LANE_NBYTES, LANES, SPAN

RING_NBYTES = RING_DTYPE.itemsize
EDGE_TABLE = LINE // 16
"""For so many edges the line after a ring's record has two words: where it is, and how long the producer has waited for
it."""


def lay_out_ring(ring: int, slots: int, capacity: int, itemsize: int, end: int) -> int:
    """The record of a ring whose memory is zero: its slots are at the address `slots`, its table follows it, and
    nothing is published from `end` on."""
    store(ring + RING.slots, slots - ring)
    store(ring + RING.capacity, capacity)
    store(ring + RING.itemsize, itemsize)
    store(ring + RING.edges, RING_NBYTES)
    store(ring + RING.waits, RING_NBYTES + 8 * EDGE_TABLE)
    store(ring + RING.wanted, NEVER)
    store(ring + RING.end, end)
    store(ring + RING.progress, NO_TIME)
    store(ring + RING.low, NEVER)  # not looked at yet
    return 0


def lay_out_edge(edge: int, ring: int, head: int) -> int:
    """The record of an edge whose memory is zero: the next sequence that it takes is `head`."""
    store(edge + EDGE.ring, ring - edge)
    store(edge + EDGE.head, head)
    store(edge + EDGE.limit, NEVER)
    store(edge + EDGE.watch, NEVER)
    return 0


def enter_edge(ring: int, index: int, edge: int, count: int) -> int:
    """Enter an edge in a ring's table, of which `count` entries count from now on."""
    store(ring + load(ring + RING.edges) + 8 * index, edge - ring)
    store(ring + load(ring + RING.waits) + 8 * index, 0)
    store_release(ring + RING.n_edges, count)  # release: the table is as new
    fence()
    return 0


def lay_out_span(span: int, patience_ticks: int, n_inputs: int) -> int:
    """The record, whose memory is zero, of a kernel that goes by time and has seen nothing yet."""
    store(span + SPAN.by_time, 1)
    store(span + SPAN.patience_ticks, patience_ticks)
    store(span + SPAN.passed, NO_TIME)
    store(span + SPAN.low, NO_TIME)
    store(span + SPAN.told, NO_TIME)
    store(span + SPAN.timer, NO_TIME)
    for number in range(n_inputs):
        lane = span + LANES + LANE_NBYTES * number
        store(lane + LANE.last, NO_TIME)
        store(lane + LANE.seen_progress, NO_TIME)
        store(lane + LANE.news_at, ticks())
    return 0
