"""Sharing a span of a kernel with a state for each key: its messages by shards, each in their order. Compiled.

A **shard** is a part of the table, and the messages whose records are there. The leader finds the records of all
messages first, in their order, and makes those of new keys: while it does, nobody else is there, and afterwards the
table is only read. So each record has one thread, which takes its messages in their order. A message's **entry** says
its number, where its record is, and what became of it; entries, states before each message, and outputs lie shard by
shard.

If a message fails, or a command has waited for long, the span ends with the first message that nobody has handled. What
those after it have done is undone, and keys that came with them are taken out of the table: nothing tells that they
were handled.
"""

from __future__ import annotations

from ringkernel.codegen.key_table import (
    LOWER,
    MULTIPLIER,
    is_taken,
    slot_of,
    tag_of_number,
    tag_of_text,
    tag_of_words,
    take_last_back,
    take_slot,
)
from ringkernel.codegen.operations import copy_bytes, load, store, ticks
from ringkernel.memory.keys_layout import KEYS, TEXT, UNSIGNED
from ringkernel.memory.layout import BLOCK, EDGE, KEYS_UNORDERED
from ringkernel.memory.share_layout import PART, PART_NBYTES, SHARED
from ringkernel.memory.span_layout import SPAN
from ringkernel.ring.block.stages import call_handlers

from .job import must_stop, part_of

NUMBER_AT = 44
"""From this bit on an entry is the message's number, or, before it is in its place, the number of its shard."""
NEW, EMITTED, HANDLED = 4, 1, 2
"""Flags of an entry: the message brought its key; it has an output; the handler was called for it."""
OFFSET = (1 << NUMBER_AT) - 16
"""What is left says how far the record is from the first: slots are a multiple of 16 bytes."""
LOOK_AT_STOP = 8
"""So many messages later a shard looks whether it is to end."""


# --- the leader, before anybody else comes in -------------------------------------------------------------------------


def lay_out_shards(job: int) -> int:
    """Find the records of a job's messages, and sort the messages into its parts. Return how many: those from the first
    on whose key the table has no room for are left to the next span.

    Called by its address: what a worker's loop loads is read anew each time, and tables are read by loads that LLVM may
    take out of loops.
    """
    whole = job + SHARED.whole
    table = load(whole + PART.context)
    places = load(job + SHARED.space_address) + key_room(table)
    store(job + SHARED.places, places)
    for shard in range(load(job + SHARED.n_parts)):
        part = part_of(job, shard)
        copy_bytes(part, whole, PART_NBYTES)
        store(part + PART.count, 0)
        store(part + PART.done, 0)
    count = find_records(job, table, places)
    entries, log = places + 8 * count, places + 16 * count
    outputs = log + log_room(table) * count
    if load(load(job + SHARED.block_address) + BLOCK.keyed) == KEYS_UNORDERED:
        outputs = load(whole + PART.target)
    store(whole + PART.count, count)
    store(job + SHARED.entries, entries)
    store(job + SHARED.log, log)
    store(job + SHARED.outputs, outputs)
    first = 0
    for shard in range(load(job + SHARED.n_parts)):
        part = part_of(job, shard)
        store(part + PART.first, first)
        store(part + PART.next, first)
        store(part + PART.target, outputs + first * load(job + SHARED.slot_nbytes))
        first += load(part + PART.count)
    for i in range(count):
        entry = load(places + 8 * i)
        part = part_of(job, entry >> NUMBER_AT)
        at = load(part + PART.next)
        store(part + PART.next, at + 1)
        store(places + 8 * i, at)
        store(entries + 8 * at, (i << NUMBER_AT) | (entry & (OFFSET | NEW)))
    return count


def find_records(job: int, table: int, places: int) -> int:
    """Write down each message's shard and record, and count the messages of each shard. Return how many have one."""
    whole, n_shards, key = job + SHARED.whole, load(job + SHARED.n_parts), load(job + SHARED.space_address)
    key_words, key_nbytes = load(table + KEYS.key_words), load(table + KEYS.key_nbytes)
    nbytes, slots = load(table + KEYS.nbytes), load(table + KEYS.slots_address)
    source, message_nbytes = load(whole + PART.source) + key_at(job, table), load(job + SHARED.message_nbytes)
    store(key + key_room(table) - 8, 0)
    for i in range(load(whole + PART.count)):
        copy_bytes(key, source + i * message_nbytes, key_nbytes)
        tag, flag = tag_of(table, key), 0
        slot = slot_of(table, nbytes, tag, key, key_words)
        if is_taken(table, slot) == 0:
            if add_key(table, slot, tag, key) == 0:
                return i
            flag = NEW
        shard = (((tag * MULTIPLIER) >> 32) & LOWER) * n_shards >> 32
        store(places + 8 * i, (shard << NUMBER_AT) | (slot - slots) | flag)
        part = part_of(job, shard)
        store(part + PART.count, load(part + PART.count) + 1)
    return load(whole + PART.count)


def key_at(job: int, table: int) -> int:
    """Return where in the messages the key is: inputs with a handler of their own have messages of their own."""
    block = load(job + SHARED.block_address)
    edge = block + load(block + BLOCK.fault_edge)
    return load(table + KEYS.key_at) if load(edge + EDGE.span_address) == 0 else load(edge + EDGE.key_at)


