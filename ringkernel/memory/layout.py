"""Where every shared word lives: the records of the bottom layer, as NumPy dtypes and as byte offsets.

A record is a sequence of 128-byte lines and every line has one writer, so that no two writers share a cache line
(128 rather than 64: adjacent-line prefetch; about 18 % faster on the CPUs that we measured). A reference from one
record to another is an offset relative to the record that holds it, so that rings, edges and blocks can live in memory
that another process or a GPU maps elsewhere. The exceptions are named `*_address`: doorbells and doorbell addresses,
machine code, and what parkers keep; they mean something in this process only.

All words are int64. Compiled code reads an offset as `RING.tail`; Python sees the same record through `RING_DTYPE`.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

LINE = 128
NEVER = 2**62
"""A sequence number that no cursor reaches: `limit`, `watch`, `wanted` and `end` when they are off."""

NO_TIME, ENDED = -(2**63), 2**63 - 1
"""Times that none is: nothing is known yet; nothing more comes at all."""

MAGIC = 0x52494E474B524E4C
LAYOUT_VERSION = 7
HISTOGRAM_BUCKETS = 64


def record(name: str, *lines: tuple[str, ...]) -> tuple[np.dtype[Any], Any]:
    """A record of 128-byte lines: its dtype, and a named tuple of the byte offset of each field.

    A field written as `"name:64"` is an array of 64 words and may run over several lines.
    """
    names, offsets, formats, position = [], [], [], 0
    for line in lines:
        for field in line:
            label, _, count = field.partition(":")
            words = int(count or 1)
            names.append(label)
            offsets.append(position)
            formats.append(("i8", (words,)) if count else "i8")
            position += 8 * words
        position = -(-position // LINE) * LINE
    dtype = np.dtype({"names": names, "offsets": offsets, "formats": formats, "itemsize": position})
    offset_of: Any = namedtuple(name, names)  # type: ignore[misc]  # noqa: PYI024 (the fields are data)
    return dtype, offset_of(*offsets)


RING_DTYPE, RING = record(
    "Ring",
    # producer: `tail` is the next sequence to publish; `wanted` the sequence that the slowest consumer has to reach
    # before a producer that waits for room should be woken; `progress`: nothing with a time below this comes any more,
    # published after `tail`, and read before it; `ended`: nothing more comes at all, after both. Once the producer has
    # ended, the host writes them
    ("tail", "wanted", "progress", "ended"),
    # producer, private: `next` is its own copy of `tail` and `low` the slowest head as last seen. Reading the line that
    # it publishes on would cost the producer a miss per message: consumers poll that line away (1.5 against 1.07 of a
    # bare ping-pong)
    ("next", "low"),
    # host, while the producer does not run, except for `n_open`, the number of open consumers. `slots` and `edges` are
    # offsets from here; `doorbell_address` is the producer's; `device_cursor_address`: where `tail` lies if grids
    # keep it in device memory, or 0; `end`: nothing is published from this sequence on, a lent array has no slot for
    # it. `waits`, an offset: a word for each edge, in which the producer counts its ticks without room because of it
    (
        *("slots", "capacity", "itemsize", "edges", "n_edges", "doorbell_address", "n_open", "device_cursor_address"),
        *("end", "waits"),
    ),
)

EDGE_DTYPE, EDGE = record(
    "Edge",
    # consumer: the next sequence to take; for how many ticks it has had nothing to do, and nothing was here
    ("head", "starved_ticks"),
    # host: take only below `limit`; `closed`: the producer ignores this consumer; `watch`: tell the host when `head`
    # gets there
    ("limit", "closed", "watch", "watch_doorbell_address"),
    # host, while the consumer does not run; `device_cursor_address`: likewise, of `head`; `span_address`: what handles
    # these messages, or 0 for the block's, and then `key_at`: where in
    # them the key is
    ("ring", "doorbell_address", "device_cursor_address", "span_address", "key_at"),
)

BLOCK_DTYPE, BLOCK = record(
    "Block",
    # host, while it holds the token: what the kernel is. `chain`: the fused chain that it is the first stage of, as an
    # offset from here, or 0; its poller ends it when a stage fails. `span`: likewise, the record of what its turns run,
    # see `span_layout.py`; `keyed`: whether its state is a table of keys, see `KEYS_IN_ORDER`
    (
        "magic",
        "version",
        "size",
        "inputs",
        "n_inputs",
        "output",
        "state",
        "state_nbytes",
        "max_outputs",
        "span_address",
        "status_doorbell_address",
        "chain",
        "max_threads",
        "end_span_address",
        "span",
        "keyed",
    ),
    # host, at any time; `closing`: once all inputs are at their end, and consumed, the kernel ends
    ("command", "epoch", "closing"),
    # poller: `echo` is the epoch of the command that `status` answers; `blocked`: there is input and no room, since
    # `blocked_since`, and was for `blocked_ticks` before; `answers` counts them where nobody can ring, and somebody
    # watches. `blocked_by`: because of which of the output's edges, from 1 on. `idle_since`: when the last span has
    # ended; `starved_since`: since when there is no input, or 0. `end_phase`: how far it is with what it does at its
    # end; `end_record`: for whose key it does that next
    (
        *("status", "echo", "blocked", "state_version", "answers", "blocked_since", "blocked_ticks", "blocked_by"),
        *("idle_since", "starved_since", "end_phase", "end_record"),
    ),
    # poller: the ledger, between two even values of `ledger_version`; `cost` is what a message takes, in 64ths of a
    # tick, with more weight on the last ones
    (
        "ledger_version",
        "processed",
        "failed",
        "in_flight",
        "emitted",
        "dropped",
        "busy_ticks",
        "turns",
        "peak_input",
        "peak_output",
        "started_ticks",
        "cost",
    ),
    # poller: what went wrong. `index` in the span (-1: nothing), `info` numba's description of the exception
    ("fault_index", "fault_info_address", "fault_edge", "fault_count"),
    # poller: messages by log2 of their time in ticks
    (f"histogram:{HISTOGRAM_BUCKETS}",),
)

DOORBELL_DTYPE, DOORBELL = record(
    "Doorbell",
    # `target_address` serves as a doorbell address; that of an event loop's doorbell leads to the doorbell itself.
    # `standing`: armed again as soon as it has been collected
    ("state", "next_address", "parker_address", "tag", "target_address", "standing"),
)

RUN_ENTRY_DTYPE, RUN_ENTRY = record(
    "RunEntry",
    # the first words as in a doorbell; host, before the run entry is handed over: `block_address`, and whether an event
    # loop's thread may take the kernel's turns
    ("state", "next_address", "parker_address", "block_address", "is_bounded"),
    # worker; `owner` by compare-and-swap only, for each turn, and seldom by the supervisor, too. `pace`: 64ths of a
    # tick per message, of the last span that was long enough to tell; `fruitless`: spans since the last that has
    # emitted something, of a source
    (
        "owner",
        "run_queue_address",
        "idle_since",
        "next_edge",
        "span_limit",
        "span_ticks",
        "quick_spans",
        "pace",
        "fruitless",
    ),
)

PARKER_DTYPE, PARKER = record(
    "Parker",
    # anyone: doorbells that were rung, newest first
    ("inbox_address",),
    # sleeper sets, waker claims and says on which CPU it runs; it sleeps on `read_fd` and is woken through `fd`; a
    # worker that leaves its CPU to the sleeper says so
    ("parked", "fd", "read_fd", "waker_cpu", "worker_moves"),
    # host
    (
        "stop",
        "min_patience",
        "max_patience",
        "loop_address",
        "stat_fd",
        "job_address",
        "team_address",
        "scratch_address",
    ),
    # worker
    (
        "run_queue_address",
        "n_queued",
        "turns",
        "current_address",
        "parks",
        "patience",
        "idle_since",
        "crowded",
        "left_at",
        "stay",
        "helping_address",
    ),
    # event loop, while its thread is in compiled code: run entries that it has rung, the first and the last, and
    # whether it has rung a doorbell of its own; how many ticks of turns it may take, the most of that, and since when;
    # after how many messages it is known what one costs, and the function that takes the turns
    (
        "kept_address",
        "last_kept_address",
        "rang",
        "credit",
        "max_credit",
        "earned_at",
        "known_after",
        "take_turns_address",
    ),
    # shared: a split span that waits for this worker's help, which takes it out; whether it waits for one awake
    ("offer_address", "is_at_hand"),
)

FEEDER_DTYPE, FEEDER = record(
    "Feeder",
    # who pushes: `busy` from before it looks until it has published (compare-and-swap), and then `dropped` is its own
    ("busy", "dropped"),
    # shared: whether one may push, by compare-and-swap
    ("state",),
    # host, before anybody pushes: the ring, as an offset from here; what becomes of messages without room; the doorbell
    # that asks for room and the parker that sleeps until then; a doorbell to ring when a worker was woken, or 0
    ("ring", "when_full", "doorbell_address", "parker_address", "woken_address"),
)

MAX_TURNS = 16
"""Kernels with turns of their own in a path that the event loop maps over by itself."""

PATH_DTYPE, PATH = record(
    "Path",
    # host: how many of the kernels have turns of their own, and their doorbell addresses; the block of the last kernel,
    # and the rings to lend: the edge that the first one reads from, and what the last one writes to, as offsets from
    # here
    ("n_turns", "last", "source", "output"),
    (f"doorbell_addresses:{MAX_TURNS}",),
)

MAX_CHUNKS, MAX_SHARDS = 1024, 64
CHUNK_WORDS = 8
"""A chunk's fault line, as in a block, then what it has come to: its messages, its outputs, its time."""

