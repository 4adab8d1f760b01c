"""The end of a kernel that nobody has to stop: everything is consumed, what it does at its end is done, and the token
goes back. Compiled.

What it does at its end is a span without messages (`end_span`, of `span_body.py`), which is called as often as there is
room for what it emits, and says when it is over.
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
    ticks,
)
from ringkernel.memory.layout import (
    BEGUN,
    BLOCK,
    CLAIMED,
    COMMIT,
    EDGE,
    NEVER,
    NOT_BEGUN,
    OVER,
    RING,
    RUN_ENTRY,
    STATUS_FAILED,
    STATUS_TERMINATED,
    STATUS_TERMINATING,
)

from .fused_commit import change_state
from .ledger import keep_end, note_peak
from .protocol import notify_consumers, slot_address
from .run_span import SPAN_LIMIT, adapt_span, publish_outputs, with_room
from .token import IDLE, LEFT, WORKED, give_back
from .waits import go_on, hold_up


def is_over(block: int) -> int:
    """1 if a kernel in whose inputs nothing was found will never find anything there: a drain has come to its limits,
    or all inputs are at their end. Not while a map has lent it the ring that it writes to."""
    if load(block + BLOCK.status) != STATUS_TERMINATING:
        if load_acquire(block + BLOCK.closing) == 0:
            return 0
        if are_at_end(block) == 0:
            return 0
    if load(block + BLOCK.end_span_address) == 0 or load(block + BLOCK.output) == 0:
        return 1
    return 1 if load(block + load(block + BLOCK.output) + RING.end) == NEVER else 0


def are_at_end(block: int) -> int:
    """1 if nothing waits in the inputs, and nothing will."""
    count = load_acquire(block + BLOCK.n_inputs)  # acquire: the table is at least as new
    table = block + load(block + BLOCK.inputs)
    for i in range(count):
        edge = block + load(table + 8 * i)
        if load(edge + EDGE.closed) == 0:
            ring = edge + load(edge + EDGE.ring)
            if load_acquire(ring + RING.ended) == 0:
                return 0
            if load_acquire(ring + RING.tail) > load_acquire(edge + EDGE.head):  # `ended` before `tail`
                return 0
    return 1


def finish(block: int, run_entry: int, here: int) -> int:
    """Do some of what a kernel does at its end, and give its token back once that is over. It may take any time, so the
    event loop's thread leaves it to a worker."""
    if load(block + BLOCK.end_span_address) != 0 and load(block + BLOCK.end_phase) != OVER:
        if here != 0:
            return IDLE
        result = run_end(block, run_entry, here)
        if result != IDLE or load(block + BLOCK.end_phase) != OVER:
            return result
    give_back(block, STATUS_TERMINATED, load(block + BLOCK.echo), here)
    return LEFT


def run_end(block: int, run_entry: int, here: int) -> int:
    """Run what a kernel does at its end, as far as there is room, and publish. IDLE if there is none, or it is over,
    which `end_phase` says."""
    if load(block + BLOCK.end_phase) == NOT_BEGUN:
        store(block + BLOCK.end_phase, BEGUN)
        store(block + BLOCK.fault_edge, 0)
        store(run_entry + RUN_ENTRY.span_limit, 1)  # what the handler takes says nothing of this
    count, output, target, tail = load(run_entry + RUN_ENTRY.span_limit), 0, 0, 0
    if load(block + BLOCK.output) != 0:
        output = block + load(block + BLOCK.output)
        tail = load(output + RING.next)
        target = slot_address(output, tail)
        count = with_room(output, tail, count, 1)
        if count == 0:
            hold_up(block)
            return IDLE
    start = ticks()
    go_on(block, start)
    change_state(block)
    fence_release()  # odd before a handler writes to its state
    state, fault = block + load(block + BLOCK.state), block + BLOCK.fault_index
    said = call_span(load(block + BLOCK.end_span_address), block + BLOCK.end_record, count, target, state, fault)
    end = ticks()
    elapsed = end - start
    store(block + BLOCK.idle_since, end)
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this happened
    change_state(block)
    calls = said if said >= 0 else -1 - said
    emitted = 0
    if output != 0:
        emitted = calls
        publish_outputs(output, tail, emitted)
        note_peak(block, output, tail + emitted)
    keep_end(block, emitted, elapsed)
    adapt_span(run_entry, calls, elapsed, SPAN_LIMIT)
    fence()  # the cursor, before the looks at the doorbells
    if emitted > 0:
        notify_consumers(output, here)
    if load(fault) >= 0:
        give_back(block, STATUS_FAILED, load(block + BLOCK.echo), here)
        return LEFT
    if said < 0:
        store(block + BLOCK.end_phase, OVER)
        return IDLE
    return WORKED
