"""A split span of a kernel with a state for each key, in shards: the messages of some keys, in their order. Compiled.

The leader finds the records of all messages first, in their order, and makes those of new keys (`shard_keys.py`): while
it does, nobody else is there, and afterwards the table only has to be read. A **shard** is a part of the table, and the
messages whose records are there; whoever is inside takes shards by fetch-and-add. So each record has one thread, and
its messages come in their order.

Before each message its record's state is written down. If one fails, or a command has waited for long, the span ends
with the first message that nobody has handled. What those after it have done is undone, the last of each shard first,
and keys that came with them are taken out: nobody can tell that they were handled.

Outputs lie shard by shard. Then they are put in the order of the messages, unless their order is of no importance.
"""

from __future__ import annotations

from ringkernel.codegen.operations import call_function, call_span, copy_bytes, load, move_bytes, store, ticks
from ringkernel.memory.keys_layout import KEYS
from ringkernel.memory.layout import BLOCK, EDGE, KEYS_UNORDERED, PARKER, RING, RUN_ENTRY
from ringkernel.memory.span_layout import SPAN
from ringkernel.memory.split_layout import MAX_SHARDS, SPLIT_JOB, TEAM

from .chunks import full_chunk
from .shard_keys import OFFSET, SHARD_BITS, key_room
from .split_job import BUSY, DONE, EMITTED, chunk_words, n_threads, note_chunk, note_fault

EACH, AMONG_OTHERS = 16, 4
"""How many times as many messages as one thread handles in a span: if the leader has nothing else to do, and if it
has."""
LOOK_AT_CLOCK = 8
"""So many messages later a shard looks whether the span takes too long."""
SHARDS_EACH = 4
"""Shards for each thread: some have more to do than others, and helpers come when they can."""
PAYS_FROM = 1024
"""It pays if a message takes more than this part of a span: about 50 ns. To find its record, write down its state and
put its output in order takes the leader some 20 ns."""


