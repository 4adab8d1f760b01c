"""Where a grid's words live: the control lines that the host hands it, and the mailbox that it works on.

A grid is one block of threads that runs one kernel, on a device that may reach host memory only slowly and may not
change it by read-modify-write. So it copies what it needs to a **mailbox** of its own: the block, a run entry, and the
ring and edge records that it is connected to. The turn runs on the mailbox, unchanged, and nobody else sees it;
`mailbox_lay_out.py` lays it out, `mailbox_fetch.py` fetches what others have written before a turn, `mailbox_post.py`
posts what the turn has done. The **control lines** say where everything is. As in `layout.py`, all words are int64.
"""

from __future__ import annotations

from .layout import BLOCK_DTYPE, DOORBELL_DTYPE, EDGE_DTYPE, FAULT_DTYPE, RING_DTYPE, RUN_ENTRY_DTYPE
from .record import LINE, line, record
from .span_layout import span_nbytes

CONTROL_DTYPE, CONTROL = record(
    "Control",
    line(
        "host",  # before the grid starts
        block_address="the kernel's block",
        mailbox_address="where the mailbox goes, unless the threads' block has memory of its own",
        context_address="where the kernel's context goes",
        context_nbytes="bytes of the context",
        staging_address="a slot for each thread, for outputs that move up later",
        n_threads="number of threads",
        span_ticks="how long a span should take",
        heart_address="the heart",
        beat_timeout_ticks="how long without a heartbeat until the grid ends by itself",
        patience_ticks="how long without work until it naps between its looks",
        max_nap_ns="the longest nap",
    ),
    # behind this line, per input: the cursor that the watcher has told
    line(
        "watcher",
        told_answers="`answers` of the block, as it has told the host",
        told_echo="`echo` of the block, likewise",
        told_tail="`tail` of the output ring, likewise",
        told_progress="`progress` of the output ring, likewise",
        is_over="1: it has told the host that the grid has ended",
    ),
)

HEART_DTYPE, HEART = record(
    "Heart",
    line("watcher", beat="goes up as long as the watcher lives"),
    line("host", leave="1: all grids are to end at once"),
)

MAILBOX_DTYPE, MAILBOX = record(
    "Mailbox",
    line(
        "grid",
        host_block="the block in host memory",
        n_inputs="number of inputs",
        n_consumers="number of the output's consumers",
        inputs="where the inputs are",
        consumers="where the output's consumers are",
        output="the output ring; 0: none",
        output_on_host="the output ring in host memory; 0: none",
        fetches="table of pairs: address of a word in host memory, and of its copy here",
        n_fetches="number of pairs in `fetches`",
        times="table of pairs: ends and times of inputs, likewise",
        n_times="number of pairs in `times`",
        device_cursors="table of pairs: cursors of neighbours in device memory, likewise",
        n_device_cursors="number of pairs in `device_cursors`",
        context_on_host="the context in host memory",
        context_nbytes="bytes of the context",
        record="the record of what turns run, see `span_layout.py`",
        record_on_host="the same in host memory",
    ),
    line(
        "grid",
        span_mailbox="this mailbox; `span_address` in the block leads here, see `SPAN_AT`",
        span="what stands for the span in the block in host memory",
        end_span_mailbox="this mailbox; `end_span_address` in the block leads here",
        end_span="what stands for the span at the end in the block in host memory",
    ),
    line(
        "grid",
        told_status="the `status` that the host was told last",
        told_echo="the `echo` that the host was told last",
        told_blocked="the `blocked` that the host was told last",
        told_in_flight="the `in_flight` that the host was told last",
        idle_since="since when there is nothing to do; 0: there is something",
        beat="the heart's `beat`",
        leave="the heart's `leave`",
        seen_beat="the last `beat` that was new",
        seen_at="when it was new",
        histogram_is_posted="1: the histogram in host memory is as here",
        nap_ns="how long it naps between its looks",
    ),
    line(
        "grid",  # as the control lines say
        patience="how long without work until it naps between its looks",
        beat_timeout="how long without a heartbeat until it ends by itself",
        max_nap="the longest nap",
    ),
)

JOB_DTYPE, JOB = record(
    "Job",
    line(
        "grid",  # the first thread asks the others, between two barriers
        span="which span to run",
        source="where the messages are",
        count="how many there are",
        target="where outputs go",
        context="the kernel's context",
        is_over="1: the other threads return",
        failed="1: a thread has failed",
        emitted="outputs",
        n_threads="number of threads",
        staging="a slot for each thread, for outputs that move up later",
        marks="per thread: the fault words of the message that it has failed on",
        scan="two words per thread, for counting the outputs before its own",
    ),
)

SPAN_AT = MAILBOX.span - MAILBOX.span_mailbox
"""A span is called by the address of two words: that of the mailbox, and, so far behind, what stands for the span in
the block in host memory."""
assert MAILBOX.end_span - MAILBOX.end_span_mailbox == SPAN_AT == 8

MARK = FAULT_DTYPE.itemsize
"""Bytes per thread for what it has failed on."""

# the parts of a mailbox that are always there, and where they start
MAILBOX_RUN_ENTRY = MAILBOX_DTYPE.itemsize
MAILBOX_BLOCK = MAILBOX_RUN_ENTRY + RUN_ENTRY_DTYPE.itemsize
MAILBOX_DOORBELL = MAILBOX_BLOCK + BLOCK_DTYPE.itemsize
MAILBOX_JOB = MAILBOX_DOORBELL + DOORBELL_DTYPE.itemsize
MAILBOX_REST = MAILBOX_JOB + JOB_DTYPE.itemsize

INPUT_RING = EDGE_DTYPE.itemsize
INPUT_ON_HOST = INPUT_RING + RING_DTYPE.itemsize
INPUT_SPAN = INPUT_ON_HOST + 8
INPUT_NBYTES = INPUT_ON_HOST + LINE
"""An input in the mailbox: its edge, its ring, the address of the edge in host memory, and its span, see `SPAN_AT`."""

CONSUMER_NBYTES = EDGE_DTYPE.itemsize

FETCH_UNROLL = 4


def max_fetches(n_inputs: int, n_consumers: int) -> int:
    """Pairs in the table of fetches, at most: epoch, heart, two words per input, two per consumer and one for the ring;
    filled up so that they can be looked at four at a time."""
    count = 4 + 2 * n_inputs + 2 * n_consumers
    return -(-count // FETCH_UNROLL) * FETCH_UNROLL


def max_times(n_inputs: int) -> int:
    """Pairs in the table of ends and times: two words per input, filled up likewise."""
    return -(-2 * n_inputs // FETCH_UNROLL) * FETCH_UNROLL


def max_device_cursors(n_inputs: int, n_consumers: int) -> int:
    """Pairs in the table of cursors in device memory, at most: one per neighbour."""
    return n_inputs + n_consumers


def mailbox_nbytes(n_inputs: int, n_consumers: int, n_threads: int, *, by_time: bool) -> int:
    """Bytes of a mailbox."""
    pairs = max_fetches(n_inputs, n_consumers) + max_times(n_inputs) + max_device_cursors(n_inputs, n_consumers)
    tables = 8 * n_inputs + 8 * n_consumers + 16 * pairs
    rings = n_inputs * INPUT_NBYTES + RING_DTYPE.itemsize + n_consumers * CONSUMER_NBYTES
    span = span_nbytes(n_inputs if by_time else 1)
    return MAILBOX_REST + tables + rings + span + n_threads * (MARK + 16)
