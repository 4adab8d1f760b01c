"""Running a span of a kernel that goes by time: over all of its inputs at once. Compiled.

What comes next, and whether something may come at all, the merged span says (`codegen/merged_span.py`). Here is what
lies around it: what waits, how far each input has come, and what becomes of a span. The order of the steps is that of
`run_span.py`, also for the kernel as the first stage of a fused chain; progress is published after the outputs that it
stands for, and not by a chain, whose other stages ask for none.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    call_span,
    compare_exchange,
    fence,
    fence_release,
    load,
    load_acquire,
    store,
    store_release,
    ticks,
)
from ringkernel.codegen.span_body import FAULT_COUNT
from ringkernel.memory.layout import (
    BLOCK,
    CLAIMED,
    COMMIT,
    EDGE,
    ENDED,
    LINE,
    NEVER,
    NO_TIME,
    RING,
    RUN_ENTRY,
)
from ringkernel.memory.merge_layout import LANE, MERGE

from .fused_commit import change_states, keep_failed, keep_ledgers, move_tails, notify_watchers
from .ledger import keep_end, keep_ledger, note_peak
from .protocol import bound_of, notify_consumers, notify_producer, room_of, slot_address
from .run_span import SPAN_LIMIT, adapt_span, length_here, let_go, publish_outputs
from .stages import chain_of, fault_words, last_stage, longest_span, span_and_state
from .token import IDLE, LEFT, WORKED
from .waits import add, go_on, hold_up, starve


def merge_of(block: int) -> int:
    """The record of a kernel that goes by time; 0 if it does not."""
    merge = load(block + BLOCK.merge)
    return 0 if merge == 0 else block + merge


def lane_of(merge: int, number: int) -> int:
    """What is known of an input."""
    return int(merge + MERGE.lanes + LINE * number)


def edge_of(block: int, number: int) -> int:
    """The edge of an input."""
    return block + load(block + load(block + BLOCK.inputs) + 8 * number)


def look_at_inputs(block: int, merge: int, limit: int) -> int:
    """Note what waits in each input, at most so much, and how far it has come. How much waits in all."""
    patience = load(merge + MERGE.patience_ticks)
    now = ticks() if patience != NEVER else 0
    waiting = 0
    for number in range(load(block + BLOCK.n_inputs)):
        edge, lane = edge_of(block, number), lane_of(merge, number)
        ring = edge + load(edge + EDGE.ring)
        is_closed = load_acquire(ring + RING.ended)  # acquire, and in this order: what each stands for is there
        progress = load_acquire(ring + RING.progress)
        head = load(edge + EDGE.head)
        bound = bound_of(edge, head)
        capacity = load(ring + RING.capacity)
        count = min(bound - head, capacity - (head & (capacity - 1)), limit)
        horizon, ended, reached = NO_TIME, 0, NO_TIME
        if count == bound - head:  # it is all that waits
            is_limited = bound == load_acquire(edge + EDGE.limit)
            horizon, ended = progress, 1 if is_closed == 1 or is_limited else 0
            reached = NO_TIME if is_limited and load(ring + RING.tail) > bound else progress
        if patience != NEVER:
            if count > 0 or bound != load(lane + LANE.seen_tail) or progress != load(lane + LANE.seen_progress):
                store(lane + LANE.seen_tail, bound)
                store(lane + LANE.seen_progress, progress)
                store(lane + LANE.news_at, now)
            elif now - load(lane + LANE.news_at) >= patience:
                ended = 1
        store(lane + LANE.source, slot_address(ring, head))
        store(lane + LANE.count, count)
        store(lane + LANE.taken, 0)
        store(lane + LANE.horizon, ENDED if ended == 1 else horizon)
        store(lane + LANE.ended, ended)
        store(lane + LANE.reached, reached)
        waiting += bound - head
    return waiting


def is_ready(block: int, merge: int) -> int:
    """1 if there is something to do: a message to take, or a multiple to handle."""
    look_at_inputs(block, merge, SPAN_LIMIT)
    store(merge + MERGE.room, 0)
    call_span(load(block + BLOCK.span_address), merge, 0, 0, 0, block + BLOCK.fault_index)
    return load(merge + MERGE.is_ready)


def has_news(block: int, merge: int) -> int:
    """1 if the kernel, which is not ready, has come further than those downstream know."""
    if load(block + BLOCK.output) == 0 or chain_of(block) != 0:
        return 0
    return 1 if load(merge + MERGE.low) > load(merge + MERGE.told) else 0


def run_merge(block: int, run_entry: int, merge: int, here: int) -> int:
    """Run the handlers, or those of the kernel's fused chain, over the next messages of all inputs, by their times, and
    publish."""
    chain, last = chain_of(block), last_stage(block)
    limit = load(run_entry + RUN_ENTRY.span_limit) if here == 0 else length_here(run_entry)
    limit = min(limit, longest_span(chain, SPAN_LIMIT))
    output, target, tail, room = output_of(last, limit)
    if room == 0 and is_ready(block, merge) == 1:
        hold_up(block)  # but how far time has come those downstream may wait for
    waiting = look_at_inputs(block, merge, limit)
    store(merge + MERGE.room, room)
    store(block + BLOCK.in_flight, min(waiting, limit))
    change_states(block, chain)
    fence_release()  # odd before a handler writes to its state
    start = ticks()
    store(run_entry + RUN_ENTRY.span_address, load(block + BLOCK.span_address))
    span, context = span_and_state(block, run_entry, chain)
    emitted = call_span(span, merge, limit, target, context, fault_words(block, chain))
    elapsed = ticks() - start
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this span happened
    change_states(block, chain)
    failing, missing = note_fault(block, chain, merge)
    if output != 0:
        publish_outputs(output, tail, emitted)
        note_peak(last, output, tail + emitted)
    is_news = tell(output, merge) if chain == 0 else 0
    processed = taken_of(block, merge)
    taken = processed + 1 if missing == 0 else processed
    move_tails(chain, taken, missing)
    move_heads(block, merge)
    steps = load(merge + MERGE.steps)
    if steps > 0 or failing >= 0:
        end_waits(block, merge, start)
        store(block + BLOCK.idle_since, start + elapsed)
        if chain == 0:
            keep_merge(block, merge, taken, processed, emitted, elapsed, waiting)
        else:
            keep_ledgers(block, chain, taken, missing, elapsed, waiting)
        adapt_span(run_entry, steps, elapsed, longest_span(chain, SPAN_LIMIT))
    else:
        wait_for_inputs(block, merge)
    store(block + BLOCK.in_flight, 0)
    fence()  # the cursors, before the looks at the doorbells
    if output != 0 and emitted + is_news > 0:
        notify_consumers(output, here)
    notify_producers(block, merge, here)
    notify_watchers(chain, here)
    if failing >= 0:
        return let_go(block, chain, failing, here)
    return WORKED if steps + is_news > 0 else IDLE


def wait_for_inputs(block: int, merge: int) -> None:
    """There is nothing to do, nor was there since the last span. Note which inputs have nothing, and may get some."""
    empty = 0
    for number in range(load(block + BLOCK.n_inputs)):
        lane = lane_of(merge, number)
        if load(lane + LANE.count) == 0 and load(lane + LANE.ended) == 0:
            empty |= 1 << number
    store(merge + MERGE.starved_by, empty)
    starve(block)


def end_waits(block: int, merge: int, now: int) -> None:
    """There is something to do, and room for it: count the wait for that, for the inputs that were empty."""
    since = load(block + BLOCK.starved_since)
    if since != 0:
        store(block + BLOCK.starved_since, 0)
        for number in range(load(block + BLOCK.n_inputs)):
            if load(merge + MERGE.starved_by) >> number & 1 == 1:
                add(edge_of(block, number) + EDGE.starved_ticks, now - since)
    go_on(block, now)


def output_of(last: int, limit: int) -> tuple[int, int, int, int]:
    """The ring that the last stage writes to, its next slot and that one's number, and how much room there is in one
    piece. Without a ring there is no end of it."""
    if load(last + BLOCK.output) == 0:
        return 0, 0, 0, NEVER
    output = last + load(last + BLOCK.output)
    tail, size = load(output + RING.next), load(output + RING.capacity)
    return output, slot_address(output, tail), tail, min(room_of(output, limit), size - (tail & (size - 1)))


def note_fault(block: int, chain: int, merge: int) -> tuple[int, int]:
    """Note what has failed, if something has: which stage, 0 if it is the kernel itself, or -1; and the same once more,
    but -1 in the timer's handler of the kernel, which has no message that would be missing."""
    words = fault_words(block, chain)
    if load(words) < 0:
        return -1, -1
    lane = load(merge + MERGE.failed_lane)
    stage = 0 if chain == 0 else keep_failed(chain)
    if stage > 0:
        if lane >= 0:
            take_next(lane_of(merge, lane))
        return stage, stage
    store(block + BLOCK.fault_count, load(words + FAULT_COUNT))
    store(block + BLOCK.fault_edge, 0 if lane < 0 else edge_of(block, lane) - block)
    return 0, 0 if lane >= 0 else -1


