"""A split span: the worker that holds the turn leads, and others help. Compiled.

The leader writes a job, opens its gate, and offers it to workers that have nothing to do. Whoever is inside takes
pieces of the work by fetch-and-add: **chunks** of the messages, or, where there is a state for each key, **shards**.
The leader then closes the gate, waits until nobody is inside, and gathers what has come of it.

Only the leader commits and publishes, as after any other span.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    call_span,
    compare_exchange,
    fetch_add,
    load,
    store,
    store_release,
    this_cpu,
    ticks,
)
from ringkernel.memory.layout import BLOCK, NO_KEYS, PARKER, RING, RUN_ENTRY
from ringkernel.memory.span_layout import SPAN
from ringkernel.memory.split_layout import MAX_CHUNKS, SPLIT_JOB
from ringkernel.ring.block.stages import chain_of, max_threads

from .chunks import chunks_each, full_chunk, gather_chunks, lay_out_chunks, must_stop, run_chunk
from .shards import gather_shards, is_let_in, lay_out_shards, longest_in_shards, run_shard
from .split_job import close_gate, n_threads, recruit, wait_for_helpers

PAYS = 4
"""A span is split if it takes one thread this many times as long as a chunk: to wake a helper takes 20 to 50 us."""
LOOK_FOR_HELP = 8
"""The leader looks for further helpers after so many chunks of its own, at most: after 1, 2 and 4 first, since the
event loop's thread mostly goes to sleep a moment after it has rung, and there is a core for one more."""


# --- how much, before it begins ---------------------------------------------------------------------------------------


def span_length(block: int, run_entry: int, waiting: int) -> int:
    """How many of the messages that wait a span may have: many, if splitting it pays."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    if waiting <= limit or max_threads(block) <= 1 or pays(run_entry, waiting) == 0:
        return limit
    parker = load(run_entry + RUN_ENTRY.parker_address)
    if load(parker + PARKER.job_address) == 0 or load(parker + PARKER.current_address) != run_entry:
        return limit
    if load(block + BLOCK.keyed) != NO_KEYS:
        return max(limit, longest_in_shards(block, run_entry, parker))
    return full_chunk(run_entry) * min(MAX_CHUNKS, chunks_each(parker) * n_threads(block, parker))


def unless_split(run_entry: int, count: int) -> int:
    """So many messages, or fewer if there is not even room for as many as are worth being split."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    return limit if count > limit and pays(run_entry, count) == 0 else count


def pays(run_entry: int, count: int) -> int:
    """1 if so many messages are worth being split."""
    return 1 if count * load(run_entry + RUN_ENTRY.pace) >= 64 * PAYS * load(run_entry + RUN_ENTRY.span_ticks) else 0


# --- the leader -------------------------------------------------------------------------------------------------------


def lead(block: int, run_entry: int, span: int, message_nbytes: int) -> int:
    """Run a span with the help of idle workers. Return the number of outputs; `done` and `busy_ticks` of the span, and
    the fault words, say the rest."""
    parker = load(run_entry + RUN_ENTRY.parker_address)
    job = load(parker + PARKER.job_address)
    if compare_exchange(job + SPLIT_JOB.is_led, 0, 1) != 0:
        return run_some(block, run_entry, span)
    output = load(span + SPAN.output)
    store(job + SPLIT_JOB.source, load(span + SPAN.source))
    store(job + SPLIT_JOB.count, load(span + SPAN.count))
    store(job + SPLIT_JOB.target, load(span + SPAN.target))
    store(job + SPLIT_JOB.message_nbytes, message_nbytes)
    store(job + SPLIT_JOB.slot_nbytes, 0 if output == 0 else load(output + RING.itemsize))
    if lay_out(job, block, run_entry, span) == 0:
        store(job + SPLIT_JOB.is_led, 0)
        return run_some(block, run_entry, span)
    store_release(job + SPLIT_JOB.gate, 0)  # release: the words above
    work(job, block, parker)
    close_gate(job)
    if wait_for_helpers(job, run_entry) == 0:
        return 0  # revoked: the job stays theirs
    emitted = gather(job, block, run_entry, span)
    store(span + SPAN.ended, ticks())
    store(job + SPLIT_JOB.is_led, 0)
    if load(span + SPAN.done) == 0 and chain_of(block) != 0:
        return run_some(block, run_entry, span)  # the first message fails: in which stage?
    return emitted


