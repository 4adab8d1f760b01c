"""The job that the threads of a split span share: its gate, and who is asked to help. Compiled.

While the gate is open, helpers may come in, and only while it is, or the leader waits for them, does anybody but the
leader touch the rings' memory. A leader that was revoked while it waited leaves helpers behind with memory that nobody
uses again. `tests/models/split_span.pml` is a model of it.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    compare_exchange,
    fetch_add,
    is_runnable,
    load,
    load_acquire,
    nap,
    spin_hint,
    store,
    store_release,
    ticks,
)
from ringkernel.codegen.span_body import FAULT_COUNT, FAULT_INFO
from ringkernel.memory.layout import BLOCK, PARKER, REVOKED, RUN_ENTRY
from ringkernel.memory.split_layout import CHUNK, CHUNK_DTYPE, SPLIT_JOB, TEAM
from ringkernel.ring.block.stages import max_threads
from ringkernel.ring.protocol.doorbell import unpark

CLOSED = -(1 << 40)
"""Nobody may come in through a gate below 0; what it is above this is how many are inside."""

DONE, EMITTED, BUSY = CHUNK.done, CHUNK.emitted, CHUNK.busy_ticks
CHUNK_NBYTES = CHUNK_DTYPE.itemsize


def n_threads(block: int, parker: int) -> int:
    """How many threads may work on a span, at most."""
    return min(max_threads(block), load(load(parker + PARKER.team_address) + TEAM.n_cores))


def chunk_words(job: int, index: int) -> int:
    """Return where the record of a chunk lies."""
    return int(job + SPLIT_JOB.chunks + CHUNK_NBYTES * index)


def note_chunk(words: int, done: int, emitted: int, start: int) -> None:
    """Write down what has come of a chunk or a shard, which was begun at `start`."""
    store(words + DONE, done)
    store(words + EMITTED, emitted)
    store(words + BUSY, ticks() - start)


def note_fault(block: int, done: int, words: int) -> None:
    """The kernel has failed after so many messages, on what it has failed on in a chunk or a shard."""
    store(block + BLOCK.fault_index, done)
    store(block + BLOCK.fault_info_address, load(words + FAULT_INFO))
    store(block + BLOCK.fault_count, load(words + FAULT_COUNT))


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
