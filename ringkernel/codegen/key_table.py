"""Finding the record of a key, and making one, as functions of words; see `memory/keys_layout.py`.

Who walks over all records: `n_places` of them, of which `record_at` says where the state is, or 0.
"""

from __future__ import annotations

from ringkernel.memory.keys_layout import INITIAL, KEYS, NO_KEY

from .operations import copy_bytes, peek, peek_fixed, poke

MULTIPLIER = -0x61C8864680B583EB
"""2**64 by the golden ratio, odd: the upper bits of the product send keys that follow each other far apart (Knuth, The
Art of Computer Programming, 6.4)."""
LOWER = 2**32 - 1


def tag_of_number(key: int) -> int:
    """The tag of an integer."""
    return key ^ NO_KEY


def tag_of_text(key: int) -> int:
    """The tag of up to eight bytes. The last ones count for what is below, too: texts often differ in these alone."""
    tag = key ^ NO_KEY
    return tag ^ ((tag >> 32) & LOWER)


def tag_of_words(key: int, count: int) -> int:
    """The tag of a key of so many words: a hash, and not 0."""
    tag = count
    for i in range(count):
        tag = (tag ^ peek(key + 8 * i)) * MULTIPLIER
        tag = tag ^ ((tag >> 32) & LOWER)
    return tag if tag != 0 else 1


def first_place(tag: int, mask: int, shift: int) -> int:
    """The number of the slot to look at first."""
    return ((tag * MULTIPLIER) >> shift) & mask


def slot_of(table: int, nbytes: int, tag: int, key: int, key_words: int) -> int:
    """The slot of a key, or the empty one where it would be. `key`: the address of its words, if it has some besides
    its tag."""
    slots, mask = peek_fixed(table + KEYS.slots_address), peek_fixed(table + KEYS.mask)
    if tag == 0:
        return slots
    at = first_place(tag, mask, peek_fixed(table + KEYS.shift))
    slot = slots + at * nbytes
    while at == 0 or peek(slot) != 0:
        if at != 0 and peek(slot) == tag and are_same(slot + 8, key, key_words) == 1:
            return slot
        at = (at + 1) & mask
        slot = slots + at * nbytes
    return slot


def is_taken(table: int, slot: int) -> int:
    """1 if a slot is in use."""
    is_first = slot == peek_fixed(table + KEYS.slots_address)
    return 1 if (peek(slot) == 0) == is_first else 0


def are_same(one: int, other: int, count: int) -> int:
    """1 if so many words are the same."""
    for i in range(count):
        if peek(one + 8 * i) != peek(other + 8 * i):
            return 0
    return 1


def take_slot(table: int, slot: int, tag: int, key: int, key_words: int, state_at: int, state_nbytes: int) -> int:
    """Let an empty slot be that of a key, with the state that keys begin with. 0 if the table is full."""
    count = peek(table + KEYS.count)
    if count >= peek(table + KEYS.capacity):
        return 0
    poke(table + KEYS.count, count + 1)
    poke(slot, tag)
    copy_bytes(slot + 8, key, 8 * key_words)
    copy_bytes(slot + state_at, table + INITIAL, state_nbytes)
    return 1


def n_places(table: int) -> int:
    """How many slots there are to walk over."""
    return peek(table + KEYS.mask) + 1


def record_at(table: int, place: int, nbytes: int, state_at: int) -> int:
    """The state in a slot, by its number; 0 if that is empty."""
    slot = peek_fixed(table + KEYS.slots_address) + place * nbytes
    return slot + state_at if is_taken(table, slot) == 1 else 0


def move_records(slots: int, count: int, target: int, mask: int, shift: int, nbytes: int) -> int:
    """Copy what is in use of so many slots, the first of which is as in a table, to the `mask` + 1 slots of a table
    that has none of their keys."""
    copy_bytes(target, slots, nbytes)
    for i in range(1, count):
        slot = slots + i * nbytes
        tag = peek(slot)
        if tag != 0:
            at = first_place(tag, mask, shift)
            while at == 0 or peek(target + at * nbytes) != 0:
                at = (at + 1) & mask
            copy_bytes(target + at * nbytes, slot, nbytes)
    return 0


def write_tags(slots: int, count: int, nbytes: int, key_words: int) -> int:
    """Give so many slots the tags of the keys that are in them."""
    for i in range(count):
        poke(slots + i * nbytes, tag_of_words(slots + i * nbytes + 8, key_words))
    return 0
