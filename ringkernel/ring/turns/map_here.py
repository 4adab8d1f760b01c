"""A map that the event loop's thread begins, over kernels that rest: all that it needs, in one call. Compiled.

The array of messages becomes the first kernel's input ring, and that of results the last one's output ring; then the
first is rung, and this thread takes the turns that it may. Mostly the map is through then, and the kernels have their
own rings again. The lent rings are the path's, and lie over other arrays each time.
"""

from __future__ import annotations

from ringkernel.codegen.operations import load, load_acquire, store, store_release, ticks
from ringkernel.memory.call_layout import PATH
from ringkernel.memory.layout import BLOCK, EDGE, NEVER, PARKER, RING, RUN_ENTRY
from ringkernel.ring.block.waits import go_on
from ringkernel.ring.protocol.cursors import slowest_head
from ringkernel.ring.protocol.doorbell import ring_doorbell

from .loop_turns import rests, see_to


def map_here(path: int, source: int, count: int, target: int, room: int, here: int) -> int:
    """Map `count` messages at the address `source`, with room for so many outputs at `target`, over kernels that the
    event loop at `here` alone feeds.

    How many outputs there are, if all of it is through. `NEVER` if nothing was done: one of the kernels does not rest,
    or outputs wait at the end. Below 0 if the map goes on, over the arrays: -1 less what that has led to, see `see_to`.
    """
    last = path + load(path + PATH.last)
    own_output = load(last + BLOCK.output)
    if all_rest(path) == 0 or (own_output != 0 and has_unread(last + own_output) == 1):
        return NEVER
    first = load_acquire(load(path + PATH.doorbell_addresses))
    block = load(first + RUN_ENTRY.block_address)
    go_on(block, ticks())  # while its inputs are its own
    table = block + load(block + BLOCK.inputs)
    own_input, n_own = load(table), load(block + BLOCK.n_inputs)
    edge = path + load(path + PATH.source)
    lay_over(edge + load(edge + EDGE.ring), source, count, count)
    store(edge + EDGE.head, 0)
    store(table, edge - block)
    store(block + BLOCK.n_inputs, 1)
    output = 0
    if own_output != 0:
        output = path + load(path + PATH.output)
        lay_over(output, target, room, 0)
        store(last + BLOCK.output, output - last)
    said = take_turns_of_map(first, here)
    if said != 0 or load_acquire(edge + EDGE.head) != count or all_rest(path) == 0:
        return -1 - said
    store(table, own_input)
    store(block + BLOCK.n_inputs, n_own)
    if output == 0:
        return 0
    store(last + BLOCK.output, own_output)
    return load(output + RING.tail)


def all_rest(path: int) -> int:
    """1 if all kernels of a path rest that have turns of their own."""
    for i in range(load(path + PATH.n_turns)):
        run_entry = load_acquire(load(path + PATH.doorbell_addresses + 8 * i))
        if run_entry == 0 or rests(run_entry) == 0:
            return 0
    return 1


def has_unread(ring: int) -> int:
    """1 if somebody has not read all that is in a ring."""
    return 1 if load(ring + RING.tail) != slowest_head(ring) else 0


def lay_over(ring: int, array: int, end: int, tail: int) -> None:
    """Have a lent ring lie over another array, of `end` records, with everything below `tail` published and nothing
    taken."""
    capacity = 1
    while capacity < end:
        capacity *= 2
    store(ring + RING.slots, array - ring)
    store(ring + RING.capacity, capacity)
    store(ring + RING.end, end)
    store(ring + RING.low, 0)
    store(ring + RING.next, tail)
    store_release(ring + RING.tail, tail)


def take_turns_of_map(run_entry: int, here: int) -> int:
    """Ring a kernel, and take the turns that come of it: as long as the loop may for a map, however little it has
    earned. Whoever awaits a map has let go of the loop for it. What that has led to, see `see_to`."""
    credit = load(here + PARKER.credit)
    store(here + PARKER.credit, load(here + PARKER.map_credit))
    said = ring_doorbell(run_entry, here)
    said += see_to(here)
    store(here + PARKER.credit, min(credit, load(here + PARKER.credit)))
    return said
