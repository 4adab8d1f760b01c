"""Pushing from threads that are neither an event loop's nor a worker's: an audio callback, a camera, a feed. Compiled.

Each such thread has a **feeder**: the right to produce into a ring of its own, which is one more input of a kernel. All
that it needs is in shared words, so it waits neither for the event loop nor, between `enter` and `leave`, for the GIL.
A feeder is one thread's at a time, which the word `busy` settles. Whoever closes it changes `state` and then looks at
`busy`, who pushes sets `busy` and then looks at `state`: so one of the two sees the other.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from ringkernel.codegen.entry_points import entries
from ringkernel.codegen.operations import (
    compare_exchange,
    fence,
    load,
    load_acquire,
    sleep_on,
    spin_hint,
    store,
    store_release,
    ticks,
)
from ringkernel.memory.layout import CLOSED, DOORBELL, DROP, FEEDER, OPEN, PARKER, QUIET, RAISE, RING
from ringkernel.words.builtin import ByAddress, Entry, EntryPoint

from .cursors import publish, publish_copy, room_of
from .doorbell import arm_doorbell, quiet_doorbell, ring_doorbell, take_inbox

BUSY, SHUT, FULL = -1, -2, -3
"""Why nothing was pushed: somebody else does so now; the feeder was closed, or the kernel has ended; no room."""


def enter(feeder: int) -> int:
    """Become the one who pushes. 0, or why not."""
    if compare_exchange(feeder + FEEDER.busy, 0, 1) != 0:
        return BUSY
    fence()  # `busy`, before the look at `state`
    if load_acquire(feeder + FEEDER.state) != OPEN:
        leave(feeder)
        return SHUT
    return 0


def leave(feeder: int) -> int:
    """Others may push."""
    store_release(feeder + FEEDER.busy, 0)
    return 0


def begin(feeder: int) -> int:
    """Enter, if there is room for a message: its sequence number. Otherwise why not; where messages without room are
    dropped, this one was."""
    seen = enter(feeder)
    if seen != 0:
        return seen
    ring = feeder + load(feeder + FEEDER.ring)
    if room_of(ring, 1) > 0:
        return load(ring + RING.next)
    if load(feeder + FEEDER.when_full) == DROP:
        store(feeder + FEEDER.dropped, load(feeder + FEEDER.dropped) + 1)
    leave(feeder)
    return FULL


def commit(feeder: int, tail: int) -> int:
    """Publish everything below `tail`, and leave. How many sleepers were woken."""
    woken = publish(feeder + load(feeder + FEEDER.ring), tail, 0)
    if woken != 0:
        tell_of_woken(feeder)
    leave(feeder)
    return woken


def tell_of_woken(feeder: int) -> None:
    """A worker was woken: let the event loop look after it."""
    doorbell = load(feeder + FEEDER.woken_address)
    if doorbell != 0:
        ring_doorbell(doorbell, 0)


def put(feeder: int, source: int, count: int) -> int:
    """Publish as many records from `source` on as there is room for. How many. The caller has entered."""
    ring = feeder + load(feeder + FEEDER.ring)
    count = min(count, room_of(ring, count))
    if count <= 0:
        return 0
    if publish_copy(ring, load(ring + RING.next), source, count, 0) != 0:
        tell_of_woken(feeder)
    return count


def put_or_drop(feeder: int, source: int, count: int) -> int:
    """`put`; where messages without room are dropped, the others were."""
    done = put(feeder, source, count)
    if done < count and load(feeder + FEEDER.when_full) == DROP:
        store(feeder + FEEDER.dropped, load(feeder + FEEDER.dropped) + count - done)
    return done


def push_some(feeder: int, source: int, count: int) -> int:
    """Push the records from `source` on that there is room for. How many; `BUSY` or `SHUT`."""
    seen = enter(feeder)
    if seen != 0:
        return seen
    done = put_or_drop(feeder, source, count)
    leave(feeder)
    return done


def push_all(feeder: int, source: int, count: int) -> int:
    """Push the records from `source` on as the feeder is meant to: wait for room, drop what has none, or say `FULL`
    when as many as had room were pushed. How many were pushed; `BUSY` or `SHUT`."""
    seen = enter(feeder)
    if seen != 0:
        return seen
    ring = feeder + load(feeder + FEEDER.ring)
    itemsize = load(ring + RING.itemsize)
    when_full = load(feeder + FEEDER.when_full)
    done = put_or_drop(feeder, source, count)
    while done < count and when_full != DROP and seen == 0:
        if when_full == RAISE:
            seen = FULL
        elif wait(feeder) == SHUT:
            seen = SHUT
        else:
            done += put(feeder, source + done * itemsize, count - done)
    leave(feeder)
    return done if seen == 0 else seen


def look(feeder: int) -> int:
    """1 if there is room for a message, 0 if there is none now; `SHUT` once there never will be."""
    if load_acquire(feeder + FEEDER.state) != OPEN:
        return SHUT
    return 1 if room_of(feeder + load(feeder + FEEDER.ring), 1) > 0 else 0


def wait(feeder: int) -> int:
    """Sleep until there may be room, at once or later: what `look` then says. The caller has entered. A signal ends the
    sleep, too.

    Woken when half the ring is free: once per half ring, not once per slot. A kernel at work mostly comes to that
    sooner than a thread falls asleep and wakes up, so it is waited for awake at first.
    """
    ring = feeder + load(feeder + FEEDER.ring)
    doorbell, parker = load(feeder + FEEDER.doorbell_address), load(feeder + FEEDER.parker_address)
    capacity = load(ring + RING.capacity)
    half = max(1, capacity // 2)
    start, patience = ticks(), load(parker + PARKER.max_patience)
    while ticks() - start < patience:
        if room_of(ring, half) >= half or load_acquire(feeder + FEEDER.state) != OPEN:
            return look(feeder)
        spin_hint()
    store(ring + RING.wanted, load(ring + RING.next) - capacity + half)
    arm_doorbell(doorbell)
    if look(feeder) == 0:
        store(parker + PARKER.parked, 1)
        fence()  # `parked`, before the last looks
        if load(parker + PARKER.inbox_address) == 0 and load_acquire(feeder + FEEDER.state) == OPEN:
            sleep_on(load(parker + PARKER.read_fd), load(parker + PARKER.scratch_address))
        store(parker + PARKER.parked, 0)
    quiet_doorbell(doorbell)
    rung = take_inbox(parker)
    if rung != 0:
        store_release(rung + DOORBELL.state, QUIET)
    return look(feeder)


def close(feeder: int) -> int:
    """Close the feeder to pushes. Return its state before: a caller that gets `OPEN` has closed it."""
    seen = compare_exchange(feeder + FEEDER.state, OPEN, CLOSED)
    fence()  # `state`, before a look at `busy`
    return seen


class FeedingApi(NamedTuple):
    """See the functions of the same names."""

    begin: Entry
    commit: Entry
    enter: Entry
    leave: Entry
    put: Entry
    push_some: Entry
    look: Entry
    wait: Entry
    close: Entry
    push_all_address: int


@functools.cache
def feeding_api() -> FeedingApi:
    """The table, compiled when somebody first pushes from a thread."""
    return FeedingApi(
        **entries(
            {
                "begin": EntryPoint(begin),
                "commit": EntryPoint(commit),
                "enter": EntryPoint(enter),
                "leave": EntryPoint(leave),
                "put": EntryPoint(put),
                "push_some": EntryPoint(push_some),
                "look": EntryPoint(look),
                "wait": EntryPoint(wait, nogil=True),
                "close": EntryPoint(close),
                "push_all_address": ByAddress(push_all),
            }
        )
    )
