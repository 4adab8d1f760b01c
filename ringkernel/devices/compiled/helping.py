"""Helping with the spans of other workers, while this one has nothing of its own to do. Compiled.

A leader offers its job in a word of the worker (`recruit` of `ring/sharing/share.py`), and wakes it if it sleeps.
Between two spans of one leader there are microseconds, so a worker that has helped waits awake for a moment; but not
where the event loop's thread waits for its core, as it does when the last span of a map has woken it.
"""

from __future__ import annotations

from ringkernel.codegen.operations import (
    exchange,
    leave_cpu,
    load,
    load_acquire,
    spin_hint,
    store,
    store_release,
    this_cpu,
    ticks,
    waits_for_cpu,
)
from ringkernel.memory.layout import PARKER
from ringkernel.memory.share_layout import SHARED
from ringkernel.ring.sharing.job import enter, leave
from ringkernel.ring.sharing.share import take_part

LINGER = 12
"""How long, in minimal patiences: about 100 us."""


def help_others(parker: int, masks: int, text: int) -> int:
    """Help with jobs as long as some are offered. Return 0 if none was. `masks`, `text`: see `leave_cpu`,
    `waits_for_cpu`."""
    job = take_offer(parker)
    if job == 0:
        return 0
    while job != 0:
        help_with(job, parker, masks)
        linger(parker, text)
        job = take_offer(parker)
    return 1


def take_offer(parker: int) -> int:
    """Take the job out that this worker is offered, and return it; 0 if there is none."""
    if load(parker + PARKER.offer_address) == 0:
        return 0
    return exchange(parker + PARKER.offer_address, 0)


def help_with(job: int, parker: int, masks: int) -> None:
    """Take parts of a job as long as there are some, and nobody rings for this worker."""
    here = this_cpu()
    if here >= 0 and here == load(job + SHARED.leader_cpu):
        leave_cpu(here, masks)  # where one of the two could only wait for the other
    store_release(parker + PARKER.helping_address, job)
    store_release(parker + PARKER.current_address, job)
    if enter(job) == 1:
        while is_free(parker) == 1 and take_part(job) == 1:
            store_release(parker + PARKER.turns, load(parker + PARKER.turns) + 1)
        leave(job)
    store_release(parker + PARKER.current_address, 0)
    store_release(parker + PARKER.helping_address, 0)


def is_free(parker: int) -> int:
    """Return 1 unless this worker was rung for, or is to stop."""
    return 1 if load(parker + PARKER.inbox_address) == 0 and load_acquire(parker + PARKER.stop) == 0 else 0


def linger(parker: int, text: int) -> None:
    """Wait awake for the next job, unless the event loop waits for this core."""
    store_release(parker + PARKER.is_at_hand, 1)
    shortest = load(parker + PARKER.min_patience)
    start = looked_at = now = ticks()
    while now - start < LINGER * shortest and load(parker + PARKER.offer_address) == 0 and is_free(parker) == 1:
        spin_hint()
        now = ticks()
        if now - looked_at >= shortest:
            looked_at = now
            if waits_for_cpu(load(load(parker + PARKER.loop_address) + PARKER.stat_fd), this_cpu(), text) == 1:
                break
    store(parker + PARKER.is_at_hand, 0)
