"""The compiled functions that Python calls: one table, compiled when first needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from .bell import arm_bell, collect_tags, push_bell, quiet_bell, ring_bell, ring_door, wake_party
from .cpu import compile_entry
from .layout import BLOCK, BLOCK_DTYPE, RUNG, SEAT
from .ops import copy_bytes, fence, load, load_acquire, store, store_release
from .transfer import bound_of, consume, publish, slowest_head, wait_bound
from .turn import revoke

Entry = Callable[..., int]


def read_word(address: int) -> int:
    """A word that somebody else may be writing."""
    return load_acquire(address)


def write_word(address: int, value: int) -> int:
    """A word that somebody else may be reading."""
    store_release(address, value)
    fence()
    return 0


def give_command(block: int, command: int, epoch: int, door: int) -> int:
    """Write a command, then its epoch, and ring the kernel. How many sleepers were woken."""
    store(block + BLOCK.command, command)
    store_release(block + BLOCK.epoch, epoch)  # release: the command belongs to it
    fence()
    return ring_door(door)


def hand_over(seat: int, door: int) -> int:
    """Give a kernel to the party of a new seat: behind its door, into the inbox."""
    store(seat + SEAT.state, RUNG)
    store_release(door, seat)  # release: the seat's fields
    return push_bell(seat)


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


BLOCK_DTYPE_SIZE = BLOCK_DTYPE.itemsize


class HostApi(NamedTuple):
    """See the functions of the same names."""

    publish: Entry
    consume: Entry
    bound_of: Entry
    wait_bound: Entry
    slowest_head: Entry
    ring_door: Entry
    arm_bell: Entry
    quiet_bell: Entry
    collect_tags: Entry
    wake_party: Entry
    revoke: Entry
    read_word: Entry
    write_word: Entry
    give_command: Entry
    ring_bell: Entry
    hand_over: Entry
    copy_ledger: Entry
    copy_state: Entry


@functools.cache
def host_api() -> HostApi:
    """Compile the table. Takes about a second the first time in a process."""
    return HostApi(
        publish=compile_entry(publish, 2),
        consume=compile_entry(consume, 2),
        bound_of=compile_entry(bound_of, 2),
        wait_bound=compile_entry(wait_bound, 3),
        slowest_head=compile_entry(slowest_head, 1),
        ring_door=compile_entry(ring_door, 1),
        arm_bell=compile_entry(arm_bell, 1),
        quiet_bell=compile_entry(quiet_bell, 1),
        collect_tags=compile_entry(collect_tags, 3),
        wake_party=compile_entry(wake_party, 1),
        revoke=compile_entry(revoke, 2),
        read_word=compile_entry(read_word, 1),
        write_word=compile_entry(write_word, 2),
        give_command=compile_entry(give_command, 4),
        ring_bell=compile_entry(ring_bell, 1),
        hand_over=compile_entry(hand_over, 2),
        copy_ledger=compile_entry(copy_ledger, 2),
        copy_state=compile_entry(copy_state, 2),
    )
