"""Running a span that was filled: call its function, by this thread alone or with others, and note what came of it.
Compiled."""

from __future__ import annotations

from ringkernel.codegen.operations import fence_release, load, store, ticks
from ringkernel.memory.layout import EDGE, RING, RUN_ENTRY
from ringkernel.memory.span_layout import LANE, LANES, NOBODY, RUN_AT, SPAN, WITHOUT
from ringkernel.ring.block.stages import call_handlers, stages_of
from ringkernel.ring.sharing.share import lead

from .commit import commit
from .further_stages import begin_writing, emitted_by_first


def run_span(block: int, run_entry: int, span: int, here: int) -> int:
    """Run a span over the messages of one input, and commit it."""
    odd(block)
    lane, is_shared = span + LANES, 0
    ring = block + load(lane + LANE.edge)
    ring += load(ring + EDGE.ring)
    message_nbytes = load(ring + RING.itemsize)
    if here == 0 and load(span + SPAN.count) > load(run_entry + RUN_ENTRY.span_limit):
        is_shared = lead(block, run_entry, span, message_nbytes)
    if is_shared == 0:
        run_alone(span)
        if message_nbytes == 0:
            note_calls(block, run_entry, span)
    store(span + SPAN.by_timer, 0)
    fault, taken = load(span + SPAN.fault_index), load(span + SPAN.done)
    store(span + SPAN.failed_lane, NOBODY)
    if fault >= 0:
        store(span + SPAN.failed_lane, 0)
        taken = fault
    store(lane + LANE.taken, taken)
    store(span + SPAN.steps, taken if fault < 0 else fault + load(span + SPAN.fault_count))
    return commit(block, run_entry, span, here)


def run_span_by_time(block: int, run_entry: int, span: int, here: int) -> int:
    """Run a span over the messages of all inputs, and commit it. It notes itself what came of it."""
    odd(block)
    run_alone(span)
    return commit(block, run_entry, span, here)


def run_span_at_end(block: int, run_entry: int, span: int, here: int) -> int:
    """Run a span without messages, and commit it. All that is emitted came of none."""
    odd(block)
    said = run_alone(span)
    calls = said if said >= 0 else -1 - said
    emitted = calls if load(span + SPAN.output) != 0 else 0
    store(span + SPAN.emitted, emitted)
    store(span + SPAN.by_timer, emitted)
    store(span + SPAN.steps, max(1, calls))  # the call that said so
    store(span + SPAN.is_over, 1 if said < 0 else 0)
    store(span + SPAN.failed_lane, NOBODY if load(span + SPAN.fault_index) < 0 else WITHOUT)
    return commit(block, run_entry, span, here)


def run_alone(span: int) -> int:
    """Run a span by this thread alone, and note what came of it. Return what its function does, mostly n outputs."""
    store(span + SPAN.done, load(span + SPAN.count))
    said = call_handlers(span + RUN_AT)
    end = ticks()
    store(span + SPAN.emitted, said)
    store(span + SPAN.busy_ticks, end - load(span + SPAN.started))
    store(span + SPAN.ended, end)
    return said


def odd(block: int) -> None:
    """The states' versions are odd from here until the span is committed."""
    begin_writing(block, stages_of(block))
    fence_release()  # odd before a handler writes to its state


def note_calls(block: int, run_entry: int, span: int) -> None:
    """Count the spans of a source since one has emitted something; of a chain, the source itself."""
    came = emitted_by_first(span, stages_of(block), load(span + SPAN.count))
    store(run_entry + RUN_ENTRY.fruitless, 0 if came > 0 else load(run_entry + RUN_ENTRY.fruitless) + 1)
