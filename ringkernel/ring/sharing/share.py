"""Sharing a span: the worker that holds the turn leads, and workers that have nothing to do help. Compiled.

The leader writes a job, opens its **gate**, and offers the job to others. Whoever is inside takes **parts** by
fetch-and-add, copies of the span's record: chunks, with some of the messages, or, where there is a state for each key,
shards, with a list of them (`shards.py`). It runs them by the same call as any span, and leaves in them what came of
it. The leader closes the gate, waits until nobody is inside, and gathers the parts into the kernel's record, which is
then committed as any other.
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
    store,
    store_release,
    this_cpu,
    ticks,
)
from ringkernel.memory.layout import BLOCK, NO_KEYS, PARKER, RING, RUN_ENTRY
from ringkernel.memory.share_layout import MAX_PARTS, MAX_SHARDS, PART, PART_NBYTES, SHARED, TEAM
from ringkernel.memory.span_layout import RUN_AT, RUN_NBYTES, SPAN
from ringkernel.ring.block.stages import call_handlers, max_threads
from ringkernel.ring.protocol.doorbell import unpark

from .job import close_gate, must_stop, n_taken, part_of, wait_for_helpers
from .length import CHUNKS_EACH, PIECE, SHARDS_EACH, each, full_chunk, n_threads, pays
from .shards import gather_shards, run_shard

LOOK_FOR_HELP = 8
"""The leader looks for further helpers after so many parts of its own, at most: after 1, 2 and 4 first, since the
event loop's thread mostly goes to sleep a moment after it has rung, and there is a core for one more."""
PARTS_FOR_EACH = 4
"""So many parts for each thread, since helpers come when they can: smaller chunks where there are few messages, but not
below an eighth."""

# --- the leader -------------------------------------------------------------------------------------------------------


def lead(block: int, run_entry: int, span: int, message_nbytes: int) -> int:
    """Run a span with the help of idle workers, and note in its record what came of it. Return 0 if it is to be run by
    this thread alone instead, over as many messages as that takes.

    A span never fails here: it ends before the message that has failed, with which the next one begins. That one is
    then run alone, and says what there is to say."""
    parker = load(run_entry + RUN_ENTRY.parker_address)
    job, limit = load(parker + PARKER.job_address), load(run_entry + RUN_ENTRY.span_limit)
    if pays(run_entry, load(span + SPAN.count)) == 1 and compare_exchange(job + SHARED.is_led, 0, 1) == 0:
        done = 0
        if lay_out(job, block, run_entry, span, message_nbytes) == 1:
            store_release(job + SHARED.gate, 0)  # release: the words of the job
            work(job, parker, min(max_threads(block), load(job + SHARED.n_parts)) - 1)
            close_gate(job)
            if wait_for_helpers(job, run_entry) == 0:
                return 1  # revoked: the job stays theirs, and nothing is committed
            done = gather(job, span)
        store(job + SHARED.is_led, 0)
        if done > 0:
            return 1
    store(span + SPAN.count, min(load(span + SPAN.count), limit))
    store(block + BLOCK.in_flight, load(span + SPAN.count))
    store(span + SPAN.started, ticks())
    return 0


