"""Running a span: take messages that have room for their outputs, call the handler, commit, publish, count. Compiled.

The order of the steps is what others rely on: outputs before the input's cursor, both before the looks at doorbells.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    compare_exchange,
    copy_bytes,
    fence,
    fence_release,
    load,
    store,
    store_release,
)
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, EDGE, HISTOGRAM_BUCKETS, RING, RUN_ENTRY, STATUS_FAILED

from .protocol import bound_of, notify_consumers, notify_producer, room_of, set_tail, slot_address, slowest_head
from .split_span import PIECE, lead, run_alone, span_length, unless_split
from .token import IDLE, LEFT, WORKED, give_back

SPAN_LIMIT = PIECE
"""Messages in a span that is not split, at most."""
TELLING = 64
"""A span of so many messages, or one that was long enough, tells what a message costs."""
COST_WEIGHT = 8
"""What a message costs follows what it was in the last spans, with the inverse of this as weight."""
QUICK = 16
"""A span is quick if it takes less than this part of the time that spans are to take."""


def run_span(block: int, run_entry: int, edge: int, here: int) -> int:
    """Run the handler over the next messages from `edge` that lie in one piece and have room, and publish.

    In one function, from the room to the last doorbell: others rely on the order of these steps.
    """
    head = load(edge + EDGE.head)
    source_ring = edge + load(edge + EDGE.ring)
    capacity = load(source_ring + RING.capacity)
    waiting = bound_of(edge, head) - head
    count = min(waiting, capacity - (head & (capacity - 1)))
    limit = span_length(block, run_entry, count) if here == 0 else load(run_entry + RUN_ENTRY.span_limit)
    count = min(count, limit)
    output, target, tail = 0, 0, 0
    if load(block + BLOCK.output) != 0:
        output = block + load(block + BLOCK.output)
        tail = load(output + RING.next)
        target = slot_address(output, tail)
        count = with_room(output, tail, count, load(block + BLOCK.max_outputs))
        if count == 0:
            store(block + BLOCK.blocked, 1)
            return IDLE
        count = unless_split(run_entry, count)
    store(block + BLOCK.blocked, 0)
    store(block + BLOCK.in_flight, count)
    store(block + BLOCK.fault_edge, edge - block)
    emitted = call_handler(block, run_entry, source_ring, head, count, target)
    elapsed = load(run_entry + RUN_ENTRY.busy_ticks)
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this span happened
    store_release(block + BLOCK.state_version, load(block + BLOCK.state_version) + 1)  # even: the state is whole again
    fault = load(block + BLOCK.fault_index)
    taken = processed = load(run_entry + RUN_ENTRY.done)
    if fault >= 0:  # the host moves the cursor over what failed, once it has had a look at it
        processed = fault
        taken = fault + load(block + BLOCK.fault_count)
    if output != 0:
        publish_outputs(output, tail, emitted)
    store_release(edge + EDGE.head, head + processed)  # release: after the outputs, so that `head` implies them
    if output != 0:
        note_peak(block, output, tail + emitted)
    keep_ledger(block, taken, processed, emitted, elapsed, waiting)
    adapt_span(run_entry, taken, elapsed, SPAN_LIMIT)
    fence()  # the cursors, before the looks at the doorbells
    if output != 0 and emitted > 0:
        notify_consumers(output, here)
    notify_producer(edge, head + processed, here)
    if fault >= 0:
        give_back(block, STATUS_FAILED, load(block + BLOCK.echo), here)
        return LEFT
    return WORKED


def call_handler(block: int, run_entry: int, source_ring: int, head: int, count: int, target: int) -> int:
    """Run the kernel's span. How many messages it has emitted; what failed is in the block. The state's version is odd
    from here until the span is committed."""
    store(block + BLOCK.state_version, load(block + BLOCK.state_version) + 1)
    fence_release()  # odd before the handler writes to the state
    source = slot_address(source_ring, head)
    if count <= load(run_entry + RUN_ENTRY.span_limit):
        return run_alone(block, run_entry, source, count, target)
    slot_nbytes = 0
    if target != 0:
        slot_nbytes = load(block + load(block + BLOCK.output) + RING.itemsize)
    return lead(block, run_entry, source, count, target, load(source_ring + RING.itemsize), slot_nbytes)


def with_room(output: int, tail: int, count: int, per_message: int) -> int:
    """How many of `count` messages have room for what may come of them, in one piece."""
    free = room_of(output, count * per_message)
    size = load(output + RING.capacity)
    # the slot array runs on for `max_outputs - 1` slots beyond its end, so one message always fits in one piece
    straight = max(1, (size - (tail & (size - 1))) // per_message)
    return min(count, free // per_message, straight)


def note_peak(block: int, output: int, tail: int) -> None:
    """Keep the depth of the output ring if it is the greatest so far. The consumers are looked at only if the cached
    cursor says that it may be."""
    if tail - load(output + RING.low) > load(block + BLOCK.peak_output):
        low = slowest_head(output)
        store(output + RING.low, low)
        store(block + BLOCK.peak_output, max(load(block + BLOCK.peak_output), tail - low))


def publish_outputs(ring: int, tail: int, emitted: int) -> None:
    """Move what was written beyond the end of the slot array to its start, and publish."""
    size = load(ring + RING.capacity)
    beyond = (tail & (size - 1)) + emitted - size
    if beyond > 0:
        itemsize = load(ring + RING.itemsize)
        slots = ring + load(ring + RING.slots)
        copy_bytes(slots, slots + size * itemsize, beyond * itemsize)
    set_tail(ring, tail + emitted)


def keep_ledger(block: int, taken: int, processed: int, emitted: int, elapsed: int, waiting: int) -> None:
    """Count a span. Readers retry while `ledger_version` is odd or changes."""
    version = load(block + BLOCK.ledger_version)
    store(block + BLOCK.ledger_version, version + 1)
    fence_release()
    _add(block + BLOCK.processed, processed)
    _add(block + BLOCK.failed, taken - processed)
    store(block + BLOCK.in_flight, 0)
    _add(block + BLOCK.emitted, emitted)
    if load(block + BLOCK.max_outputs) == 1 and load(block + BLOCK.output) != 0:
        _add(block + BLOCK.dropped, processed - emitted)
    _add(block + BLOCK.busy_ticks, elapsed)
    _add(block + BLOCK.turns, 1)
    store(block + BLOCK.peak_input, max(load(block + BLOCK.peak_input), waiting))
    bucket = 0
    exact = (elapsed << 6) // max(taken, 1)
    store(block + BLOCK.cost, follow(load(block + BLOCK.cost), exact))
    each = exact >> 6
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


def adapt_span(run_entry: int, count: int, elapsed: int, most: int) -> None:
    """Size spans by time: twice as long while a span is quick, shorter as soon as it is not."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    target = load(run_entry + RUN_ENTRY.span_ticks)
    quick = load(run_entry + RUN_ENTRY.quick_spans)
    store(run_entry + RUN_ENTRY.quick_spans, quick + 1 if QUICK * elapsed < target else min(quick, 0))
    if count >= TELLING or elapsed > target // 4:
        store(run_entry + RUN_ENTRY.pace, max(1, 64 * elapsed // max(count, 1)))
    if count > limit:
        return  # it was split
    if elapsed > 2 * target:
        store(run_entry + RUN_ENTRY.span_limit, max(1, count * target // elapsed))
    elif count == limit and elapsed < target:
        store(run_entry + RUN_ENTRY.span_limit, min(2 * limit, most))
