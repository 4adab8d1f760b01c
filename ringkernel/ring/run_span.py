"""Running a span: take messages that have room for their outputs, call the handler, commit, publish, count. Compiled.

The order of the steps is what others rely on: outputs before the input's cursor, both before the looks at doorbells.
The span may be that of a fused chain, whose outputs are the last stage's: then `fused_commit.py` sees to the others.
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
    ticks,
)
from ringkernel.codegen.span_body import FAULT_COUNT
from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, EDGE, RING, RUN_ENTRY, STATUS_FAILED

from .chunks import PIECE
from .fused_commit import change_states, end_chain, keep_failed, keep_ledgers, move_tails, notify_watchers
from .ledger import keep_ledger, note_peak
from .protocol import bound_of, notify_consumers, notify_producer, room_of, set_tail, slot_address
from .split_span import lead, run_alone, span_length, unless_split
from .stages import chain_of, fault_words, last_stage, longest_span, span_of
from .token import IDLE, LEFT, WORKED, give_back
from .waits import go_on, hold_up

SPAN_LIMIT = PIECE
"""Messages in a span that is not split, at most."""
TELLING = 64
"""A span of so many messages, or one that was long enough, tells what a message costs."""
QUICK = 16
"""A span is quick if it takes less than this part of the time that spans are to take."""


def run_span(block: int, run_entry: int, edge: int, here: int) -> int:
    """Run the handler, or those of the kernel's fused chain, over the next messages from `edge` that lie in one piece
    and have room, and publish.

    In one function, from the room to the last doorbell: others rely on the order of these steps.
    """
    head = load(edge + EDGE.head)
    source_ring = edge + load(edge + EDGE.ring)
    capacity = load(source_ring + RING.capacity)
    waiting = bound_of(edge, head) - head
    count = min(waiting, capacity - (head & (capacity - 1)))
    limit = span_length(block, run_entry, count) if here == 0 else length_here(run_entry)
    count = min(count, limit)
    chain, last = chain_of(block), last_stage(block)
    output, target, tail = 0, 0, 0
    if load(last + BLOCK.output) != 0:
        output = last + load(last + BLOCK.output)
        tail = load(output + RING.next)
        target = slot_address(output, tail)
        count = with_room(output, tail, count, load(last + BLOCK.max_outputs))
        if count == 0:
            hold_up(block)
            return IDLE
        count = unless_split(run_entry, count) if here == 0 else count
    start = ticks()
    go_on(block, start)
    store(block + BLOCK.in_flight, count)
    store(block + BLOCK.fault_edge, edge - block)
    store(run_entry + RUN_ENTRY.span_address, span_of(block, edge))
    emitted = call_handler(block, run_entry, edge, count, target, start, here)
    elapsed = load(run_entry + RUN_ENTRY.busy_ticks)
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this span happened
    change_states(block, chain)  # even: the states are whole again
    taken = processed = load(run_entry + RUN_ENTRY.done)
    words = fault_words(block, chain)
    fault, failing = load(words), -1
    if fault >= 0:  # the host moves the cursor over what failed, once it has had a look at it
        taken = fault + load(words + FAULT_COUNT)
        failing = 0 if chain == 0 else keep_failed(chain)
        processed = fault if failing == 0 else taken
    if output != 0:
        publish_outputs(output, tail, emitted)
    move_tails(chain, taken, failing)
    store_release(edge + EDGE.head, head + processed)  # release: after the outputs, so that `head` implies them
    if output != 0:
        note_peak(last, output, tail + emitted)
    if chain == 0:
        keep_ledger(block, taken, processed, emitted, elapsed, waiting)
    else:
        keep_ledgers(block, chain, taken, failing, elapsed, waiting)
    adapt_span(run_entry, taken, elapsed, longest_span(chain, SPAN_LIMIT))
    fence()  # the cursors, before the looks at the doorbells
    if output != 0 and emitted > 0:
        notify_consumers(output, here)
    notify_producer(edge, head + processed, here)
    notify_watchers(chain, here)
    return WORKED if fault < 0 else let_go(block, chain, failing, here)


def note_calls(block: int, run_entry: int, count: int, emitted: int) -> None:
    """Count the spans of a source since one has emitted something; of a chain, the source itself."""
    chain = chain_of(block)
    came = emitted if chain == 0 else count - load(chain + CHAIN.dropped)
    store(run_entry + RUN_ENTRY.fruitless, 0 if came > 0 else load(run_entry + RUN_ENTRY.fruitless) + 1)


def length_here(run_entry: int) -> int:
    """How many messages a span in the event loop's thread may have: as many as may be expected to take as long as a
    span should. Nobody can want the handler to stop in between."""
    limit, pace = load(run_entry + RUN_ENTRY.span_limit), load(run_entry + RUN_ENTRY.pace)
    return limit if pace == 0 else max(limit, 64 * load(run_entry + RUN_ENTRY.span_ticks) // pace)


def call_handler(block: int, run_entry: int, edge: int, count: int, target: int, start: int, here: int) -> int:
    """Run the span, which has begun at `start`. How many messages it has emitted; what failed is in the fault words.
    The states' versions are odd from here until the span is committed."""
    change_states(block, chain_of(block))
    fence_release()  # odd before a handler writes to its state
    source_ring = edge + load(edge + EDGE.ring)
    source = slot_address(source_ring, load(edge + EDGE.head))
    if here != 0 or count <= load(run_entry + RUN_ENTRY.span_limit):
        emitted = run_alone(block, run_entry, source, count, target, start)
        if load(source_ring + RING.itemsize) == 0:
            note_calls(block, run_entry, count, emitted)
        return emitted
    slot_nbytes = 0
    if target != 0:
        last = last_stage(block)
        slot_nbytes = load(last + load(last + BLOCK.output) + RING.itemsize)
    return lead(block, run_entry, source, count, target, load(source_ring + RING.itemsize), slot_nbytes)


