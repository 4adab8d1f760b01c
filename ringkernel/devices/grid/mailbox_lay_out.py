"""A grid's mailbox, laid out once: all that the grid needs is copied there. Compiled.

In the mailbox itself nothing is shared, so there a turn runs with plain loads and stores (`private.py`), and its
compare-and-swaps are private, too: a grid cannot be revoked, it is told to stop and answers. What others write is
looked at here and in `mailbox_fetch.py` only, where an acquire follows it.

Between grids of one device a ring's cursors can lie in device memory (`device_rings.py`): then neighbours look at
those, and not at the ones in host memory.
"""

from __future__ import annotations

from ringkernel.codegen.operations import fence_acquire, load, load_device, peek, poke, ticks
from ringkernel.memory.layout import (
    BLOCK,
    BLOCK_DTYPE,
    DOORBELL,
    EDGE,
    EDGE_DTYPE,
    FREE,
    NEVER,
    QUIET,
    RING,
    RING_DTYPE,
    RUN_ENTRY,
    RUN_ENTRY_DTYPE,
    RUNG,
    STATUS_DESERTED,
)
from ringkernel.memory.mailbox_layout import (
    CONSUMER_NBYTES,
    CONTROL,
    FETCH_UNROLL,
    HEART,
    INPUT_NBYTES,
    INPUT_ON_HOST,
    INPUT_RING,
    INPUT_SPAN,
    JOB,
    MAILBOX,
    MAILBOX_BLOCK,
    MAILBOX_DOORBELL,
    MAILBOX_DTYPE,
    MAILBOX_JOB,
    MAILBOX_REST,
    MAILBOX_RUN_ENTRY,
    MARK,
    SPAN_AT,
    max_device_cursors,
    max_fetches,
    max_times,
)
from ringkernel.memory.span_layout import LANE, LANE_DTYPE, LANES, SPAN
from ringkernel.ring.block.stages import lane_of

MAILBOX_NBYTES, RUN_ENTRY_NBYTES, BLOCK_NBYTES = MAILBOX_DTYPE.itemsize, RUN_ENTRY_DTYPE.itemsize, BLOCK_DTYPE.itemsize
EDGE_NBYTES, RING_NBYTES, LANE_NBYTES = EDGE_DTYPE.itemsize, RING_DTYPE.itemsize, LANE_DTYPE.itemsize


def copy_from_host(target: int, source: int, n_words: int) -> None:
    """Copy words of a record in host memory that does not change at the moment."""
    for i in range(n_words):
        poke(target + 8 * i, load(source + 8 * i))


