"""One turn of a kernel: look at the command, find a stretch of input and room, run the span, publish. Compiled.

The same turn serves every kernel on every device; only the operations of `operations.py` differ. A **run entry** is a
kernel's place with one poller, a worker or a grid. Its word `owner` settles who may touch the kernel: the poller claims
it (FREE to CLAIMED) before it looks, and commits it (CLAIMED to COMMIT) before it publishes what a span produced; the
supervisor revokes it (FREE or CLAIMED to REVOKED). Each is a compare-and-swap, so exactly one of them wins, and a span
that comes back after having been revoked publishes nothing.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    call_span,
    compare_exchange,
    copy_bytes,
    fence,
    fence_release,
    load,
    load_acquire,
    store,
    store_release,
    ticks,
)
from ringkernel.memory.layout import (
    ARMED,
    BLOCK,
    CLAIMED,
    COMMAND_DRAIN,
    COMMAND_PAUSE,
    COMMAND_RUN,
    COMMIT,
    EDGE,
    FREE,
    GONE,
    HISTOGRAM_BUCKETS,
    NEVER,
    REVOKED,
    RING,
    RUN_ENTRY,
    RUNG,
    STATUS_ACTIVE,
    STATUS_DEACTIVATED,
    STATUS_FAILED,
    STATUS_TERMINATED,
    STATUS_TERMINATING,
)

from .doorbell import ring_doorbell, ring_doorbell_at
from .protocol import (
    bound_of,
    free_slots,
    notify_consumers,
    notify_producer,
    room_of,
    set_tail,
    slot_address,
    slowest_head,
)

IDLE, WORKED, LEFT = 0, 1, 2
"""What a turn returns: nothing to do, did something, the kernel is no longer this poller's."""

SPAN_LIMIT = 1024


def give_back(block: int, status: int, epoch: int) -> None:
    """Hand the token to the host with a final status, in answer to the command of that epoch. The block is not
    touched afterwards."""
    doorbell = load(block + BLOCK.status_doorbell_address)
    store(block + BLOCK.status, status)
    store_release(block + BLOCK.echo, epoch)  # release: counters, cursors and state
    fence()
    ring_doorbell(doorbell)


def obey(block: int) -> int:
    """Carry out the command. LEFT if it took the token away."""
    epoch = load_acquire(block + BLOCK.epoch)
    command = load(block + BLOCK.command)
    if command == COMMAND_RUN:
        status = STATUS_ACTIVE
    elif command == COMMAND_DRAIN:
        status = STATUS_TERMINATING
    elif command == COMMAND_PAUSE:
        give_back(block, STATUS_DEACTIVATED, epoch)
        return LEFT
    else:
        give_back(block, STATUS_TERMINATED, epoch)
        return LEFT
    store(block + BLOCK.status, status)
    store_release(block + BLOCK.echo, epoch)
    fence()
    ring_doorbell(load(block + BLOCK.status_doorbell_address))
    return WORKED


def find_input(block: int, run_entry: int) -> int:
    """The next input edge, in turn, that has something to take; 0 if none has."""
    count = load(block + BLOCK.n_inputs)
    table = block + load(block + BLOCK.inputs)
    index = load(run_entry + RUN_ENTRY.next_edge)
    for _ in range(count):
        if index >= count:
            index = 0
        edge = block + load(table + 8 * index)
        index += 1
        head = load(edge + EDGE.head)
        if bound_of(edge, head) > head:
            store(run_entry + RUN_ENTRY.next_edge, index)
            return edge
    return 0


def turn(run_entry: int) -> int:
    """Do at most one span of work for a kernel."""
    owner = run_entry + RUN_ENTRY.owner
    if compare_exchange(owner, FREE, CLAIMED) != FREE:
        return LEFT
    block = load(run_entry + RUN_ENTRY.block_address)
    result = IDLE
    if load_acquire(block + BLOCK.epoch) != load(block + BLOCK.echo):
        result = obey(block)
    if result != LEFT:
        edge = find_input(block, run_entry)
        if edge != 0:
            worked = run_span(block, run_entry, edge)
            if worked != IDLE:
                result = worked
        elif load(block + BLOCK.status) == STATUS_TERMINATING:
            give_back(block, STATUS_TERMINATED, load(block + BLOCK.echo))  # everything below the limits is consumed
            result = LEFT
    if result != LEFT and release(run_entry) == 0:
        result = LEFT
    return result


def release(run_entry: int) -> int:
    """End a claim or a commit. 0 if the kernel was revoked meanwhile."""
    owner = run_entry + RUN_ENTRY.owner
    if load(owner) == COMMIT:
        store_release(owner, FREE)  # nobody else writes the word while it is COMMIT
        return 1
    return 1 if compare_exchange(owner, CLAIMED, FREE) == CLAIMED else 0


