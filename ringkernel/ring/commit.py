"""Committing a span that was run: the one order in which all of it is published. Compiled.

The word `owner` decides. Until it is COMMIT nothing of the span has happened, whatever the handler has written to free
slots; from then on all of it has, though it takes a moment until everybody sees that. Others rely on the order of the
steps: outputs before inputs, so that an input's `head` implies what came of the messages below; both before the looks
at doorbells. The span may be that of a fused chain, whose outputs are the last stage's, and whose other stages
`fused_commit.py` sees to.
"""

from __future__ import annotations

from ringkernel.codegen.operations import compare_exchange, copy_bytes, fence, load, store, store_release
from ringkernel.codegen.span_body import FAULT_COUNT
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, EDGE, OVER, RING, RUN_ENTRY, STATUS_FAILED
from ringkernel.memory.span_layout import LANE, LANE_NBYTES, LANES, NOBODY, SPAN

from .fused_commit import change_states, end_chain, keep_failed, keep_ledgers, move_tails, notify_watchers
from .ledger import keep_ledger, note_peak
from .pace import SPAN_LIMIT, adapt_span
from .protocol import notify_consumers, notify_producer, set_tail
from .stages import chain_of, last_stage, longest_span
from .token import IDLE, LEFT, WORKED, give_back
from .waits import add, go_on, starve


def commit(block: int, run_entry: int, span: int, here: int) -> int:
    """Publish what a span has done, and count it. Return WORKED, IDLE if there was nothing to do, or LEFT if the token
    is this poller's no more."""
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this span happened
    chain = chain_of(block)
    change_states(block, chain)  # even: the states are whole again
    failing, missing = note_fault(block, chain, span)
    output, emitted = load(span + SPAN.output), load(span + SPAN.emitted)
    if output != 0:
        publish_outputs(output, load(span + SPAN.tail), emitted)
    is_news = tell(output, span) if chain == 0 else 0  # after the outputs that the time stands for
    processed = taken_of(span)
    taken = processed + (load(load(span + SPAN.fault) + FAULT_COUNT) if missing == 0 else 0)
    move_tails(chain, taken, missing)
    move_heads(block, span)
    if load(span + SPAN.steps) > 0 or failing >= 0:
        count(block, run_entry, span, chain, taken, missing)
    else:
        wait_for_inputs(block, span)
    store(block + BLOCK.in_flight, 0)
    fence()  # the cursors, before the looks at the doorbells
    if output != 0 and emitted + is_news > 0:
        notify_consumers(output, here)
    notify_producers(block, span, here)
    notify_watchers(chain, here)
    if failing >= 0:
        return let_go(block, chain, failing, here)
    if load(span + SPAN.n_lanes) == 0 and load(span + SPAN.is_over) == 1:
        store(block + BLOCK.end_phase, OVER)
        return IDLE
    return WORKED if load(span + SPAN.steps) + is_news > 0 else IDLE


def note_fault(block: int, chain: int, span: int) -> tuple[int, int]:
    """Note what has failed, if something has. Return (failed stage or -1, stage whose input message is lost or -1). A
    handler that was called without a message loses none."""
    number = load(span + SPAN.failed_lane)
    if number == NOBODY:
        return -1, -1
    lane = span + LANES + LANE_NBYTES * number
    stage = 0 if chain == 0 else keep_failed(chain)
    if stage > 0:
        if number >= 0:  # the kernel itself has handled the message
            store(lane + LANE.taken, load(lane + LANE.taken) + 1)
            store(lane + LANE.last, load(lane + LANE.key))
        return stage, stage
    store(block + BLOCK.fault_count, load(load(span + SPAN.fault) + FAULT_COUNT))
    store(block + BLOCK.fault_edge, 0 if number < 0 else load(lane + LANE.edge))
    return 0, 0 if number >= 0 else -1


def publish_outputs(ring: int, tail: int, emitted: int) -> None:
    """Move what was written beyond the end of the slot array to its start, and publish."""
    size = load(ring + RING.capacity)
    beyond = (tail & (size - 1)) + emitted - size
    if beyond > 0:
        itemsize = load(ring + RING.itemsize)
        slots = ring + load(ring + RING.slots)
        copy_bytes(slots, slots + size * itemsize, beyond * itemsize)
    set_tail(ring, tail + emitted)


