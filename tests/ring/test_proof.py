"""The real functions, in every order and with every stale load that the memory model of the language allows.

How, see `tests/models/search.py`; `make proof` does the same for larger systems, and for all mutations.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import played
from orders import Mutation, mutated
from prove import LARGE, SYSTEMS
from search import Search, System, Violation, step

if TYPE_CHECKING:
    from collections.abc import Callable

ONE, OTHER = 8, 16
QUICK = [name for name in SYSTEMS if name not in LARGE and not name.startswith(("split", "commit"))]
COMMITS = [name for name in SYSTEMS if name.endswith(("readers", "revoked", "counted", "an end, dies"))]


# --- the memory itself: litmus tests, with all outcomes that are allowed ----------------------------------------------


def outcomes(*programs: Callable[[], Any]) -> set[tuple[Any, ...]]:
    found: set[tuple[Any, ...]] = set()
    agents = {str(i): program for i, program in enumerate(programs)}
    Search(System("litmus", {}, agents, lambda end: found.add(tuple(end.results.values())))).run()
    return found


@pytest.mark.parametrize("fenced", [False, True])
def test_a_store_passes_a_later_load_but_for_a_fence(fenced: bool) -> None:
    def agent(mine: int, others: int) -> Any:
        yield from step("store", mine, 1)
        if fenced:
            yield from step("fence")
        return (yield from step("load", others))

    seen = outcomes(lambda: agent(ONE, OTHER), lambda: agent(OTHER, ONE))
    assert seen == {(0, 1), (1, 0), (1, 1)} | (set() if fenced else {(0, 0)})


@pytest.mark.parametrize("store", ["store", "store_release"])
@pytest.mark.parametrize("load", ["load", "load_acquire"])
def test_a_message_is_stale_but_for_release_and_acquire(store: str, load: str) -> None:
    def writer() -> Any:
        yield from step("store", ONE, 1)
        yield from step(store, OTHER, 1)

    def reader() -> Any:
        flag = yield from step(load, OTHER)
        return flag, (yield from step("load", ONE))

    is_ordered = (store, load) == ("store_release", "load_acquire")
    assert ((None, (1, 0)) in outcomes(writer, reader)) != is_ordered


@pytest.mark.parametrize("fenced", [False, True])
def test_readers_disagree_on_the_order_of_two_writers_but_for_a_fence(fenced: bool) -> None:
    def writer(word: int) -> Any:
        yield from step("store_release", word, 1)

    def reader(first: int, second: int) -> Any:
        one = yield from step("load_acquire", first)
        if fenced:
            yield from step("fence")
        return one, (yield from step("load_acquire", second))

    seen = outcomes(lambda: writer(ONE), lambda: writer(OTHER), lambda: reader(ONE, OTHER), lambda: reader(OTHER, ONE))
    assert ((None, None, (1, 0), (1, 0)) in seen) != fenced


def test_an_exchange_is_seen_by_one() -> None:
    def agent() -> Any:
        return (yield from step("exchange", ONE, 1))

    assert outcomes(agent, agent) == {(0, 1), (1, 0)}


def test_who_dies_has_done_a_prefix() -> None:
    def writer() -> Any:
        yield from step("store", ONE, 1)
        yield from step("store", OTHER, 1)
        return "lives"

    def recover() -> Any:
        return (yield from step("load", ONE)), (yield from step("load", OTHER))

    def reader() -> Any:
        return (yield from step("load", ONE)), (yield from step("load", OTHER))

    found: set[Any] = set()
    check = lambda end: found.add(end.results["writer"])  # noqa: E731
    Search(System("dies", {}, {"writer": writer, "reader": reader}, check, {"writer": recover})).run()
    assert found == {"lives", (0, 0), (1, 0), (1, 1)}


# --- the functions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_no_message_is_lost_and_nobody_sleeps_for_ever(name: str) -> None:
    kind, make = SYSTEMS[name]
    assert Search(make(played.TEXTS[kind])).run() > 10


@pytest.mark.parametrize("name", COMMITS)
def test_a_commit_is_seen_in_its_order_and_happens_or_not(name: str) -> None:
    kind, make = SYSTEMS[name]
    assert Search(make(played.TEXTS[kind])).run() > 10


MUTATIONS = [
    ("ring: a reader", Mutation("set_tail", "store_release", 0, "store")),
    ("ring: a reader", Mutation("bound_of", "load_acquire", 0, "load")),
    ("ring: a reader", Mutation("consume", "store_release", 0, "store")),
    ("sleep: the event loop, a message", Mutation("publish", "fence", 0, "")),
    ("sleep: the event loop, a message", Mutation("arm_doorbell", "fence", 0, "")),
    ("sleep: a worker, a message", Mutation("rest", "fence", 0, "")),
    ("sleep: a worker, a message", Mutation("park", "fence", 0, "")),
    ("sleep: a worker, a message", Mutation("unpark", "fence", 0, "")),
    ("kernel: given up", Mutation("commit", "commit: revoked meanwhile", -1, "")),
    ("commit: one input, counted", Mutation("keep_ledger", "fence_release", 0, "")),
    ("commit: one input, revoked", Mutation("move_heads", "store_release", 0, "store")),
]


@pytest.mark.parametrize(("name", "mutation"), MUTATIONS, ids=[str(mutation) for _, mutation in MUTATIONS])
def test_without_an_order_something_does_not_hold(name: str, mutation: Mutation) -> None:
    kind, make = SYSTEMS[name]
    with pytest.raises(Violation):
        Search(make(mutated(played.TEXTS[kind], mutation))).run()
