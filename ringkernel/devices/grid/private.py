"""The operations of `operations.py` where nobody else looks: a turn on a grid's mailbox. Compiled.

No order, and a compare-and-swap is a comparison and a store. `private_operations` makes the table of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.codegen import operations as ops
from ringkernel.codegen.operations import grid_span, peek, poke, store
from ringkernel.memory.layout import BLOCK
from ringkernel.memory.mailbox_layout import MAILBOX, MAILBOX_BLOCK, SPAN_AT
from ringkernel.memory.span_layout import SPAN
from ringkernel.ring.block import waits
from ringkernel.ring.block.stages import chain_of
from ringkernel.ring.spans import commit, fill, fused_commit
from ringkernel.ring.spans.run_span import run_span_at_end, run_span_by_time

from .mailbox_fetch import by_time as goes_by_time
from .mailbox_post import edge_on_host, post_end, say_in_flight

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


def never_shared(block: int, run_entry: int, span: int, message_nbytes: int) -> int:
    """In the place of `share.lead`: a grid's span is shared by the threads of its block, see
    `cooperative_span.py`."""
    return 0


def nowhere() -> int:
    """Who is never woken need not know where its waker runs."""
    return -1


def call_span(words: int, source: int, count: int, target: int, context: int, fault: int) -> int:
    """Run one of the grid's spans, see `SPAN_AT`.

    Publish `in_flight` first: a span that never ends publishes nothing later. By time most polls find nothing to do, so
    a look, without messages, says first whether there is something.
    """
    mailbox, span = peek(words), peek(words + SPAN_AT)
    by_time = goes_by_time(mailbox)
    is_end = words == mailbox + MAILBOX.end_span_mailbox
    looks = 1 if by_time == 1 and count > 0 and not is_end else 0
    if is_end:
        post_end(mailbox)
    elif by_time == 0:
        tell_of_edge(mailbox)
        say_in_flight(mailbox, count)
    while True:  # one call of the span in the code, which is inlined there
        emitted = grid_span(mailbox, span, source, 0 if looks == 1 else count, target, context, fault)
        if looks == 0:
            return emitted
        looks = 0
        is_ready_now = peek(peek(mailbox + MAILBOX.record) + SPAN.is_ready)
        say_in_flight(mailbox, is_ready_now * peek(mailbox + MAILBOX_BLOCK + BLOCK.in_flight))
        if is_ready_now == 0:
            return 0


def tell_of_edge(mailbox: int) -> None:
    """Tell the host whose messages are handled."""
    edge = edge_on_host(mailbox, peek(mailbox + MAILBOX_BLOCK + BLOCK.fault_edge))
    store(peek(mailbox + MAILBOX.host_block) + BLOCK.fault_edge, edge)


def none_there(block: int) -> int:
    """In the place of what a kernel has not."""
    return 0


def no_end(jit: Callable[..., Any]) -> dict[Any, Any]:
    """What stands for the function that a kernel which does nothing at its end never calls."""
    return {
        fill.fill_at_end: jit(lambda _block, _run_entry, _span: 0),
        run_span_at_end: jit(lambda _block, _run_entry, _span, _here: 0),
    }


def outside_times(jit: Callable[..., Any]) -> dict[Any, Any]:
    """What stands for the functions that look outside for times, where a kernel does not go by them."""
    return {goes_by_time: jit(none_there)}


def _no_times(jit: Callable[..., Any]) -> dict[Any, Any]:
    """What stands for the functions that such a kernel's turn never calls."""
    return {
        fill.goes_by_time: jit(none_there),
        fill.is_ready: jit(lambda _block, _span: 0),
        fill.fill_by_time: jit(lambda _block, _run_entry, _span, _here: None),
        run_span_by_time: jit(lambda _block, _run_entry, _span, _here: 0),
        commit.is_told_more: jit(lambda _block, _span: 0),
        commit.tell: jit(lambda _output, _span: None),
        commit.wait_for_inputs: jit(lambda _block, _span: None),
        commit.end_waits: jit(lambda _block, _span: None),
    }


def _no_chains(jit: Callable[..., Any]) -> dict[Any, Any]:
    """What stands for the functions that see to the stages of a chain, which are never called."""
    return {
        chain_of: jit(none_there),
        fused_commit.note_stages: jit(lambda _chain: None),
        fused_commit.keep_failed: jit(lambda _chain: None),
        fused_commit.move_tails: jit(lambda _chain, _taken, _failing: None),
        fused_commit.keep_ledgers: jit(lambda _block, _chain, _taken, _failing, _elapsed: None),
        fused_commit.notify_watchers: jit(lambda _chain, _here: None),
        fused_commit.end_chain: jit(lambda _block, _chain, _failing, _here: 0),
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
    operations: Mapping[Any, Any],
    compile_shared: Callable[[Callable[..., Any]], Any],
    jit: Callable[..., Any],
    *,
    by_time: bool,
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
        **({} if by_time else _no_times(jit)),
        **_nothing_measured(jit),
    }
