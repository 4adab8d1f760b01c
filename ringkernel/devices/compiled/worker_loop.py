"""The loop of a CPU worker thread, until it is told to stop. Compiled, without the GIL.

The worker takes turns for the kernels in its run queue. A kernel that found nothing to do for a while leaves the queue
and is polled by nobody; its doorbell brings it back. With an empty queue the worker helps others with long spans
(`helping.py`), or parks on its wait handle.

How long a while is adapts: twice as long after each hit and after each short sleep, back to the minimum after a long
one. A fixed short one makes a busy round trip slow (both sides go to sleep each time), a fixed long one burns the core.

Linux likes to put a thread that has slept for a moment on the core of whoever wakes it. If that is the worker, which
polls on, the event loop does not get the core until the worker parks: 500 us for a message of 2 us. So a worker with
nothing to do looks once whether the loop waits for its core, and if so, leaves: it goes to another core, and tells the
loop, which spins until the worker is there (`spinning.py`). It parks instead if they have not talked, which is quickest
then, if it has only just moved, or if there is no other core.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    compare_exchange,
    fence,
    leave_cpu,
    load,
    load_acquire,
    nap,
    sleep_on,
    spin_hint,
    store,
    store_release,
    this_cpu,
    ticks,
    waits_for_cpu,
)
from ringkernel.memory.layout import ARMED, BLOCK, CLAIMED, DOORBELL, EDGE, FREE, NEVER, PARKER, RING, RUN_ENTRY
from ringkernel.ring.block.token import LEFT, WORKED, dismiss, release
from ringkernel.ring.protocol.doorbell import is_beside_waker, take_inbox
from ringkernel.ring.turns.turn import rest, turn

from .helping import help_others, is_free

SHORT_SLEEP = 12
"""Sleeps shorter than so many times the minimal patience (about 100 us) were not worth it. Also the shortest stay on a
core; twice as long each time that it was too short."""
MAX_STAYS = 32
"""But never longer than so many of those (3 ms): what made the worker come back may be over."""
LOOK_AFTER = 2
"""The worker looks whether it is in the way after half the minimal patience (4 us), or at once after a sleep."""
MASKS = 64
"""The offset in the scratch memory of room for `leave_cpu`."""
TEXT = MASKS + 256
"""And for `waits_for_cpu`."""
SCRATCH_BYTES = TEXT + 512
FEW_BUT_QUICK = 8
"""After so many quick spans in a row the event loop's thread may take over, see `loop_turns.py`."""
FEW_FRUITLESS, MOST_NAPS, NAP_NS = 4, 5, 200_000
"""After so many spans of a source that emit nothing the worker naps between them, and looks up: 1 ms at most."""
LONG_AGO, LOOKED = 1, -1
"""Values of `idle_since` besides the time, and 0 while there is work."""


def run_worker(parker: int, scratch: int) -> int:
    """Serve a parker's inbox until `stop` is set. How often the worker parked."""
    while load_acquire(parker + PARKER.stop) == 0:
        run_entry = take_inbox(parker)
        while run_entry != 0:
            after = load(run_entry + RUN_ENTRY.next_address)
            adopt(parker, run_entry)
            run_entry = after
        if load(parker + PARKER.n_queued) == 0:
            if help_others(parker, scratch + MASKS, scratch + TEXT) == 0:
                park(parker, scratch)
        elif sweep(parker) != 0:
            store(parker + PARKER.idle_since, 0)
        else:
            spin_hint()
            make_way(parker, scratch)
    return load(parker + PARKER.parks)


def park(parker: int, scratch: int) -> None:
    """Sleep until somebody wakes the parker."""
    store(parker + PARKER.parked, 1)
    fence()  # `parked`, before the last look at the inbox, and for offers
    if is_free(parker) == 1 and load(parker + PARKER.offer_address) == 0:
        before = ticks()
        sleep_on(load(parker + PARKER.read_fd), scratch)
        slept = ticks() - before
        store(parker + PARKER.parks, load(parker + PARKER.parks) + 1)
        if load(parker + PARKER.offer_address) == 0:
            adapt(parker, slept)
    store(parker + PARKER.parked, 0)


def adapt(parker: int, slept: int) -> None:
    """Learn from a sleep how long to poll next time; not at all on the waker's core, unless it can be left."""
    shortest = load(parker + PARKER.min_patience)
    if slept < SHORT_SLEEP * shortest:
        # a little more patience would have saved both sides the sleep
        store(parker + PARKER.patience, min(2 * load(parker + PARKER.patience), load(parker + PARKER.max_patience)))
    else:
        store(parker + PARKER.patience, shortest)
    store(parker + PARKER.idle_since, LONG_AGO)
    crowded = is_beside_waker(parker) == 1 and may_move(parker, ticks()) == 0
    store_release(parker + PARKER.crowded, 1 if crowded else 0)


