"""Committing a span that was run: the one order in which all of it is published. Compiled.

The word `owner` decides. Until it is COMMIT nothing of the span has happened, whatever the handler has written to free
slots; from then on all of it has, though it takes a moment until everybody sees that. What is published is in the
record, as what is there afterwards, not as what is added: so `publish_span` may begin again, wherever it was stopped.
States that a span has begun to change are torn until it is committed: their versions are odd.

Others rely on the order of the steps: outputs before inputs, so that an input's `head` implies what came of the
messages below; both before the looks at doorbells. The span may be that of a fused chain, whose outputs are the last
stage's, and whose other stages `further_stages.py` sees to.
"""

from __future__ import annotations

from ringkernel.codegen.operations import compare_exchange, copy_bytes, fence, load, store, store_release
from ringkernel.memory.layout import (
    BLOCK,
    CLAIMED,
    COMMIT,
    EDGE,
    OVER,
    OWN_STAGES,
    RING,
    RUN_ENTRY,
    STAGES,
    STATUS_DEACTIVATED,
    STATUS_FAILED,
)
from ringkernel.memory.span_layout import LANE, NOBODY, SPAN
from ringkernel.ring.block.ledger import follow, keep_ledger, note_ledger, note_peak
from ringkernel.ring.block.stages import lane_of, last_stage, record_of, stage_at, stages_of
from ringkernel.ring.block.token import IDLE, LEFT, WORKED, dismiss, give_back
from ringkernel.ring.block.waits import add, go_on, starve
from ringkernel.ring.protocol.cursors import notify_consumers, notify_producer, set_tail
from ringkernel.ring.protocol.doorbell import ring_doorbell

from .further_stages import (
    edge_before,
    emitted_by_first,
    emitted_by_timer,
    end_writing,
    keep_further_ledgers,
    move_tails,
    note_further,
    notify_watchers,
)
from .pace import adapt_span


def commit(block: int, run_entry: int, span: int, here: int) -> int:
    """Publish what a span has done, and count it. Return WORKED, IDLE if there was nothing to do, or LEFT if the token
    is this poller's no more."""
    settle(block, span)
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this span happened
    return publish_span(block, run_entry, span, here)


def recover(run_entry: int) -> int:
    """For who finds that a poller has died, and that it will never run again: finish what it has committed, and take
    the kernel from it. Return 1 if its last span has happened, 0 if not."""
    block, owner = load(run_entry + RUN_ENTRY.block_address), load(run_entry + RUN_ENTRY.owner)
    if owner == COMMIT:
        if load(block + BLOCK.status) < STATUS_DEACTIVATED:
            publish_span(block, run_entry, record_of(block), 0)
        else:  # the token was given back, and that may not have been said
            ring_doorbell(load(block + BLOCK.status_doorbell_address), 0)
    dismiss(run_entry)
    return 1 if owner == COMMIT else 0


def settle(block: int, span: int) -> None:
    """Note in the record all that a commit goes by, which does not change any more."""
    stages, number = stages_of(block), load(span + SPAN.failed_lane)
    failing, missing = -1, -1
    if number != NOBODY:
        failing = load(span + SPAN.fault_stage)
        if failing > 0 or number >= 0:  # a handler that was called without a message loses none
            missing = failing
        if failing > 0 and number >= 0:  # the kernel itself has handled the message
            lane = lane_of(span, number)
            store(lane + LANE.taken, load(lane + LANE.taken) + 1)
            store(lane + LANE.last, load(lane + LANE.key))
    lost = load(span + SPAN.fault_count) if missing == 0 else 0
    store(span + SPAN.stages, stages)
    store(span + SPAN.failing, failing)
    store(span + SPAN.missing, missing)
    store(span + SPAN.taken, taken_of(span) + lost)
    store(span + SPAN.is_news, is_told_more(block, span))
    note_ledger(block)
    note_further(stages)


def publish_span(block: int, run_entry: int, span: int, here: int) -> int:
    """Publish a span that is committed. It may have been begun, and stopped anywhere. As `commit`."""
    stages, failing = load(span + SPAN.stages), load(span + SPAN.failing)
    end_writing(block, stages)
    if failing >= 0:
        note_fault(block, span, stages)
    output, emitted, is_news = load(span + SPAN.output), load(span + SPAN.emitted), load(span + SPAN.is_news)
    if output != 0:
        publish_outputs(output, load(span + SPAN.tail), emitted)
        if is_news == 1:
            tell(output, span)  # after the outputs that the time stands for
    processed = taken_of(span)
    move_tails(span, stages, processed)
    move_heads(block, span)
    if load(span + SPAN.steps) > 0 or failing >= 0:
        keep_books(block, run_entry, span, stages, processed)
    else:
        wait_for_inputs(block, span)
    store(block + BLOCK.in_flight, 0)
    fence()  # the cursors, before the looks at the doorbells
    if output != 0 and emitted + is_news > 0:
        notify_consumers(output, here)
    notify_producers(block, span, here)
    notify_watchers(stages, here)
    if failing >= 0:
        return let_go(block, stages, failing, here)
    if load(span + SPAN.n_lanes) == 0 and load(span + SPAN.is_over) == 1:
        store(block + BLOCK.end_phase, OVER)
        return IDLE
    return WORKED if load(span + SPAN.steps) + is_news > 0 else IDLE


