"""Where a grid's words live: the control lines that the host hands it, and the mailbox that it works on.

A grid is one block of threads that runs one kernel, on a device that may reach host memory only slowly and may not
change it by read-modify-write. So it works on a **mailbox** of its own: a run entry, the kernel's block, its span
record, and the edges and rings that it is connected to. The turn runs there, unchanged, and nobody else sees it. The
host writes the mailbox (`devices/grid/image.py`) with tables that say which words the grid fetches from host memory
before a turn, and which it posts there afterwards (`devices/grid/mailbox.py`). As in `layout.py`, all words are int64.
"""

from __future__ import annotations

from typing import NamedTuple

from .layout import BLOCK_DTYPE, EDGE_DTYPE, FAULT_DTYPE, RING_DTYPE, RUN_ENTRY_DTYPE
from .record import LINE, array, line, record
from .span_layout import RUN_AT, span_nbytes

CONTROL_DTYPE, CONTROL = record(
    "Control",
    line(
        "host",  # before the grid starts
        block_address="the kernel's block",
        mailbox_address="the mailbox",
        image_address="the mailbox as the host has written it: a grid whose mailbox is elsewhere copies it there",
        heart_address="the heart",
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

UNDER_WAY, OUTPUTS, INPUTS, KNOWN, HISTOGRAM = range(5)
"""The tables of what is posted together: what is under way; a span's outputs and counts; how far time has come, and the
inputs' cursors; what a kernel that goes by time knows of its inputs when it has nothing to do; the histogram."""

FETCH_NBYTES, POST_NBYTES, MOVE_NBYTES = 16, 24, 16
"""Bytes of an entry of the tables: of what is fetched, the address of a word, and where its copy is in the mailbox; of
what is posted, where a word is in the mailbox, the address of its copy, and what that is; of what leads out of the
mailbox or into it, where that word is, and 1 or -1."""
FETCH_UNROLL = 4
"""So many words are fetched at a time."""

MAILBOX_DTYPE, MAILBOX = record(
    "Mailbox",
    line(
        "host",  # before the grid starts
        nbytes="bytes that the host has written",
        host_block="the kernel's block in host memory",
        context_on_host="the context in host memory",
        context_address="where the grid keeps the context",
        context_nbytes="bytes of the context, a multiple of 8",
        times_on_host="what a kernel that goes by time keeps, in host memory",
        times_nbytes="bytes of that; 0 for any other kernel",
        patience="how many ticks without work until it naps between its looks",
        beat_timeout="how many ticks without a heartbeat until it ends by itself",
        max_nap_ns="the longest nap",
    ),
    line(
        "host",  # of each table: where it is, from the mailbox, and how many entries it has
        moves="words that lead out of the mailbox, or into it",
        n_moves="how many these are",
        fetches="words to be fetched",
        n_fetches="how many these are",
        times="ends and times of inputs, to be fetched",
        n_times="how many these are",
        near_fetches="cursors of neighbours in device memory, to be fetched",
        n_near_fetches="how many these are",
        near_posts="cursors in device memory, to be posted",
        n_near_posts="how many these are",
    ),
    line("host", posts=array(2 * (HISTOGRAM + 1), "words to be posted, table by table, see `UNDER_WAY`")),
    line(
        "grid",
        told_status="the `status` that the host was told last",
        told_echo="the `echo` that the host was told last",
        told_edge="the `fault_edge` that the host was told last",
        idle_since="since when there is nothing to do; 0: there is something",
        beat="the heart's `beat`",
        leave="the heart's `leave`",
        seen_beat="the last `beat` that was new",
        seen_at="when it was new",
        histogram_is_posted="1: the histogram in host memory is as here",
        nap_ns="how long it naps between its looks",
    ),
)

JOB_DTYPE, JOB = record(
    "Job",
    line(
        "grid",  # the first thread asks the others, between two barriers
        span="which span to run",
        is_over="1: the other threads return",
        failed="1: a thread has failed",
        emitted="outputs",
        n_threads="number of threads",
        staging="a slot for each thread, for outputs that move up later",
        marks="per thread: the fault words of the message that it has failed on",
        scan="two words per thread, for counting the outputs before its own",
    ),
)

MARK = FAULT_DTYPE.itemsize
"""Bytes per thread for what it has failed on."""

# the parts of a mailbox that are always there, and where they start
MAILBOX_RUN_ENTRY = MAILBOX_DTYPE.itemsize
MAILBOX_JOB = MAILBOX_RUN_ENTRY + RUN_ENTRY_DTYPE.itemsize
MAILBOX_BLOCK = MAILBOX_JOB + JOB_DTYPE.itemsize
MAILBOX_SPAN = MAILBOX_BLOCK + BLOCK_DTYPE.itemsize
MAILBOX_RUN = MAILBOX_SPAN + RUN_AT

INPUT_RING = EDGE_DTYPE.itemsize
INPUT_ON_HOST = INPUT_RING + RING_DTYPE.itemsize
INPUT_NBYTES = INPUT_ON_HOST + LINE
"""An input in the mailbox: its edge, its ring, and where the edge is in host memory, from the kernel's block there."""


class Places(NamedTuple):
    """The places of the parts of a mailbox that depend on what the kernel is connected to; and its length in bytes."""

    inputs: int
    output: int
    consumers: int
    input_table: int
    edge_table: int
    tables: int
    marks: int
    nbytes: int


def places(n_inputs: int, n_consumers: int, n_threads: int, *, by_time: bool) -> Places:
    """Return where the parts of a mailbox are, from its start on."""
    inputs = MAILBOX_SPAN + span_nbytes(n_inputs if by_time else 1)
    output = inputs + n_inputs * INPUT_NBYTES
    consumers = output + RING_DTYPE.itemsize
    input_table = consumers + n_consumers * EDGE_DTYPE.itemsize
    edge_table = input_table + 8 * n_inputs
    tables = edge_table + 8 * n_consumers
    marks = tables + 8 * (320 + 32 * n_inputs + 8 * n_consumers)  # no fewer words than all tables take
    return Places(
        inputs, output, consumers, input_table, edge_table, tables, marks, nbytes=marks + n_threads * (MARK + 16)
    )