def let_go(block: int, chain: int, failing: int, here: int) -> int:
    """Give back the token of a kernel that has failed, or of the stage that has. LEFT if it is the kernel's own."""
    if chain != 0:
        return end_chain(block, chain, failing, here)
    give_back(block, STATUS_FAILED, load(block + BLOCK.echo), here)
    return LEFT


def with_room(output: int, tail: int, count: int, per_message: int) -> int:
    """How many of `count` messages have room for what may come of them, in one piece."""
    free = room_of(output, count * per_message)
    size = load(output + RING.capacity)
    # the slot array runs on for `max_outputs - 1` slots beyond its end, so one message always fits in one piece
    straight = max(1, (size - (tail & (size - 1))) // per_message)
    return min(count, free // per_message, straight)


def publish_outputs(ring: int, tail: int, emitted: int) -> None:
    """Move what was written beyond the end of the slot array to its start, and publish."""
    size = load(ring + RING.capacity)
    beyond = (tail & (size - 1)) + emitted - size
    if beyond > 0:
        itemsize = load(ring + RING.itemsize)
        slots = ring + load(ring + RING.slots)
        copy_bytes(slots, slots + size * itemsize, beyond * itemsize)
    set_tail(ring, tail + emitted)


def adapt_span(run_entry: int, count: int, elapsed: int, most: int) -> None:
    """Size spans by time: twice as long while a span is quick, shorter as soon as it is not."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    target = load(run_entry + RUN_ENTRY.span_ticks)
    quick = load(run_entry + RUN_ENTRY.quick_spans)
    store(run_entry + RUN_ENTRY.quick_spans, quick + 1 if QUICK * elapsed < target else min(quick, 0))
    if count >= TELLING or elapsed > target // 4:
        store(run_entry + RUN_ENTRY.pace, max(1, 64 * elapsed // max(count, 1)))
    if count > limit:
        return  # it was split, or the event loop has run it
    if elapsed > 2 * target:
        store(run_entry + RUN_ENTRY.span_limit, max(1, count * target // elapsed))
    elif count == limit and elapsed < target:
        store(run_entry + RUN_ENTRY.span_limit, min(2 * limit, most))
