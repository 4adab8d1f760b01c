"""The operations of `operations.py` where nobody else looks: a turn on a grid's mailbox. Compiled.

A load or a store is a plain one, a compare-and-swap a comparison and a store. Functions of a turn that have nothing to
do there are left out: nobody is rung, a grid runs its kernel alone, and the host does not learn what the kernel has
waited for. So are those that only kernels that go by time need, or that have something to do at their end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.codegen import operations as ops
from ringkernel.codegen.operations import grid_span, peek, poke
from ringkernel.memory.layout import BLOCK
from ringkernel.memory.mailbox_layout import MAILBOX_BLOCK, MAILBOX_RUN, MAILBOX_SPAN
from ringkernel.memory.span_layout import RUN, SPAN
from ringkernel.ring.block import waits
from ringkernel.ring.protocol import cursors, doorbell
from ringkernel.ring.sharing import length, share
from ringkernel.ring.spans import commit, fill, further_stages, run_span

from .mailbox import by_time, post_under_way

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NEVER_RUNG = doorbell.ring_doorbell, cursors.notify_consumers, cursors.notify_producer
NEVER_SHARED = length.pays, share.lead
CHAINS = (
    further_stages.note_further,
    further_stages.move_tails,
    further_stages.keep_further_ledgers,
    further_stages.notify_watchers,
)
MEASURED = waits.starve, waits.end_starving, waits.end_blocking, waits.slowest_consumer
TIMES = (
    fill.goes_by_time,
    fill.is_ready,
    fill.fill_by_time,
    run_span.run_span_by_time,
    commit.is_told_more,
    commit.tell,
    commit.wait_for_inputs,
    commit.end_waits,
)
ENDS = fill.fill_at_end, run_span.run_span_at_end


def no_order() -> None:
    """Do nothing: no other thread looks."""


def nothing(*_given: int) -> int:
    """Stand for a function that has nothing to do."""
    return 0


def call_span(address: int, run: int) -> int:
    """Run one of the grid's spans. Return the number of outputs.

    Post first what is under way: a span that never ends posts nothing later. By time most polls find nothing to do, so
    a look, without messages, says first whether there is something.
    """
    mailbox = run - MAILBOX_RUN
    count = peek(run + RUN.count)
    is_end = address == peek(mailbox + MAILBOX_BLOCK + BLOCK.end_span_address)
    looks = 1 if by_time(mailbox) == 1 and count > 0 and not is_end else 0
    if by_time(mailbox) == 0 or is_end:
        post_under_way(mailbox)
    if looks == 1:
        poke(run + RUN.count, 0)
    while True:  # one call of the span in the code, which is inlined there
        emitted = grid_span(mailbox, address, run)
        if looks == 0:
            return emitted
        looks = 0
        if peek(mailbox + MAILBOX_SPAN + SPAN.is_ready) == 0:
            return 0
        post_under_way(mailbox)
        poke(run + RUN.count, count)


def left_out(*, goes_by_time: bool, has_end: bool) -> tuple[Any, ...]:
    """Return the functions of a turn that have nothing to do in a kernel's grid."""
    never = (*NEVER_RUNG, *NEVER_SHARED, *CHAINS, *MEASURED)
    return (*never, *(() if goes_by_time else TIMES), *(() if has_end else ENDS))


def private_operations(operations: Mapping[Any, Any], jit: Callable[..., Any]) -> dict[Any, Any]:
    """Return what stands for `operations.py` in a turn on a mailbox."""
    load, save = operations[ops.peek], operations[ops.poke]

    def compare_exchange(address: int, expected: int, value: int) -> int:
        """Store `value` if the word is `expected`. Return the word as it was."""
        seen = load(address)
        if seen == expected:
            save(address, value)
        return seen  # type: ignore[no-any-return]

    return {
        **operations,
        **dict.fromkeys((ops.load, ops.load_acquire), load),
        **dict.fromkeys((ops.store, ops.store_release), save),
        **dict.fromkeys((ops.fence, ops.fence_release, ops.fence_acquire), jit(no_order)),
        ops.compare_exchange: jit(compare_exchange),
    }