def run_span(block: int, run_entry: int, edge: int) -> int:
    """Run the handler over the next messages from `edge` that lie in one piece and have room, and publish."""
    head = load(edge + EDGE.head)
    source_ring = edge + load(edge + EDGE.ring)
    capacity = load(source_ring + RING.capacity)
    waiting = bound_of(edge, head) - head
    count = min(waiting, capacity - (head & (capacity - 1)), load(run_entry + RUN_ENTRY.span_limit))
    output, target, tail = 0, 0, 0
    if load(block + BLOCK.output) != 0:
        output = block + load(block + BLOCK.output)
        tail = load(output + RING.next)
        target = slot_address(output, tail)
        count = with_room(output, tail, count, load(block + BLOCK.max_outputs))
        if count == 0:
            store(block + BLOCK.blocked, 1)
            return IDLE
    store(block + BLOCK.blocked, 0)
    store(block + BLOCK.in_flight, count)
    store(block + BLOCK.fault_edge, edge - block)
    start = ticks()
    emitted = call_handler(block, slot_address(source_ring, head), count, target)
    elapsed = ticks() - start
    if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:
        return LEFT  # revoked meanwhile: nothing of this span happened
    store_release(block + BLOCK.state_version, load(block + BLOCK.state_version) + 1)  # even: the state is whole again
    fault = load(block + BLOCK.fault_index)
    taken, processed = count, count
    if fault >= 0:  # the host moves the cursor over what failed, once it has had a look at it
        processed = fault
        taken = fault + load(block + BLOCK.fault_count)
    if output != 0:
        publish_outputs(output, tail, emitted)
    store_release(edge + EDGE.head, head + processed)  # release: after the outputs, so that `head` implies them
    if output != 0:
        note_peak(block, output, tail + emitted)
    keep_ledger(block, taken, processed, emitted, elapsed, waiting)
    adapt_span(run_entry, count, elapsed)
    fence()  # the cursors, before the looks at the doorbells
    if output != 0 and emitted > 0:
        notify_consumers(output)
    notify_producer(edge, head + processed)
    if fault >= 0:
        give_back(block, STATUS_FAILED, load(block + BLOCK.echo))
        return LEFT
    return WORKED


def call_handler(block: int, source: int, count: int, target: int) -> int:
    """Run the kernel's span. How many messages it has emitted; what failed is in the block. The state's version is odd
    from here until the span is committed."""
    store(block + BLOCK.state_version, load(block + BLOCK.state_version) + 1)
    fence_release()  # odd before the handler writes to the state
    state, fault = block + load(block + BLOCK.state), block + BLOCK.fault_index
    return call_span(load(block + BLOCK.span_address), source, count, target, state, fault)


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
    each = elapsed // max(taken, 1)
    while each > 1 and bucket < HISTOGRAM_BUCKETS - 1:
        each >>= 1
        bucket += 1
    _add(block + BLOCK.histogram + 8 * bucket, taken)
    store_release(block + BLOCK.ledger_version, version + 2)


def _add(address: int, amount: int) -> None:
    store(address, load(address) + amount)


def adapt_span(run_entry: int, count: int, elapsed: int) -> None:
    """Size spans by time: twice as long while a span is quick, shorter as soon as it is not."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    target = load(run_entry + RUN_ENTRY.span_ticks)
    if elapsed > 2 * target:
        store(run_entry + RUN_ENTRY.span_limit, max(1, count * target // elapsed))
    elif count == limit and elapsed < target:
        store(run_entry + RUN_ENTRY.span_limit, min(2 * limit, SPAN_LIMIT))


def can_work(block: int, run_entry: int) -> int:
    """Whether a turn would find something to do."""
    if load_acquire(block + BLOCK.epoch) != load(block + BLOCK.echo):
        return 1
    if find_input(block, run_entry) == 0:
        return 1 if load(block + BLOCK.status) == STATUS_TERMINATING else 0
    if load(block + BLOCK.output) == 0:
        return 1
    needed = load(block + BLOCK.max_outputs)
    return 1 if room_of(block + load(block + BLOCK.output), needed) >= needed else 0


def rest(run_entry: int) -> int:
    """Let an idle kernel leave the poller: whoever feeds or commands it rings. 1 if it left, 0 if it has work."""
    if compare_exchange(run_entry + RUN_ENTRY.owner, FREE, CLAIMED) != FREE:
        return 0  # revoked; the next turn finds out
    block = load(run_entry + RUN_ENTRY.block_address)
    wanted = NEVER
    if load(block + BLOCK.output) != 0:
        output = block + load(block + BLOCK.output)
        size = load(output + RING.capacity)
        needed = load(block + BLOCK.max_outputs)
        if room_of(output, needed) < needed:
            wanted = load(output + RING.next) - size + max(size // 2, needed)  # once per half ring, not once per slot
        store(output + RING.wanted, wanted)
    store(run_entry + RUN_ENTRY.state, ARMED)
    fence()  # armed, before the last look
    if wanted != NEVER:
        let_producers_in(block)
    left = 1
    if can_work(block, run_entry) == 1 and compare_exchange(run_entry + RUN_ENTRY.state, ARMED, RUNG) == ARMED:
        left = 0  # otherwise somebody rang, and the run entry is in the inbox
    release(run_entry)
    return left


def let_producers_in(block: int) -> None:
    """Producers wait for half a ring of room, and a kernel that is held up makes no more of it: let them use what there
    is. The caller has fenced."""
    table = block + load(block + BLOCK.inputs)
    for i in range(load(block + BLOCK.n_inputs)):
        edge = block + load(table + 8 * i)
        ring = edge + load(edge + EDGE.ring)
        if free_slots(ring, load_acquire(ring + RING.tail), slowest_head(ring)) > 0:
            ring_doorbell_at(load(ring + RING.doorbell_address))


def dismiss(run_entry: int) -> None:
    """The poller is done with a run entry for good; its memory may serve again."""
    store_release(run_entry + RUN_ENTRY.owner, GONE)


def revoke(run_entry: int, forced: int) -> int:
    """For the supervisor: take a kernel from its poller. The owner word as it was found.

    FREE: the kernel is the caller's now. CLAIMED: it is in a turn; with `forced`, what that turn does is void.
    COMMIT: it is about to publish, which takes no user code: ask again.
    """
    owner = run_entry + RUN_ENTRY.owner
    seen = compare_exchange(owner, FREE, REVOKED)
    if seen == CLAIMED and forced == 1:
        seen = compare_exchange(owner, CLAIMED, REVOKED)
    return seen
