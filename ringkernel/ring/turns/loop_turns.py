"""Turns that an event loop's thread takes itself. Compiled.

A worker is for work that is long, or that comes faster than it is done. To hand it one cheap message takes two wake-ups
and a second core, and, while another process wants that core, a time slice of the system. So when the loop's thread has
rung a kernel that rests, it keeps the run entry, takes the turns, lets the kernel rest again, and so along a chain: all
before the call that has rung returns. Nothing is left over between two calls, so nobody else has to know.

That is for handlers that provably end (`bounded.py`) and for backlogs whose measured cost the loop's credit covers. The
credit grows with the time, up to a limit, and turns use it up: so the loop spends a share of its time on them, and no
call takes long. What exceeds it goes to the kernel's worker, which keeps it for a while.
"""

from __future__ import annotations

from ringkernel.codegen.operations import call_function, load, load_acquire, store, ticks
from ringkernel.memory.layout import ARMED, BLOCK, FREE, NEVER, PARKER, RUN_ENTRY
from ringkernel.ring.block.token import LEFT, dismiss
from ringkernel.ring.protocol.cursors import waiting_of
from ringkernel.ring.protocol.doorbell import keep_run_entry, push_doorbell
from ringkernel.ring.spans.pace import TELLING

from .ends import is_over
from .turn import rest, turn

RANG = 1 << 32
"""Added to the number of sleepers that were woken: doorbells of the loop itself were rung, and wait in its inbox."""
FEW = 8
"""So many messages may be run when it is not known yet what one costs."""
TOOK = 1 << 40
"""Added if an output was taken: see `call_here`."""
SHARE = 2
"""Credit grows by the inverse of this part of the time."""
KEEP = 512
"""So many quick spans a worker keeps a kernel that has come to it for want of credit."""


def see_to(here: int) -> int:
    """Take the turns of all kernels that the loop's thread has rung. How many sleepers were woken; and `RANG`."""
    woken = run_kept(here)
    if here != 0 and load(here + PARKER.rang) != 0:
        store(here + PARKER.rang, 0)
        woken += RANG
    return woken


def run_kept(here: int) -> int:
    """`see_to`, but for the doorbells of the loop itself, which a later `see_to` reports."""
    if here == 0 or load(here + PARKER.kept_address) == 0:
        return 0
    return call_function(load(here + PARKER.take_turns_address), here)


def take_turns(here: int) -> int:
    """Take turns until every kernel that was kept rests, or has gone to its worker. How many sleepers were woken."""
    woken = 0
    start, credit = ticks(), load(here + PARKER.credit)
    most = max(credit, load(here + PARKER.max_credit))
    credit = min(credit + (start - load(here + PARKER.earned_at)) // SHARE, most)
    store(here + PARKER.earned_at, start)
    run_entry = load(here + PARKER.kept_address)
    while run_entry != 0:
        store(here + PARKER.kept_address, load(run_entry + RUN_ENTRY.next_address))
        if load(run_entry + RUN_ENTRY.owner) != FREE:
            woken += push_doorbell(run_entry)  # its worker is not through with laying it to rest
        elif cost_of_backlog(run_entry, here) > credit:
            store(run_entry + RUN_ENTRY.quick_spans, -KEEP)
            woken += push_doorbell(run_entry)
        elif turn(run_entry, here) == LEFT:
            dismiss(run_entry)
        elif rest(run_entry, here) == 0:
            keep_run_entry(run_entry, here)  # there is more to do
        now = ticks()
        credit -= min(now - start, load(here + PARKER.max_credit))  # more: the system has let another thread run
        start = now
        run_entry = load(here + PARKER.kept_address)
    store(here + PARKER.credit, credit)
    return woken


def cost_of_backlog(run_entry: int, here: int) -> int:
    """Return the ticks that the messages that wait will cost. What a kernel does at its end may cost anything."""
    block = load(run_entry + RUN_ENTRY.block_address)
    waiting = waiting_of(block)
    if waiting == 0:
        return NEVER if load(block + BLOCK.end_span_address) != 0 and is_over(block) == 1 else 0
    return cost_of(waiting, run_entry, here)


def cost_of(count: int, run_entry: int, here: int) -> int:
    """Return the ticks that so many messages will cost; many cost less each than a few. As long as that is not known,
    few of them are within the credit: the handler ends soon in any case."""
    block = load(run_entry + RUN_ENTRY.block_address)
    if load(block + BLOCK.processed) < load(here + PARKER.known_after):
        return count * load(here + PARKER.max_credit) // FEW if count <= FEW else NEVER
    each = load(run_entry + RUN_ENTRY.pace) if count >= TELLING else 0
    return count * (each if each != 0 else load(block + BLOCK.cost)) >> 6


def runs_here(run_entry: int, count: int, here: int) -> int:
    """1 if nothing waits for the kernel, and the thread of this event loop would run so many messages itself, and at
    once, if they were published now."""
    if load(run_entry + RUN_ENTRY.is_bounded) == 0 or load(run_entry + RUN_ENTRY.state) != ARMED:
        return 0
    block = load(run_entry + RUN_ENTRY.block_address)
    if waiting_of(block) != 0 or load_acquire(block + BLOCK.epoch) != load(block + BLOCK.echo):
        return 0
    return 1 if cost_of(count, run_entry, here) <= load(here + PARKER.max_credit) // 2 else 0


def rests(run_entry: int) -> int:
    """1 if a kernel rests, and nothing waits for it. Where the event loop alone feeds it, and alone takes what it
    emits, nobody touches it then until the loop's thread rings it."""
    # acquire, and in this order: if armed, then the claim of who lays it to rest is seen; what the last turn has left
    if load_acquire(run_entry + RUN_ENTRY.state) != ARMED or load_acquire(run_entry + RUN_ENTRY.owner) != FREE:
        return 0
    block = load(run_entry + RUN_ENTRY.block_address)
    return 1 if waiting_of(block) == 0 and load_acquire(block + BLOCK.epoch) == load(block + BLOCK.echo) else 0
