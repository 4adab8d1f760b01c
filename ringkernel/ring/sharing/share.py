"""Sharing a span: the worker that holds the turn leads, and workers that have nothing to do help. Compiled.

The leader writes a job, opens its **gate**, and offers the job to others. Whoever is inside takes **parts** by
fetch-and-add, copies of the span's record: chunks, with some of the messages, or, where there is a state for each key,
shards, with a list of them (`shards.py`). It runs them by the same call as any span, and leaves in them what came of
it. The leader closes the gate, waits until nobody is inside, and gathers the parts into the kernel's record, which is
then committed as any other.

Only while the gate is open, or the leader waits, does anybody but the leader touch the rings' memory. A leader that was
revoked while it waited leaves helpers behind with memory that nobody uses again. `tests/models/share.pml` is a model.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    call_function,
    compare_exchange,
    copy_bytes,
    fetch_add,
    is_runnable,
    load,
    load_acquire,
    move_bytes,
    nap,
    spin_hint,
    store,
    store_release,
    this_cpu,
    ticks,
)
from ringkernel.memory.keys_layout import KEYS
from ringkernel.memory.layout import BLOCK, NO_KEYS, PARKER, REVOKED, RING, RUN_ENTRY
from ringkernel.memory.share_layout import MAX_PARTS, MAX_SHARDS, PART, PART_NBYTES, SHARE, TEAM
from ringkernel.memory.span_layout import RUN_AT, RUN_NBYTES, SPAN
from ringkernel.ring.block.stages import call_handlers, chain_of
from ringkernel.ring.protocol.doorbell import unpark

from .length import CHUNKS_EACH, PIECE, SHARDS_EACH, each, full_chunk, n_threads
from .shards import HANDLED, NUMBER_AT, OFFSET, gather_shards, log_room, part_of

CLOSED = -(1 << 40)
"""Nobody may come in through a gate below 0; what it is above this is how many are inside."""
LOOK_FOR_HELP = 8
"""The leader looks for further helpers after so many parts of its own, at most: after 1, 2 and 4 first, since the
event loop's thread mostly goes to sleep a moment after it has rung, and there is a core for one more."""
CHUNKS_FOR_EACH, SHARDS_FOR_EACH = 4, 4
"""So many parts for each thread at least, since helpers come when they can: smaller chunks where there are few
messages, but not below an eighth."""
LOOK_AT_STOP = 8
"""So many messages later a shard looks whether it is to end."""


# --- the leader -------------------------------------------------------------------------------------------------------


def lead(block: int, run_entry: int, span: int, message_nbytes: int) -> int:
    """Run a span with the help of idle workers, and note in its record what came of it. Return 0 if it is to be run by
    this thread alone instead, over as many messages as that takes."""
    parker = load(run_entry + RUN_ENTRY.parker_address)
    job = load(parker + PARKER.job_address)
    if compare_exchange(job + SHARE.is_led, 0, 1) == 0:
        is_shared = lay_out(job, block, run_entry, span, message_nbytes)
        if is_shared == 1:
            store_release(job + SHARE.gate, 0)  # release: the words of the job
            work(job, parker, min(n_threads(block, parker), load(job + SHARE.n_parts)) - 1)
            close_gate(job)
            if wait_for_helpers(job, run_entry) == 0:
                return 1  # revoked: the job stays theirs, and nothing is committed
            is_shared = gather(job, block, span)
        store(job + SHARE.is_led, 0)
        if is_shared == 1:
            return 1
    count = min(load(span + SPAN.count), load(run_entry + RUN_ENTRY.span_limit))
    store(span + SPAN.count, count)
    store(block + BLOCK.in_flight, count)
    store(span + SPAN.started, ticks())
    return 0


