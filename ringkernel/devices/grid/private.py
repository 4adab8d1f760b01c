"""The operations of `operations.py` where nobody else looks: a turn on a grid's mailbox. Compiled.

No order, and a compare-and-swap is a comparison and a store. `private_operations` makes the table of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.codegen import operations as ops
from ringkernel.codegen.operations import grid_span, peek, poke, store
from ringkernel.memory.layout import BLOCK
from ringkernel.memory.mailbox_layout import INPUT_ON_HOST, MAILBOX, MAILBOX_BLOCK
from ringkernel.ring import fused_commit, waits
from ringkernel.ring.ends import run_end
from ringkernel.ring.run_merge import has_news, is_ready, merge_of, run_merge
from ringkernel.ring.stages import chain_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def nothing() -> None:
    """No order is needed."""


def compare_exchange(address: int, expected: int, value: int) -> int:
    """Store `value` if the word is `expected`; the word as it was."""
    seen = peek(address)
    if seen == expected:
        poke(address, value)
    return seen


def exchange(address: int, value: int) -> int:
    """Store `value`; the word as it was."""
    seen = peek(address)
    poke(address, value)
    return seen


def wake_nobody(descriptor: int) -> None:
    """Nobody sleeps at a mailbox."""


def never_split(
    block: int, run_entry: int, source: int, count: int, target: int, message_nbytes: int, slot_nbytes: int
) -> int:
    """In the place of `split_span.lead`: a grid's span is shared by the threads of its block, see
    `cooperative_span.py`."""
    return 0


def nowhere() -> int:
    """Who is never woken need not know where its waker runs."""
    return -1


def call_span(mailbox: int, source: int, count: int, target: int, state: int, fault: int) -> int:
    """Run the grid's span, and let the host know how much it is: of a span that never ends it learns nothing more."""
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    edge = block + peek(block + BLOCK.fault_edge)
    store(host_block + BLOCK.fault_edge, peek(edge + INPUT_ON_HOST) - host_block)
    store(host_block + BLOCK.in_flight, count)
    return grid_span(mailbox, source, count, target, state, fault)


def no_chain(block: int) -> int:
    """Grids run no fused chains."""
    return 0


def _no_chains(jit: Callable[..., Any]) -> dict[Any, Any]:
    """What stands for the functions that see to the stages of a chain, to what goes by time, or to what a kernel does
    at its end, which are never called."""
    return {
        chain_of: jit(no_chain),
        fused_commit.keep_failed: jit(lambda _chain: 0),
        fused_commit.move_tails: jit(lambda _chain, _taken, _failing: None),
        fused_commit.keep_ledgers: jit(lambda _block, _chain, _taken, _failing, _elapsed, _waiting: None),
        fused_commit.notify_watchers: jit(lambda _chain, _here: None),
        fused_commit.end_chain: jit(lambda _block, _chain, _failing, _here: 0),
        merge_of: jit(no_chain),
        has_news: jit(lambda _block, _merge: 0),
        is_ready: jit(lambda _block, _merge: 0),
        run_merge: jit(lambda _block, _run_entry, _merge, _here: 0),
        run_end: jit(lambda _block, _run_entry, _here: 0),
    }


def _nothing_measured(jit: Callable[..., Any]) -> dict[Any, Any]:
    """What stands for the functions that measure what a kernel waits for: the host does not learn of it."""
    return {
        waits.starve: jit(lambda _block: None),
        waits.end_starving: jit(lambda _block, _now: None),
        waits.end_blocking: jit(lambda _block, _now: None),
        waits.slowest_consumer: jit(lambda _ring: 0),
    }


def private_operations(
    operations: Mapping[Any, Any], compile_shared: Callable[[Callable[..., Any]], Any], jit: Callable[..., Any]
) -> dict[Any, Any]:
    """What replaces `operations.py` in a turn on a mailbox. `compile_shared` compiles what does look outside."""
    load, save = operations[ops.peek], operations[ops.poke]
    none = jit(nothing)
    return {
        **operations,
        ops.load: load,
        ops.load_acquire: load,
        ops.store: save,
        ops.store_release: save,
        ops.fence: none,
        ops.fence_release: none,
        ops.fence_acquire: none,
        ops.spin_hint: none,
        ops.compare_exchange: compile_shared(compare_exchange),
        ops.exchange: compile_shared(exchange),
        ops.wake: jit(wake_nobody),
        ops.this_cpu: jit(nowhere),
        **_no_chains(jit),
        **_nothing_measured(jit),
    }
