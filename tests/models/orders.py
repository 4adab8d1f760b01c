"""Mutations of the real functions: each acquire, release and fence taken away, each read-modify-write torn in two or
without order, and each second look left out. They are found in the sources, so none can be forgotten."""

from __future__ import annotations

import ast
import copy
import functools
from typing import TYPE_CHECKING, NamedTuple

from weak_memory import EXCHANGES, RELAXED

if TYPE_CHECKING:
    from collections.abc import Iterator

WEAKER = {
    "load_acquire": ("load",),
    "store_release": ("store",),
    "fence": ("",),
    "fence_release": ("",),
    **{name: ("torn_" + name, RELAXED + name) for name in EXCHANGES},
}

LOOKS = {
    # the function, what it says, and what it says without the look
    "rest: the last look": ("rest", "can_work(block) == 1 and ", ""),
    "rest: who rang has it": (
        "rest",
        "compare_exchange(run_entry + RUN_ENTRY.state, ARMED, RUNG) == ARMED",
        "compare_exchange(run_entry + RUN_ENTRY.state, ARMED, RUNG) >= ARMED",
    ),
    "park: the last look": ("park", "is_free(parker) == 1 and ", ""),
    "park: it says so": ("park", "store(parker + PARKER.parked, 1)", "pass"),
    "turn: whose it is": ("turn", "seen != FREE", "False"),
    "turn: the command": ("turn", "load_acquire(block + BLOCK.epoch) != load(block + BLOCK.echo)", "False"),
    "turn: revoked meanwhile": ("turn", "result != LEFT and release(run_entry) == 0", "release(run_entry) == 9"),
    "commit: revoked meanwhile": (
        "commit",
        "compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED",
        "exchange(run_entry + RUN_ENTRY.owner, COMMIT) < 0",
    ),
    "recover: what was committed": ("recover", "owner == COMMIT", "False"),
    "recover: it takes the kernel": ("recover", "dismiss(run_entry)", "pass"),
    "ring_doorbell: who rang it": (
        "ring_doorbell",
        "compare_exchange(doorbell + DOORBELL.state, ARMED, RUNG) != ARMED",
        "False",
    ),
    "ring_doorbell: whether it is armed": ("ring_doorbell", "load(doorbell + DOORBELL.state) != ARMED", "False"),
    "copy_ledger: odd": ("copy_ledger", "version & 1", "False"),
    "copy_ledger: the same after it": ("copy_ledger", "load(block + BLOCK.ledger_version) == version", "True"),
    "copy_state: odd": ("copy_state", "version & 1", "False"),
    "copy_state: the same after it": ("copy_state", "load(block + BLOCK.state_version) == version", "True"),
    "keep_ledger: counted before": (
        "keep_ledger",
        "load(block + BLOCK.ledger_version) > version + 1",
        "False",
    ),
    "collect_tags: it sleeps": ("collect_tags", "store_release(parker + PARKER.parked, 1)", "pass"),
    "room_of: who reads most slowly": ("room_of", "free < needed", "False"),
    "a feeder's enter: closed": ("enter", "load_acquire(feeder + FEEDER.state) != OPEN", "False"),
}  # fmt: skip


class Mutation(NamedTuple):
    """A change of one function: of its n-th operation of a name, or a look that is left out."""

    function: str
    what: str
    number: int
    instead: str

    def __str__(self) -> str:
        if self.number < 0:
            return f"without the look, {self.what}"
        change = f"-> {self.instead}" if self.instead else "taken away"
        return f"{self.function}: {self.what} {self.number + 1} {change}"


@functools.lru_cache(maxsize=8)
def functions_of(source: str) -> dict[str, ast.FunctionDef]:
    """The functions of a text. Of two with one name the last counts."""
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def operations(function: ast.FunctionDef) -> Iterator[tuple[str, ast.Call]]:
    """The operations of a function that have an order, as they stand there."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    for call in sorted(calls, key=lambda one: (one.lineno, one.col_offset)):
        assert isinstance(call.func, ast.Name)
        if call.func.id in WEAKER:
            yield call.func.id, call


def mutations(source: str) -> list[Mutation]:
    """All mutations of the functions in a text."""
    found: list[Mutation] = []
    texts = functions_of(source)
    for name, function in texts.items():
        counts = dict.fromkeys(WEAKER, 0)
        for operation, _ in operations(function):
            found += [Mutation(name, operation, counts[operation], instead) for instead in WEAKER[operation]]
            counts[operation] += 1
    for what, (name, before, _) in LOOKS.items():
        if name in texts and before in ast.unparse(texts[name]):
            found.append(Mutation(name, what, -1, ""))
    return found


def mutated(source: str, mutation: Mutation) -> str:
    """The text with this change."""
    texts = dict(functions_of(source))
    function = texts[mutation.function] = copy.deepcopy(texts[mutation.function])
    if mutation.number < 0:
        _, before, after = LOOKS[mutation.what]
        text = ast.unparse(function)
        assert before in text, mutation
        texts[mutation.function] = functions_of(text.replace(before, after))[mutation.function]
    else:
        ordered = [call for operation, call in operations(function) if operation == mutation.what]
        name = ordered[mutation.number].func
        assert isinstance(name, ast.Name)
        name.id = mutation.instead or "nothing"
    return "\n".join(ast.unparse(one) for one in texts.values())