def note_fault(block: int, span: int, stages: int) -> None:
    """Note in its block what the kernel, or a stage, has failed on. For a stage `move_tails` puts that into the ring
    before it."""
    number, failing = load(span + SPAN.failed_lane), load(span + SPAN.failing)
    failed, count = stage_at(block, stages, failing), load(span + SPAN.fault_count)
    edge = 0 if number < 0 else load(lane_of(span, number) + LANE.edge)
    if failing > 0:
        edge, count = edge_before(stages, failing) - failed, 1
    store(failed + BLOCK.fault_index, load(span + SPAN.fault_index))
    store(failed + BLOCK.fault_info_address, load(span + SPAN.fault_info_address))
    store(failed + BLOCK.fault_count, count)
    store(failed + BLOCK.fault_edge, edge)


def publish_outputs(ring: int, tail: int, emitted: int) -> None:
    """Move what was written beyond the end of the slot array to its start, and publish."""
    size = load(ring + RING.capacity)
    beyond = (tail & (size - 1)) + emitted - size
    if beyond > 0:
        itemsize = load(ring + RING.itemsize)
        slots = ring + load(ring + RING.slots)
        copy_bytes(slots, slots + size * itemsize, beyond * itemsize)
    set_tail(ring, tail + emitted)


def is_told_more(block: int, span: int) -> int:
    """1 if a kernel that goes by time has come further than those downstream know."""
    if load(span + SPAN.by_time) == 0 or load(block + BLOCK.output) == 0 or last_stage(block) != block:
        return 0
    return 1 if load(span + SPAN.low) > load(span + SPAN.told) else 0


def tell(output: int, span: int) -> None:
    """Publish how far a kernel that goes by time has come, for those downstream."""
    low = load(span + SPAN.low)
    store(span + SPAN.told, low)
    store_release(output + RING.progress, low)  # release: after the outputs before it


def taken_of(span: int) -> int:
    """How many messages the span has taken, and not failed on."""
    taken = 0
    for number in range(load(span + SPAN.n_lanes)):
        taken += load(lane_of(span, number) + LANE.taken)
    return taken


def move_heads(block: int, span: int) -> None:
    """Give back what the span has taken. The host moves the cursor over what it has failed on, once it has looked."""
    for number in range(load(span + SPAN.n_lanes)):
        lane = lane_of(span, number)
        head = load(lane + LANE.head) + load(lane + LANE.taken)
        store_release(block + load(lane + LANE.edge) + EDGE.head, head)  # release: after the outputs


def keep_books(block: int, run_entry: int, span: int, stages: int, processed: int) -> None:
    """Keep the ledgers, and what the next span goes by. The kernel itself has `processed` so many messages."""
    if load(span + SPAN.by_time) == 1:
        end_waits(block, span)
    store(block + BLOCK.idle_since, load(span + SPAN.ended))
    output, taken, elapsed = load(span + SPAN.output), load(span + SPAN.taken), load(span + SPAN.busy_ticks)
    if output != 0:
        note_peak(last_stage(block), output, load(output + RING.next))
    store(block + BLOCK.peak_input_depth, max(load(block + BLOCK.peak_input_depth), load(span + SPAN.waiting)))
    cost, emitted = load(block + BLOCK.cost), emitted_by_first(span, stages, processed)
    others = keep_further_ledgers(block, span, stages, emitted)
    writes, by_timer = load(block + BLOCK.output) != 0, emitted_by_timer(span, stages)
    keep_ledger(block, taken, processed, emitted if writes else 0, by_timer, elapsed - others)
    if others > 0 and taken > 0:  # what a message costs is for the first stage what all take: its turns run them
        store(block + BLOCK.cost, follow(cost, (elapsed << 6) // taken))
    adapt_span(run_entry, load(span + SPAN.steps), elapsed, load(stages + STAGES.longest_span))


def notify_producers(block: int, span: int, here: int) -> None:
    """Ring who waits for what the span has taken."""
    for number in range(load(span + SPAN.n_lanes)):
        lane = lane_of(span, number)
        if load(lane + LANE.taken) > 0:
            edge = block + load(lane + LANE.edge)
            notify_producer(edge, load(edge + EDGE.head), here)


def let_go(block: int, stages: int, failing: int, here: int) -> int:
    """Let the kernel go on by itself, if it had further stages, and give back the token of the stage that has failed.
    LEFT if that is the kernel's own."""
    store(block + BLOCK.stages, OWN_STAGES)
    failed = stage_at(block, stages, failing)
    give_back(failed, STATUS_FAILED, load(failed + BLOCK.echo), here)
    return LEFT if failing == 0 else WORKED


# --- waits of a kernel that goes by time, input by input --------------------------------------------------------------


def wait_for_inputs(block: int, span: int) -> None:
    """Idle since the last span: record which open inputs are empty."""
    empty = 0
    for number in range(load(span + SPAN.n_lanes)):
        lane = lane_of(span, number)
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
                edge = block + load(lane_of(span, number) + LANE.edge)
                add(edge + EDGE.starved_ticks, now - since)
    go_on(block, now)
