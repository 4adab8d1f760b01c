"""A split span: the worker that holds the turn leads, others help, chunk by chunk. Compiled.

The leader writes a job, opens its gate, and offers it to workers that have nothing to do. Whoever is inside takes
chunks by fetch-and-add and runs the kernel's span on them, each into the place in which its outputs lie if nothing is
dropped.
The leader then closes the gate, waits until nobody is inside, and gathers: in order, outputs move up, and the first
chunk that was not finished is the last that counts, whether its handler has failed or it was told to stop. What later
chunks have come to is forgotten: their messages were never taken. A handler without state cannot tell.

Only the leader commits and publishes, as after any other span. Only while the gate is open, or the leader waits, does
anybody else touch the rings' memory; a leader that was revoked while it waited leaves helpers behind with memory that
nobody uses again. `tests/models/split_span.pml` is a model of it.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    call_span,
    compare_exchange,
    fetch_add,
    is_runnable,
    load,
    load_acquire,
    move_bytes,
    nap,
    spin_hint,
    store,
    store_release,
    this_cpu,
    ticks,
)
from ringkernel.codegen.span_body import FAULT_COUNT, FAULT_INFO
from ringkernel.memory.layout import BLOCK, CHUNK_WORDS, MAX_CHUNKS, PARKER, REVOKED, RUN_ENTRY, SPLIT_JOB, TEAM

from .doorbell import unpark
from .stages import chain_of, fault_words, max_threads, span_and_state

PIECE = 1024
"""Messages that the span is called for at a time: a chunk that takes too long ends after one of these."""
MAX_CHUNK = 1 << 16
"""Messages in a chunk, at most."""
PAYS = 4
"""A span is split if it takes one thread this many times as long as a chunk: to wake a helper takes 20 to 50 us."""
CHUNKS_EACH, CHUNKS_AMONG_OTHERS = 128, 4
"""How many chunks a thread may take in one span: if the leader has nothing else to do, and if it has."""
SHARE = 4
"""Smaller chunks, where there are few messages, so that every thread has so many; not below an eighth."""
LOOK_FOR_HELP = 8
"""The leader looks for further helpers after so many chunks of its own, at most: after 1, 2 and 4 first, since the
event loop's thread mostly goes to sleep a moment after it has rung, and there is a core for one more."""
CLOSED = -(1 << 40)
"""Nobody may come in through a gate below 0; what it is above this is how many are inside."""

# a chunk's words, after its fault line
DONE, EMITTED, BUSY = 32, 40, 48


# --- how much, before it begins ---------------------------------------------------------------------------------------


def span_length(block: int, run_entry: int, waiting: int) -> int:
    """How many of the messages that wait a span may have: many, if splitting it pays."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    if waiting <= limit or max_threads(block) <= 1 or pays(run_entry, waiting) == 0:
        return limit
    parker = load(run_entry + RUN_ENTRY.parker_address)
    if load(parker + PARKER.job_address) == 0 or load(parker + PARKER.current_address) != run_entry:
        return limit
    each = CHUNKS_EACH if load(parker + PARKER.n_queued) == 1 else CHUNKS_AMONG_OTHERS
    return full_chunk(run_entry) * min(MAX_CHUNKS, each * n_threads(block, parker))


def unless_split(run_entry: int, count: int) -> int:
    """So many messages, or fewer if there is not even room for as many as are worth being split."""
    limit = load(run_entry + RUN_ENTRY.span_limit)
    return limit if count > limit and pays(run_entry, count) == 0 else count


def pays(run_entry: int, count: int) -> int:
    """1 if so many messages are worth being split."""
    return 1 if count * load(run_entry + RUN_ENTRY.pace) >= 64 * PAYS * load(run_entry + RUN_ENTRY.span_ticks) else 0


def full_chunk(run_entry: int) -> int:
    """As many messages as take as long as a span should: after each chunk the kernel's command is looked at."""
    messages = 64 * load(run_entry + RUN_ENTRY.span_ticks) // max(1, load(run_entry + RUN_ENTRY.pace))
    return max(1, min(messages, MAX_CHUNK))


def n_threads(block: int, parker: int) -> int:
    """How many threads may work on a span, at most."""
    return min(max_threads(block), load(load(parker + PARKER.team_address) + TEAM.n_cores))


# --- the leader -------------------------------------------------------------------------------------------------------


