"""One turn of a kernel: look at the command, find input, run a span. Compiled.

The same turn serves every kernel on every device; only the operations of `operations.py` differ. A **run entry** is a
kernel's place with one poller, a worker or a grid.
"""

from __future__ import annotations

from ringkernel.codegen.operations import compare_exchange, fence, load, load_acquire, store, store_release, ticks
from ringkernel.memory.layout import (
    ARMED,
    BLOCK,
    CLAIMED,
    COMMAND_DRAIN,
    COMMAND_PAUSE,
    COMMAND_RUN,
    EDGE,
    FREE,
    NEVER,
    RING,
    RUN_ENTRY,
    RUNG,
    STAGES,
    STATUS_ACTIVE,
    STATUS_DEACTIVATED,
    STATUS_TERMINATED,
    STATUS_TERMINATING,
)
from ringkernel.memory.span_layout import SPAN
from ringkernel.ring.block.stages import last_stage, record_of, stages_of
from ringkernel.ring.block.token import IDLE, LEFT, WORKED, claim_again, give_back, release
from ringkernel.ring.block.waits import begin, hold_up, starve
from ringkernel.ring.protocol.cursors import free_slots, room_of, slowest_head, waiting_of
from ringkernel.ring.protocol.doorbell import ring_doorbell, ring_doorbell_at
from ringkernel.ring.spans.commit import is_told_more
from ringkernel.ring.spans.fill import NOTHING_THERE, READY, fill, fill_by_time, goes_by_time, is_ready
from ringkernel.ring.spans.run_span import run_span, run_span_by_time

from .ends import finish, is_over


def turn(run_entry: int, here: int) -> int:
    """Do at most one span of work for a kernel. `here`: see `ring_doorbell`."""
    seen = compare_exchange(run_entry + RUN_ENTRY.owner, FREE, CLAIMED)
    if seen != FREE:
        # CLAIMED: the event loop's thread lays it to rest, and has armed it already, so that somebody could ring. In a
        # moment it is FREE; only what was revoked never is again
        return IDLE if seen == CLAIMED else LEFT
    block = load(run_entry + RUN_ENTRY.block_address)
    result = IDLE
    if load_acquire(block + BLOCK.epoch) != load(block + BLOCK.echo):
        result = obey(block, here)
    if result != LEFT:
        worked = work(block, run_entry, here)
        if worked != NOTHING_THERE:
            if worked != IDLE:
                result = worked
        elif is_over(block) == 1:
            ended = finish(block, run_entry, here)
            if ended != IDLE:
                result = ended
        else:
            starve(block)
    if result != LEFT and release(run_entry) == 0:
        result = LEFT
    return result


def work(block: int, run_entry: int, here: int) -> int:
    """Run a span over what comes next. `NOTHING_THERE` if nothing waits in the inputs."""
    span = record_of(block)
    if goes_by_time(block) == 0:
        filled = fill(block, run_entry, span, here)
        return run_span(block, run_entry, span, here) if filled == READY else filled
    fill_by_time(block, run_entry, span, here)
    worked = run_span_by_time(block, run_entry, span, here)
    if worked != IDLE or waiting_of(block) != 0 or load(span + SPAN.is_ready) == 1:
        return worked  # multiples of the timer may wait for room
    claim_again(run_entry)  # its end may follow
    return NOTHING_THERE


def obey(block: int, here: int) -> int:
    """Carry out the command. LEFT if it took the token away."""
    epoch = load_acquire(block + BLOCK.epoch)
    command = load(block + BLOCK.command)
    begin(block, ticks())
    if command == COMMAND_RUN:
        status = STATUS_ACTIVE
    elif command == COMMAND_DRAIN:
        status = STATUS_TERMINATING
    elif command == COMMAND_PAUSE:
        give_back(block, STATUS_DEACTIVATED, epoch, here)
        return LEFT
    else:
        give_back(block, STATUS_TERMINATED, epoch, here)
        return LEFT
    store(block + BLOCK.status, status)
    store_release(block + BLOCK.echo, epoch)
    fence()
    ring_doorbell(load(block + BLOCK.status_doorbell_address), here)
    return WORKED


def can_work(block: int) -> int:
    """Return 1 if a turn would find something to do. A look, which takes no input's place in the order."""
    if load_acquire(block + BLOCK.epoch) != load(block + BLOCK.echo):
        return 1
    if has_input(block) == 0:
        if is_told_more(block, record_of(block)) == 1:
            return 1
        if waiting_of(block) != 0:
            return 0
        return can_end(block)
    return has_room(block)


def can_end(block: int) -> int:
    """Return 1 if a kernel in whose inputs nothing waits is at its end, with room for what it emits then."""
    if is_over(block) == 0:
        return 0
    return 1 if load(block + BLOCK.end_span_address) == 0 else has_room(block)


def has_room(block: int) -> int:
    """1 if there is room for what comes of a message."""
    last = last_stage(block)
    if load(last + BLOCK.output) == 0:
        return 1
    needed = load(last + BLOCK.max_outputs)
    return 1 if room_of(last + load(last + BLOCK.output), needed) >= needed else 0


def has_input(block: int) -> int:
    """1 if there is something that a span would handle."""
    if goes_by_time(block) == 1:
        return is_ready(block, record_of(block))
    return 1 if waiting_of(block) != 0 else 0


def rest(run_entry: int, here: int) -> int:
    """Let an idle kernel leave the poller: whoever feeds or commands it rings. 1 if it left, 0 if it has work.

    It is armed, and may be in the other poller's hands, before the claim has ended: a worker's turn does nothing then,
    see `turn`, and the event loop hands it back, see `take_turns`.
    """
    if compare_exchange(run_entry + RUN_ENTRY.owner, FREE, CLAIMED) != FREE:
        return 0  # revoked, or see `turn`, which finds out next time
    block = load(run_entry + RUN_ENTRY.block_address)
    wanted = NEVER
    last = last_stage(block)
    if load(last + BLOCK.output) != 0:
        output = last + load(last + BLOCK.output)
        size = load(output + RING.capacity)
        needed = load(last + BLOCK.max_outputs)
        if room_of(output, needed) < needed:
            wanted = load(output + RING.next) - size + max(size // 2, needed)  # once per half ring, not once per slot
        store(output + RING.wanted, wanted)
    if waiting_of(block) == 0:  # a worker has seen that, but the event loop comes here right after a span
        starve(block)
    elif wanted != NEVER:
        hold_up(block)
    store_release(run_entry + RUN_ENTRY.state, ARMED)  # release: who sees it armed sees that it is claimed
    fence()  # armed, before the last look
    if wanted != NEVER:
        let_producers_in(block, here)
        ring_doorbell_at(load(stages_of(block) + STAGES.held_up_address), here)
    left = 1
    if can_work(block) == 1 and compare_exchange(run_entry + RUN_ENTRY.state, ARMED, RUNG) == ARMED:
        left = 0  # otherwise somebody rang, and the run entry is in the inbox
    release(run_entry)
    return left


def let_producers_in(block: int, here: int) -> None:
    """Producers wait for half a ring of room, and a kernel that is held up makes no more of it: let them use what there
    is. The caller has fenced."""
    count = load_acquire(block + BLOCK.n_inputs)
    table = block + load(block + BLOCK.inputs)
    for i in range(count):
        edge = block + load(table + 8 * i)
        ring = edge + load(edge + EDGE.ring)
        if free_slots(ring, load_acquire(ring + RING.tail), slowest_head(ring)) > 0:
            ring_doorbell_at(load(ring + RING.doorbell_address), here)
