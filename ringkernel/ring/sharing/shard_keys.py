"""What the leader of a span in shards does to the table of keys: before anybody else comes in, and after. Compiled.

Called by its address: the loop of a worker, which goes on for as long as the process, is made of loads that happen each
time, and a table is read by those that need not.
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
from ringkernel.codegen.operations import copy_bytes, load, store
from ringkernel.memory.keys_layout import KEYS, TEXT, UNSIGNED
from ringkernel.memory.split_layout import SPLIT_JOB

SHARD_BITS = 48
"""A message's place is one word: how far its record is from the first, and above so many bits its shard."""
OFFSET = (1 << SHARD_BITS) - 1


def find_records(job: int) -> int:
    """Write down each message's place, and count those of each shard. How many there are: those from the first on whose
    key there is no room for have none."""
    table, n_shards = load(job + SPLIT_JOB.table), load(job + SPLIT_JOB.n_chunks)
    key, key_words, key_nbytes = (
        load(job + SPLIT_JOB.space_address),
        load(table + KEYS.key_words),
        load(table + KEYS.key_nbytes),
    )
    nbytes, slots, places = load(table + KEYS.nbytes), load(table + KEYS.slots_address), load(job + SPLIT_JOB.places)
    source, message_nbytes = (
        load(job + SPLIT_JOB.source) + load(job + SPLIT_JOB.key_at),
        load(job + SPLIT_JOB.message_nbytes),
    )
    store(job + SPLIT_JOB.n_keys, load(table + KEYS.count))
    store(key + key_room(table) - 8, 0)
    for i in range(load(job + SPLIT_JOB.count)):
        copy_bytes(key, source + i * message_nbytes, key_nbytes)
        tag = tag_of(table, key)
        slot = slot_of(table, nbytes, tag, key, key_words)
        if is_taken(table, slot) == 0 and add_key(table, slot, tag, key) == 0:
            return i
        shard = (((tag * MULTIPLIER) >> 32) & LOWER) * n_shards >> 32
        store(places + 8 * i, (shard << SHARD_BITS) | (slot - slots))
        store(job + SPLIT_JOB.next_of + 8 * shard, load(job + SPLIT_JOB.next_of + 8 * shard) + 1)
    return load(job + SPLIT_JOB.count)


def key_room(table: int) -> int:
    """How many bytes a key takes as words."""
    return max(8, 8 * load(table + KEYS.key_words))


def tag_of(table: int, key: int) -> int:
    """The tag of the key whose words are at an address."""
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
    """Make a record for a new key. 0 if there is no room for it."""
    state_at, own_at = load(table + KEYS.state_at), load(table + KEYS.own_at)
    if take_slot(table, slot, tag, key, load(table + KEYS.key_words), state_at, load(table + KEYS.state_nbytes)) == 0:
        return 0
    if own_at >= 0:
        copy_bytes(slot + state_at + own_at, key, load(table + KEYS.key_nbytes))
    return 1


def take_keys_back(job: int) -> int:
    """Take the keys out of the table that came after the first `n_kept` messages. They came in the order in which
    messages first had them."""
    table, places = load(job + SPLIT_JOB.table), load(job + SPLIT_JOB.places)
    order, n_keys = load(table + KEYS.order_address), load(table + KEYS.count)
    kept = load(job + SPLIT_JOB.n_keys)
    for i in range(load(job + SPLIT_JOB.n_kept)):
        if kept < n_keys and load(order + 8 * kept) == load(places + 8 * i) & OFFSET:
            kept += 1
    for _ in range(n_keys - kept):
        take_last_back(table)
    return 0
