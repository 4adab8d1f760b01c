"""Waking whoever sleeps: bells, doors, parties. Compiled.

A **party** is a thread that can sleep: a CPU worker, an event loop. It has an inbox, an intrusive list of bells. A
**bell** stands for one thing that a party may have to look at; it is ARMED (ring it), RUNG (already in the inbox, or
watched anyway) or QUIET (nobody wants to know). A **door** is a word with the address of the bell to ring now, or 0: a
kernel that moves to another worker gets another bell behind the same door.

The pattern of both sides, each with a fence between its store and its load (Dekker): the one who publishes writes
the cursor, fences, looks at the bell; the one who rests arms the bell, fences, looks at the cursor once more.
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
from ringkernel.memory.layout import ARMED, BELL, PARTY, QUIET, RUNG


def push_bell(bell: int) -> int:
    """Put a bell that the caller has set to RUNG into its party's inbox. 1 if the party slept and was woken."""
    party = load(bell + BELL.party_address)
    inbox = party + PARTY.inbox_address
    head = load(inbox)
    while True:
        store(bell + BELL.next_address, head)
        seen = compare_exchange(inbox, head, bell)  # release: publishes `next_address`
        if seen == head:
            break
        head = seen
    return wake_party(party)


def is_beside_waker(party: int) -> int:
    """1 if this thread, which was woken as a party, is on the CPU on which its waker was."""
    here = this_cpu()
    return 1 if here >= 0 and load(party + PARTY.waker_cpu) == here else 0


def wake_party(party: int) -> int:
    """Wake a party if it sleeps. 1 if it did."""
    fence()  # what the caller wrote for it, before the look at `parked`
    if load(party + PARTY.parked) == 1 and compare_exchange(party + PARTY.parked, 1, 0) == 1:
        store(party + PARTY.waker_cpu, this_cpu())
        wake(load(party + PARTY.fd))
        return 1
    return 0


def ring_bell(bell: int) -> int:
    """Ring a bell unless it is rung already. The caller has fenced. 1 if a sleeper was woken."""
    if load(bell + BELL.state) != ARMED:
        return 0
    if compare_exchange(bell + BELL.state, ARMED, RUNG) != ARMED:
        return 0
    return push_bell(bell)


def ring_door(door: int) -> int:
    """Ring the bell behind a door, if there is one. The caller has fenced. 1 if a sleeper was woken."""
    if door == 0:
        return 0
    bell = load_acquire(door)
    if bell == 0:
        return 0
    return ring_bell(bell)


def arm_bell(bell: int) -> int:
    """Ask to be rung, unless that has happened and is about to be collected. The caller looks once more
    afterwards."""
    compare_exchange(bell + BELL.state, QUIET, ARMED)
    fence()  # armed, before that look
    return 0


def quiet_bell(bell: int) -> int:
    """Ask not to be rung. The state as it was found; RUNG means that it is still in the inbox."""
    return compare_exchange(bell + BELL.state, ARMED, QUIET)


def take_inbox(party: int) -> int:
    """All bells that were rung, as a list linked by `next_address`, in the order of ringing. 0: none."""
    inbox = party + PARTY.inbox_address
    if load(inbox) == 0:
        return 0
    bell = exchange(inbox, 0)  # acquire: the links, and what was published before ringing
    first = 0
    while bell != 0:
        after = load(bell + BELL.next_address)
        store(bell + BELL.next_address, first)
        first = bell
        bell = after
    return first


def collect_tags(party: int, tags: int, room: int) -> int:
    """For a party that sleeps by other means (an event loop): the tags of the rung bells.

    Takes `room` bells at most, and rings those beyond again. A standing bell is armed before it is reported, so that
    what happens from now on rings anew. Returns how many tags were written to the words at `tags`.
    """
    store_release(party + PARTY.parked, 1)
    fence()  # `parked` before the look at the inbox
    store(party + PARTY.crowded, is_beside_waker(party))
    bell = take_inbox(party)
    count = 0
    while bell != 0:
        after = load(bell + BELL.next_address)
        if count < room:
            store(tags + 8 * count, load(bell + BELL.tag))
            store_release(bell + BELL.state, ARMED if load(bell + BELL.standing) == 1 else QUIET)
            count += 1
        else:
            push_bell(bell)
        bell = after
    fence()  # the bells are armed before the caller looks at what they stand for
    return count
