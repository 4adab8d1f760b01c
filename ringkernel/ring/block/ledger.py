"""A kernel's ledger: what has become of its messages, and what they cost. Compiled."""

from __future__ import annotations

from ringkernel.codegen.operations import fence_release, load, store, store_release
from ringkernel.memory.layout import BLOCK, HISTOGRAM_BUCKETS, RING
from ringkernel.memory.span_layout import SPAN
from ringkernel.ring.protocol.cursors import slowest_head

from .stages import record_of

COST_WEIGHT = 8
"""What a message costs follows what it was in the last spans, with the inverse of this as weight."""


def note_ledger(block: int) -> None:
    """Note what a kernel's ledger is before a span is committed."""
    span = record_of(block)
    store(span + SPAN.ledger_version, load(block + BLOCK.ledger_version))
    store(span + SPAN.processed, load(block + BLOCK.processed))
    store(span + SPAN.failed, load(block + BLOCK.failed))
    store(span + SPAN.emitted_before, load(block + BLOCK.emitted))
    store(span + SPAN.dropped, load(block + BLOCK.dropped))


def keep_ledger(block: int, taken: int, processed: int, emitted: int, by_timer: int, elapsed: int) -> None:
    """Count a span, once; `by_timer` of the emitted came of no message. Readers retry while `ledger_version` is odd or
    changes. If whoever did so before was stopped halfway, messages are counted right all the same, and times twice."""
    span = record_of(block)
    version = load(span + SPAN.ledger_version)
    if load(block + BLOCK.ledger_version) > version + 1:
        return  # it was counted
    store(block + BLOCK.ledger_version, version + 1)
    fence_release()
    store(block + BLOCK.processed, load(span + SPAN.processed) + processed)
    store(block + BLOCK.failed, load(span + SPAN.failed) + taken - processed)
    store(block + BLOCK.in_flight, 0)
    store(block + BLOCK.emitted, load(span + SPAN.emitted_before) + emitted)
    if load(block + BLOCK.max_outputs) == 1 and load(block + BLOCK.output) != 0:
        store(block + BLOCK.dropped, load(span + SPAN.dropped) + processed - (emitted - by_timer))
    _add(block + BLOCK.busy_ticks, elapsed)
    _add(block + BLOCK.turns, 1)
    if taken > 0:
        exact = (elapsed << 6) // taken
        store(block + BLOCK.cost, follow(load(block + BLOCK.cost), exact))
        each, bucket = exact >> 6, 0
        while each > 1 and bucket < HISTOGRAM_BUCKETS - 1:
            each >>= 1
            bucket += 1
        _add(block + BLOCK.histogram + 8 * bucket, taken)
    store_release(block + BLOCK.ledger_version, version + 2)


def follow(cost: int, exact: int) -> int:
    """The cost of a message after a span in which it was `exact`. One that took very long says little: the system may
    have let another thread run meanwhile."""
    return exact if cost == 0 else cost + (min(exact, 4 * cost + 1) - cost) // COST_WEIGHT


def _add(address: int, amount: int) -> None:
    store(address, load(address) + amount)


def note_peak(block: int, output: int, tail: int) -> None:
    """Keep the depth of the output ring if it is the greatest so far. The consumers are looked at only if the cached
    cursor says that it may be."""
    if tail - load(output + RING.low) > load(block + BLOCK.peak_output_depth):
        low = slowest_head(output)
        store(output + RING.low, low)
        store(block + BLOCK.peak_output_depth, max(load(block + BLOCK.peak_output_depth), tail - low))
