"""The job that the threads of a shared span have in common: its gate, its parts, and whether it is to end. Compiled.

Only while the gate is open, or the leader waits, does anybody but the leader touch the rings' memory. A leader that was
revoked while it waited leaves helpers behind with memory that nobody uses again. `tests/models/share.pml` is a model.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    compare_exchange,
    fetch_add,
    load,
    load_acquire,
    nap,
    spin_hint,
    store,
    store_release,
    ticks,
)
from ringkernel.memory.layout import BLOCK, REVOKED, RUN_ENTRY
from ringkernel.memory.share_layout import PART, PART_NBYTES, SHARED

CLOSED = -(1 << 40)
"""Nobody may come in through a gate below 0; what it is above this is how many are inside."""


def part_of(job: int, number: int) -> int:
    """Return where one of the parts is."""
    return int(job + SHARED.parts + PART_NBYTES * number)


def n_taken(job: int) -> int:
    """Return how many parts were taken."""
    return min(load(job + SHARED.next_part), load(job + SHARED.n_parts))


def must_stop(job: int) -> int:
    """Return 1 if no more is to be taken: of chunks after a command or once the span has taken long enough, of shards,
    which would undo what others have done, only after both."""
    if load(job + SHARED.stop) == 1:
        return 1
    block = load(job + SHARED.block_address)
    is_told, needs_both = load(block + BLOCK.epoch) != load(block + BLOCK.echo), load(job + SHARED.table) != 0
    if is_told < needs_both or (is_told == needs_both and ticks() < load(job + SHARED.deadline)):
        return 0
    store(job + SHARED.stop, 1)
    return 1


# --- the gate ---------------------------------------------------------------------------------------------------------


def enter(job: int) -> int:
    """Come in to help. Return 0 if the gate is closed."""
    gate = load(job + SHARED.gate)
    while gate >= 0:
        seen = compare_exchange(job + SHARED.gate, gate, gate + 1)  # acquire: the words of the job
        if seen == gate:
            return 1
        gate = seen
    return 0


def leave(job: int) -> None:
    """Go out again, and touch nothing of the job any more."""
    fetch_add(job + SHARED.gate, -1)  # release: outputs, and what came of the parts


def close_gate(job: int) -> None:
    """Let nobody in any more."""
    gate = load(job + SHARED.gate)
    while gate >= 0:
        gate = compare_exchange(job + SHARED.gate, gate, gate + CLOSED)


def wait_for_helpers(job: int, run_entry: int) -> int:
    """Wait until nobody is inside. Return 0 if the kernel was revoked meanwhile."""
    looks = 0
    while load_acquire(job + SHARED.gate) != CLOSED:  # acquire: what they have written
        if load(run_entry + RUN_ENTRY.owner) == REVOKED:
            return 0
        looks += 1
        if looks % 1024 == 0:
            nap(0)  # there may be fewer cores than threads just now
        else:
            spin_hint()
    return 1


def stop_job(job: int, block: int) -> int:
    """Have nobody take any more of a kernel that the supervisor has revoked. Return how many messages were taken; -1 if
    the job is none of this kernel."""
    if load(job + SHARED.is_led) == 0 or load(job + SHARED.block_address) != block:
        return -1
    store_release(job + SHARED.stop, 1)
    close_gate(job)
    taken = load_acquire(job + SHARED.next_part) * load(job + SHARED.length)
    return min(taken, load(job + SHARED.whole + PART.count))
