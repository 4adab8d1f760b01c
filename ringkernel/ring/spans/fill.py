"""Filling a span: which messages may be taken, by which function, and where there is room for outputs. Compiled.

A kernel takes messages from one input at a time, in turn; one that goes by time sees all of them at once, each in a
lane, and its span says which comes next. What a kernel does at its end takes none.
"""

from __future__ import annotations

from ringkernel.codegen.operations import call_span, load, load_acquire, store, ticks
from ringkernel.memory.layout import BEGUN, BLOCK, EDGE, ENDED, NEVER, NO_TIME, NOT_BEGUN, RING, RUN_ENTRY, STAGES
from ringkernel.memory.span_layout import LANE, LANES, RUN_AT, SPAN
from ringkernel.ring.block.stages import function_of, lane_of, last_stage, record_of, stages_of
from ringkernel.ring.block.token import IDLE
from ringkernel.ring.block.waits import go_on, hold_up
from ringkernel.ring.protocol.cursors import bound_of, room_of, slot_address
from ringkernel.ring.sharing.length import span_length

from .pace import length_here

NOTHING_THERE, READY = -1, 3
"""What a fill says besides IDLE, without room: no input has anything; the span may be run."""


def goes_by_time(block: int) -> int:
    """1 if a kernel takes its messages by their times."""
    return load(record_of(block) + SPAN.by_time)


def edge_of(block: int, number: int) -> int:
    """The edge of an input."""
    return block + load(block + load(block + BLOCK.inputs) + 8 * number)


# --- one input --------------------------------------------------------------------------------------------------------


def fill(block: int, run_entry: int, span: int, here: int) -> int:
    """Fill a span with the next messages of one input that lie in one piece and have room for their outputs."""
    edge = find_input(block, run_entry)
    if edge == 0:
        return NOTHING_THERE
    head = load(edge + EDGE.head)
    ring = edge + load(edge + EDGE.ring)
    capacity = load(ring + RING.capacity)
    waiting = bound_of(edge, head) - head
    count = min(waiting, capacity - (head & (capacity - 1)))
    count = min(count, span_length(block, run_entry, count) if here == 0 else length_here(run_entry))
    last = last_stage(block)
    count = with_room(span, last, count, load(last + BLOCK.max_outputs))
    if count == 0:
        hold_up(block)
        return IDLE
    lane = span + LANES
    store(lane + LANE.edge, edge - block)
    store(lane + LANE.head, head)
    store(span + SPAN.n_lanes, 1)
    store(span + SPAN.waiting, waiting)
    store(span + SPAN.source, slot_address(ring, head))
    store(block + BLOCK.fault_edge, edge - block)
    store(block + BLOCK.in_flight, count)
    to_be_called(block, span, function_of(block, edge), count)
    go_on(block, load(span + SPAN.started))
    return READY


def find_input(block: int, run_entry: int) -> int:
    """The next input edge, in turn, that has something to take; 0 if none has."""
    count = load_acquire(block + BLOCK.n_inputs)  # acquire: the table is at least as new
    table = block + load(block + BLOCK.inputs)
    index = load(run_entry + RUN_ENTRY.next_edge)
    for _ in range(count):
        if index >= count:
            index = 0
        edge = block + load(table + 8 * index)
        index += 1
        head = load(edge + EDGE.head)
        if bound_of(edge, head) > head:
            store(run_entry + RUN_ENTRY.next_edge, index)
            return edge
    return 0


def to_be_called(block: int, span: int, function: int, count: int) -> None:
    """Note what the span calls, at most for so many messages, and that nothing has failed."""
    stages = stages_of(block)
    store(span + SPAN.address, function)
    store(span + SPAN.count, count)
    store(span + SPAN.context, stages + load(stages + STAGES.context))
    store(span + SPAN.fault_index, -1)
    store(span + SPAN.fault_stage, 0)
    store(span + SPAN.started, ticks())


