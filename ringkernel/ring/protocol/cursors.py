"""Ring and edge: publish, consume, room, notify. Compiled.

A ring is a producer's cursor and a slot array; an edge is one consumer of it. Cursors are absolute sequence numbers.
It is the usual single-producer ring with cached opposite cursors (Lamport 1983; Giacomoni et al., FastForward, 2008;
the sequence barriers of the LMAX Disruptor, 2011). The consumer's side is a record of its own, so that a ring can have
several.
"""

from __future__ import annotations

from ringkernel.codegen.operations import copy_bytes, fence, load, load_acquire, spin_hint, store, store_release, ticks
from ringkernel.memory.layout import BLOCK, EDGE, NEVER, RING

from .doorbell import rests_at, ring_doorbell_at


def slot_address(ring: int, sequence: int) -> int:
    """Where the slot of a sequence number is."""
    index = sequence & (load(ring + RING.capacity) - 1)
    return ring + load(ring + RING.slots) + index * load(ring + RING.itemsize)


def slowest_head(ring: int) -> int:
    """The cursor of the slowest open consumer; `NEVER` if there is none."""
    count = load_acquire(ring + RING.n_edges)  # acquire: the table is at least as new
    table = ring + load(ring + RING.edges)
    low = NEVER
    for i in range(count):
        edge = ring + load(table + 8 * i)
        if load_acquire(edge + EDGE.closed) == 0:
            head = load_acquire(edge + EDGE.head)  # acquire: the consumer is done with the slots below
            low = min(low, head)
    return low


def free_slots(ring: int, tail: int, low: int) -> int:
    """Slots that the producer may write, given the slowest head. Without a consumer a ring is full: nothing that
    is published may vanish. Beyond the end of lent memory there are none, whatever the consumers do."""
    if low == NEVER:
        return 0
    return min(low + load(ring + RING.capacity), load(ring + RING.end)) - tail


def room_of(ring: int, needed: int) -> int:
    """Free slots for the producer, who looks at the consumers only when the cached cursor shows fewer than needed."""
    if load_acquire(ring + RING.n_open) == 0:
        return 0  # whatever the cached cursor says: what is published now would be read by nobody
    tail = load(ring + RING.next)
    free = free_slots(ring, tail, load(ring + RING.low))
    if free < needed:
        low = slowest_head(ring)
        store(ring + RING.low, low)
        free = free_slots(ring, tail, low)
    return free


def set_tail(ring: int, tail: int) -> None:
    """Publish everything below `tail`, and wake nobody."""
    store(ring + RING.next, tail)
    store_release(ring + RING.tail, tail)  # release: publishes the slots written before


def bound_of(edge: int, head: int) -> int:
    """Sequences from `head` to below this may be taken."""
    ring = edge + load(edge + EDGE.ring)
    tail = load_acquire(ring + RING.tail)  # acquire: the slots below are written
    if tail <= head:
        return head  # the common case of a poll touches no further line
    return max(head, min(tail, load_acquire(edge + EDGE.limit)))


def waiting_of(block: int) -> int:
    """How many messages a kernel could take now."""
    waiting = 0
    count = load_acquire(block + BLOCK.n_inputs)  # acquire: the table is at least as new
    table = block + load(block + BLOCK.inputs)
    for i in range(count):
        edge = block + load(table + 8 * i)
        head = load_acquire(edge + EDGE.head)
        waiting += bound_of(edge, head) - head
    return waiting


def notify_consumers(ring: int, here: int) -> int:
    """After publishing and a fence: ring whoever reads this ring and rests. How many sleepers were woken. `here`: see
    `ring_doorbell`."""
    table = ring + load(ring + RING.edges)
    woken = 0
    for i in range(load(ring + RING.n_edges)):
        edge = ring + load(table + 8 * i)
        if load_acquire(edge + EDGE.closed) == 0:
            woken += ring_doorbell_at(load(edge + EDGE.doorbell_address), here)
    return woken


def notify_producer(edge: int, head: int, here: int) -> int:
    """After consuming and a fence: ring the producer if it waits for this, and the host if it watches."""
    ring = edge + load(edge + EDGE.ring)
    woken = 0
    if head >= load(ring + RING.wanted):
        woken += ring_doorbell_at(load(ring + RING.doorbell_address), here)
    if head >= load(edge + EDGE.watch):
        woken += ring_doorbell_at(load(edge + EDGE.watch_doorbell_address), here)
    return woken


def publish(ring: int, tail: int, here: int) -> int:
    """Publish everything below `tail` and wake who waits for it. How many sleepers were woken."""
    set_tail(ring, tail)
    fence()
    return notify_consumers(ring, here)


def publish_progress(ring: int, progress: int, here: int) -> int:
    """Nothing below this time will be published in a ring any more. As `publish`."""
    if progress <= load(ring + RING.progress):
        return 0
    store_release(ring + RING.progress, progress)
    fence()
    return notify_consumers(ring, here)


def publish_end(ring: int, here: int) -> int:
    """Nothing more will be published in a ring. As `publish`."""
    store_release(ring + RING.ended, 1)
    fence()
    return notify_consumers(ring, here)


def consume(edge: int, head: int, here: int) -> int:
    """Give back everything below `head` and wake who waits for room. How many sleepers were woken."""
    store_release(edge + EDGE.head, head)  # release: the slots below have been read
    fence()
    return notify_producer(edge, head, here)


def publish_copy(ring: int, tail: int, source: int, count: int, here: int) -> int:
    """Copy `count` records from `source` into the slots from `tail` on, where there is room for them, and publish."""
    straight = min(count, load(ring + RING.capacity) - (tail & (load(ring + RING.capacity) - 1)))
    nbytes = straight * load(ring + RING.itemsize)
    copy_bytes(slot_address(ring, tail), source, nbytes)
    if straight < count:
        rest = (count - straight) * load(ring + RING.itemsize)
        copy_bytes(ring + load(ring + RING.slots), source + nbytes, rest)
    return publish(ring, tail + count, here)


def consume_copy(edge: int, head: int, target: int, count: int, here: int) -> int:
    """Copy the records in `count` slots from `head` on, which are there, to `target`, and give the slots back."""
    ring = edge + load(edge + EDGE.ring)
    straight = min(count, load(ring + RING.capacity) - (head & (load(ring + RING.capacity) - 1)))
    nbytes = straight * load(ring + RING.itemsize)
    copy_bytes(target, slot_address(ring, head), nbytes)
    if straight < count:
        rest = (count - straight) * load(ring + RING.itemsize)
        copy_bytes(target + nbytes, ring + load(ring + RING.slots), rest)
    return consume(edge, head + count, here)


def wait_bound(edge: int, head: int, patience: int) -> int:
    """`bound_of(edge, head)`, after spinning for at most `patience` ticks while it is not above `head`. Not for a
    producer that rests: nothing comes before somebody has rung it, and that may be up to this thread."""
    bound = bound_of(edge, head)
    if bound > head or patience == 0 or rests_at(load(edge + load(edge + EDGE.ring) + RING.doorbell_address)) == 1:
        return bound
    start = ticks()
    while ticks() - start < patience:
        spin_hint()
        bound = bound_of(edge, head)
        if bound > head:
            return bound
    return bound
