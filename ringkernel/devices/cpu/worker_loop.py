"""What a CPU worker thread does until it is told to stop. Compiled, without the GIL.

The worker takes turns for the kernels in its hot list. A kernel that found nothing to do for a while leaves the list
and is polled by nobody; its bell brings it back. With an empty list the worker parks on its descriptor.

How long a while is adapts: twice as long after each hit and after each short sleep, back to the minimum after a long
one. A fixed short one makes a busy round trip slow (both sides go to sleep each time), a fixed long one burns the core.

Linux likes to put a thread that has slept for a moment on the core of whoever wakes it. If that is the worker, which
watches on, the event loop sits in the queue behind it until the worker parks: 500 us for a message of 2 us. So a worker
with nothing to do looks once whether the loop waits for its core, and if so, leaves: it goes to another core, and tells
the loop, so that the loop stays awake until it is there (`watching.py`). It parks instead if they have not talked,
which is quickest then, if it has only just moved, or if there is no other core.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
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
    waits_for_cpu,
)
from ringkernel.memory.layout import PARTY, SEAT
from ringkernel.ring.doorbell import is_beside_waker, take_inbox
from ringkernel.ring.turn import LEFT, WORKED, dismiss, rest, turn

SHORT_SLEEP = 12
"""Sleeps shorter than so many times the minimal patience (about 100 us) were not worth it. Also the shortest stay on a
core; twice as long each time that it was too short."""
MAX_STAYS = 32
"""But never longer than so many of those (3 ms): what made the worker come back may be over."""
LOOK_AFTER = 2
"""The worker looks whether it is in the way after half the minimal patience (4 us), or at once after a sleep."""
MASKS = 64
"""Where in the scratch memory there is room for `leave_cpu`."""
TEXT = MASKS + 256
"""And for `waits_for_cpu`."""
SCRATCH_BYTES = TEXT + 512
LONG_AGO, LOOKED = 1, -1
"""Values of `idle_since` besides the time, and 0 while there is work."""


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
        elif sweep(party) != 0:
            store(party + PARTY.idle_since, 0)
        else:
            spin_hint()
            make_way(party, scratch)
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
        adapt(party, slept)
    store(party + PARTY.parked, 0)


def adapt(party: int, slept: int) -> None:
    """Learn from a sleep how long to watch next time; not at all on the waker's core, unless it can be left."""
    shortest = load(party + PARTY.min_patience)
    if slept < SHORT_SLEEP * shortest:
        # a little more patience would have saved both sides the sleep
        store(party + PARTY.patience, min(2 * load(party + PARTY.patience), load(party + PARTY.max_patience)))
    else:
        store(party + PARTY.patience, shortest)
    store(party + PARTY.idle_since, LONG_AGO)
    crowded = is_beside_waker(party) == 1 and may_move(party, ticks()) == 0
    store_release(party + PARTY.crowded, 1 if crowded else 0)


def may_move(party: int, now: int) -> int:
    """1 if worker and loop have been talking, and the worker has been on its core for long enough."""
    if load(party + PARTY.patience) <= load(party + PARTY.min_patience):
        return 0
    return 1 if now - load(party + PARTY.left_at) >= load(party + PARTY.stay) else 0


def make_way(party: int, scratch: int) -> None:
    """Leave the core to the event loop if it waits for it; looked at once each time that the worker has nothing to
    do."""
    since = load(party + PARTY.idle_since)
    now = ticks()
    if since == 0:
        store(party + PARTY.idle_since, now)
    if since <= 0 or LOOK_AFTER * (now - since) < load(party + PARTY.min_patience):
        return
    store(party + PARTY.idle_since, LOOKED)
    here = this_cpu()
    loop = load(party + PARTY.loop_address)
    if may_move(party, now) == 1:
        if waits_for_cpu(load(loop + PARTY.stat_fd), here, scratch + TEXT) == 1:
            move(party, scratch, here, now)
    elif load(loop + PARTY.inbox_address) != 0 and is_beside_waker(loop) == 1:
        # it was woken just now, from here; to ask the system would take longer than to park
        store_release(party + PARTY.crowded, 1)


def move(party: int, scratch: int, here: int, now: int) -> None:
    """Go on on another core, which the loop is told to await; park if there is none."""
    shortest = SHORT_SLEEP * load(party + PARTY.min_patience)
    stay = load(party + PARTY.stay)
    was_short = now - load(party + PARTY.left_at) < 4 * stay
    loop = load(party + PARTY.loop_address)
    store(party + PARTY.stay, min(2 * stay, MAX_STAYS * shortest) if was_short else shortest)
    store(party + PARTY.left_at, now)
    store_release(loop + PARTY.worker_moves, 1)
    leave_cpu(here, scratch + MASKS)
    if this_cpu() == here:
        store_release(loop + PARTY.worker_moves, 0)
        store(party + PARTY.stay, MAX_STAYS * shortest)
        store_release(party + PARTY.crowded, 1)


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