def lay_out(job: int, block: int, run_entry: int, span: int, message_nbytes: int) -> int:
    """Write a job, and divide its work. Return 0 if there is nothing to be divided."""
    parker, whole = load(run_entry + RUN_ENTRY.parker_address), job + SHARE.whole
    output, count = load(span + SPAN.output), load(span + SPAN.count)
    slot_nbytes = 0 if output == 0 else load(output + RING.itemsize)
    copy_bytes(whole, span + RUN_AT, RUN_NBYTES)
    store(whole + PART.fault_index, -1)
    store(job + SHARE.message_nbytes, message_nbytes)
    store(job + SHARE.slot_nbytes, slot_nbytes)
    store(job + SHARE.room_nbytes, slot_nbytes * load(block + BLOCK.max_outputs))
    store(job + SHARE.block_address, block)
    store(job + SHARE.leader_cpu, this_cpu())
    store(job + SHARE.next_part, 0)
    store(job + SHARE.stop, 0)
    store(job + SHARE.table, 0)
    threads, span_ticks = n_threads(block, parker), load(run_entry + RUN_ENTRY.span_ticks)
    if load(block + BLOCK.keyed) != NO_KEYS:
        store(job + SHARE.table, load(whole + PART.context))
        store(job + SHARE.n_parts, min(MAX_SHARDS, SHARDS_FOR_EACH * threads))
        count = call_function(load(load(parker + PARKER.team_address) + TEAM.lay_out_shards_address), job)
        store(job + SHARE.length, count)
        store(job + SHARE.deadline, ticks() + 2 * SHARDS_EACH * span_ticks)
        store(block + BLOCK.in_flight, count)
        return 1 if count > 0 else 0
    full = full_chunk(run_entry)
    length = max(min(full, count // (CHUNKS_FOR_EACH * threads)), full // 8, count // MAX_PARTS + 1)
    store(job + SHARE.length, length)
    store(job + SHARE.n_parts, (count + length - 1) // length)
    store(job + SHARE.deadline, ticks() + 2 * each(parker, CHUNKS_EACH) * span_ticks)
    return 1


def work(job: int, parker: int, wanted: int) -> None:
    """Take parts, and get up to so much help, until there are no more to take."""
    taken, look_at, more = 0, 0, 1
    while more == 1:
        if wanted > 0 and taken == look_at:
            wanted -= recruit(job, parker, wanted)
            look_at += min(max(1, taken), LOOK_FOR_HELP)
        more = take_part(job)
        taken += 1
        is_wanted = load(parker + PARKER.inbox_address) != 0 or load(parker + PARKER.stop) != 0
        if is_wanted and load(job + SHARE.table) == 0:
            store(job + SHARE.stop, 1)  # by somebody else; shards that are left undone would undo others


def gather(job: int, block: int, span: int) -> int:
    """Note in the span's record what came of all parts, with the outputs that count in one piece. Return 0 if nothing
    did: of a chain, whose first message may have failed, in some stage."""
    failing = gather_chunks(job, span) if load(job + SHARE.table) == 0 else gather_shards(job, span)
    busy = 0
    for number in range(n_taken(job)):
        part = part_of(job, number)
        busy += load(part + PART.ended) - load(part + PART.started)
    store(span + SPAN.busy_ticks, busy)
    store(span + SPAN.ended, ticks())
    if chain_of(block) == 0 and failing != 0:
        store(block + BLOCK.fault_index, load(span + SPAN.done))
        store(block + BLOCK.fault_info_address, load(failing + PART.fault_info_address))
        store(block + BLOCK.fault_count, load(failing + PART.fault_count))
        return 1
    return 1 if load(span + SPAN.done) > 0 else 0


def n_taken(job: int) -> int:
    """Return how many parts were taken."""
    return min(load(job + SHARE.next_part), load(job + SHARE.n_parts))


def gather_chunks(job: int, span: int) -> int:
    """Move the outputs of all chunks up that count, in order, and note how many messages and outputs these have. Return
    the chunk that has failed; 0 if none has.

    The first chunk that is not complete is the last that counts: its handler has failed, or it was to end. The messages
    of later ones were never taken: a handler without state cannot tell."""
    target, slot_nbytes = load(span + SPAN.target), load(job + SHARE.slot_nbytes)
    done, emitted, failing, number, more = 0, 0, 0, 0, 1
    while more == 1 and number < n_taken(job):
        part = part_of(job, number)
        here = load(part + PART.emitted)
        if here > 0 and load(part + PART.target) != target + emitted * slot_nbytes:
            move_bytes(target + emitted * slot_nbytes, load(part + PART.target), here * slot_nbytes)
        done += load(part + PART.done)
        emitted += here
        if load(part + PART.done) < load(part + PART.count):
            more, failing = 0, part if load(part + PART.fault_index) >= 0 else 0
        number += 1
    store(span + SPAN.done, done)
    store(span + SPAN.emitted, emitted)
    return failing


# --- everybody inside -------------------------------------------------------------------------------------------------


def take_part(job: int) -> int:
    """Take the next part, and run the handler over it. Return 0 if there is none, or none is to be taken."""
    if must_stop(job) == 1:
        return 0
    number = fetch_add(job + SHARE.next_part, 1)
    if number >= load(job + SHARE.n_parts):
        return 0
    part = part_of(job, number)
    if load(job + SHARE.table) == 0:
        run_chunk(job, part, number * load(job + SHARE.length))
    else:
        run_shard(job, part)
    store(part + PART.ended, ticks())
    return 1


def must_stop(job: int) -> int:
    """Return 1 if no more is to be taken: of chunks after a command or once the span has taken long enough, of shards,
    which would undo what others have done, only after both."""
    if load(job + SHARE.stop) == 1:
        return 1
    block = load(job + SHARE.block_address)
    is_told = 0 if load(block + BLOCK.epoch) == load(block + BLOCK.echo) else 1
    needs_both = 0 if load(job + SHARE.table) == 0 else 1
    if is_told < needs_both or (is_told == needs_both and ticks() < load(job + SHARE.deadline)):
        return 0
    store(job + SHARE.stop, 1)
    return 1


def run_chunk(job: int, part: int, first: int) -> None:
    """Run the handler over a chunk that begins with the message `first`, piece by piece, unless it is to end before."""
    copy_bytes(part, job + SHARE.whole, PART_NBYTES)
    message_nbytes, slot_nbytes = load(job + SHARE.message_nbytes), load(job + SHARE.slot_nbytes)
    source = load(part + PART.source) + first * message_nbytes
    target = load(part + PART.target) + first * load(job + SHARE.room_nbytes)
    count = min(load(job + SHARE.length), load(part + PART.count) - first)
    store(part + PART.target, target)
    store(part + PART.count, count)
    store(part + PART.fault, part + PART.fault_index)
    store(part + PART.started, ticks())
    done, emitted = 0, 0
    while done < count and (done == 0 or must_stop(job) == 0):
        piece = min(PIECE, count - done)
        emitted += call_handlers(part, source + done * message_nbytes, piece, target + emitted * slot_nbytes)
        if load(part + PART.fault_index) >= 0:
            store(job + SHARE.stop, 1)
            piece = load(part + PART.fault_index)
            count = done
        done += piece
    store(part + PART.done, done)
    store(part + PART.emitted, emitted)


def run_shard(job: int, part: int) -> None:
    """Run the handler over the messages of a shard, until one fails, or the span is to end. Write down the state before
    each."""
    table, first = load(job + SHARE.table), load(part + PART.first)
    message_nbytes, slot_nbytes, log_nbytes = (
        load(job + SHARE.message_nbytes),
        load(job + SHARE.slot_nbytes),
        log_room(table),
    )
    states, state_nbytes = (
        load(table + KEYS.slots_address) + load(table + KEYS.state_at),
        load(table + KEYS.state_nbytes),
    )
    entries, log = load(job + SHARE.entries) + 8 * first, load(job + SHARE.log) + first * log_nbytes
    source, target, count = load(part + PART.source), load(part + PART.target), load(part + PART.count)
    store(part + PART.started, ticks())
    done = 0
    while done < count and (done % LOOK_AT_STOP != 0 or must_stop(job) == 0):
        entry = load(entries + 8 * done)
        copy_bytes(log + done * log_nbytes, states + (entry & OFFSET), state_nbytes)
        message = source + (entry >> NUMBER_AT) * message_nbytes
        flags = HANDLED + call_handlers(part, message, 1, target + done * slot_nbytes)
        store(entries + 8 * done, entry | flags)
        if load(part + PART.fault_index) >= 0:
            count = done
        else:
            done += 1
    store(part + PART.done, done)


# --- the gate ---------------------------------------------------------------------------------------------------------


def enter(job: int) -> int:
    """Come in to help. Return 0 if the gate is closed."""
    gate = load(job + SHARE.gate)
    while gate >= 0:
        seen = compare_exchange(job + SHARE.gate, gate, gate + 1)  # acquire: the words of the job
        if seen == gate:
            return 1
        gate = seen
    return 0


def leave(job: int) -> None:
    """Go out again, and touch nothing of the job any more."""
    fetch_add(job + SHARE.gate, -1)  # release: outputs, and what came of the parts


def close_gate(job: int) -> None:
    """Let nobody in any more."""
    gate = load(job + SHARE.gate)
    while gate >= 0:
        gate = compare_exchange(job + SHARE.gate, gate, gate + CLOSED)


def wait_for_helpers(job: int, run_entry: int) -> int:
    """Wait until nobody is inside. Return 0 if the kernel was revoked meanwhile."""
    looks = 0
    while load_acquire(job + SHARE.gate) != CLOSED:  # acquire: what they have written
        if load(run_entry + RUN_ENTRY.owner) == REVOKED:
            return 0
        looks += 1
        if looks % 1024 == 0:
            nap(0)  # there may be fewer cores than threads just now
        else:
            spin_hint()
    return 1


def stop_job(job: int, block: int) -> int:
    """Have nobody take any more of a kernel that the supervisor has revoked. Return how many messages were taken; -1 if
    the job is none of this kernel."""
    if load(job + SHARE.is_led) == 0 or load(job + SHARE.block_address) != block:
        return -1
    store_release(job + SHARE.stop, 1)
    close_gate(job)
    taken = load_acquire(job + SHARE.next_part) * load(job + SHARE.length)
    return min(taken, load(job + SHARE.whole + PART.count))


# --- who helps --------------------------------------------------------------------------------------------------------


def recruit(job: int, parker: int, wanted: int) -> int:
    """Offer a job to workers that have nothing to do, as far as there are cores for them. Return how many took it."""
    team = load(parker + PARKER.team_address)
    n_workers = load_acquire(team + TEAM.n_workers)
    cores = load(team + TEAM.n_cores) - busy_workers(team, n_workers)
    loop = load(parker + PARKER.loop_address)
    if cores <= wanted and is_runnable(load(loop + PARKER.stat_fd), load(parker + PARKER.scratch_address)) == 1:
        cores -= 1  # the event loop's thread has one
    most = min(wanted, cores)
    made = 0
    for parked in range(2):  # those who are awake, first
        for i in range(n_workers):
            if made < most:
                made += offer(job, load(team + TEAM.workers + 8 * i), parked)
    if made < most:
        store(team + TEAM.missing, most - made)
    return made


def busy_workers(team: int, n_workers: int) -> int:
    """Return how many workers are doing something."""
    busy = 0
    for i in range(n_workers):
        worker = load(team + TEAM.workers + 8 * i)
        if load(worker + PARKER.parked) == 0 and load(worker + PARKER.is_at_hand) == 0:
            busy += 1
    return busy


def offer(job: int, worker: int, parked: int) -> int:
    """Offer a job to a worker if it sleeps, or else if it waits for one awake. Return 1 if that was done."""
    ready = load(worker + PARKER.parked) if parked == 1 else load(worker + PARKER.is_at_hand)
    if ready != 1 or compare_exchange(worker + PARKER.offer_address, 0, job) != 0:
        return 0
    unpark(worker)
    return 1
