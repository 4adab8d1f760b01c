"""Push and pop: one message at a time into a ring and out of it, copied, for compiled threads that wake nobody.

The product has no use for these: kernels read and write in place, a span at a time.
"""

from __future__ import annotations

from ringkernel.codegen.operations import copy_bytes, load, store, store_release
from ringkernel.memory.layout import EDGE, RING
from ringkernel.ring.protocol.cursors import bound_of, room_of, set_tail, slot_address

SMALL = 64
"""Bytes up to which a message is copied word by word."""


def copy_message(target: int, source: int, itemsize: int) -> None:
    """Copy a message, a small one word by word: what its owner has just written by words is still in the store buffer,
    from where a wider load has to wait for it."""
    if itemsize > SMALL or itemsize & 7 != 0:
        copy_bytes(target, source, itemsize)
        return
    for offset in range(0, itemsize, 8):
        store(target + offset, load(source + offset))


def push(ring: int, source: int) -> int:
    """Copy one message into the ring and publish it. 1, or 0 if full."""
    tail = load(ring + RING.next)
    slot, itemsize = slot_address(ring, tail), load(ring + RING.itemsize)
    if room_of(ring, 1) < 1:
        return 0
    copy_message(slot, source, itemsize)
    set_tail(ring, tail + 1)
    return 1


def pop(edge: int, target: int, seen: int) -> int:
    """Copy one message out of the ring. 1, or 0 if empty. At `seen` is a word of the consumer's own, 0 at first: the
    sequence below which it has seen messages."""
    head = load(edge + EDGE.head)
    ring = edge + load(edge + EDGE.ring)
    slot, itemsize = slot_address(ring, head), load(ring + RING.itemsize)  # while the cursor is on its way
    if head >= load(seen):  # not at every message: the producer writes on that line
        bound = bound_of(edge, head)
        if bound <= head:
            return 0
        store(seen, bound)
    copy_message(target, slot, itemsize)
    store_release(edge + EDGE.head, head + 1)  # release: the slot has been read
    return 1
