"""Waking whoever sleeps: doorbells, doorbell addresses, parkers. Compiled.

A **parker** is a thread that can sleep: a CPU worker, an event loop. It has an inbox, an intrusive list of doorbells. A
**doorbell** stands for one thing that a parker may have to look at; it is ARMED (ring it), RUNG (already in the inbox,
or looked at anyway) or QUIET (nobody wants to know). A **doorbell address** is a word that holds the address of the
doorbell to ring now, or 0: when a kernel moves to another worker, that word gets the address of another doorbell.

The pattern of both sides, each with a fence between its store and its load (Dekker): the one who publishes writes
the cursor, fences, looks at the doorbell; the one who rests arms the doorbell, fences, looks at the cursor once more.
One of the two always sees the other.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    compare_exchange,
    exchange,
    fence,
    load,
    load_acquire,
    store,
    store_release,
    this_cpu,
    wake,
)
from ringkernel.memory.layout import ARMED, DOORBELL, PARKER, QUIET, RUN_ENTRY, RUNG


def push_doorbell(doorbell: int) -> int:
    """Put a doorbell that the caller has set to RUNG into its parker's inbox. 1 if the parker slept and was woken."""
    parker = load(doorbell + DOORBELL.parker_address)
    put_in_inbox(doorbell, parker)
    return unpark(parker)


def put_in_inbox(doorbell: int, parker: int) -> None:
    """Put a doorbell that the caller has set to RUNG into an inbox, and wake nobody."""
    inbox = parker + PARKER.inbox_address
    head = load(inbox)
    while True:
        store(doorbell + DOORBELL.next_address, head)
        seen = compare_exchange(inbox, head, doorbell)  # release: publishes `next_address`
        if seen == head:
            break
        head = seen


def is_beside_waker(parker: int) -> int:
    """1 if this thread, which was woken as a parker, is on the CPU on which its waker was."""
    here = this_cpu()
    return 1 if here >= 0 and load(parker + PARKER.waker_cpu) == here else 0


def unpark(parker: int) -> int:
    """Wake a parker if it sleeps. 1 if it did."""
    fence()  # what the caller wrote for it, before the look at `parked`
    if load(parker + PARKER.parked) == 1 and compare_exchange(parker + PARKER.parked, 1, 0) == 1:
        store(parker + PARKER.waker_cpu, this_cpu())
        wake(load(parker + PARKER.fd))
        return 1
    return 0


def ring_doorbell(doorbell: int, here: int) -> int:
    """Ring a doorbell unless it is rung already. The caller has fenced. 1 if a sleeper was woken.

    `here`: the parker of the event loop whose thread this is, 0 in all other threads. What an event loop rings itself
    is kept for it where that goes: see `loop_turns.py`.
    """
    if load(doorbell + DOORBELL.state) != ARMED:
        return 0
    if compare_exchange(doorbell + DOORBELL.state, ARMED, RUNG) != ARMED:
        return 0
    if here != 0 and keep_rung(doorbell, here) == 1:
        return 0
    return push_doorbell(doorbell)


def keep_rung(doorbell: int, here: int) -> int:
    """1 if this event loop's thread sees to a doorbell, set to RUNG by it, when it is done: one of its own, or the run
    entry of a kernel that its workers run, and that provably ends."""
    parker = load(doorbell + DOORBELL.parker_address)
    if parker == here:
        put_in_inbox(doorbell, here)
        store(here + PARKER.rang, 1)
        return 1
    if load(parker + PARKER.loop_address) != here:
        return 0
    if load(doorbell + RUN_ENTRY.is_bounded) == 0:
        return 0
    keep_run_entry(doorbell, here)
    return 1


def keep_run_entry(run_entry: int, here: int) -> None:
    """Append a run entry, set to RUNG, to those that the event loop's thread has kept."""
    store(run_entry + RUN_ENTRY.next_address, 0)
    if load(here + PARKER.kept_address) == 0:
        store(here + PARKER.kept_address, run_entry)
    else:
        store(load(here + PARKER.last_kept_address) + RUN_ENTRY.next_address, run_entry)
    store(here + PARKER.last_kept_address, run_entry)


def ring_doorbell_at(doorbell_address: int, here: int) -> int:
    """Ring the doorbell that a doorbell address holds, if any, as `ring_doorbell` does."""
    if doorbell_address == 0:
        return 0
    doorbell = load_acquire(doorbell_address)
    if doorbell == 0:
        return 0
    return ring_doorbell(doorbell, here)


def rests_at(doorbell_address: int) -> int:
    """1 if a doorbell address holds a doorbell that asks to be rung: a kernel that rests, an event loop that waits."""
    if doorbell_address == 0:
        return 0
    doorbell = load_acquire(doorbell_address)
    return 1 if doorbell != 0 and load(doorbell + DOORBELL.state) == ARMED else 0


def arm_doorbell(doorbell: int) -> int:
    """Ask to be rung, unless that has happened and is about to be collected. The caller looks once more
    afterwards."""
    compare_exchange(doorbell + DOORBELL.state, QUIET, ARMED)
    fence()  # armed, before that look
    return 0


def quiet_doorbell(doorbell: int) -> int:
    """Ask not to be rung. The state as it was found; RUNG means that it is still in the inbox."""
    return compare_exchange(doorbell + DOORBELL.state, ARMED, QUIET)


def take_inbox(parker: int) -> int:
    """All doorbells that were rung, as a list linked by `next_address`, in the order of ringing. 0: none."""
    inbox = parker + PARKER.inbox_address
    if load(inbox) == 0:
        return 0
    doorbell = exchange(inbox, 0)  # acquire: the links, and what was published before ringing
    first = 0
    while doorbell != 0:
        after = load(doorbell + DOORBELL.next_address)
        store(doorbell + DOORBELL.next_address, first)
        first = doorbell
        doorbell = after
    return first


def collect_tags(parker: int, tags: int, room: int) -> int:
    """For a parker that sleeps by other means (an event loop): the tags of the rung doorbells.

    Takes `room` doorbells at most, and rings those beyond again. A standing doorbell is armed before it is reported,
    so that what happens from now on rings anew. Returns how many tags were written to the words at `tags`.
    """
    store_release(parker + PARKER.parked, 1)
    fence()  # `parked` before the look at the inbox
    store(parker + PARKER.crowded, is_beside_waker(parker))
    doorbell = take_inbox(parker)
    count = 0
    while doorbell != 0:
        after = load(doorbell + DOORBELL.next_address)
        if count < room:
            store(tags + 8 * count, load(doorbell + DOORBELL.tag))
            store_release(doorbell + DOORBELL.state, ARMED if load(doorbell + DOORBELL.standing) == 1 else QUIET)
            count += 1
        else:
            push_doorbell(doorbell)
        doorbell = after
    fence()  # the doorbells are armed before the caller looks at what they stand for
    return count
