"""The compiled functions that Python calls: one table, compiled when first needed."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from ringkernel.codegen.entry_points import entries
from ringkernel.codegen.key_table import is_taken, move_records, slot_of, tag_of_words, take_slot, write_tags
from ringkernel.codegen.operations import copy_bytes, fence, load, load_acquire, store, store_release, ticks
from ringkernel.memory.call_layout import CALL, TRAFFIC, TRAFFIC_DTYPE
from ringkernel.memory.layout import BLOCK, BLOCK_DTYPE, EDGE, RING, RUN_ENTRY, RUNG
from ringkernel.words.builtin import Entry, EntryPoint

from .block.token import revoke
from .protocol.array_address import address_reader
from .protocol.cursors import (
    bound_of,
    consume,
    consume_copy,
    publish,
    publish_copy,
    publish_end,
    publish_progress,
    slowest_head,
    wait_bound,
    waiting_of,
)
from .protocol.doorbell import (
    arm_doorbell,
    collect_tags,
    keep_rung,
    push_doorbell,
    quiet_doorbell,
    ring_doorbell,
    ring_doorbell_at,
    unpark,
)
from .protocol.lay_out import enter_edge, lay_out_edge, lay_out_ring, lay_out_span
from .sharing.job import stop_job
from .turns.loop_turns import TOOK, rests, run_kept, runs_here, see_to
from .turns.map_here import map_here

if TYPE_CHECKING:
    from collections.abc import Callable


def read_word(address: int) -> int:
    """A word that somebody else may be writing."""
    return load_acquire(address)


def write_word(address: int, value: int) -> int:
    """A word that somebody else may be reading."""
    store_release(address, value)
    fence()
    return 0


def publish_here(ring: int, tail: int, here: int) -> int:
    """`publish`, and then what is for the thread of the event loop `here`: see `see_to`."""
    woken = publish(ring, tail, here)
    return woken + see_to(here)


def consume_here(edge: int, head: int, here: int) -> int:
    """`consume`, likewise."""
    woken = consume(edge, head, here)
    return woken + see_to(here)


def publish_copy_here(ring: int, tail: int, source: int, count: int, here: int) -> int:
    """`publish_copy`, likewise."""
    woken = publish_copy(ring, tail, source, count, here)
    return woken + see_to(here)


def consume_copy_here(edge: int, head: int, target: int, count: int, here: int) -> int:
    """`consume_copy`, likewise."""
    woken = consume_copy(edge, head, target, count, here)
    return woken + see_to(here)


def publish_progress_here(ring: int, progress: int, here: int) -> int:
    """`publish_progress`, likewise."""
    woken = publish_progress(ring, progress, here)
    return woken + see_to(here)


def publish_end_here(ring: int, here: int) -> int:
    """`publish_end`, likewise."""
    woken = publish_end(ring, here)
    return woken + see_to(here)


def call_here(path: int) -> int:
    """Publish one message, and take one output if it is there once the thread of the event loop has done what is for
    it: in one call, since each from Python takes as long as the work of these. What `publish_here` and `consume_here`
    say; and `TOOK`. The words at `path` are a `CALL`.

    The caller, who alone sends on this path, reads the slot of the output afterwards: nobody writes there before it
    sends more.
    """
    ring, edge, here = load(path + CALL.ring_address), load(path + CALL.edge_address), load(path + CALL.here)
    woken = publish(ring, load(ring + RING.next) + 1, here) + run_kept(here)
    head = load(edge + EDGE.head)
    if bound_of(edge, head) > head:
        woken += consume(edge, head + 1, here) + TOOK
    return woken + see_to(here)


def ring(doorbell: int) -> int:
    """`ring_doorbell`, and nothing is kept for this thread."""
    return ring_doorbell(doorbell, 0)


def ring_at(doorbell_address: int) -> int:
    """`ring_doorbell_at`, likewise."""
    return ring_doorbell_at(doorbell_address, 0)


def give_command(block: int, command: int, epoch: int, doorbell_address: int, here: int) -> int:
    """Write a command, then its epoch, and ring the kernel; then as `publish_here`."""
    store(block + BLOCK.command, command)
    store_release(block + BLOCK.epoch, epoch)  # release: the command belongs to it
    fence()
    woken = ring_doorbell_at(doorbell_address, here)
    return woken + see_to(here)


def hand_over(run_entry: int, doorbell_address: int, here: int) -> int:
    """Give a kernel to the parker of a new run entry: its doorbell address holds the entry, and the inbox gets it, if
    it is not for the event loop's thread. As `publish`."""
    store(run_entry + RUN_ENTRY.state, RUNG)
    store_release(doorbell_address, run_entry)  # release: the fields of the run entry
    if here != 0 and keep_rung(run_entry, here) == 1:
        return see_to(here)
    return push_doorbell(run_entry)


def copy_ledger(block: int, target: int) -> int:
    """Copy a block while its counters are not being changed. 1, or 0 if they were."""
    version = load_acquire(block + BLOCK.ledger_version)
    if version & 1:
        return 0
    copy_bytes(target, block, BLOCK_DTYPE_SIZE)
    fence()
    return 1 if load(block + BLOCK.ledger_version) == version else 0