def may_move(parker: int, now: int) -> int:
    """1 if worker and loop have been talking, and the worker has been on its core for long enough."""
    if load(parker + PARKER.patience) <= load(parker + PARKER.min_patience):
        return 0
    return 1 if now - load(parker + PARKER.left_at) >= load(parker + PARKER.stay) else 0


def make_way(parker: int, scratch: int) -> None:
    """Leave the core to the event loop if it waits for it; looked at once each time that the worker has nothing to
    do."""
    since = load(parker + PARKER.idle_since)
    now = ticks()
    if since == 0:
        store(parker + PARKER.idle_since, now)
    if since <= 0 or LOOK_AFTER * (now - since) < load(parker + PARKER.min_patience):
        return
    store(parker + PARKER.idle_since, LOOKED)
    here = this_cpu()
    loop = load(parker + PARKER.loop_address)
    if may_move(parker, now) == 1:
        if waits_for_cpu(load(loop + PARKER.stat_fd), here, scratch + TEXT) == 1:
            move(parker, scratch, here, now)
    elif load(loop + PARKER.inbox_address) != 0 and is_beside_waker(loop) == 1:
        # it was woken just now, from here; to ask the system would take longer than to park
        store_release(parker + PARKER.crowded, 1)


def move(parker: int, scratch: int, here: int, now: int) -> None:
    """Go on on another core, which the loop is told to await; park if there is none."""
    shortest = SHORT_SLEEP * load(parker + PARKER.min_patience)
    stay = load(parker + PARKER.stay)
    was_short = now - load(parker + PARKER.left_at) < 4 * stay
    loop = load(parker + PARKER.loop_address)
    store(parker + PARKER.stay, min(2 * stay, MAX_STAYS * shortest) if was_short else shortest)
    store(parker + PARKER.left_at, now)
    store_release(loop + PARKER.worker_moves, 1)
    leave_cpu(here, scratch + MASKS)
    if this_cpu() == here:
        store_release(loop + PARKER.worker_moves, 0)
        store(parker + PARKER.stay, MAX_STAYS * shortest)
        store_release(parker + PARKER.crowded, 1)


def adopt(parker: int, run_entry: int) -> None:
    """Append a run entry to the run queue, a circular list of which the parker holds the last."""
    last = load(parker + PARKER.run_queue_address)
    if load(parker + PARKER.n_queued) == 0:
        store(run_entry + RUN_ENTRY.run_queue_address, run_entry)
    else:
        store(run_entry + RUN_ENTRY.run_queue_address, load(last + RUN_ENTRY.run_queue_address))
        store(last + RUN_ENTRY.run_queue_address, run_entry)
    store(run_entry + RUN_ENTRY.idle_since, 0)
    store(parker + PARKER.run_queue_address, run_entry)
    store(parker + PARKER.n_queued, load(parker + PARKER.n_queued) + 1)


def sweep(parker: int) -> int:
    """One turn for each kernel in the run queue. How many did something."""
    worked = 0
    before = load(parker + PARKER.run_queue_address)
    for _ in range(load(parker + PARKER.n_queued)):
        run_entry = load(before + RUN_ENTRY.run_queue_address)
        store_release(parker + PARKER.current_address, run_entry)
        store_release(parker + PARKER.turns, load(parker + PARKER.turns) + 1)
        result = turn(run_entry, 0)
        if result == WORKED:
            worked += 1
            if load(run_entry + RUN_ENTRY.fruitless) > FEW_FRUITLESS:
                back_off(parker, load(run_entry + RUN_ENTRY.fruitless))
            if load(run_entry + RUN_ENTRY.idle_since) != 0:
                store(run_entry + RUN_ENTRY.idle_since, 0)
                longer = min(2 * load(parker + PARKER.patience), load(parker + PARKER.max_patience))
                store(parker + PARKER.patience, longer)
            before = run_entry
        elif result == LEFT:
            drop(parker, before, run_entry, load(run_entry + RUN_ENTRY.run_queue_address))
            dismiss(run_entry)
        else:
            now = ticks()
            since = load(run_entry + RUN_ENTRY.idle_since)
            if since == 0:
                since = now
                store(run_entry + RUN_ENTRY.idle_since, now)
            # the shorter the more kernels are polled: idle polling costs the same for one and for thousands
            patience = load(parker + PARKER.patience) if load(parker + PARKER.crowded) == 0 else 0
            if should_rest(run_entry, parker) == 1:
                patience = 0
            after = load(run_entry + RUN_ENTRY.run_queue_address)  # once it rests it may be the event loop's
            if (now - since) * load(parker + PARKER.n_queued) < patience:
                before = run_entry
            elif rest(run_entry, 0) == 1:
                drop(parker, before, run_entry, after)
            else:
                before = run_entry
    store_release(parker + PARKER.current_address, 0)
    return worked