def run_some(block: int, run_entry: int, span: int) -> int:
    """Run the span over so many of the messages as one thread takes."""
    count = min(load(span + SPAN.count), load(run_entry + RUN_ENTRY.span_limit))
    store(block + BLOCK.in_flight, count)
    store(span + SPAN.started, ticks())
    return run_alone(span, count)


def run_alone(span: int, count: int) -> int:
    """Run a span, or the first `count` of its messages, from its start on. Return the number of outputs."""
    store(span + SPAN.done, count)
    emitted = call_span(
        load(span + SPAN.address),
        load(span + SPAN.source),
        count,
        load(span + SPAN.target),
        load(span + SPAN.context),
        load(span + SPAN.fault),
    )
    end = ticks()
    store(span + SPAN.busy_ticks, end - load(span + SPAN.started))
    store(span + SPAN.ended, end)
    return emitted


def lay_out(job: int, block: int, run_entry: int, span: int) -> int:
    """Divide the work of a job. 0 if there is nothing to be divided."""
    store(job + SPLIT_JOB.state, load(span + SPAN.context))
    store(job + SPLIT_JOB.span_address, load(span + SPAN.address))
    store(job + SPLIT_JOB.block_address, block)
    store(job + SPLIT_JOB.leader_cpu, this_cpu())
    store(job + SPLIT_JOB.next_chunk, 0)
    store(job + SPLIT_JOB.stop, 0)
    store(job + SPLIT_JOB.table, 0)
    parker = load(run_entry + RUN_ENTRY.parker_address)
    if load(block + BLOCK.keyed) != NO_KEYS:
        return lay_out_shards(job, block, run_entry, parker)
    lay_out_chunks(job, block, run_entry, parker)
    return 1


def work(job: int, block: int, parker: int) -> None:
    """Take chunks, and get help, until there are no more to take."""
    wanted = min(n_threads(block, parker), load(job + SPLIT_JOB.n_chunks)) - 1
    taken, look_at = 0, 0
    more = 1
    while more == 1:
        if wanted > 0 and taken == look_at:
            wanted -= recruit(job, parker, wanted)
            look_at += min(max(1, taken), LOOK_FOR_HELP)
        more = take_chunk(job)
        taken += 1
        is_wanted = load(parker + PARKER.inbox_address) != 0 or load(parker + PARKER.stop) != 0
        if is_wanted and load(job + SPLIT_JOB.table) == 0:
            store(job + SPLIT_JOB.stop, 1)  # by somebody else; shards that are left undone would undo others


def gather(job: int, block: int, run_entry: int, span: int) -> int:
    """Put what counts of the outputs in one piece. How many there are."""
    if load(job + SPLIT_JOB.table) != 0:
        return gather_shards(job, block, run_entry, span)
    return gather_chunks(job, block, span)


# --- everybody inside -------------------------------------------------------------------------------------------------


def take_chunk(job: int) -> int:
    """Take the next chunk or shard, and run the handler over it. 0 if there is none, or none is to be taken."""
    table = load(job + SPLIT_JOB.table)
    if (must_stop(job) == 1) if table == 0 else (is_let_in(job) == 0):
        return 0
    index = fetch_add(job + SPLIT_JOB.next_chunk, 1)
    if index >= load(job + SPLIT_JOB.n_chunks):
        return 0
    if table == 0:
        run_chunk(job, index)
    else:
        run_shard(job, index)
    return 1
