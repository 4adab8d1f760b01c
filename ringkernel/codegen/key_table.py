"""Finding the record of a key, and making one, as functions of words; see `memory/keys_layout.py`.

Who walks over all states takes `nth_state`, for as many as `count` says: in the order in which the keys came, so that
what comes of them does not depend on where they lie.
"""

from __future__ import annotations

from ringkernel.memory.keys_layout import INITIAL, KEYS, NO_KEY, UNUSED

from .operations import copy_bytes, load, peek, peek_fixed, poke, store

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
    poke(peek(table + KEYS.order_address) + 8 * count, slot - peek(table + KEYS.slots_address))
    poke(slot, tag)
    copy_bytes(slot + 8, key, 8 * key_words)
    copy_bytes(slot + state_at, table + INITIAL, state_nbytes)
    return 1


def take_last_back(table: int) -> None:
    """Make the slot empty that was taken last: no key lies where it does because of that one. In the worker's loop."""
    count = load(table + KEYS.count) - 1
    offset = load(load(table + KEYS.order_address) + 8 * count)
    store(load(table + KEYS.slots_address) + offset, UNUSED if offset == 0 else 0)
    store(table + KEYS.count, count)


def nth_state(table: int, number: int, state_at: int) -> int:
    """Where the state of a key is, by the number of keys that came before it."""
    return peek_fixed(table + KEYS.slots_address) + peek(peek_fixed(table + KEYS.order_address) + 8 * number) + state_at


def move_records(slots: int, order: int, count: int, target: int, target_order: int, mask: int, nbytes: int) -> int:
    """Copy so many slots, in this order, to the `mask` + 1 slots of a table that has none of their keys. The first of
    each are for the same key."""
    shift = 64
    while mask >> (64 - shift) != 0:
        shift -= 1
    for i in range(count):
        offset = peek(order + 8 * i)
        slot = slots + offset
        at = 0
        if offset != 0:
            at = first_place(peek(slot), mask, shift)
            while at == 0 or peek(target + at * nbytes) != 0:
                at = (at + 1) & mask
        copy_bytes(target + at * nbytes, slot, nbytes)
        poke(target_order + 8 * i, at * nbytes)
    return 0


def write_tags(slots: int, count: int, nbytes: int, key_words: int) -> int:
    """Give so many slots the tags of the keys that are in them."""
    for i in range(count):
        poke(slots + i * nbytes, tag_of_words(slots + i * nbytes + 8, key_words))
    return 0