def copy_state(block: int, target: int) -> int:
    """Copy a kernel's state while no span is running on it. 1, or 0 if one was."""
    version = load_acquire(block + BLOCK.state_version)
    if version & 1:
        return 0
    copy_bytes(target, block + load(block + BLOCK.state), load(block + BLOCK.state_nbytes))
    fence()
    return 1 if load(block + BLOCK.state_version) == version else 0


def read_traffic(blocks: int, count: int, target: int) -> int:
    """Write the traffic of so many blocks, whose addresses are the words at `blocks`, to the records at `target`.
    Return how many of them had turns since those records were written."""
    active = 0
    for i in range(count):
        block = load(blocks + 8 * i)
        record = target + TRAFFIC_NBYTES * i
        waiting = 0
        if block != 0 and load(block + BLOCK.turns) != load(record + TRAFFIC.turns):
            active += 1
            store(record + TRAFFIC.busy_ticks, load(block + BLOCK.busy_ticks) + load(block + BLOCK.other_ticks))
            store(record + TRAFFIC.turns, load(block + BLOCK.turns))
            store(record + TRAFFIC.messages, load(block + BLOCK.processed))
            waiting = waiting_of(block)
        store(record + TRAFFIC.waiting, waiting)
    return active


def read_ticks(_unused: int) -> int:
    """`ticks()`, for Python."""
    return ticks()


BLOCK_DTYPE_SIZE, TRAFFIC_NBYTES = BLOCK_DTYPE.itemsize, TRAFFIC_DTYPE.itemsize


class HostApi(NamedTuple):
    """See the functions of the same names; `address_of` gives the address of an array's data."""

    publish: Entry
    consume: Entry
    publish_copy: Entry
    consume_copy: Entry
    call: Entry
    bound_of: Entry
    wait_bound: Entry
    slowest_head: Entry
    ring_doorbell_at: Entry
    arm_doorbell: Entry
    quiet_doorbell: Entry
    collect_tags: Entry
    unpark: Entry
    revoke: Entry
    stop_job: Entry
    read_word: Entry
    write_word: Entry
    give_command: Entry
    ring_doorbell: Entry
    hand_over: Entry
    lay_out_ring: Entry
    lay_out_edge: Entry
    lay_out_span: Entry
    publish_progress: Entry
    publish_end: Entry
    enter_edge: Entry
    runs_here: Entry
    rests: Entry
    map_here: Entry
    copy_ledger: Entry
    copy_state: Entry
    read_ticks: Entry
    read_traffic: Entry
    slot_of: Entry
    is_taken: Entry
    take_slot: Entry
    tag_of_words: Entry
    move_records: Entry
    write_tags: Entry
    address_of: Callable[[Any], int]


_TABLE: dict[str, EntryPoint] = {
    "publish": EntryPoint(publish_here),
    "consume": EntryPoint(consume_here),
    "publish_copy": EntryPoint(publish_copy_here),
    "consume_copy": EntryPoint(consume_copy_here),
    "call": EntryPoint(call_here),
    "bound_of": EntryPoint(bound_of),
    "wait_bound": EntryPoint(wait_bound),
    "slowest_head": EntryPoint(slowest_head),
    "ring_doorbell_at": EntryPoint(ring_at),
    "arm_doorbell": EntryPoint(arm_doorbell),
    "quiet_doorbell": EntryPoint(quiet_doorbell),
    "collect_tags": EntryPoint(collect_tags),
    "unpark": EntryPoint(unpark),
    "revoke": EntryPoint(revoke),
    "stop_job": EntryPoint(stop_job),
    "read_word": EntryPoint(read_word),
    "write_word": EntryPoint(write_word),
    "give_command": EntryPoint(give_command),
    "ring_doorbell": EntryPoint(ring),
    "hand_over": EntryPoint(hand_over),
    "lay_out_ring": EntryPoint(lay_out_ring),
    "lay_out_edge": EntryPoint(lay_out_edge),
    "lay_out_span": EntryPoint(lay_out_span),
    "publish_progress": EntryPoint(publish_progress_here),
    "publish_end": EntryPoint(publish_end_here),
    "enter_edge": EntryPoint(enter_edge),
    "runs_here": EntryPoint(runs_here),
    "rests": EntryPoint(rests),
    "map_here": EntryPoint(map_here),
    "copy_ledger": EntryPoint(copy_ledger),
    "copy_state": EntryPoint(copy_state),
    "read_ticks": EntryPoint(read_ticks),
    "read_traffic": EntryPoint(read_traffic),
    "slot_of": EntryPoint(slot_of),
    "is_taken": EntryPoint(is_taken),
    "take_slot": EntryPoint(take_slot),
    "tag_of_words": EntryPoint(tag_of_words),
    "move_records": EntryPoint(move_records, nogil=True),
    "write_tags": EntryPoint(write_tags),
}


@functools.cache
def host_api() -> HostApi:
    """The table, from the compile cache or compiled: that takes a fraction of a second."""
    table = entries(_TABLE)
    return HostApi(**table, address_of=address_reader(table["read_word"]))
