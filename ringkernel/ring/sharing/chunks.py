"""A split span in chunks: each has its place in which its outputs lie if nothing is dropped. Compiled.

Whoever is inside takes chunks by fetch-and-add, and runs the kernel's span on them. In the end outputs move up, in
order, and the first chunk that was not finished is the last that counts, whether its handler has failed or it was told
to stop. What later chunks have come to is forgotten: their messages were never taken. A handler without state cannot
tell.
"""

from __future__ import annotations

from ringkernel.codegen.operations import call_span, load, move_bytes, store, ticks
from ringkernel.memory.layout import BLOCK, PARKER, RUN_ENTRY
from ringkernel.memory.span_layout import SPAN
from ringkernel.memory.split_layout import MAX_CHUNKS, SPLIT_JOB
from ringkernel.ring.block.stages import chain_of

from .split_job import BUSY, DONE, EMITTED, chunk_words, n_threads, note_chunk, note_fault

PIECE = 1024
"""Messages that the span is called for at a time: a chunk that takes too long ends after one of these."""
MAX_CHUNK = 1 << 16
"""Messages in a chunk, at most."""
CHUNKS_EACH, CHUNKS_AMONG_OTHERS = 128, 4
"""How many chunks a thread may take in one span: if the leader has nothing else to do, and if it has."""
SHARE = 4
"""Smaller chunks, where there are few messages, so that every thread has so many; not below an eighth."""


def full_chunk(run_entry: int) -> int:
    """As many messages as take as long as a span should: after each chunk the kernel's command is looked at."""
    messages = 64 * load(run_entry + RUN_ENTRY.span_ticks) // max(1, load(run_entry + RUN_ENTRY.pace))
    return max(1, min(messages, MAX_CHUNK))


def chunks_each(parker: int) -> int:
    """How many chunks a thread may take in a span that this worker leads."""
    return CHUNKS_EACH if load(parker + PARKER.n_queued) == 1 else CHUNKS_AMONG_OTHERS


def lay_out_chunks(job: int, block: int, run_entry: int, parker: int) -> None:
    """Cut the messages of a job into chunks."""
    count, span_ticks, most = (
        load(job + SPLIT_JOB.count),
        load(run_entry + RUN_ENTRY.span_ticks),
        n_threads(block, parker),
    )
    full = full_chunk(run_entry)
    chunk = max(min(full, count // (SHARE * most)), full // 8, count // MAX_CHUNKS + 1)
    store(job + SPLIT_JOB.chunk, chunk)
    store(job + SPLIT_JOB.n_chunks, (count + chunk - 1) // chunk)
    store(job + SPLIT_JOB.chunk_ticks, span_ticks)
    store(job + SPLIT_JOB.deadline, ticks() + 2 * chunks_each(parker) * span_ticks)
    store(job + SPLIT_JOB.room_nbytes, load(job + SPLIT_JOB.slot_nbytes) * load(block + BLOCK.max_outputs))


def run_chunk(job: int, index: int) -> None:
    """Run the handler over a chunk, piece by piece. A chunk that takes too long may be left in the middle."""
    words, chunk = chunk_words(job, index), load(job + SPLIT_JOB.chunk)
    count = min(chunk, load(job + SPLIT_JOB.count) - index * chunk)
    message_nbytes, slot_nbytes = load(job + SPLIT_JOB.message_nbytes), load(job + SPLIT_JOB.slot_nbytes)
    source = load(job + SPLIT_JOB.source) + index * chunk * message_nbytes
    target = load(job + SPLIT_JOB.target) + index * chunk * load(job + SPLIT_JOB.room_nbytes)
    span, state = load(job + SPLIT_JOB.span_address), load(job + SPLIT_JOB.state)
    store(words, -1)
    done, emitted, start = 0, 0, ticks()
    late = start + 2 * load(job + SPLIT_JOB.chunk_ticks)
    while done < count:
        piece = min(PIECE, count - done)
        emitted += call_span(span, source + done * message_nbytes, piece, target + emitted * slot_nbytes, state, words)
        if load(words) >= 0:
            done += load(words)
            store(job + SPLIT_JOB.stop, 1)
            break
        done += piece
        if done < count and ticks() > late and must_stop(job) == 1:
            break
    note_chunk(words, done, emitted, start)


def must_stop(job: int) -> int:
    """1 if no further chunk is to be taken: there is a command, or the span has taken long enough, or somebody has said
    so."""
    if load(job + SPLIT_JOB.stop) == 1:
        return 1
    block = load(job + SPLIT_JOB.block_address)
    if load(block + BLOCK.epoch) == load(block + BLOCK.echo) and ticks() < load(job + SPLIT_JOB.deadline):
        return 0
    store(job + SPLIT_JOB.stop, 1)
    return 1


def gather_chunks(job: int, block: int, span: int) -> int:
    """Put the outputs of all chunks that count in one piece. How many there are."""
    chunk, count, target = load(job + SPLIT_JOB.chunk), load(job + SPLIT_JOB.count), load(job + SPLIT_JOB.target)
    slot_nbytes, room_nbytes = load(job + SPLIT_JOB.slot_nbytes), load(job + SPLIT_JOB.room_nbytes)
    emitted, done, busy, counts = 0, 0, 0, 1
    for i in range(min(load(job + SPLIT_JOB.next_chunk), load(job + SPLIT_JOB.n_chunks))):
        words = chunk_words(job, i)
        busy += load(words + BUSY)
        if counts == 0:
            continue
        start, here = target + i * chunk * room_nbytes, load(words + EMITTED)
        if here > 0 and start != target + emitted * slot_nbytes:
            move_bytes(target + emitted * slot_nbytes, start, here * slot_nbytes)
        emitted += here
        done += load(words + DONE)
        if load(words + DONE) < min(chunk, count - i * chunk):
            counts = 0  # it is the last that does
            if load(words) >= 0 and chain_of(block) == 0:  # what a chain fails on is to be the first message of a span
                note_fault(block, done, words)
    store(span + SPAN.done, done)
    store(span + SPAN.busy_ticks, busy)
    return emitted