def key_room(table: int) -> int:
    """Return how many bytes a key takes as words."""
    return max(8, 8 * load(table + KEYS.key_words))


def states_of(table: int) -> int:
    """Return where the first state is."""
    return load(table + KEYS.slots_address) + load(table + KEYS.state_at)


def log_room(table: int) -> int:
    """Return how many bytes a state takes that is written down."""
    return (load(table + KEYS.state_nbytes) + 7) & -8


def tag_of(table: int, key: int) -> int:
    """Return the tag of the key whose words are at an address."""
    if load(table + KEYS.key_words) != 0:
        return tag_of_words(key, load(table + KEYS.key_words))
    word, kind = load(key), load(table + KEYS.key_kind)
    if kind == TEXT:
        return tag_of_text(word)
    if kind != UNSIGNED:
        unused = 64 - 8 * load(table + KEYS.key_nbytes)
        word = (word << unused) >> unused
    return tag_of_number(word)


def add_key(table: int, slot: int, tag: int, key: int) -> int:
    """Make a record for a new key. Return 0 if there is no room for it."""
    state_at, own_at = load(table + KEYS.state_at), load(table + KEYS.own_at)
    if take_slot(table, slot, tag, key, load(table + KEYS.key_words), state_at, load(table + KEYS.state_nbytes)) == 0:
        return 0
    if own_at >= 0:
        copy_bytes(slot + state_at + own_at, key, load(table + KEYS.key_nbytes))
    return 1


# --- everybody inside -------------------------------------------------------------------------------------------------


def run_shard(job: int, part: int) -> None:
    """Run the handler over the messages of a shard, until one fails, or the span is to end. Write down the state before
    each."""
    table, first = load(job + SHARED.table), load(part + PART.first)
    states, state_nbytes = states_of(table), load(table + KEYS.state_nbytes)
    message_nbytes, slot_nbytes = load(job + SHARED.message_nbytes), load(job + SHARED.slot_nbytes)
    log_nbytes = log_room(table)
    entries, log = load(job + SHARED.entries) + 8 * first, load(job + SHARED.log) + first * log_nbytes
    source, target, count = load(part + PART.source), load(part + PART.target), load(part + PART.count)
    store(part + PART.started, ticks())
    store(part + PART.count, 1)
    done = 0
    while done < count and (done % LOOK_AT_STOP != 0 or must_stop(job) == 0):
        entry = load(entries + 8 * done)
        copy_bytes(log + done * log_nbytes, states + (entry & OFFSET), state_nbytes)
        store(part + PART.source, source + (entry >> NUMBER_AT) * message_nbytes)
        store(part + PART.target, target + done * slot_nbytes)
        flags = HANDLED + call_handlers(part)
        store(entries + 8 * done, entry | flags)
        if load(part + PART.fault_index) >= 0:
            break
        done += 1
    store(part + PART.count, count)  # it held one message after the other
    store(part + PART.done, done)


# --- the leader, after the others -------------------------------------------------------------------------------------


def gather_shards(job: int, span: int) -> None:
    """Undo what messages from the first on have done that nobody has handled, put the outputs of those before it in one
    piece, and note how many each are."""
    count = load(job + SHARED.whole + PART.count)
    done = count
    for shard in range(load(job + SHARED.n_parts)):
        part = part_of(job, shard)
        if load(part + PART.done) < load(part + PART.count):
            entry = load(load(job + SHARED.entries) + 8 * (load(part + PART.first) + load(part + PART.done)))
            done = min(done, entry >> NUMBER_AT)
    if done < count:
        undo_from(job, done, count)
    store(span + SPAN.done, done)
    store(span + SPAN.emitted, 0 if load(job + SHARED.slot_nbytes) == 0 else gather_outputs(job, done))


def undo_from(job: int, done: int, count: int) -> None:
    """Restore the states that messages from `done` on have changed, the last first, and take the keys that came with
    them out of the table, as they came last."""
    table, entries, log = load(job + SHARED.table), load(job + SHARED.entries), load(job + SHARED.log)
    n_new = 0
    for back in range(1, count + 1):
        entry = load(entries + 8 * (count - back))
        if entry >> NUMBER_AT >= done:
            if entry & HANDLED != 0:
                before = log + (count - back) * log_room(table)
                copy_bytes(states_of(table) + (entry & OFFSET), before, load(table + KEYS.state_nbytes))
            if entry & NEW != 0:
                n_new += 1
    for _ in range(n_new):
        take_last_back(table)


def gather_outputs(job: int, done: int) -> int:
    """Put the outputs of the first `done` messages in one piece: in the order of their messages, or shard by shard
    where they lie so already. Return how many there are."""
    entries, places, outputs = load(job + SHARED.entries), load(job + SHARED.places), load(job + SHARED.outputs)
    target, slot_nbytes = load(job + SHARED.whole + PART.target), load(job + SHARED.slot_nbytes)
    by_shard = 1 if outputs == target else 0
    emitted = 0
    for i in range(load(job + SHARED.whole + PART.count) if by_shard == 1 else done):
        at = i if by_shard == 1 else load(places + 8 * i)
        entry = load(entries + 8 * at)
        if entry & EMITTED != 0 and entry >> NUMBER_AT < done:
            if by_shard == 0 or at != emitted:
                copy_bytes(target + emitted * slot_nbytes, outputs + at * slot_nbytes, slot_nbytes)
            emitted += 1
    return emitted