def take_next(lane: int) -> None:
    """The kernel has handled the next message of an input, on whose output a further stage has failed."""
    store(lane + LANE.taken, load(lane + LANE.taken) + 1)
    store(lane + LANE.last, load(lane + LANE.key))


def taken_of(block: int, merge: int) -> int:
    """How many messages the span has taken."""
    taken = 0
    for number in range(load(block + BLOCK.n_inputs)):
        taken += load(lane_of(merge, number) + LANE.taken)
    return taken


def move_heads(block: int, merge: int) -> None:
    """Give back what the span has taken."""
    for number in range(load(block + BLOCK.n_inputs)):
        edge, count = edge_of(block, number), load(lane_of(merge, number) + LANE.taken)
        store_release(edge + EDGE.head, load(edge + EDGE.head) + count)  # release: after the outputs


def keep_merge(block: int, merge: int, taken: int, processed: int, emitted: int, elapsed: int, waiting: int) -> None:
    """Count the span of a kernel by itself. What its timer emits is of no message."""
    by_timer = load(merge + MERGE.timer_emitted)
    keep_ledger(block, taken, processed, emitted - by_timer, elapsed, waiting)
    if by_timer > 0:
        keep_end(block, by_timer, 0)


def notify_producers(block: int, merge: int, here: int) -> None:
    """Ring who waits for what the span has taken."""
    for number in range(load(block + BLOCK.n_inputs)):
        if load(lane_of(merge, number) + LANE.taken) > 0:
            edge = edge_of(block, number)
            notify_producer(edge, load(edge + EDGE.head), here)


