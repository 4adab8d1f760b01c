"""The end of a kernel that nobody has to stop: everything is consumed, what it does at its end is done, and the token
goes back. Compiled.

What it does at its end is a span without messages (`end_loop`, of `span_body.py`), which is called as often as there is
room for what it emits, and says when it is over.
"""

from __future__ import annotations

from ringkernel.codegen.operations import load, load_acquire
from ringkernel.memory.layout import BLOCK, EDGE, NEVER, OVER, RING, STATUS_TERMINATED, STATUS_TERMINATING
from ringkernel.ring.block.stages import record_of
from ringkernel.ring.block.token import IDLE, LEFT, give_back
from ringkernel.ring.spans.fill import READY, fill_at_end
from ringkernel.ring.spans.run_span import run_span_at_end


def is_over(block: int) -> int:
    """1 if a kernel in whose inputs nothing was found will never find anything there: a drain has come to its limits,
    or all inputs are at their end. Not while it writes to the array of a map."""
    if load(block + BLOCK.status) != STATUS_TERMINATING:
        if load_acquire(block + BLOCK.closing) == 0:
            return 0
        if are_at_end(block) == 0:
            return 0
    if load(block + BLOCK.end_span_address) == 0 or load(block + BLOCK.output) == 0:
        return 1
    return 1 if load(block + load(block + BLOCK.output) + RING.end) == NEVER else 0


def are_at_end(block: int) -> int:
    """1 if nothing waits in the inputs, and nothing will."""
    count = load_acquire(block + BLOCK.n_inputs)  # acquire: the table is at least as new
    table = block + load(block + BLOCK.inputs)
    for i in range(count):
        edge = block + load(table + 8 * i)
        if load(edge + EDGE.closed) == 0:
            ring = edge + load(edge + EDGE.ring)
            if load_acquire(ring + RING.ended) == 0:
                return 0
            if load_acquire(ring + RING.tail) > load_acquire(edge + EDGE.head):  # `ended` before `tail`
                return 0
    return 1


def finish(block: int, run_entry: int, here: int) -> int:
    """Do some of what a kernel does at its end, and give its token back once that is over. It may take any time, so the
    event loop's thread leaves it to a worker."""
    if load(block + BLOCK.end_span_address) != 0 and load(block + BLOCK.end_phase) != OVER:
        if here != 0:
            return IDLE
        result = fill_at_end(block, run_entry, record_of(block))
        if result == READY:
            result = run_span_at_end(block, run_entry, record_of(block), here)
        if result != IDLE or load(block + BLOCK.end_phase) != OVER:
            return result
    give_back(block, STATUS_TERMINATED, load(block + BLOCK.echo), here)
    return LEFT
