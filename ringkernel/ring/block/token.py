"""The token of a kernel, the right to touch it: how a poller claims it and gives it back, and how it is taken away.

The word `owner` of a kernel's run entry settles who has it. The poller claims a turn (FREE to CLAIMED) before it looks,
and commits it (CLAIMED to COMMIT) before it publishes what a span produced; the supervisor revokes the kernel (FREE or
CLAIMED to REVOKED). Each is a compare-and-swap, so exactly one of them wins, and a span that comes back after having
been revoked publishes nothing. Compiled.
"""

from __future__ import annotations

from ringkernel.codegen.operations import compare_exchange, fence, load, store, store_release
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, FREE, GONE, REVOKED, RUN_ENTRY
from ringkernel.ring.protocol.doorbell import ring_doorbell

IDLE, WORKED, LEFT = 0, 1, 2
"""What comes of a turn: nothing to do, did something, the kernel is no longer this poller's."""


def release(run_entry: int) -> int:
    """End a claim or a commit. 0 if the kernel was revoked meanwhile."""
    owner = run_entry + RUN_ENTRY.owner
    if load(owner) == COMMIT:
        store_release(owner, FREE)  # nobody else writes the word while it is COMMIT
        return 1
    return 1 if compare_exchange(owner, CLAIMED, FREE) == CLAIMED else 0


def claim_again(run_entry: int) -> None:
    """End a commit, and go on with the turn: a handler may run, and the kernel may be revoked meanwhile."""
    owner = run_entry + RUN_ENTRY.owner
    if load(owner) == COMMIT:
        store_release(owner, CLAIMED)  # nobody else writes the word while it is COMMIT


def dismiss(run_entry: int) -> None:
    """The poller is done with a run entry for good; its memory may serve again."""
    store_release(run_entry + RUN_ENTRY.owner, GONE)


def revoke(run_entry: int, forced: int) -> int:
    """For the supervisor: take a kernel from its poller. Return the owner word as it was found.

    FREE: the kernel is the caller's now. CLAIMED: it is in a turn; with `forced`, what that turn does is void.
    COMMIT: it is about to publish, which takes no user code: ask again.
    """
    owner = run_entry + RUN_ENTRY.owner
    seen = compare_exchange(owner, FREE, REVOKED)
    while seen == CLAIMED and forced == 1:
        if compare_exchange(owner, CLAIMED, REVOKED) == CLAIMED:
            return CLAIMED
        seen = compare_exchange(owner, FREE, REVOKED)  # the turn has ended meanwhile: FREE is said of what was taken
    return seen


def give_back(block: int, status: int, epoch: int, here: int) -> None:
    """Hand the token to the host with a final status, in answer to the command of that epoch. The block is not
    touched afterwards. `here`: see `ring_doorbell`."""
    doorbell = load(block + BLOCK.status_doorbell_address)
    store(block + BLOCK.status, status)
    store_release(block + BLOCK.echo, epoch)  # release: counters, cursors and state
    fence()
    ring_doorbell(doorbell, here)
