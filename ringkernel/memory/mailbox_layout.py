"""Where a grid's words live: the control lines that the host hands it, and the mailbox that it works on.

A grid is one block of threads that runs one kernel, on a device that may reach host memory only slowly and may not
change it by read-modify-write. So it copies what it needs to a **mailbox** of its own: the block, a run entry, and the
ring and edge records that it is connected to. The turn runs on the mailbox, unchanged, and nobody else sees it;
`mailbox_lay_out.py` lays it out, `mailbox_fetch.py` fetches what others have written before a turn, `mailbox_post.py`
posts what the turn has done. The **control lines** say where everything is. As in `layout.py`, all words are int64.
"""

from __future__ import annotations

from .layout import BLOCK_DTYPE, DOORBELL_DTYPE, EDGE_DTYPE, LINE, RING_DTYPE, RUN_ENTRY_DTYPE, record
from .span_layout import span_nbytes

CONTROL_DTYPE, CONTROL = record(
    "Control",
    # host, before the grid starts: where it works, and how. A block with memory of its own does not use
    # `mailbox_address`; `context_address`: where the kernel's context goes, of so many bytes
    (
        "block_address",
        "mailbox_address",
        "context_address",
        "context_nbytes",
        "staging_address",
        "n_threads",
        "span_ticks",
        "heart_address",
        "beat_timeout_ticks",
        "patience_ticks",
        "max_nap_ns",
    ),
    # watcher: what it has told the host; a word per input, its cursor, follows the record
    ("told_answers", "told_echo", "told_tail", "told_progress", "is_over"),
)

HEART_DTYPE, HEART = record(
    "Heart",
    # watcher: goes up as long as it lives
    ("beat",),
    # host: 1 when all grids are to end at once
    ("leave",),
)

MAILBOX_DTYPE, MAILBOX = record(
    "Mailbox",
    # all of it is the grid's first thread's. `host_block`: the block in host memory; `fetches`, `times`,
    # `device_cursors`: tables of pairs of addresses, of a word in host or in device memory and of its copy here;
    # `record` and `record_on_host`: of what turns run, see `span_layout.py`
    (
        "host_block",
        "n_inputs",
        "n_consumers",
        "inputs",
        "consumers",
        "output",
        "output_on_host",
        "fetches",
        "n_fetches",
        "times",
        "n_times",
        "device_cursors",
        "n_device_cursors",
        "context_on_host",
        "context_nbytes",
        "record",
        "record_on_host",
    ),
    # what stands for the addresses of the span and of that at the end, in the block that is here: see `SPAN_AT`
    ("span_mailbox", "span", "end_span_mailbox", "end_span"),
    # what was told to the host last; how long there has been nothing to do; the host's heartbeat, and when it was new
    (
        "told_status",
        "told_echo",
        "told_blocked",
        "told_in_flight",
        "idle_since",
        "beat",
        "leave",
        "seen_beat",
        "seen_at",
        "histogram_is_posted",
        "nap_ns",
    ),
    # how it waits, from the control lines
    ("patience", "beat_timeout", "max_nap"),
)

JOB_DTYPE, JOB = record(
    "Job",
    # what the first thread asks of the others, between two barriers, and what comes of it
    (
        "span",
        "source",
        "count",
        "target",
        "context",
        "is_over",
        "failed",
        "emitted",
        "n_threads",
        "staging",
        "marks",
        "scan",
    ),
)

SPAN_AT = 8
"""A span is called by the address of two words: that of the mailbox, and, so far behind, what stands for the span in
the block in host memory."""

MARK = 32
"""Bytes per thread for what it failed on: the fault line of a block, see `span_body.py`."""

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