def with_room(span: int, last: int, count: int, per_message: int) -> int:
    """Note where outputs go. Return how many of `count` messages have room for what may come of them, in one piece."""
    if load(last + BLOCK.output) == 0:
        store(span + SPAN.output, 0)
        store(span + SPAN.target, 0)
        return count
    output = last + load(last + BLOCK.output)
    tail, size = load(output + RING.next), load(output + RING.capacity)
    store(span + SPAN.output, output)
    store(span + SPAN.tail, tail)
    store(span + SPAN.target, slot_address(output, tail))
    free = room_of(output, count * per_message)
    # the slot array runs on for `max_outputs - 1` slots beyond its end, so one message always fits in one piece
    straight = max(1, (size - (tail & (size - 1))) // per_message)
    return min(count, free // per_message, straight)


# --- all inputs, by time ----------------------------------------------------------------------------------------------


def fill_by_time(block: int, run_entry: int, span: int, here: int) -> None:
    """Fill a span with what waits in all inputs: it may turn out that none of it can be taken yet."""
    stages = stages_of(block)
    limit = load(run_entry + RUN_ENTRY.span_limit) if here == 0 else length_here(run_entry)
    limit = min(limit, load(stages + STAGES.longest_span))
    room = with_room(span, last_stage(block), limit, 1)
    if room == 0 and is_ready(block, span) == 1:
        hold_up(block)  # but how far time has come those downstream may wait for
    waiting = look_at_inputs(block, span, limit)
    store(span + SPAN.room, room if load(span + SPAN.output) != 0 else NEVER)
    store(span + SPAN.waiting, waiting)
    store(span + SPAN.source, span)
    store(block + BLOCK.in_flight, min(waiting, limit))
    to_be_called(block, span, load(stages + STAGES.span_address), limit)


def look_at_inputs(block: int, span: int, limit: int) -> int:
    """Note in each lane what waits, at most so much, and how far the input has come. Return how much waits in all."""
    patience = load(span + SPAN.patience_ticks)
    now = ticks() if patience != NEVER else 0
    waiting, n_inputs = 0, load(block + BLOCK.n_inputs)
    store(span + SPAN.n_lanes, n_inputs)
    for number in range(n_inputs):
        edge, lane = edge_of(block, number), lane_of(span, number)
        ring = edge + load(edge + EDGE.ring)
        is_closed = load_acquire(ring + RING.ended)  # acquire, and in this order: what each stands for is there
        progress = load_acquire(ring + RING.progress)
        head = load(edge + EDGE.head)
        bound = bound_of(edge, head)
        capacity = load(ring + RING.capacity)
        count = min(bound - head, capacity - (head & (capacity - 1)), limit)
        horizon, ended, reached = NO_TIME, 0, NO_TIME
        if count == bound - head:  # it is all that waits
            is_limited = bound == load_acquire(edge + EDGE.limit)
            horizon, ended = progress, 1 if is_closed == 1 or is_limited else 0
            reached = NO_TIME if is_limited and load(ring + RING.tail) > bound else progress
        if patience != NEVER:
            if count > 0 or bound != load(lane + LANE.seen_tail) or progress != load(lane + LANE.seen_progress):
                store(lane + LANE.seen_tail, bound)
                store(lane + LANE.seen_progress, progress)
                store(lane + LANE.news_at, now)
            elif now - load(lane + LANE.news_at) >= patience:
                ended = 1
        store(lane + LANE.edge, edge - block)
        store(lane + LANE.head, head)
        store(lane + LANE.source, slot_address(ring, head))
        store(lane + LANE.count, count)
        store(lane + LANE.taken, 0)
        store(lane + LANE.horizon, ENDED if ended == 1 else horizon)
        store(lane + LANE.ended, ended)
        store(lane + LANE.reached, reached)
        waiting += bound - head
    return waiting


def is_ready(block: int, span: int) -> int:
    """1 if there is something to do by time: a message to take, or a multiple to handle."""
    look_at_inputs(block, span, load(block + BLOCK.longest_span))
    store(span + SPAN.room, 0)
    store(span + SPAN.source, span)
    store(span + SPAN.count, 0)
    call_span(load(block + BLOCK.span_address), span + RUN_AT)
    return load(span + SPAN.is_ready)


# --- no input ---------------------------------------------------------------------------------------------------------


def fill_at_end(block: int, run_entry: int, span: int) -> int:
    """Fill a span with some of what the kernel does at its end."""
    if load(block + BLOCK.end_phase) == NOT_BEGUN:
        store(block + BLOCK.end_phase, BEGUN)
        store(block + BLOCK.fault_edge, 0)
        store(run_entry + RUN_ENTRY.span_limit, 1)  # what the handler takes says nothing of this
    count = with_room(span, block, load(run_entry + RUN_ENTRY.span_limit), 1)
    if count == 0:
        hold_up(block)
        return IDLE
    store(span + SPAN.n_lanes, 0)
    store(span + SPAN.waiting, 0)
    store(span + SPAN.source, block + BLOCK.end_record)
    to_be_called(block, span, load(block + BLOCK.end_span_address), count)
    go_on(block, load(span + SPAN.started))
    return READY
