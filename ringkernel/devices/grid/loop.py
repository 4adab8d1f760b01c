"""What a grid does from its launch until it gives the token back. Compiled, for every target that has grids.

The first thread of the block fetches, takes a turn and posts, again and again; the others help with spans. When there
is nothing to do for a while it naps between two looks. Without a sign of life from its host it ends by itself.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    desk_memory,
    grid_helper,
    load,
    nap,
    peek,
    poke,
    spin_hint,
    thread_index,
    ticks,
)
from ringkernel.memory.layout import BLOCK, STATUS_DESERTED
from ringkernel.memory.mailbox_layout import BOOK, DESK, DESK_BLOCK, DESK_SEAT
from ringkernel.ring.turn import IDLE, LEFT, obey, turn

from .cooperative_span import dismiss_helpers
from .mailbox import answer, fetch, lay_out, post, post_fault, return_state, settle

FIRST_NAP_NS = 64


def run_grid(book: int) -> None:
    """Every thread's way through a grid's life."""
    desk = desk_memory(load(book + BOOK.desk_address))
    if thread_index() == 0:
        lay_out(desk, book)
        lead(desk)
        dismiss_helpers(desk)
    else:
        grid_helper(desk)


def lead(desk: int) -> None:
    """Take turns until the token is given back."""
    seat = desk + DESK_SEAT
    result = IDLE
    while result != LEFT and not is_deserted(desk):
        fetch(desk)
        result = heed(desk)
        if result == IDLE:
            result = turn(seat)
        if result == IDLE:
            settle(desk)
            answer(desk)
            wait_a_little(desk)
        else:
            poke(desk + DESK.idle_since, 0)
            post(desk)
            if result != LEFT:
                answer(desk)
    leave(desk, result)


def heed(desk: int) -> int:
    """Carry out a command that is new, and answer before the next span: it may take long."""
    block = desk + DESK_BLOCK
    if peek(block + BLOCK.epoch) == peek(block + BLOCK.echo):
        return IDLE
    return obey(block)


def leave(desk: int, result: int) -> None:
    """Give the token back, with everything that the host may look at from then on."""
    if result != LEFT:
        poke(desk + DESK_BLOCK + BLOCK.status, STATUS_DESERTED)
    return_state(desk)
    settle(desk)
    post_fault(desk)
    answer(desk)


def is_deserted(desk: int) -> bool:
    """Whether the host has said that all are to leave, or has not been heard of for too long."""
    beat, now = peek(desk + DESK.beat), ticks()
    if peek(desk + DESK.leave) == 1:
        return True
    if beat != peek(desk + DESK.seen_beat):
        poke(desk + DESK.seen_beat, beat)
        poke(desk + DESK.seen_at, now)
        return False
    return now - peek(desk + DESK.seen_at) > peek(desk + DESK.beat_timeout)


def wait_a_little(desk: int) -> None:
    """Look again at once at first, then after naps, each longer than the last."""
    now, since = ticks(), peek(desk + DESK.idle_since)
    if since == 0:
        poke(desk + DESK.idle_since, now)
        poke(desk + DESK.nap_ns, FIRST_NAP_NS)
        spin_hint()
    elif now - since < peek(desk + DESK.patience):
        spin_hint()
    else:
        length = peek(desk + DESK.nap_ns)
        nap(length)
        poke(desk + DESK.nap_ns, min(2 * length, peek(desk + DESK.max_nap)))
