"""What a CPU worker thread does until it is told to stop. Compiled, without the GIL.

The worker takes turns for the kernels in its hot list. A kernel that found nothing to do for a while leaves the list
and is polled by nobody; its bell brings it back. With an empty list the worker parks on its descriptor.

How long a while is adapts: twice as long after each hit and after each short sleep, back to the minimum after a long
one. A fixed short one makes a busy round trip slow (both sides go to sleep each time), a fixed long one burns the core,
and keeps whoever woke the worker waiting, if that is on the same core: first message after idleness 54 us with a
minimum of 30 us, 25 us with 8. A worker that was woken on its waker's core does not watch at all: the waker could do
nothing meanwhile. (Beside another busy process on two cores: round trip 7 us instead of 18, its p99 12 instead of 520.)
"""

from __future__ import annotations

from ringkernel.ring.bell import take_inbox
from ringkernel.ring.layout import PARTY, SEAT
from ringkernel.ring.ops import (
    fence,
    leave_cpu,
    load,
    load_acquire,
    sleep_on,
    spin_hint,
    store,
    store_release,
    this_cpu,
    ticks,
)
from ringkernel.ring.turn import LEFT, WORKED, dismiss, rest, turn

SHORT_SLEEP = 12
"""Sleeps shorter than so many times the minimal patience (about 100 us) were not worth it."""
LEAVE_AFTER = 8
"""After so many short sleeps on its waker's core a worker asks for another one; twice as many each time that did not
last twice the longest patience (a millisecond)."""
MASKS = 64
"""Where in the scratch memory there is room for `leave_cpu`."""
SCRATCH_BYTES = MASKS + 256


def run_worker(party: int, scratch: int) -> int:
    """Serve a party's inbox until `stop` is set. How often the worker parked."""
    while load_acquire(party + PARTY.stop) == 0:
        seat = take_inbox(party)
        while seat != 0:
            after = load(seat + SEAT.next_address)
            adopt(party, seat)
            seat = after
        if load(party + PARTY.n_hot) == 0:
            park(party, scratch)
        elif sweep(party) == 0:
            spin_hint()
    return load(party + PARTY.parks)


def park(party: int, scratch: int) -> None:
    """Sleep until somebody wakes the party."""
    store(party + PARTY.parked, 1)
    fence()  # `parked`, before the last look at the inbox
    if load(party + PARTY.inbox_address) == 0 and load_acquire(party + PARTY.stop) == 0:
        before = ticks()
        sleep_on(load(party + PARTY.read_fd), scratch)
        slept = ticks() - before
        store(party + PARTY.parks, load(party + PARTY.parks) + 1)
        adapt(party, slept, scratch)
    store(party + PARTY.parked, 0)


def adapt(party: int, slept: int, scratch: int) -> None:
    """Learn from a sleep how long to watch next time, and where."""
    here = this_cpu()
    crowded = here >= 0 and here == load(party + PARTY.waker_cpu)
    store_release(party + PARTY.crowded, 1 if crowded else 0)
    shortest = load(party + PARTY.min_patience)
    if slept >= SHORT_SLEEP * shortest:
        store(party + PARTY.patience, shortest)
        store(party + PARTY.crowded_sleeps, 0)
        return
    # a little more patience would have saved both sides the sleep
    store(party + PARTY.patience, min(2 * load(party + PARTY.patience), load(party + PARTY.max_patience)))
    if crowded:
        sleeps = load(party + PARTY.crowded_sleeps) + 1
        if sleeps >= load(party + PARTY.leave_after):
            now = ticks()
            lasted = now - load(party + PARTY.left_at) > 2 * load(party + PARTY.max_patience)
            store(party + PARTY.leave_after, LEAVE_AFTER if lasted else 2 * load(party + PARTY.leave_after))
            store(party + PARTY.left_at, now)
            sleeps = 0
            leave_cpu(here, scratch + MASKS)
            store_release(party + PARTY.crowded, 1 if this_cpu() == here else 0)
        store(party + PARTY.crowded_sleeps, sleeps)


def adopt(party: int, seat: int) -> None:
    """Append a seat to the hot list, a ring of seats of which the party holds the last."""
    last = load(party + PARTY.hot_address)
    if load(party + PARTY.n_hot) == 0:
        store(seat + SEAT.hot_address, seat)
    else:
        store(seat + SEAT.hot_address, load(last + SEAT.hot_address))
        store(last + SEAT.hot_address, seat)
    store(seat + SEAT.idle_since, 0)
    store(party + PARTY.hot_address, seat)
    store(party + PARTY.n_hot, load(party + PARTY.n_hot) + 1)


def sweep(party: int) -> int:
    """One turn for each kernel in the hot list. How many did something."""
    worked = 0
    before = load(party + PARTY.hot_address)
    for _ in range(load(party + PARTY.n_hot)):
        seat = load(before + SEAT.hot_address)
        store_release(party + PARTY.current_address, seat)
        store_release(party + PARTY.turns, load(party + PARTY.turns) + 1)
        result = turn(seat)
        if result == WORKED:
            worked += 1
            if load(seat + SEAT.idle_since) != 0:
                store(seat + SEAT.idle_since, 0)
                longer = min(2 * load(party + PARTY.patience), load(party + PARTY.max_patience))
                store(party + PARTY.patience, longer)
            before = seat
        elif result == LEFT:
            drop(party, before, seat)
            dismiss(seat)
        else:
            now = ticks()
            since = load(seat + SEAT.idle_since)
            if since == 0:
                since = now
                store(seat + SEAT.idle_since, now)
            # the shorter the more kernels are watched: idle watching costs the same for one and for thousands
            patience = load(party + PARTY.patience) if load(party + PARTY.crowded) == 0 else 0
            if (now - since) * load(party + PARTY.n_hot) < patience:
                before = seat
            elif rest(seat) == 1:
                drop(party, before, seat)
            else:
                before = seat
    store_release(party + PARTY.current_address, 0)
    return worked


def drop(party: int, before: int, seat: int) -> None:
    """Unlink `seat`, which follows `before`."""
    n_hot = load(party + PARTY.n_hot) - 1
    store(party + PARTY.n_hot, n_hot)
    if n_hot == 0:
        store(party + PARTY.hot_address, 0)
        return
    store(before + SEAT.hot_address, load(seat + SEAT.hot_address))
    if load(party + PARTY.hot_address) == seat:
        store(party + PARTY.hot_address, before)
