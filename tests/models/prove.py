"""Search the systems, then every mutation of what they run, then the models in Promela and the played orders.

Ends with one line: `proof: S states, P properties, M of N mutations caught`, and with an error if something that must
hold does not, or a mutation is not caught that is not listed in `uncaught.py`; or is, and is listed.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ring")]

import commit_systems  # noqa: E402 (found by then)
import feed_systems  # noqa: E402
import kernel_systems  # noqa: E402
import played  # noqa: E402
import promela  # noqa: E402
import ring_systems  # noqa: E402
from orders import LOOKS, mutated, mutations  # noqa: E402
from search import Search, TooMany, Violation  # noqa: E402
from uncaught import is_exact, reason_of  # noqa: E402

SYSTEMS: dict[str, Any] = {
    **ring_systems.SYSTEMS, **kernel_systems.SYSTEMS, **feed_systems.SYSTEMS, **commit_systems.SYSTEMS
}  # fmt: skip
LARGE = {"sleep: a worker, two messages", "kernel: a new input", "ring: two readers", "commit: two by time, dies"}
"""These are not searched by the bounded proof. Together they take minutes."""
SMALL = 15_000
"""Mutations are tried on systems with no more states than this, or on one that nothing else calls the function of."""
TRIED = {
    "one input, readers", "one input, revoked", "one input, counted", "one input, dies", "one input, a fault, counted",
    "one input, a fault, dies counting", "two by time, revoked", "two by time, counted", "a chain, revoked",
    "a chain, counted", "a chain, a fault, dies",
}  # fmt: skip
CORE = (
    "cursors: bound_of", "cursors: set_tail", "cursors: publish:", "cursors: consume:", "doorbell: unpark: fence",
    "doorbell: arm_doorbell: fence", "commit: ", "ledger: ", "host_api: copy_", "token: give_back", "token: revoke",
    "turn: rest", "turn: obey",
)  # fmt: skip
"""The bounded proof tries the mutations of these only."""
PLAYED_ORDERS = ("test_commit_orders", "test_split_orders", "test_shard_orders", "test_turn_orders")
PROPERTIES = (
    "no message is lost, torn, read twice or out of order", "a slot is not written to while a reader may read it",
    "an output is there before its cursor says so", "an input's cursor implies what came of it",
    "a time is told after the outputs before it", "a ledger is from before a span or after it",
    "a state is read between two spans", "a commit happens once, in whole or not at all",
    "after a death a span has happened or not", "what has died is taken", "nothing is published after a revocation",
    "who takes a kernel sees all that was done", "no handler runs once a pause was seen, and one between two looks",
    "after an answer nothing more comes, and nothing is missing", "nobody sleeps while a message or room waits",
    "a doorbell is heard once, after what it was rung for", "an input that is appended is found whole",

    "a closed feeder lets nothing through", "nobody waits for ever",
)  # fmt: skip
"""What the systems' checks and agents assert."""
ROUNDS = 2
"""A search of a mutation is given up after so many times as many states as without it."""


class Found(NamedTuple):
    """What a search of a system has come to."""

    name: str
    n_states: int
    n_ends: int
    seconds: float
    called: frozenset[str]
    like: Any
    violation: str | None


def search(name: str) -> Found:
    """All executions of a system."""
    kind, make = SYSTEMS[name]
    played.CALLED.clear()
    begin, what = time.monotonic(), None
    it = Search(make(played.TEXTS[kind]))
    try:
        it.run()
    except Violation as violation:
        what = "\n".join([str(violation), *violation.path])
    like = Like(it.shared, it.writers, it.users)
    return Found(name, it.n_states, it.n_ends, time.monotonic() - begin, frozenset(played.CALLED), like, what)


class Like(NamedTuple):
    """Which words of a system are shared, from a search of it."""

    shared: dict[int, int]
    writers: dict[int, set[int]]
    users: dict[int, set[int]]


class Tried(NamedTuple):
    """What has come of a mutation: which system has caught it, and how; None if none has."""

    key: str
    by: str | None
    how: str
    tried: int
    seconds: float


class Task(NamedTuple):
    """A mutation, in each of the texts that have it; and the systems to be searched with it, the smallest first."""

    key: str
    sources: dict[str, str]
    on: list[Found]


def attempt(task: Task) -> Tried:
    """Search systems until one does not hold any more."""
    begin, unknown = time.monotonic(), []
    for found in task.on:
        kind, make = SYSTEMS[found.name]
        it = Search(make(task.sources[kind]), found.like)
        it.most = ROUNDS * found.n_states + 2_000
        try:
            it.run()
        except Violation as violation:
            return Tried(task.key, found.name, str(violation), 0, time.monotonic() - begin)
        except TooMany:
            unknown.append(found.name)
    return Tried(task.key, None, f"not decided: {unknown}" if unknown else "", len(task.on), time.monotonic() - begin)


def tasks_of(found: list[Found]) -> list[Task]:
    """Every mutation, and the systems that call the function."""
    tasks: dict[str, Task] = {}
    small = sorted(
        (one for one in found if one.n_states <= SMALL and tries_mutations(one.name)), key=lambda one: one.n_states
    )
    for kind, text in played.TEXTS.items():
        on = [one for one in small if SYSTEMS[one.name][0] == kind]
        for mutation in mutations(text):
            home = played.HOME[kind].get(mutation.function, "ring.host_api")
            task = tasks.setdefault(f"{home}: {mutation}", Task(f"{home}: {mutation}", {}, []))
            if kind == "commit" and home == "ring.protocol.doorbell":
                continue  # nobody sleeps there
            task.sources[kind] = mutated(text, mutation)
            task.on.extend(one for one in on if mutation.function in one.called)
    return [task._replace(on=sorted(task.on, key=lambda one: one.n_states)) for task in tasks.values()]