def lay_out(mailbox: int, control: int) -> None:
    """Copy to the mailbox what the grid needs. The token is the grid's."""
    host_block = load(control + CONTROL.block_address)
    block, run_entry = mailbox + MAILBOX_BLOCK, mailbox + MAILBOX_RUN_ENTRY
    for i in range(MAILBOX_NBYTES // 8):
        poke(mailbox + 8 * i, 0)
    for i in range(RUN_ENTRY_NBYTES // 8):
        poke(run_entry + 8 * i, 0)
    copy_from_host(block, host_block, BLOCK_NBYTES // 8)
    poke(mailbox + MAILBOX.host_block, host_block)
    poke(run_entry + RUN_ENTRY.owner, FREE)
    poke(run_entry + RUN_ENTRY.state, RUNG)
    poke(run_entry + RUN_ENTRY.block_address, block)
    poke(run_entry + RUN_ENTRY.span_limit, 1)
    poke(run_entry + RUN_ENTRY.span_ticks, load(control + CONTROL.span_ticks))
    poke(mailbox + MAILBOX_DOORBELL + DOORBELL.state, QUIET)  # within the mailbox nobody is rung
    poke(block + BLOCK.status_doorbell_address, mailbox + MAILBOX_DOORBELL)
    refer_to_span(mailbox, mailbox + MAILBOX.span_mailbox, block + BLOCK.span_address)
    if peek(block + BLOCK.end_span_address) != 0:
        refer_to_span(mailbox, mailbox + MAILBOX.end_span_mailbox, block + BLOCK.end_span_address)
    poke(block + BLOCK.fault_edge, 0)  # an edge in host memory
    poke(mailbox + MAILBOX.told_status, peek(block + BLOCK.status))
    poke(mailbox + MAILBOX.told_echo, peek(block + BLOCK.echo))
    poke(mailbox + MAILBOX.told_blocked, peek(block + BLOCK.blocked))
    if peek(block + BLOCK.status) == STATUS_DESERTED:
        poke(block + BLOCK.echo, -1)  # the command that held then is to be carried out anew
    poke(mailbox + MAILBOX.histogram_is_posted, 1)
    poke(mailbox + MAILBOX.patience, load(control + CONTROL.patience_ticks))
    poke(mailbox + MAILBOX.beat_timeout, load(control + CONTROL.beat_timeout_ticks))
    poke(mailbox + MAILBOX.max_nap, load(control + CONTROL.max_nap_ns))
    poke(mailbox + MAILBOX.seen_at, ticks())
    bring_context(mailbox, control)
    at = lay_out_record(mailbox, mailbox + MAILBOX_REST)
    at = lay_out_rings(mailbox, at, load(control + CONTROL.heart_address))
    lay_out_job(mailbox + MAILBOX_JOB, at, control)
    fence_acquire()  # acquire: the slots below the cursors are written, also those that the first fetch finds unchanged


def refer_to_span(mailbox: int, words: int, address: int) -> None:
    """Let the word at `address`, in the mailbox, lead to the span that it names in host memory: see `SPAN_AT`."""
    poke(words, mailbox)
    poke(words + SPAN_AT, peek(address))
    poke(address, words)


def bring_context(mailbox: int, control: int) -> None:
    """Copy state, parameters and random numbers to where the grid works on them."""
    block, context = mailbox + MAILBOX_BLOCK, load(control + CONTROL.context_address)
    on_host = peek(mailbox + MAILBOX.host_block) + peek(block + BLOCK.state)
    nbytes = load(control + CONTROL.context_nbytes)
    copy_from_host(context, on_host, (nbytes + 7) // 8)
    poke(mailbox + MAILBOX.context_on_host, on_host)
    poke(mailbox + MAILBOX.context_nbytes, nbytes)
    poke(block + BLOCK.state, context - block)


def lay_out_record(mailbox: int, at: int) -> int:
    """The record of what turns run, from `at` on. Where the rest of the mailbox begins."""
    block = mailbox + MAILBOX_BLOCK
    on_host = peek(mailbox + MAILBOX.host_block) + peek(block + BLOCK.span)
    poke(mailbox + MAILBOX.record, at)
    poke(mailbox + MAILBOX.record_on_host, on_host)
    poke(block + BLOCK.span, at - block)
    copy_from_host(at, on_host, LANES // 8)
    n_lanes = peek(block + BLOCK.n_inputs) if peek(at + SPAN.by_time) == 1 else 1
    for number in range(n_lanes):
        lane = lane_of(at, number)
        copy_from_host(lane, lane_of(on_host, number), LANE_NBYTES // 8)
        poke(lane + LANE.news_at, ticks())  # patience begins anew
        poke(lane + LANE.told_count, 0)
    return lane_of(at, n_lanes)


def lay_out_rings(mailbox: int, at: int, heart: int) -> int:
    """Inputs, output and the tables of what to fetch, from `at` on. Where the rest of the mailbox begins."""
    block, host_block = mailbox + MAILBOX_BLOCK, peek(mailbox + MAILBOX.host_block)
    n_inputs = peek(block + BLOCK.n_inputs)
    output_on_host = 0
    n_consumers = 0
    if peek(block + BLOCK.output) != 0:
        output_on_host = host_block + peek(block + BLOCK.output)
        n_consumers = load(output_on_host + RING.n_edges)
    poke(mailbox + MAILBOX.n_inputs, n_inputs)
    poke(mailbox + MAILBOX.n_consumers, n_consumers)
    poke(mailbox + MAILBOX.output_on_host, output_on_host)
    poke(mailbox + MAILBOX.fetches, at)
    at += 16 * max_fetches(n_inputs, n_consumers)
    poke(mailbox + MAILBOX.times, at)
    at += 16 * max_times(n_inputs)
    poke(mailbox + MAILBOX.device_cursors, at)
    at += 16 * max_device_cursors(n_inputs, n_consumers)
    fetch_from(mailbox, host_block + BLOCK.epoch, block + BLOCK.epoch)
    fetch_from(mailbox, heart + HEART.beat, mailbox + MAILBOX.beat)
    fetch_from(mailbox, heart + HEART.leave, mailbox + MAILBOX.leave)
    inputs = at
    at += 8 * n_inputs
    poke(mailbox + MAILBOX.inputs, at)
    table = host_block + peek(block + BLOCK.inputs)
    poke(block + BLOCK.inputs, inputs - block)
    for i in range(n_inputs):
        poke(inputs + 8 * i, at - block)
        lay_out_input(mailbox, at, host_block + load(table + 8 * i))
        at += INPUT_NBYTES
    if output_on_host != 0:
        at = lay_out_output(mailbox, at, output_on_host, n_consumers)
    while peek(mailbox + MAILBOX.n_fetches) % FETCH_UNROLL != 0:
        fetch_from(mailbox, heart + HEART.beat, mailbox + MAILBOX.beat)
    while peek(mailbox + MAILBOX.n_times) % FETCH_UNROLL != 0:
        append_pair(
            peek(mailbox + MAILBOX.times), mailbox + MAILBOX.n_times, heart + HEART.leave, mailbox + MAILBOX.leave
        )
    return at


def append_pair(pairs: int, count: int, there: int, here: int) -> None:
    """Add to a list, of which `count` is the address of its length, where a word is and where its copy goes."""
    n = peek(count)
    poke(pairs + 16 * n, there)
    poke(pairs + 16 * n + 8, here)
    poke(count, n + 1)


def fetch_from(mailbox: int, there: int, here: int) -> None:
    """Have a word looked at from now on."""
    append_pair(peek(mailbox + MAILBOX.fetches), mailbox + MAILBOX.n_fetches, there, here)
    poke(here, load(there))


def fetch_cursor(mailbox: int, on_device: int, on_host: int, here: int) -> None:
    """Have a neighbour's cursor looked at from now on, where it lies. `on_device` is 0 if that is host memory."""
    if on_device == 0:
        fetch_from(mailbox, on_host, here)
        return
    append_pair(peek(mailbox + MAILBOX.device_cursors), mailbox + MAILBOX.n_device_cursors, on_device, here)
    poke(here, load_device(on_device))


def lay_out_input(mailbox: int, at: int, edge_on_host: int) -> None:
    """One input: its edge and its ring."""
    ring, ring_on_host = at + INPUT_RING, edge_on_host + load(edge_on_host + EDGE.ring)
    copy_from_host(at, edge_on_host, EDGE_NBYTES // 8)
    copy_from_host(ring, ring_on_host, RING_NBYTES // 8)
    poke(at + INPUT_ON_HOST, edge_on_host)
    if peek(at + EDGE.span_address) != 0:
        refer_to_span(mailbox, at + INPUT_SPAN, at + EDGE.span_address)
    poke(at + EDGE.watch, NEVER)  # whoever waits for this cursor is told by the watcher
    poke(at + EDGE.ring, INPUT_RING)
    poke(ring + RING.wanted, NEVER)
    poke(ring + RING.slots, ring_on_host + peek(ring + RING.slots) - ring)
    times, count = peek(mailbox + MAILBOX.times), mailbox + MAILBOX.n_times
    append_pair(times, count, ring_on_host + RING.ended, ring + RING.ended)
    append_pair(times, count, ring_on_host + RING.progress, ring + RING.progress)
    fetch_cursor(mailbox, peek(ring + RING.device_cursor_address), ring_on_host + RING.tail, ring + RING.tail)
    fetch_from(mailbox, edge_on_host + EDGE.limit, at + EDGE.limit)


def lay_out_output(mailbox: int, at: int, ring_on_host: int, n_consumers: int) -> int:
    """The output ring and its consumers. Where the rest of the mailbox begins."""
    ring, block = at, mailbox + MAILBOX_BLOCK
    copy_from_host(ring, ring_on_host, RING_NBYTES // 8)
    poke(mailbox + MAILBOX.output, ring)
    poke(block + BLOCK.output, ring - block)
    poke(ring + RING.next, peek(ring + RING.tail))
    poke(ring + RING.low, NEVER)
    poke(ring + RING.slots, ring_on_host + peek(ring + RING.slots) - ring)
    table_on_host, table = ring_on_host + peek(ring + RING.edges), ring + RING_NBYTES
    poke(ring + RING.edges, RING_NBYTES)
    at = table + 8 * n_consumers
    poke(mailbox + MAILBOX.consumers, at)
    fetch_from(mailbox, ring_on_host + RING.n_open, ring + RING.n_open)
    for i in range(n_consumers):
        edge_on_host = ring_on_host + load(table_on_host + 8 * i)
        poke(table + 8 * i, at - ring)
        poke(at + EDGE.doorbell_address, 0)
        fetch_cursor(mailbox, load(edge_on_host + EDGE.device_cursor_address), edge_on_host + EDGE.head, at + EDGE.head)
        fetch_from(mailbox, edge_on_host + EDGE.closed, at + EDGE.closed)
        at += CONSUMER_NBYTES
    return at


def lay_out_job(job: int, at: int, control: int) -> None:
    """The words through which the threads of the block work together."""
    n_threads = load(control + CONTROL.n_threads)
    poke(job + JOB.n_threads, n_threads)
    poke(job + JOB.staging, load(control + CONTROL.staging_address))
    poke(job + JOB.marks, at)
    poke(job + JOB.scan, at + MARK * n_threads)
    poke(job + JOB.is_over, 0)