def back_off(parker: int, fruitless: int) -> None:
    """Nap after a source's span that has emitted nothing, as so many before it: the longer the more these are, if the
    worker has nothing else to do, and until somebody rings."""
    naps = min(fruitless // FEW_FRUITLESS, MOST_NAPS) if load(parker + PARKER.n_queued) == 1 else 0
    while naps > 0 and load(parker + PARKER.inbox_address) == 0 and load_acquire(parker + PARKER.stop) == 0:
        nap(NAP_NS)
        naps -= 1


def should_rest(run_entry: int, parker: int) -> int:
    """1 if a kernel that has nothing to do should rest at once. Claimed for the look: its block is another's as soon as
    the supervisor has taken it."""
    owner = run_entry + RUN_ENTRY.owner
    if compare_exchange(owner, FREE, CLAIMED) != FREE:
        return 0  # revoked, or the event loop's for a moment; the next turn finds out
    should = is_for_loop(run_entry, load(parker + PARKER.loop_address))
    if should == 0:
        should = is_through(run_entry, parker)
    release(run_entry)
    return should


def is_for_loop(run_entry: int, loop: int) -> int:
    """1 if what this kernel has had to do lately the event loop's thread could as well have done itself, and will, once
    the kernel rests: it provably ends, was quick, and is fed by the loop, or by kernels that rest."""
    if load(run_entry + RUN_ENTRY.is_bounded) == 0 or load(run_entry + RUN_ENTRY.quick_spans) < FEW_BUT_QUICK:
        return 0
    block = load(run_entry + RUN_ENTRY.block_address)
    if load(block + BLOCK.processed) < load(loop + PARKER.known_after):
        return 0
    return is_fed_by_loop(block, loop)


def is_through(run_entry: int, parker: int) -> int:
    """1 if a kernel that has nothing to do is through with a map: it has read a lent array to its end, or it writes to
    one and will get no more of it. The map waits for it to rest."""
    if load(parker + PARKER.team_address) == 0:
        return 0  # who watches grids has no blocks in its run entries
    block = load(run_entry + RUN_ENTRY.block_address)
    edge = block + load(block + load(block + BLOCK.inputs))
    end = load(edge + load(edge + EDGE.ring) + RING.end)
    if end != NEVER:
        return 1 if load(edge + EDGE.head) == end else 0
    output = load(block + BLOCK.output)
    if output == 0 or load(block + output + RING.end) == NEVER:
        return 0
    return is_fed_by_loop(block, load(parker + PARKER.loop_address))


def is_fed_by_loop(block: int, loop: int) -> int:
    """1 if only the event loop feeds a kernel, and kernels that rest."""
    count = load_acquire(block + BLOCK.n_inputs)
    table = block + load(block + BLOCK.inputs)
    for i in range(count):
        edge = block + load(table + 8 * i)
        if is_fed_by(load(edge + load(edge + EDGE.ring) + RING.doorbell_address), loop) == 0:
            return 0
    return 1


def is_fed_by(doorbell_address: int, loop: int) -> int:
    """1 if the producer with this doorbell address is the event loop, or rests."""
    doorbell = 0 if doorbell_address == 0 else load_acquire(doorbell_address)
    if doorbell == 0 or load(doorbell + DOORBELL.state) == ARMED:
        return 1
    return 1 if load(doorbell + DOORBELL.parker_address) == loop else 0


def drop(parker: int, before: int, run_entry: int, after: int) -> None:
    """Unlink `run_entry`, which is between `before` and `after`."""
    n_queued = load(parker + PARKER.n_queued) - 1
    store(parker + PARKER.n_queued, n_queued)
    if n_queued == 0:
        store(parker + PARKER.run_queue_address, 0)
        return
    store(before + RUN_ENTRY.run_queue_address, after)
    if load(parker + PARKER.run_queue_address) == run_entry:
        store(parker + PARKER.run_queue_address, before)
