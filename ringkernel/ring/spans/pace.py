"""How long spans are: by time, so that a command is seen soon, whatever a message costs. Compiled."""

from __future__ import annotations

from ringkernel.codegen.operations import load, store
from ringkernel.memory.layout import RUN_ENTRY
from ringkernel.ring.sharing.length import PIECE

SPAN_LIMIT = PIECE
"""Messages in a span that is not shared, at most."""
TELLING = 64
"""A span of so many messages, or one that was long enough, tells what a message costs."""
QUICK = 16
"""A span is quick if it takes less than this part of the time that spans are to take."""


def length_here(run_entry: int) -> int:
    """Return how many messages a span in the event loop's thread may have: as many as are expected to take as long as a
    span should. No command can come in between, so longer ones would not be cut."""
    limit, pace = load(run_entry + RUN_ENTRY.span_limit), load(run_entry + RUN_ENTRY.pace)
    return limit if pace == 0 else max(limit, 64 * load(run_entry + RUN_ENTRY.span_ticks) // pace)


def adapt_span(run_entry: int, count: int, elapsed: int, most: int) -> None:
    """Size spans by time: twice as long while a span is quick, shorter as soon as it is not."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    target = load(run_entry + RUN_ENTRY.span_ticks)
    quick = load(run_entry + RUN_ENTRY.quick_spans)
    store(run_entry + RUN_ENTRY.quick_spans, quick + 1 if QUICK * elapsed < target else min(quick, 0))
    if count >= TELLING or elapsed > target // 4:
        store(run_entry + RUN_ENTRY.pace, max(1, 64 * elapsed // max(count, 1)))
    if count > limit:
        return  # it was shared, or the event loop has run it
    if elapsed > 2 * target:
        store(run_entry + RUN_ENTRY.span_limit, max(1, count * target // elapsed))
    elif count == limit and elapsed < target:
        store(run_entry + RUN_ENTRY.span_limit, min(2 * limit, most))