def longest_in_shards(block: int, run_entry: int, parker: int) -> int:
    """How many messages a span in shards may have: 0 if it does not pay."""
    if PAYS_FROM * load(run_entry + RUN_ENTRY.pace) < 64 * load(run_entry + RUN_ENTRY.span_ticks):
        return 0
    job, output_nbytes = load(parker + PARKER.job_address), 0
    if load(block + BLOCK.output) != 0:
        output_nbytes = load(block + load(block + BLOCK.output) + RING.itemsize)
    table = block + load(block + BLOCK.state)
    room = load(job + SPLIT_JOB.space_nbytes) - key_room(table)
    each = EACH if load(parker + PARKER.n_queued) == 1 else AMONG_OTHERS
    return min(room // (16 + log_room(table) + output_nbytes), each * n_threads(block, parker) * full_chunk(run_entry))


def log_room(table: int) -> int:
    """How many bytes a state takes that is written down."""
    return (load(table + KEYS.state_nbytes) + 7) & -8


# --- the leader, before anybody else comes in -------------------------------------------------------------------------


def lay_out_shards(job: int, block: int, run_entry: int, parker: int) -> int:
    """Find the records of a job's messages, and sort them by shard. How many: those from the first on whose key there
    is no room for are left to the next span."""
    table = block + load(block + BLOCK.state)
    n_shards = min(MAX_SHARDS, SHARDS_EACH * n_threads(block, parker))
    store(job + SPLIT_JOB.n_chunks, n_shards)
    store(job + SPLIT_JOB.places, load(job + SPLIT_JOB.space_address) + key_room(table))
    store(job + SPLIT_JOB.deadline, ticks() + 2 * EACH * load(run_entry + RUN_ENTRY.span_ticks))
    for shard in range(n_shards):
        words = chunk_words(job, shard)
        store(job + SPLIT_JOB.next_of + 8 * shard, 0)
        store(words, -1)
        store(words + DONE, 0)
        store(words + EMITTED, 0)
        store(words + BUSY, 0)
    store(job + SPLIT_JOB.table, table)
    store(job + SPLIT_JOB.key_at, key_at(table, block + load(block + BLOCK.fault_edge)))
    count = call_function(load(load(parker + PARKER.team_address) + TEAM.find_records_address), job)
    if count == 0:
        return 0
    store(job + SPLIT_JOB.count, count)
    store(job + SPLIT_JOB.chunk, count)
    store(block + BLOCK.in_flight, count)
    store(job + SPLIT_JOB.in_shards, load(job + SPLIT_JOB.places) + 8 * count)
    store(job + SPLIT_JOB.log, load(job + SPLIT_JOB.in_shards) + 8 * count)
    store(job + SPLIT_JOB.outputs, load(job + SPLIT_JOB.log) + log_room(table) * count)
    if load(block + BLOCK.keyed) == KEYS_UNORDERED:
        store(job + SPLIT_JOB.outputs, load(job + SPLIT_JOB.target))
    sort_into_shards(job, n_shards)
    return count


def key_at(table: int, edge: int) -> int:
    """Where in the messages of an edge the key is."""
    return load(table + KEYS.key_at) if load(edge + EDGE.span_address) == 0 else load(edge + EDGE.key_at)


def sort_into_shards(job: int, n_shards: int) -> None:
    """Write down which messages each shard has, in their order: twice the number, which leaves a bit for what becomes
    of it."""
    first = 0
    for shard in range(n_shards):
        length = load(job + SPLIT_JOB.next_of + 8 * shard)
        store(job + SPLIT_JOB.first_of + 8 * shard, first)
        store(job + SPLIT_JOB.next_of + 8 * shard, first)
        first += length
    store(job + SPLIT_JOB.first_of + 8 * n_shards, first)
    places, in_shards = load(job + SPLIT_JOB.places), load(job + SPLIT_JOB.in_shards)
    for i in range(load(job + SPLIT_JOB.count)):
        shard = load(places + 8 * i) >> SHARD_BITS
        at = load(job + SPLIT_JOB.next_of + 8 * shard)
        store(job + SPLIT_JOB.next_of + 8 * shard, at + 1)
        store(in_shards + 8 * at, 2 * i)


# --- everybody inside -------------------------------------------------------------------------------------------------


def is_let_in(job: int) -> int:
    """1 if shards are to be taken: all of them, unless the span is to end before."""
    return 1 - load(job + SPLIT_JOB.stop)


def is_late(job: int) -> int:
    """1 if there is a command, and the span takes longer than it should."""
    block = load(job + SPLIT_JOB.block_address)
    return (
        1 if load(block + BLOCK.epoch) != load(block + BLOCK.echo) and ticks() > load(job + SPLIT_JOB.deadline) else 0
    )


def run_shard(job: int, index: int) -> None:
    """Run the handler over the messages of a shard, until one fails, or the span is to end."""
    words, table, span = chunk_words(job, index), load(job + SPLIT_JOB.table), load(job + SPLIT_JOB.span_address)
    first, end = load(job + SPLIT_JOB.first_of + 8 * index), load(job + SPLIT_JOB.first_of + 8 * index + 8)
    source, message_nbytes = load(job + SPLIT_JOB.source), load(job + SPLIT_JOB.message_nbytes)
    slot_nbytes, in_shards = load(job + SPLIT_JOB.slot_nbytes), load(job + SPLIT_JOB.in_shards)
    target = load(job + SPLIT_JOB.outputs) + first * slot_nbytes
    state_nbytes, log, log_nbytes = (
        load(table + KEYS.state_nbytes),
        load(job + SPLIT_JOB.log),
        log_room(table),
    )
    at, emitted, start = first, 0, ticks()
    while at < end and is_let_in(job) == 1:
        if (at - first) % LOOK_AT_CLOCK == 0 and is_late(job) == 1:
            store(job + SPLIT_JOB.stop, 1)
            break
        number = load(in_shards + 8 * at) >> 1
        copy_bytes(log + at * log_nbytes, state_of(job, table, number), state_nbytes)
        here = call_span(span, source + number * message_nbytes, 1, target + emitted * slot_nbytes, table, words)
        if load(words) >= 0:
            store(words, number)
            break
        store(in_shards + 8 * at, 2 * number + here)
        emitted += here
        at += 1
    note_chunk(words, at - first, emitted, start)


def state_of(job: int, table: int, number: int) -> int:
    """Where the state of a message's key is."""
    offset = load(load(job + SPLIT_JOB.places) + 8 * number) & OFFSET
    return load(table + KEYS.slots_address) + offset + load(table + KEYS.state_at)


# --- the leader, after the others -------------------------------------------------------------------------------------


def gather_shards(job: int, block: int, run_entry: int, span: int) -> int:
    """Undo what does not count, and put the outputs of what does in one piece. How many there are."""
    done, busy, failed = load(job + SPLIT_JOB.count), 0, 0
    for shard in range(load(job + SPLIT_JOB.n_chunks)):
        words = chunk_words(job, shard)
        busy += load(words + BUSY)
        at = load(job + SPLIT_JOB.first_of + 8 * shard) + load(words + DONE)
        if at < load(job + SPLIT_JOB.first_of + 8 * shard + 8):
            left = load(load(job + SPLIT_JOB.in_shards) + 8 * at) >> 1
            if left < done:
                done, failed = left, words if load(words) >= 0 else 0
    if done < load(job + SPLIT_JOB.count):
        undo_after(job, done)
        store(job + SPLIT_JOB.n_kept, done if failed == 0 else done + 1)
        team = load(load(run_entry + RUN_ENTRY.parker_address) + PARKER.team_address)
        call_function(load(team + TEAM.take_keys_back_address), job)
    if failed != 0:
        note_fault(block, done, failed)
    store(span + SPAN.done, done)
    store(span + SPAN.busy_ticks, busy)
    if load(job + SPLIT_JOB.outputs) == load(job + SPLIT_JOB.target) or load(job + SPLIT_JOB.slot_nbytes) == 0:
        return by_shard(job)
    return in_order(job, done)


def undo_after(job: int, done: int) -> None:
    """Undo what messages have done to their states that come after the first that does not count, the last first."""
    table, log = load(job + SPLIT_JOB.table), load(job + SPLIT_JOB.log)
    log_nbytes = log_room(table)
    for shard in range(load(job + SPLIT_JOB.n_chunks)):
        words, first = chunk_words(job, shard), load(job + SPLIT_JOB.first_of + 8 * shard)
        at = first + load(words + DONE) - (0 if load(words) >= 0 else 1)
        while at >= first:
            entry = load(load(job + SPLIT_JOB.in_shards) + 8 * at)
            if entry >> 1 <= done:
                break
            copy_bytes(state_of(job, table, entry >> 1), log + at * log_nbytes, load(table + KEYS.state_nbytes))
            store(words + EMITTED, load(words + EMITTED) - (entry & 1))
            at -= 1


def by_shard(job: int) -> int:
    """The outputs of each shard behind those of the one before."""
    target, slot_nbytes, emitted = load(job + SPLIT_JOB.target), load(job + SPLIT_JOB.slot_nbytes), 0
    for shard in range(load(job + SPLIT_JOB.n_chunks)):
        first, here = load(job + SPLIT_JOB.first_of + 8 * shard), load(chunk_words(job, shard) + EMITTED)
        if first > emitted:
            move_bytes(target + emitted * slot_nbytes, target + first * slot_nbytes, here * slot_nbytes)
        emitted += here
    return emitted


def in_order(job: int, count: int) -> int:
    """The outputs in the order of their messages, of which so many count."""
    for shard in range(load(job + SPLIT_JOB.n_chunks)):
        first = load(job + SPLIT_JOB.first_of + 8 * shard)
        store(job + SPLIT_JOB.next_of + 8 * shard, first)
        store(job + SPLIT_JOB.next_output_of + 8 * shard, first)
    places, in_shards = load(job + SPLIT_JOB.places), load(job + SPLIT_JOB.in_shards)
    outputs, target, slot_nbytes = (
        load(job + SPLIT_JOB.outputs),
        load(job + SPLIT_JOB.target),
        load(job + SPLIT_JOB.slot_nbytes),
    )
    emitted = 0
    for i in range(count):
        shard = 8 * (load(places + 8 * i) >> SHARD_BITS)
        at = load(job + SPLIT_JOB.next_of + shard)
        store(job + SPLIT_JOB.next_of + shard, at + 1)
        if load(in_shards + 8 * at) & 1 == 1:
            output = load(job + SPLIT_JOB.next_output_of + shard)
            store(job + SPLIT_JOB.next_output_of + shard, output + 1)
            copy_bytes(target + emitted * slot_nbytes, outputs + output * slot_nbytes, slot_nbytes)
            emitted += 1
    return emitted