def lead(
    block: int, run_entry: int, source: int, count: int, target: int, message_nbytes: int, slot_nbytes: int
) -> int:
    """Run a span with whoever has nothing to do. How many messages it has emitted; what has become of it is in `done`
    and `busy_ticks` of the run entry, and in the block's fault."""
    parker = load(run_entry + RUN_ENTRY.parker_address)
    job = load(parker + PARKER.job_address)
    if compare_exchange(job + SPLIT_JOB.is_led, 0, 1) != 0:
        return run_some(block, run_entry, source, count, target)
    store(job + SPLIT_JOB.source, source)
    store(job + SPLIT_JOB.count, count)
    store(job + SPLIT_JOB.target, target)
    store(job + SPLIT_JOB.message_nbytes, message_nbytes)
    store(job + SPLIT_JOB.slot_nbytes, slot_nbytes)
    lay_out(job, block, run_entry, parker)
    store_release(job + SPLIT_JOB.gate, 0)  # release: the words above
    work(job, block, parker)
    close_gate(job)
    if wait_for_helpers(job, run_entry) == 0:
        return 0  # revoked: the job stays theirs
    emitted = gather(job, block, run_entry)
    store(block + BLOCK.idle_since, ticks())
    store(job + SPLIT_JOB.is_led, 0)
    if load(run_entry + RUN_ENTRY.done) == 0 and chain_of(block) != 0:
        return run_some(block, run_entry, source, count, target)  # the first message fails: in which stage?
    return emitted


def run_some(block: int, run_entry: int, source: int, count: int, target: int) -> int:
    """Run the span over so many of the messages as one thread takes."""
    count = min(count, load(run_entry + RUN_ENTRY.span_limit))
    store(block + BLOCK.in_flight, count)
    return run_alone(block, run_entry, source, count, target, ticks())


def run_alone(block: int, run_entry: int, source: int, count: int, target: int, start: int) -> int:
    """Run the kernel's span, which begins now, at `start`. How many messages it has emitted."""
    store(run_entry + RUN_ENTRY.done, count)
    chain = chain_of(block)
    span, state = span_and_state(block, run_entry, chain)
    emitted = call_span(span, source, count, target, state, fault_words(block, chain))
    end = ticks()
    store(run_entry + RUN_ENTRY.busy_ticks, end - start)
    store(block + BLOCK.idle_since, end)
    return emitted


