"""What a span's commit does for the stages of a chain behind the first: all are where they would be had each run by
itself. Compiled. A kernel by itself has none, so that nothing is done here.

The rings between the stages are empty before and after. Their cursors, and the stages' ledgers, move on by what has
passed: so whoever looks at a stage, waits for its cursor or takes it apart from the others need not know. When a stage
has failed, the message lies in the ring before it, that stage's block says so, and the chain is one no more: its first
stage goes on by itself.
"""

from __future__ import annotations

from ringkernel.codegen.operations import copy_bytes, load, store, store_release
from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.layout import BLOCK, EDGE, RING, STAGES
from ringkernel.memory.span_layout import LANE, SPAN
from ringkernel.ring.block.ledger import keep_ledger, note_ledger
from ringkernel.ring.block.stages import further_stage, lane_of, record_of, stage_at
from ringkernel.ring.protocol.cursors import notify_producer, set_tail, slot_address


def begin_writing(block: int, stages: int) -> None:
    """Make the versions of the states odd, before the handlers write to them."""
    for i in range(load(stages + STAGES.n_stages)):
        stage = stage_at(block, stages, i)
        store_release(stage + BLOCK.state_version, load(stage + BLOCK.state_version) + 1)


def end_writing(block: int, stages: int) -> None:
    """Make the versions of the states even: they are whole again."""
    for i in range(load(stages + STAGES.n_stages)):
        stage = stage_at(block, stages, i)
        version = load(stage + BLOCK.state_version)
        store_release(stage + BLOCK.state_version, version + (version & 1))


def note_further(stages: int) -> None:
    """Note the stages' ledgers, and the cursors between them, as they are before a span is committed."""
    for i in range(1, load(stages + STAGES.n_stages)):
        stage = further_stage(stages, i)
        note_ledger(stage)
        store(lane_of(record_of(stage), 0) + LANE.head, load(ring_before(stages, i) + RING.next))


def edge_before(stages: int, number: int) -> int:
    """Return the edge that a stage, not the first, reads from."""
    return stages + load(stages + CHAIN.edges + 8 * number)


def ring_before(stages: int, number: int) -> int:
    """Return the ring that a stage, not the first, reads from."""
    edge = edge_before(stages, number)
    return edge + load(edge + EDGE.ring)


def arrived_before(stages: int, number: int) -> int:
    """Return how many messages had come to a stage, not the first, before the span."""
    return load(lane_of(record_of(further_stage(stages, number)), 0) + LANE.head)


def emitted_by_first(span: int, stages: int, processed: int) -> int:
    """Return how many messages the first stage has emitted."""
    if load(stages + STAGES.n_stages) == 1:
        return load(span + SPAN.emitted)
    return processed - load(stages + CHAIN.dropped) + load(stages + CHAIN.by_timer)


def emitted_by_timer(span: int, stages: int) -> int:
    """Return how many of them came of no message."""
    return load(span + SPAN.by_timer) if load(stages + STAGES.n_stages) == 1 else load(stages + CHAIN.by_timer)


def emitted_by(stages: int, number: int, processed: int) -> int:
    """Return how many messages a stage behind the first has emitted, or would have."""
    return processed - load(stages + CHAIN.dropped + 8 * number)


def move_tails(span: int, stages: int, processed: int) -> None:
    """Move the cursors of the rings between the stages on: all tails, and then all heads, so that a stage's output is
    final when its input is consumed. What the failing stage has not processed lies in the last slot before it."""
    count, missing = load(stages + STAGES.n_stages), load(span + SPAN.missing)
    arriving = emitted_by_first(span, stages, processed)
    for i in range(1, count):
        ring = ring_before(stages, i)
        tail = arrived_before(stages, i) + arriving
        if i == missing:
            slot, message = slot_address(ring, tail - 1), load(stages + CHAIN.failed_address)
            if slot != message:
                copy_bytes(slot, message, load(ring + RING.itemsize))
            arriving -= 1
        set_tail(ring, tail)
        arriving = emitted_by(stages, i, arriving)
    for i in range(1, count):
        tail = load(ring_before(stages, i) + RING.next)
        head = tail - 1 if i == missing else tail
        store_release(edge_before(stages, i) + EDGE.head, head)  # release: after all tails


def keep_further_ledgers(block: int, span: int, stages: int, arriving: int) -> int:
    """Count the span for each stage behind the first that something came to, with its part of the time. Return the sum
    of these parts."""
    count, missing, elapsed = load(stages + STAGES.n_stages), load(span + SPAN.missing), load(span + SPAN.busy_ticks)
    if count == 1:
        return 0
    total, came = load(span + SPAN.taken) + emitted_by_timer(span, stages), arriving
    total *= load(stages + CHAIN.parts)
    for i in range(1, count):
        total += came * load(stages + CHAIN.parts + 8 * i)
        came = emitted_by(stages, i, came - 1 if i == missing else came)
    others = 0
    for i in range(1, count):
        if arriving > 0:
            stage = further_stage(stages, i)
            processed = arriving - 1 if i == missing else arriving
            emitted = emitted_by(stages, i, processed)
            part = elapsed * (arriving * load(stages + CHAIN.parts + 8 * i)) // total
            keep_ledger(stage, arriving, processed, emitted if load(stage + BLOCK.output) != 0 else 0, 0, part)
            others += part
            arriving = emitted
    store(block + BLOCK.other_ticks, load(block + BLOCK.other_ticks) + others)
    return others


def notify_watchers(stages: int, here: int) -> None:
    """Ring who waits for the cursor of a stage."""
    for i in range(1, load(stages + STAGES.n_stages)):
        edge = edge_before(stages, i)
        notify_producer(edge, load(edge + EDGE.head), here)