def tell(output: int, merge: int) -> int:
    """Publish how far the kernel has come, for those downstream. 1 if that is news."""
    low = load(merge + MERGE.low)
    if output == 0 or low <= load(merge + MERGE.told):
        return 0
    store(merge + MERGE.told, low)
    store_release(output + RING.progress, low)  # release: after the outputs before it
    return 1


def publish_progress(ring: int, progress: int, here: int) -> int:
    """Nothing below this time will be published in a ring any more. As `publish`."""
    if progress <= load(ring + RING.progress):
        return 0
    store_release(ring + RING.progress, progress)
    fence()
    return notify_consumers(ring, here)


def publish_end(ring: int, here: int) -> int:
    """Nothing more will be published in a ring. As `publish`."""
    store_release(ring + RING.ended, 1)
    fence()
    return notify_consumers(ring, here)


def lay_out_merge(merge: int, patience_ticks: int, n_inputs: int) -> int:
    """The record of a kernel that has seen nothing yet."""
    store(merge + MERGE.patience_ticks, patience_ticks)
    store(merge + MERGE.passed, NO_TIME)
    store(merge + MERGE.low, NO_TIME)
    store(merge + MERGE.told, NO_TIME)
    store(merge + MERGE.timer, NO_TIME)
    for number in range(n_inputs):
        lane = lane_of(merge, number)
        store(lane + LANE.last, NO_TIME)
        store(lane + LANE.seen_progress, NO_TIME)
        store(lane + LANE.news_at, ticks())
    return 0