def lay_out(job: int, block: int, run_entry: int, parker: int) -> None:
    """Cut the messages of a job into chunks."""
    count, span_ticks, most = (
        load(job + SPLIT_JOB.count),
        load(run_entry + RUN_ENTRY.span_ticks),
        n_threads(block, parker),
    )
    full = full_chunk(run_entry)
    chunk = max(min(full, count // (SHARE * most)), full // 8, count // MAX_CHUNKS + 1)
    n_chunks = (count + chunk - 1) // chunk
    store(job + SPLIT_JOB.chunk, chunk)
    store(job + SPLIT_JOB.n_chunks, n_chunks)
    store(job + SPLIT_JOB.chunk_ticks, span_ticks)
    each = CHUNKS_EACH if load(parker + PARKER.n_queued) == 1 else CHUNKS_AMONG_OTHERS
    store(job + SPLIT_JOB.deadline, ticks() + 2 * each * span_ticks)
    store(job + SPLIT_JOB.room_nbytes, load(job + SPLIT_JOB.slot_nbytes) * load(block + BLOCK.max_outputs))
    span, state = span_and_state(block, run_entry, chain_of(block))
    store(job + SPLIT_JOB.state, state)
    store(job + SPLIT_JOB.span_address, span)
    store(job + SPLIT_JOB.block_address, block)
    store(job + SPLIT_JOB.leader_cpu, this_cpu())
    store(job + SPLIT_JOB.next_chunk, 0)
    store(job + SPLIT_JOB.stop, 0)


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
        if load(parker + PARKER.inbox_address) != 0 or load(parker + PARKER.stop) != 0:
            store(job + SPLIT_JOB.stop, 1)  # somebody else needs this worker


def wait_for_helpers(job: int, run_entry: int) -> int:
    """Wait until nobody is inside. 0 if the kernel was revoked meanwhile."""
    looks = 0
    while load_acquire(job + SPLIT_JOB.gate) != CLOSED:  # acquire: what they have written
        if load(run_entry + RUN_ENTRY.owner) == REVOKED:
            return 0
        looks += 1
        if looks % 1024 == 0:
            nap(0)  # there may be fewer cores than threads just now
        else:
            spin_hint()
    return 1


def gather(job: int, block: int, run_entry: int) -> int:
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
                store(block + BLOCK.fault_index, done)
                store(block + BLOCK.fault_info_address, load(words + FAULT_INFO))
                store(block + BLOCK.fault_count, load(words + FAULT_COUNT))
    store(run_entry + RUN_ENTRY.done, done)
    store(run_entry + RUN_ENTRY.busy_ticks, busy)
    return emitted


# --- everybody inside -------------------------------------------------------------------------------------------------


def take_chunk(job: int) -> int:
    """Take the next chunk, and run the handler over it. 0 if there is none, or none is to be taken."""
    if must_stop(job) == 1:
        return 0
    index = fetch_add(job + SPLIT_JOB.next_chunk, 1)
    if index >= load(job + SPLIT_JOB.n_chunks):
        return 0
    run_chunk(job, index)
    return 1


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
    store(words + DONE, done)
    store(words + EMITTED, emitted)
    store(words + BUSY, ticks() - start)


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


def chunk_words(job: int, index: int) -> int:
    """Where it is written what a chunk has come to."""
    return int(job + SPLIT_JOB.chunks + 8 * CHUNK_WORDS * index)


# --- the gate ---------------------------------------------------------------------------------------------------------


def enter(job: int) -> int:
    """Come in to help. 0 if the gate is closed."""
    gate = load(job + SPLIT_JOB.gate)
    while gate >= 0:
        seen = compare_exchange(job + SPLIT_JOB.gate, gate, gate + 1)  # acquire: the words of the job
        if seen == gate:
            return 1
        gate = seen
    return 0


def leave(job: int) -> None:
    """Go out again, and touch nothing of the job any more."""
    fetch_add(job + SPLIT_JOB.gate, -1)  # release: outputs, and what has come of the chunks


def close_gate(job: int) -> None:
    """Let nobody in any more."""
    gate = load(job + SPLIT_JOB.gate)
    while gate >= 0:
        gate = compare_exchange(job + SPLIT_JOB.gate, gate, gate + CLOSED)


def stop_job(job: int, block: int) -> int:
    """For the supervisor, which has revoked the kernel: have nobody take any more of it. How many messages somebody has
    taken, -1 if the job is none of this kernel."""
    if load(job + SPLIT_JOB.is_led) == 0 or load(job + SPLIT_JOB.block_address) != block:
        return -1
    store_release(job + SPLIT_JOB.stop, 1)
    close_gate(job)
    return min(load_acquire(job + SPLIT_JOB.next_chunk) * load(job + SPLIT_JOB.chunk), load(job + SPLIT_JOB.count))


# --- who helps --------------------------------------------------------------------------------------------------------


def recruit(job: int, parker: int, wanted: int) -> int:
    """Offer a job to workers that have nothing to do, as far as there are cores for them. To how many it was."""
    team = load(parker + PARKER.team_address)
    n_workers = load_acquire(team + TEAM.n_workers)
    cores = load(team + TEAM.n_cores) - busy_workers(team, n_workers)
    loop = load(parker + PARKER.loop_address)
    if cores <= wanted and is_runnable(load(loop + PARKER.stat_fd), load(parker + PARKER.scratch_address)) == 1:
        cores -= 1  # the event loop's thread has one
    most = min(wanted, cores)
    made = 0
    for parked in range(2):  # those who are awake, first
        for i in range(n_workers):
            if made < most:
                made += offer(job, load(team + TEAM.workers + 8 * i), parked)
    if made < most:
        store(team + TEAM.missing, most - made)
    return made


def busy_workers(team: int, n_workers: int) -> int:
    """How many workers are doing something."""
    busy = 0
    for i in range(n_workers):
        worker = load(team + TEAM.workers + 8 * i)
        if load(worker + PARKER.parked) == 0 and load(worker + PARKER.is_at_hand) == 0:
            busy += 1
    return busy


def offer(job: int, worker: int, parked: int) -> int:
    """Offer a job to a worker if it sleeps, or else if it waits for one awake. 1 if that was done."""
    ready = load(worker + PARKER.parked) if parked == 1 else load(worker + PARKER.is_at_hand)
    if ready != 1 or compare_exchange(worker + PARKER.offer_address, 0, job) != 0:
        return 0
    unpark(worker)
    return 1