def lay_out(job: int, block: int, run_entry: int, span: int, message_nbytes: int) -> int:
    """Write a job, and divide its work. Return 0 if there is nothing to be divided."""
    parker, whole = load(run_entry + RUN_ENTRY.parker_address), job + SHARED.whole
    output, count, is_keyed = load(span + SPAN.output), load(span + SPAN.count), load(block + BLOCK.keyed) != NO_KEYS
    slot_nbytes = 0 if output == 0 else load(output + RING.itemsize)
    copy_bytes(whole, span + RUN_AT, RUN_NBYTES)
    store(whole + PART.fault_index, -1)
    store(job + SHARED.message_nbytes, message_nbytes)
    store(job + SHARED.slot_nbytes, slot_nbytes)
    store(job + SHARED.room_nbytes, slot_nbytes * load(block + BLOCK.max_outputs))
    store(job + SHARED.block_address, block)
    store(job + SHARED.leader_cpu, this_cpu())
    store(job + SHARED.next_part, 0)
    store(job + SHARED.stop, 0)
    store(job + SHARED.table, load(whole + PART.context) if is_keyed else 0)
    threads, full = n_threads(block, parker), full_chunk(run_entry)
    if is_keyed:
        store(job + SHARED.n_parts, min(MAX_SHARDS, PARTS_FOR_EACH * threads))
        length = count = call_function(load(load(parker + PARKER.team_address) + TEAM.lay_out_shards_address), job)
        store(block + BLOCK.in_flight, count)
    else:
        length = max(min(full, count // (PARTS_FOR_EACH * threads)), full // 8, count // MAX_PARTS + 1)
        store(job + SHARED.n_parts, (count + length - 1) // length)
    store(job + SHARED.length, length)
    spans, span_ticks = each(parker, SHARDS_EACH if is_keyed else CHUNKS_EACH), load(run_entry + RUN_ENTRY.span_ticks)
    store(job + SHARED.span_ticks, span_ticks)
    store(job + SHARED.deadline, ticks() + 2 * spans * span_ticks)
    return 1 if count > 0 else 0


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
        if is_wanted and load(job + SHARED.table) == 0:
            store(job + SHARED.stop, 1)  # by somebody else; shards that are left undone would undo others


def gather(job: int, span: int) -> int:
    """Note in the span's record what came of all parts, with the outputs that count in one piece. Return how many
    messages count."""
    busy = 0
    for number in range(n_taken(job)):
        part = part_of(job, number)
        busy += load(part + PART.ended) - load(part + PART.started)
    store(span + SPAN.busy_ticks, busy)
    if load(job + SHARED.table) == 0:
        gather_chunks(job, span)
    else:
        gather_shards(job, span)
    store(span + SPAN.ended, ticks())
    return load(span + SPAN.done)


def gather_chunks(job: int, span: int) -> None:
    """Move the outputs of all chunks up that count, in order, and note how many messages and outputs these have.

    The first chunk that is not complete is the last that counts: its handler has failed, or it was to end. The messages
    of later ones were never taken: a handler without state cannot tell."""
    target, slot_nbytes = load(span + SPAN.target), load(job + SHARED.slot_nbytes)
    done, emitted, number, is_whole = 0, 0, 0, 1
    while is_whole == 1 and number < n_taken(job):
        part = part_of(job, number)
        here = load(part + PART.emitted)
        if here > 0 and load(part + PART.target) != target + emitted * slot_nbytes:
            move_bytes(target + emitted * slot_nbytes, load(part + PART.target), here * slot_nbytes)
        done += load(part + PART.done)
        emitted += here
        is_whole = 1 if load(part + PART.done) == load(part + PART.count) else 0
        number += 1
    store(span + SPAN.done, done)
    store(span + SPAN.emitted, emitted)


# --- everybody inside -------------------------------------------------------------------------------------------------


def take_part(job: int) -> int:
    """Take the next part, and run the handler over it. Return 0 if there is none, or none is to be taken."""
    if must_stop(job) == 1:
        return 0
    number = fetch_add(job + SHARED.next_part, 1)
    if number >= load(job + SHARED.n_parts):
        return 0
    part = part_of(job, number)
    if load(job + SHARED.table) == 0:
        run_chunk(job, part, number * load(job + SHARED.length))
    else:
        run_shard(job, part)
    store(part + PART.ended, ticks())
    return 1


def run_chunk(job: int, part: int, first: int) -> None:
    """Run the handler over a chunk, from the message `first` on. One that takes too long may be left in the middle."""
    copy_bytes(part, job + SHARED.whole, PART_NBYTES)
    message_nbytes, slot_nbytes = load(job + SHARED.message_nbytes), load(job + SHARED.slot_nbytes)
    source = load(part + PART.source) + first * message_nbytes
    target = load(part + PART.target) + first * load(job + SHARED.room_nbytes)
    count = min(load(job + SHARED.length), load(part + PART.count) - first)
    store(part + PART.started, ticks())
    late = ticks() + 2 * load(job + SHARED.span_ticks)
    done, emitted = 0, 0
    while done < count and (ticks() < late or must_stop(job) == 0):
        piece = min(PIECE, count - done)
        store(part + PART.source, source + done * message_nbytes)
        store(part + PART.count, piece)
        store(part + PART.target, target + emitted * slot_nbytes)
        emitted += call_handlers(part)
        if load(part + PART.fault_index) >= 0:
            store(job + SHARED.stop, 1)
            done += load(part + PART.fault_index)
            break
        done += piece
    store(part + PART.count, count)  # it held one piece after the other
    store(part + PART.target, target)
    store(part + PART.done, done)
    store(part + PART.emitted, emitted)


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