SPLIT_JOB_DTYPE, SPLIT_JOB = record(
    "SplitJob",
    # leader, while nobody is inside. As in the job of a grid: where the messages are, and where outputs go. `capacity`,
    # `slot_nbytes`: how far apart messages and outputs are; `room_nbytes`: what one message may emit
    (
        "source",
        "count",
        "target",
        "state",
        "span_address",
        "message_nbytes",
        "slot_nbytes",
        "room_nbytes",
        "chunk",
        "n_chunks",
        "chunk_ticks",
        "deadline",
        "block_address",
        "leader_cpu",
    ),
    # leader, likewise: what `shards.py` lays out of a span with keys; `table`: their table, 0 for another span;
    # `n_keys`: how many there were before; `n_kept`: how many messages keep theirs
    (
        "table",
        "places",
        "in_shards",
        "log",
        "outputs",
        "key_at",
        "n_keys",
        "n_kept",
    ),
    (f"first_of:{MAX_SHARDS + 1}",),
    (f"next_of:{MAX_SHARDS}",),
    (f"next_output_of:{MAX_SHARDS}",),
    # host: where there is room for what is laid out
    ("space_address", "space_nbytes"),
    # shared: 1 from when somebody leads until it has been gathered
    ("is_led",),
    # shared: how many helpers are inside; below 0 nobody may come in
    ("gate",),
    # shared: the next chunk to take
    ("next_chunk",),
    # shared: no further chunk is to be taken
    ("stop",),
    # who takes a chunk
    (f"chunks:{MAX_CHUNKS * CHUNK_WORDS}",),
)

