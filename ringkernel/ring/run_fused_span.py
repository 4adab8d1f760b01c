"""Running a span of a fused chain: as `run_span`, and then all stages are where they would be had each run by itself.

The rings between the stages are empty before and after. Their cursors, and the stages' ledgers, move on by what has
passed: so whoever looks at a stage, waits for its cursor or takes it apart from the others need not know. When a stage
has failed, the message lies in the ring before it, that stage's block says so, and the chain is one no more: its first
stage goes on by itself. Compiled.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    call_span,
    compare_exchange,
    copy_bytes,
    fence,
    fence_release,
    load,
    store,
    store_release,
    ticks,
)
from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, EDGE, RING, RUN_ENTRY, STATUS_FAILED

from .protocol import bound_of, notify_consumers, notify_producer, set_tail, slot_address
from .run_span import adapt_span, follow, keep_ledger, note_peak, publish_outputs, with_room
from .token import IDLE, LEFT, WORKED, give_back


def run_fused_span(block: int, chain: int, run_entry: int, edge: int, here: int) -> int:
    """Run the fused span over the next messages from `edge`, of the first stage, that lie in one piece and have room
    behind the last one, and publish. The steps and their order are those of `run_span`."""
    head = load(edge + EDGE.head)
    source_ring = edge + load(edge + EDGE.ring)
    capacity = load(source_ring + RING.capacity)
    waiting = bound_of(edge, head) - head
    count = min(waiting, capacity - (head & (capacity - 1)), load(run_entry + RUN_ENTRY.span_limit))
    last = chain + load(chain + CHAIN.last)
    output, target, tail = 0, 0, 0
    if load(last + BLOCK.output) != 0:
        output = last + load(last + BLOCK.output)
        tail = load(output + RING.next)
        target = slot_address(output, tail)
        count = with_room(output, tail, count, 1)
        if count == 0:
            store(block + BLOCK.blocked, 1)
            return IDLE
    store(block + BLOCK.blocked, 0)
    store(block + BLOCK.in_flight, count)
    store(block + BLOCK.fault_edge, edge - block)
    start = ticks()
    change_states(chain)
    fence_release()  # odd before the handlers write to the states
    source, results = slot_address(source_ring, head), chain + CHAIN.fault_index
    emitted = call_span(load(chain + CHAIN.span_address), source, count, target, chain, results)
    elapsed = ticks() - start
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this span happened
    change_states(chain)
    fault = load(chain + CHAIN.fault_index)
    taken, failing = count, -1
    if fault >= 0:
        taken, failing = fault + 1, load(chain + CHAIN.fault_stage)
        keep_failed(chain, failing)
    if output != 0:
        publish_outputs(output, tail, emitted)
    move_tails(chain, taken, failing)
    store_release(edge + EDGE.head, head + (taken - 1 if failing == 0 else taken))  # release: after all that came of it
    cost = load(block + BLOCK.cost)
    keep_ledgers(chain, taken, failing, elapsed, waiting)
    store(block + BLOCK.cost, follow(cost, (elapsed << 6) // taken))  # of all stages: that is what a turn takes
    if output != 0:
        note_peak(last, output, tail + emitted)
    adapt_span(run_entry, count, elapsed, load(chain + CHAIN.span_limit))
    fence()  # the cursors, before the looks at the doorbells
    if output != 0 and emitted > 0:
        notify_consumers(output, here)
    notify_producer(edge, load(edge + EDGE.head), here)
    notify_watchers(chain, here)
    return WORKED if failing < 0 else end_chain(block, chain, failing, here)


def change_states(chain: int) -> None:
    """Make the versions of all states odd, before the handlers write to them, or even again."""
    for i in range(load(chain + CHAIN.n_stages)):
        version = chain + load(chain + CHAIN.blocks + 8 * i) + BLOCK.state_version
        store_release(version, load(version) + 1)


def ring_before(chain: int, stage: int) -> int:
    """The ring that a stage, not the first, reads from."""
    edge = chain + load(chain + CHAIN.edges + 8 * stage)
    return edge + load(edge + EDGE.ring)


def keep_failed(chain: int, stage: int) -> None:
    """Note in its block what a stage has failed on; `move_tails` will publish it in the ring before that stage."""
    block = chain + load(chain + CHAIN.blocks + 8 * stage)
    store(block + BLOCK.fault_index, load(chain + CHAIN.fault_index))
    store(block + BLOCK.fault_info_address, load(chain + CHAIN.fault_info_address))
    store(block + BLOCK.fault_count, 1)
    if stage > 0:
        store(block + BLOCK.fault_edge, chain + load(chain + CHAIN.edges + 8 * stage) - block)


def move_tails(chain: int, taken: int, failing: int) -> None:
    """Move the cursors of the rings between the stages on: all tails, and then all heads, so that a stage's output is
    final when its input is consumed. What the failing stage has not processed lies in the last slot before it."""
    arriving = taken
    for i in range(1, load(chain + CHAIN.n_stages)):
        arriving -= load(chain + CHAIN.dropped + 8 * (i - 1))
        if i - 1 == failing:
            arriving -= 1
        ring = ring_before(chain, i)
        tail = load(ring + RING.next) + arriving
        if i == failing:
            slot, message = slot_address(ring, tail - 1), load(chain + CHAIN.failed_address)
            if slot != message:
                copy_bytes(slot, message, load(ring + RING.itemsize))
        set_tail(ring, tail)
    for i in range(1, load(chain + CHAIN.n_stages)):
        edge = chain + load(chain + CHAIN.edges + 8 * i)
        tail = load(edge + load(edge + EDGE.ring) + RING.next)
        store_release(edge + EDGE.head, tail - 1 if i == failing else tail)  # release: after all tails


def keep_ledgers(chain: int, taken: int, failing: int, elapsed: int, waiting: int) -> None:
    """Count the span for each stage that something came to, with its part of the time."""
    count = load(chain + CHAIN.n_stages)
    total, arriving = 0, taken
    for i in range(count):
        total += arriving * load(chain + CHAIN.parts + 8 * i)
        arriving -= load(chain + CHAIN.dropped + 8 * i) + (1 if i == failing else 0)
    arriving = taken
    for i in range(count):
        if arriving > 0:
            processed = arriving - 1 if i == failing else arriving
            emitted = processed - load(chain + CHAIN.dropped + 8 * i)
            part = elapsed * (arriving * load(chain + CHAIN.parts + 8 * i)) // total
            block = chain + load(chain + CHAIN.blocks + 8 * i)
            writes = load(block + BLOCK.output) != 0
            if i > 0:
                store(chain + CHAIN.other_ticks, load(chain + CHAIN.other_ticks) + part)
            keep_ledger(block, arriving, processed, emitted if writes else 0, part, waiting if i == 0 else 0)
            arriving = emitted


def notify_watchers(chain: int, here: int) -> None:
    """Ring who waits for the cursor of a stage."""
    for i in range(1, load(chain + CHAIN.n_stages)):
        edge = chain + load(chain + CHAIN.edges + 8 * i)
        notify_producer(edge, load(edge + EDGE.head), here)


def end_chain(block: int, chain: int, failing: int, here: int) -> int:
    """Let the first stage go on by itself, and give back the token of the one that has failed."""
    store(block + BLOCK.chain, 0)
    failed = chain + load(chain + CHAIN.blocks + 8 * failing)
    give_back(failed, STATUS_FAILED, load(failed + BLOCK.echo), here)
    return LEFT if failing == 0 else WORKED
