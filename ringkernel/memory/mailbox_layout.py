"""Where a grid's words live: the book that the host hands it, and the desk that it works on.

A grid is one block of threads that runs one kernel, on a device that may reach the host's memory only slowly and may
not change it by read-modify-write. So it copies what it needs to a **desk** of its own: the block, a seat, and the
ring and edge records that it is connected to. The turn runs on the desk, as it stands, and nobody else sees it;
`desk.py` fetches what others have written before a turn and posts what the turn has done. The **book** says where
everything is. Home is the host's memory; what is **near** lies in the device's own, see `place.py`. As in `layout.py`,
all words are int64.
"""

from __future__ import annotations

from .layout import BELL_DTYPE, BLOCK_DTYPE, EDGE_DTYPE, LINE, RING_DTYPE, SEAT_DTYPE, record

BOOK_DTYPE, BOOK = record(
    "Book",
    # host, before the grid starts: where it works, and how. A block with memory of its own does not use `desk_address`
    (
        "block_address",
        "desk_address",
        "state_address",
        "staging_address",
        "n_threads",
        "span_ticks",
        "heart_address",
        "beat_timeout_ticks",
        "patience_ticks",
        "max_nap_ns",
    ),
    # watcher: what it has told the host's side; a word per input, its cursor, follows the record
    ("told_answers", "told_echo", "told_tail", "is_over"),
)

HEART_DTYPE, HEART = record(
    "Heart",
    # watcher: goes up as long as it lives
    ("beat",),
    # host: 1 when all grids are to end at once
    ("leave",),
)

DESK_DTYPE, DESK = record(
    "Desk",
    # all of it is the grid's first thread's. `fetches`, `nears`: tables of pairs of addresses, there and here
    (
        "home",
        "n_inputs",
        "n_consumers",
        "inputs",
        "consumers",
        "output",
        "output_home",
        "fetches",
        "n_fetches",
        "nears",
        "n_nears",
        "state_home",
        "span_address",
    ),
    # what was told to the host last; how long there has been nothing to do; the host's heartbeat, and when it was new
    (
        "told_status",
        "told_echo",
        "told_blocked",
        "idle_since",
        "beat",
        "leave",
        "seen_beat",
        "seen_at",
        "is_settled",
        "nap_ns",
    ),
    # how it waits, from the book
    ("patience", "beat_timeout", "max_nap"),
)

JOB_DTYPE, JOB = record(
    "Job",
    # what the first thread asks of the others, between two barriers, and what comes of it
    ("source", "count", "target", "is_over", "failed", "emitted", "n_threads", "staging", "marks", "scan"),
)

MARK = 32
"""Bytes per thread for what it failed on: the fault line of a block, see `span_body.py`."""

# the parts of a desk that are always there, and where they start
DESK_SEAT = DESK_DTYPE.itemsize
DESK_BLOCK = DESK_SEAT + SEAT_DTYPE.itemsize
DESK_BELL = DESK_BLOCK + BLOCK_DTYPE.itemsize
DESK_JOB = DESK_BELL + BELL_DTYPE.itemsize
DESK_REST = DESK_JOB + JOB_DTYPE.itemsize

INPUT_RING = EDGE_DTYPE.itemsize
INPUT_HOME = INPUT_RING + RING_DTYPE.itemsize
INPUT_NBYTES = INPUT_HOME + LINE
"""An input on the desk: its edge, its ring, and the address of the edge at home."""

CONSUMER_NBYTES = EDGE_DTYPE.itemsize

FETCH_UNROLL = 4


def max_fetches(n_inputs: int, n_consumers: int) -> int:
    """Pairs in the table of fetches, at most: epoch, heart, two words per input, two per consumer and one for the ring;
    filled up so that they can be looked at four at a time."""
    count = 4 + 2 * n_inputs + 2 * n_consumers
    return -(-count // FETCH_UNROLL) * FETCH_UNROLL


def max_nears(n_inputs: int, n_consumers: int) -> int:
    """Pairs in the table of what is near, at most: the cursor of each neighbour."""
    return n_inputs + n_consumers


def desk_nbytes(n_inputs: int, n_consumers: int, n_threads: int) -> int:
    """Bytes of a desk."""
    pairs = max_fetches(n_inputs, n_consumers) + max_nears(n_inputs, n_consumers)
    tables = 8 * n_inputs + 8 * n_consumers + 16 * pairs
    rings = n_inputs * INPUT_NBYTES + RING_DTYPE.itemsize + n_consumers * CONSUMER_NBYTES
    return DESK_REST + tables + rings + n_threads * (MARK + 16)