def tell(output: int, span: int) -> int:
    """Publish how far a kernel that goes by time has come, for those downstream. 1 if that is news."""
    if output == 0 or load(span + SPAN.by_time) == 0:
        return 0
    low = load(span + SPAN.low)
    if low <= load(span + SPAN.told):
        return 0
    store(span + SPAN.told, low)
    store_release(output + RING.progress, low)  # release: after the outputs before it
    return 1


def taken_of(span: int) -> int:
    """How many messages the span has taken, and not failed on."""
    taken = 0
    for number in range(load(span + SPAN.n_lanes)):
        taken += load(span + LANES + LANE_NBYTES * number + LANE.taken)
    return taken


def move_heads(block: int, span: int) -> None:
    """Give back what the span has taken. The host moves the cursor over what it has failed on, once it has looked."""
    for number in range(load(span + SPAN.n_lanes)):
        lane = span + LANES + LANE_NBYTES * number
        head = load(lane + LANE.head) + load(lane + LANE.taken)
        store_release(block + load(lane + LANE.edge) + EDGE.head, head)  # release: after the outputs


def count(block: int, run_entry: int, span: int, chain: int, taken: int, missing: int) -> None:
    """Keep the ledgers, and what the next span goes by."""
    if load(span + SPAN.by_time) == 1:
        end_waits(block, span)
    store(block + BLOCK.idle_since, load(span + SPAN.ended))
    output, last, elapsed = load(span + SPAN.output), last_stage(block), load(span + SPAN.busy_ticks)
    if output != 0:
        note_peak(last, output, load(output + RING.next))
    if chain == 0:
        keep_ledger(block, taken, taken_of(span), load(span + SPAN.emitted), load(span + SPAN.by_timer), elapsed)
    else:
        keep_ledgers(block, chain, taken, missing, elapsed)
    store(block + BLOCK.peak_input, max(load(block + BLOCK.peak_input), load(span + SPAN.waiting)))
    adapt_span(run_entry, load(span + SPAN.steps), elapsed, longest_span(chain, SPAN_LIMIT))


def notify_producers(block: int, span: int, here: int) -> None:
    """Ring who waits for what the span has taken."""
    for number in range(load(span + SPAN.n_lanes)):
        lane = span + LANES + LANE_NBYTES * number
        if load(lane + LANE.taken) > 0:
            edge = block + load(lane + LANE.edge)
            notify_producer(edge, load(edge + EDGE.head), here)


def let_go(block: int, chain: int, failing: int, here: int) -> int:
    """Give back the token of a kernel that has failed, or of the stage that has. LEFT if it is the kernel's own."""
    if chain != 0:
        return end_chain(block, chain, failing, here)
    give_back(block, STATUS_FAILED, load(block + BLOCK.echo), here)
    return LEFT


# --- waits of a kernel that goes by time, input by input --------------------------------------------------------------


def wait_for_inputs(block: int, span: int) -> None:
    """Idle since the last span: record which open inputs are empty."""
    empty = 0
    for number in range(load(span + SPAN.n_lanes)):
        lane = span + LANES + LANE_NBYTES * number
        if load(lane + LANE.count) == 0 and load(lane + LANE.ended) == 0:
            empty |= 1 << number
    store(span + SPAN.starved_by, empty)
    starve(block)


def end_waits(block: int, span: int) -> None:
    """There is something to do, and room for it: count the wait for that, for the inputs that were empty."""
    since, now = load(block + BLOCK.starved_since), load(span + SPAN.started)
    if since != 0:
        store(block + BLOCK.starved_since, 0)
        for number in range(load(span + SPAN.n_lanes)):
            if load(span + SPAN.starved_by) >> number & 1 == 1:
                edge = block + load(span + LANES + LANE_NBYTES * number + LANE.edge)
                add(edge + EDGE.starved_ticks, now - since)
    go_on(block, now)
