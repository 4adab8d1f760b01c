"""A doorbell is collected once however often it is rung, and no ring is lost, whoever rings when."""

from __future__ import annotations

import functools
import operator
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ringkernel.codegen.operations import fence, load, load_acquire, store_release
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.memory.layout import (
    ARMED,
    LINE,
    PARKER,
    RUNG,
)
from ringkernel.ring.protocol.doorbell import ring_doorbell

if TYPE_CHECKING:
    from collections.abc import Callable
from parking import DEADLINE_S, DOORBELL_SIZE, Parker, Threads, give_way


def test_a_doorbell_is_collected_once_however_often_it_is_rung(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(3)
    for _ in range(5):
        parker.api.ring_doorbell(parker.doorbell(1))
    assert parker.collect() == [1]
    assert parker.collect() == []


def test_doorbells_are_collected_in_the_order_of_ringing(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(5)
    for i in (3, 0, 4, 1):
        parker.api.ring_doorbell(parker.doorbell(i))
    assert parker.collect() == [3, 0, 4, 1]


def test_a_standing_doorbell_rings_again_and_another_only_when_armed(new_parker: Callable[..., Parker]) -> None:
    standing, single = new_parker(1), new_parker(1, standing=False)
    for parker in (standing, single):
        parker.api.ring_doorbell(parker.doorbell(0))
        assert parker.collect() == [0]
        parker.api.ring_doorbell(parker.doorbell(0))
    assert standing.collect() == [0]
    assert single.collect() == []
    single.api.arm_doorbell(single.doorbell(0))
    assert single.collect() == []  # to arm is not to ring
    single.api.ring_doorbell(single.doorbell(0))
    assert single.collect() == [0]


def test_a_quiet_doorbell_does_not_ring(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(1)
    assert parker.api.quiet_doorbell(parker.doorbell(0)) == ARMED
    parker.api.ring_doorbell(parker.doorbell(0))
    assert parker.collect() == []
    parker.api.arm_doorbell(parker.doorbell(0))
    parker.api.ring_doorbell(parker.doorbell(0))
    assert parker.api.quiet_doorbell(parker.doorbell(0)) == RUNG  # too late: it is in the inbox
    assert parker.collect() == [0]


def test_arming_a_doorbell_that_waits_in_the_inbox_does_not_link_it_twice(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(2, standing=False)
    for i in (0, 1):
        parker.api.ring_doorbell(parker.doorbell(i))
    for i in (0, 1):
        parker.api.arm_doorbell(parker.doorbell(i))
        parker.api.ring_doorbell(parker.doorbell(i))
    assert parker.collect() == [0, 1]


def test_what_does_not_fit_is_collected_later(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(10)
    for i in range(10):
        parker.api.ring_doorbell(parker.doorbell(i))
    seen = [parker.collect(4) for _ in range(3)]
    assert [len(tags) for tags in seen] == [4, 4, 2]
    assert sorted(functools.reduce(operator.iadd, seen, [])) == list(range(10))


def test_a_doorbell_address_leads_to_the_doorbell_that_it_holds_now(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(2)
    doorbell_address = parker.arena.allocate(LINE)
    ring_doorbell_at, write = parker.api.ring_doorbell_at, parker.api.write_word
    assert ring_doorbell_at(0) == 0
    assert ring_doorbell_at(doorbell_address.address) == 0
    write(doorbell_address.address, parker.doorbell(0))
    ring_doorbell_at(doorbell_address.address)
    write(doorbell_address.address, parker.doorbell(1))
    ring_doorbell_at(doorbell_address.address)
    assert parker.collect() == [0, 1]


def test_only_a_sleeper_is_written_to(new_parker: Callable[..., Parker]) -> None:
    parker = new_parker(2)
    parker.api.write_word(parker.address + PARKER.parked, 0)
    assert parker.api.ring_doorbell(parker.doorbell(0)) == 0
    with pytest.raises(BlockingIOError):
        parker.waker.clear()
    parker.collect()  # which says that it sleeps from now on
    assert parker.api.ring_doorbell(parker.doorbell(0)) == 1
    assert parker.api.ring_doorbell(parker.doorbell(1)) == 0  # it is awake already
    parker.waker.clear()


# --- many threads ring -------------------------------------------------------------------------------------------


def ring_round(cells: int, doorbells: int, n_doorbells: int, rounds: int, abort: int) -> int:
    """Count up one cell per round, and ring the doorbell that belongs to it. The cells have this one writer."""
    for i in range(rounds):
        if load_acquire(abort) != 0:
            return i
        index = i % n_doorbells
        store_release(cells + 8 * index, load(cells + 8 * index) + 1)
        fence()
        ring_doorbell(doorbells + DOORBELL_SIZE * index, 0)
        if i & 63 == 0:
            give_way()
    return rounds


@pytest.fixture(scope="module")
def ring_loop() -> Any:
    return compile_entry(ring_round, nogil=True)


@pytest.mark.parametrize(("n_doorbells", "room"), [(1, 1), (3, 3), (8, 3), (64, 64)])
def test_no_ring_of_many_threads_is_lost_or_linked_twice(
    new_parker: Callable[..., Parker], ring_loop: Any, n_doorbells: int, room: int
) -> None:
    """Allowed: a doorbell is reported at most once per collection, and what it stands for is complete at the last
    report.

    Not allowed: a cell that counted up after the last report of its doorbell; a list that does not end.
    """
    n_threads = 3
    parker = new_parker(n_doorbells)
    cells = np.zeros((n_threads, max(16, n_doorbells)), np.int64)
    seen = np.zeros_like(cells)
    threads = Threads(
        *(
            lambda abort, row=row: ring_loop(int(row.ctypes.data), parker.doorbell(0), n_doorbells, 1 << 62, abort)
            for row in cells
        )
    )
    deadline = time.monotonic() + DEADLINE_S
    reports = 0
    try:
        finished = False
        while True:
            tags = parker.collect(room)
            assert len(set(tags)) == len(tags)
            reports += len(tags)
            for tag in tags:
                seen[:, tag] = cells[:, tag]
            if finished and not tags:
                break
            if reports > 1000 * n_doorbells and not finished:
                threads.stop()
                finished = True
            assert time.monotonic() < deadline
    finally:
        threads.stop()
    rounds = [result for result in threads.results if result is not None]
    assert len(rounds) == n_threads
    assert cells.sum() == sum(rounds)
    assert (seen == cells).all()
