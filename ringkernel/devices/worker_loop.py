"""What a CPU worker thread does until it is told to stop. Compiled, without the GIL.

The worker takes turns for the kernels in its hot list. A kernel that found nothing to do for a while leaves the list
and is polled by nobody; its bell brings it back. With an empty list the worker parks on its descriptor.
"""

from __future__ import annotations

from ringkernel.ring.bell import take_inbox
from ringkernel.ring.layout import PARTY, SEAT
from ringkernel.ring.ops import fence, load, load_acquire, sleep_on, spin_hint, store, store_release
from ringkernel.ring.turn import LEFT, WORKED, dismiss, rest, turn

MIN_PASSES, MAX_PASSES = 400, 20_000
"""Idle passes over the hot list before kernels leave it: doubled after each hit, back to the minimum after a park.
Measured against fixed values: few passes make a busy round trip 17 us, many make a wake-up 900 us; this gives 2.2 us
and 92 us."""


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
        sleep_on(load(party + PARTY.fd), scratch)
        store(party + PARTY.parks, load(party + PARTY.parks) + 1)
        store(party + PARTY.passes, MIN_PASSES)
    store(party + PARTY.parked, 0)


def adopt(party: int, seat: int) -> None:
    """Append a seat to the hot list, a ring of seats of which the party holds the last."""
    last = load(party + PARTY.hot_address)
    if load(party + PARTY.n_hot) == 0:
        store(seat + SEAT.hot_address, seat)
    else:
        store(seat + SEAT.hot_address, load(last + SEAT.hot_address))
        store(last + SEAT.hot_address, seat)
    store(seat + SEAT.idle, 0)
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
            if load(seat + SEAT.idle) > 0:
                store(seat + SEAT.idle, 0)
                store(party + PARTY.passes, min(2 * load(party + PARTY.passes), MAX_PASSES))
            before = seat
        elif result == LEFT:
            drop(party, before, seat)
            dismiss(seat)
        else:
            idle = load(seat + SEAT.idle) + 1
            store(seat + SEAT.idle, idle)
            # the shorter the more kernels are watched: idle watching costs the same for one and for thousands
            if idle * load(party + PARTY.n_hot) < load(party + PARTY.passes):
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
