"""How many messages a span may have if several threads share it. Compiled."""

from __future__ import annotations

from ringkernel.codegen.operations import load
from ringkernel.memory.layout import BLOCK, NO_KEYS, PARKER, RING, RUN_ENTRY
from ringkernel.memory.share_layout import MAX_PARTS, SHARED, TEAM
from ringkernel.ring.block.stages import max_threads

from .shards import key_room, log_room

PAYS = 4
"""A span is shared if it takes one thread this many times as long as a chunk: to wake a helper takes 20 to 50 us."""
SHARDS_PAY = 1024
"""Shards pay if a message takes more than this part of a span: about 50 ns. To find its record, write down its state
and put its output in order takes the leader some 20 ns."""
PIECE = 1024
"""Messages that handlers are called for at a time."""
MAX_CHUNK = 1 << 16
"""Messages in a chunk, at most."""
CHUNKS_EACH, SHARDS_EACH, AMONG_OTHERS = 128, 16, 4
"""How many chunks a thread may take in one span, and how many times as many messages in its shards: if the leader has
nothing else to do, and if it has."""


def span_length(block: int, run_entry: int, waiting: int) -> int:
    """Return how many of the messages that wait a span may have: many, if sharing it pays."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    if waiting <= limit or max_threads(block) <= 1 or pays(run_entry, waiting) == 0:
        return limit
    parker, chunk = load(run_entry + RUN_ENTRY.parker_address), full_chunk(run_entry)
    if load(parker + PARKER.job_address) == 0 or load(parker + PARKER.current_address) != run_entry:
        return limit
    if load(block + BLOCK.keyed) == NO_KEYS:
        return chunk * min(MAX_PARTS, each(parker, CHUNKS_EACH) * n_threads(block, parker))
    if SHARDS_PAY * load(run_entry + RUN_ENTRY.pace) < 64 * load(run_entry + RUN_ENTRY.span_ticks):
        return limit
    longest = chunk * each(parker, SHARDS_EACH) * n_threads(block, parker)
    return max(limit, min(longest, longest_in_shards(block, load(parker + PARKER.job_address))))


def longest_in_shards(block: int, job: int) -> int:
    """Return how many messages there is room for in what is written down of a span in shards."""
    table, output_nbytes = block + load(block + BLOCK.state), 0
    if load(block + BLOCK.output) != 0:
        output_nbytes = load(block + load(block + BLOCK.output) + RING.itemsize)
    return (load(job + SHARED.space_nbytes) - key_room(table)) // (16 + log_room(table) + output_nbytes)


def pays(run_entry: int, count: int) -> int:
    """Return 1 if so many messages are worth being shared."""
    return 1 if count * load(run_entry + RUN_ENTRY.pace) >= 64 * PAYS * load(run_entry + RUN_ENTRY.span_ticks) else 0


def full_chunk(run_entry: int) -> int:
    """Return how many messages take as long as a span should: after each chunk the kernel's command is looked at."""
    messages = 64 * load(run_entry + RUN_ENTRY.span_ticks) // max(1, load(run_entry + RUN_ENTRY.pace))
    return max(1, min(messages, MAX_CHUNK))


def each(parker: int, most: int) -> int:
    """Return `most` if a worker has one kernel, and less if others wait."""
    return most if load(parker + PARKER.n_queued) == 1 else AMONG_OTHERS


def n_threads(block: int, parker: int) -> int:
    """Return how many threads may work on a span, at most."""
    return min(max_threads(block), load(load(parker + PARKER.team_address) + TEAM.n_cores))
