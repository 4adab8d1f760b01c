"""The waits of a kernel that does nothing: for input or room, since when, and because of whom. Compiled.

The time is looked at when a wait begins or ends, not for each message: a wait for input begins when the last span has
ended, and ends when the next one begins, and both times are known anyway. A wait for room is of the last stage of a
fused chain, whose output is full; one for input is of the first. While a kernel is paused it waits for nothing.
"""

from __future__ import annotations

from ringkernel.codegen.operations import load, load_acquire, store, ticks
from ringkernel.memory.layout import BLOCK, EDGE, NEVER, RING

from .stages import last_stage


def starve(block: int) -> None:
    """There is no input; so there was none since the last span."""
    if load(block + BLOCK.blocked) == 0 and load(block + BLOCK.starved_since) == 0:
        store(block + BLOCK.starved_since, load(block + BLOCK.idle_since))


def hold_up(block: int) -> None:
    """There is input, and no room for what may come of it. Who takes the outputs most slowly is the reason, and that
    may be another one than before."""
    last = last_stage(block)
    reason = slowest_consumer(last + load(last + BLOCK.output))
    if load(block + BLOCK.blocked) == 1 and load(last + BLOCK.blocked_by) == reason:
        return
    now = ticks()
    end_starving(block, now)
    end_blocking(last, now)
    store(last + BLOCK.blocked_by, reason)
    store(last + BLOCK.blocked_since, now)
    store(block + BLOCK.blocked, 1)


def go_on(block: int, now: int) -> None:
    """There is input and room, or nobody asks for it any more."""
    if load(block + BLOCK.starved_since) != 0:
        end_starving(block, now)
    if load(block + BLOCK.blocked) == 1:
        end_blocking(last_stage(block), now)
        store(block + BLOCK.blocked, 0)


def begin(block: int, now: int) -> None:
    """There is a command: whatever the kernel has waited for, its next wait begins now."""
    go_on(block, now)
    end_blocking(block, now)  # of a chain that is none any more
    store(block + BLOCK.idle_since, now)


def end_starving(block: int, now: int) -> None:
    """Count the wait for input, if there was one, for each input: all were empty."""
    since = load(block + BLOCK.starved_since)
    if since == 0:
        return
    store(block + BLOCK.starved_since, 0)
    count = load_acquire(block + BLOCK.n_inputs)  # acquire: the table is at least as new
    table = block + load(block + BLOCK.inputs)
    for i in range(count):
        add(block + load(table + 8 * i) + EDGE.starved_ticks, now - since)


def end_blocking(block: int, now: int) -> None:
    """Count the wait for room, if there was one, for the consumer that was the reason."""
    since = load(block + BLOCK.blocked_since)
    if since == 0:
        return
    store(block + BLOCK.blocked_since, 0)
    add(block + BLOCK.blocked_ticks, now - since)
    reason = load(block + BLOCK.blocked_by)
    if reason != 0:
        output = block + load(block + BLOCK.output)
        add(output + load(output + RING.waits) + 8 * (reason - 1), now - since)


def slowest_consumer(ring: int) -> int:
    """Which of the open edges of a ring is behind the others, from 1 on; 0 if there is none."""
    count = load_acquire(ring + RING.n_edges)
    table = ring + load(ring + RING.edges)
    low, slowest = NEVER, 0
    for i in range(count):
        edge = ring + load(table + 8 * i)
        if load_acquire(edge + EDGE.closed) == 0:
            head = load_acquire(edge + EDGE.head)
            if head < low:
                low, slowest = head, i + 1
    return slowest


def add(address: int, elapsed: int) -> None:
    """Add a time. The counters of two cores may differ a little."""
    store(address, load(address) + max(0, elapsed))