def is_core(key: str) -> bool:
    """Whether the bounded proof tries this mutation."""
    return any(one in key for one in CORE) and reason_of(key) is None


def tries_mutations(name: str) -> bool:
    """Of the shapes of commits some are enough."""
    return not name.startswith("commit") or name.removeprefix("commit: ") in TRIED


def say(text: str, file: Any = None) -> None:
    """Say how far it has come."""
    print(text, file=file, flush=True)


def searched_by_spin(task: tuple[str, int]) -> tuple[str, promela.Searched]:
    """A model in Promela, in one of its sizes."""
    name, number = task
    model = promela.MODELS[name]
    defines = model.sizes[number].defines
    sizes = ", ".join(f"{word.lower()} {value}" for word, value in defines.items())
    return f"{model.file}: {sizes}", promela.search(model.text, defines)


def attempted_by_spin(task: tuple[str, str]) -> Tried:
    """A mutation of such a model."""
    name, what = task
    begin, model = time.monotonic(), promela.MODELS[name]
    before, after, defines = model.mutations[what]
    assert before in model.text, what
    errors = promela.search(model.text.replace(before, after), defines).errors
    return Tried(f"{model.file}: {what}", model.file if errors else None, "", 1, time.monotonic() - begin)


def attempted_by_playing(task: tuple[str, str]) -> Tried:
    """A mutation of the functions that are played in many orders, without reordering."""
    name, what = task
    begin, module = time.monotonic(), importlib.import_module(name)
    before, after = module.MUTATIONS[what]
    assert before in module.SOURCES, what
    seeds = getattr(module, "SEEDS", range(2000))
    try:
        module.play(module.SOURCES.replace(before, after), seeds)
    except AssertionError as fault:
        return Tried(f"{name}: {what}", name, str(fault), 1, time.monotonic() - begin)
    return Tried(f"{name}: {what}", None, "", 1, time.monotonic() - begin)


def main() -> int:
    """Prove, print what was found, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--bounded", action="store_true", help="a minute: no SPIN, no large systems, some mutations")
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes (default: one a core)")
    options = parser.parse_args()
    if not options.bounded and not promela.is_there():
        say(f"make proof {promela.NEEDS}; `make proof ARGS=--bounded` does without", file=sys.stderr)
        return 2
    with multiprocessing.Pool(options.jobs) as pool:
        return prove(pool, is_bounded=options.bounded)


def prove(pool: Any, *, is_bounded: bool) -> int:
    """Search, mutate, and say what came of it. 0 if all is as it should be."""
    looks = {one.what for text in played.TEXTS.values() for one in mutations(text)}
    wrong = [f"orders.py has a look that no function has: {what}" for what in LOOKS if what not in looks]
    found: list[Found] = []
    n_states = 0
    for one in pool.imap_unordered(search, [name for name in SYSTEMS if not (is_bounded and name in LARGE)]):
        found.append(one)
        n_states += one.n_states
        say(f"{one.name:46} {one.n_states:>9,} states {one.n_ends:>6,} ends {one.seconds:6.1f} s")
        if one.violation is not None:
            wrong.append(f"{one.name}: {one.violation}")
    tries: list[Any] = [
        pool.imap_unordered(attempt, [one for one in tasks_of(found) if not is_bounded or is_core(one.key)])
    ]
    if not is_bounded:
        sizes = [(name, i) for name, model in promela.MODELS.items() for i in range(len(model.sizes))]
        for what, it in pool.imap_unordered(searched_by_spin, sizes):
            say(f"{what:46} {it.n_states:>9,} states")
            n_states += it.n_states
            wrong += [f"{what}: SPIN finds an error"] if it.errors else []
        tries.append(
            pool.imap_unordered(attempted_by_spin, [(n, it) for n, m in promela.MODELS.items() for it in m.mutations])
        )
        played_ones = [(n, it) for n in PLAYED_ORDERS for it in importlib.import_module(n).MUTATIONS]
        tries.append(pool.imap_unordered(attempted_by_playing, played_ones))
    n_caught = n_tried = 0
    for tried in itertools.chain.from_iterable(tries):
        reason = reason_of(tried.key) or promela.reason_of(tried.key)
        n_tried += 1
        n_caught += tried.by is not None
        how = f"caught by {tried.by}: {tried.how}" if tried.by else f"NOT CAUGHT, {tried.how} {reason or 'not listed'}"
        say(f"  {tried.key}: {how.splitlines()[0]}  ({tried.seconds:.1f} s)")
        if tried.by is None and reason is None:
            wrong.append(f"{tried.key} is not caught, and not listed in uncaught.py")
        if tried.by is not None and reason is not None and is_exact(tried.key):
            wrong.append(f"{tried.key} is caught, and listed in uncaught.py all the same")
    for what in wrong:
        say(f"WRONG: {what}", file=sys.stderr)
    properties = (
        set(PROPERTIES) if is_bounded else {*PROPERTIES, *(p for m in promela.MODELS.values() for p in m.properties)}
    )
    say(f"proof: {n_states:,} states, {len(properties)} properties, {n_caught} of {n_tried} mutations caught")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
