"""The loop of a grid, from its launch until it gives the token back. Compiled, for every target that has grids.

The first thread of the block fetches, takes a turn and posts, again and again; the others help with spans. When there
is nothing to do for a while it naps between two looks. Without a sign of life from the host it ends by itself.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    grid_helper,
    load,
    mailbox_memory,
    nap,
    peek,
    poke,
    spin_hint,
    thread_index,
    ticks,
)
from ringkernel.memory.layout import BLOCK, RUN_ENTRY, STATUS_DESERTED
from ringkernel.memory.mailbox_layout import CONTROL, MAILBOX, MAILBOX_BLOCK, MAILBOX_RUN_ENTRY
from ringkernel.ring.block.token import IDLE, LEFT
from ringkernel.ring.turns.turn import obey, turn

from .cooperative_span import dismiss_helpers
from .mailbox import (
    answer,
    fetch,
    fetch_closing,
    post,
    post_blocked,
    post_histogram,
    post_known,
    post_under_way,
    return_context,
    take_over,
)

FIRST_NAP_NS, MOST_NAP_NS = 64, 100_000
FEW_FRUITLESS = 64
"""A source may emit nothing for so many spans before its grid takes naps."""


def run_grid(control: int) -> None:
    """Run a grid: the first thread of its block leads, the others help until they are dismissed."""
    mailbox = mailbox_memory(load(control + CONTROL.mailbox_address))
    if thread_index() == 0:
        take_over(mailbox, control)
        lead(mailbox)
        dismiss_helpers(mailbox)
    else:
        grid_helper(mailbox)


def lead(mailbox: int) -> None:
    """Take turns until the token is given back."""
    run_entry = mailbox + MAILBOX_RUN_ENTRY
    result = IDLE
    while result != LEFT and not is_deserted(mailbox):
        fetch(mailbox)
        result = heed(mailbox)
        if result == IDLE:
            result = turn(run_entry, 0)
        if result == IDLE:
            post_blocked(mailbox)
            post_under_way(mailbox)
            post_histogram(mailbox)
            answer(mailbox)
            post_known(mailbox)
            if fetch_closing(mailbox) == 0:
                wait_a_little(mailbox)
        else:
            poke(mailbox + MAILBOX.idle_since, 0)
            post(mailbox)
            if result != LEFT:
                answer(mailbox)
                back_off(run_entry)
    leave(mailbox, result)


def heed(mailbox: int) -> int:
    """Carry out a command that is new, and answer before the next span: it may take long."""
    block = mailbox + MAILBOX_BLOCK
    if peek(block + BLOCK.epoch) == peek(block + BLOCK.echo):
        return IDLE
    return obey(block, 0)


def leave(mailbox: int, result: int) -> None:
    """Give the token back, with everything that the host may look at from then on."""
    if result != LEFT:
        poke(mailbox + MAILBOX_BLOCK + BLOCK.status, STATUS_DESERTED)
    return_context(mailbox)
    post_histogram(mailbox)
    answer(mailbox)


def back_off(run_entry: int) -> None:
    """Nap after a source's span that has emitted nothing, as so many before it: the longer the more these are."""
    fruitless = peek(run_entry + RUN_ENTRY.fruitless)
    if fruitless > FEW_FRUITLESS:
        nap(min(FIRST_NAP_NS * (fruitless // FEW_FRUITLESS), MOST_NAP_NS))


def is_deserted(mailbox: int) -> bool:
    """Return whether the host has told all grids to end, or has given no sign of life for too long."""
    beat, now = peek(mailbox + MAILBOX.beat), ticks()
    if peek(mailbox + MAILBOX.leave) == 1:
        return True
    if beat != peek(mailbox + MAILBOX.seen_beat):
        poke(mailbox + MAILBOX.seen_beat, beat)
        poke(mailbox + MAILBOX.seen_at, now)
        return False
    return now - peek(mailbox + MAILBOX.seen_at) > peek(mailbox + MAILBOX.beat_timeout)


def wait_a_little(mailbox: int) -> None:
    """Look again at once at first, then after naps, each longer than the last."""
    now, since = ticks(), peek(mailbox + MAILBOX.idle_since)
    if since == 0:
        poke(mailbox + MAILBOX.idle_since, now)
        poke(mailbox + MAILBOX.nap_ns, FIRST_NAP_NS)
        spin_hint()
    elif now - since < peek(mailbox + MAILBOX.patience):
        spin_hint()
    else:
        length = peek(mailbox + MAILBOX.nap_ns)
        nap(length)
        poke(mailbox + MAILBOX.nap_ns, min(2 * length, peek(mailbox + MAILBOX.max_nap_ns)))