MAX_TEAM = 255

TEAM_DTYPE, TEAM = record(
    "Team",
    # host: the workers of a pool that may help each other; `n_cores`: how many threads may be busy; and functions of
    # `shard_keys.py`
    ("n_cores", "n_workers", "find_records_address", "take_keys_back_address"),
    (f"workers:{MAX_TEAM + 1}",),
    # leaders: how many helpers would have been of use and were not there
    ("missing",),
)

# doorbell.state: ring it; it is in an inbox or looked at anyway; nobody wants to know
ARMED, RUNG, QUIET = 0, 1, 2
# run_entry.owner
FREE, CLAIMED, COMMIT, REVOKED, GONE = 0, 1, 2, 3, 4
# feeder.state
OPEN, CLOSED, TAKES_NO_MORE, FORKED = 0, 1, 2, 3
# feeder.when_full
WAIT, RAISE, DROP = 0, 1, 2
# block.status; a coroutine kernel has no block, so these are the states that a poller can be in
STATUS_IDLE, STATUS_ACTIVE, STATUS_DEACTIVATED, STATUS_TERMINATING, STATUS_TERMINATED, STATUS_FAILED = range(6)
STATUS_DESERTED = 6  # a grid has ended by itself, since its host gave no sign of life
LAST_WORDS = (STATUS_DEACTIVATED, STATUS_TERMINATED, STATUS_FAILED, STATUS_DESERTED)
"""What a poller says when it gives the token back."""
# block.keyed
NO_KEYS, KEYS_IN_ORDER, KEYS_UNORDERED = 0, 1, 2
# block.end_phase
NOT_BEGUN, BEGUN, OVER = range(3)
# block.command
COMMAND_NONE, COMMAND_RUN, COMMAND_PAUSE, COMMAND_DRAIN, COMMAND_STOP = range(5)
