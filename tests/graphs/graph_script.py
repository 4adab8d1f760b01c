"""A graph of kernels and what is done to it: the scripts that Hypothesis draws and shrinks."""

from __future__ import annotations

from dataclasses import dataclass

from graph_kernels import KINDS
from hypothesis import strategies as st


@dataclass(frozen=True)
class Node:
    kind: str = "counter"
    queue: int = 4


@dataclass(frozen=True)
class Op:
    """One operation, in a task of its own. `after` and `cancel` are when it starts, and after that is cancelled:
    microseconds, or, below zero, turns of the event loop."""

    name: str
    at: int = 0
    to: int = 0
    count: int = 1
    poison: int | None = None
    """Which message of the batch is poison, for kernel `to`."""
    spin_us: int = 0
    slow: int = 0
    """Which message of the batch takes `spin_us`."""
    after: int = 0
    cancel: int | None = None
    by_signal: bool = False
    """Cancelled by Ctrl-C, wherever the event loop's thread is then."""


@dataclass(frozen=True)
class Script:
    """Operations of one round are concurrent; after a round comes the next, without a rest."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    rounds: tuple[tuple[Op, ...], ...]


SENDING = ("send", "send_nowait", "send_batch")
RECEIVING = ("receive", "receive_nowait", "receive_batch")
COMMANDS = ("activate", "deactivate", "reactivate", "bounce", "bounce", "terminate", "remove", "relaunch", "connect")
MAPPING = ("map", "map", "map_at_rest", "replay")
DISTURBANCES = ("signals", "signals", "signals", "fork")
NAMES = st.one_of(*map(st.sampled_from, (SENDING, SENDING, RECEIVING, COMMANDS, MAPPING, MAPPING)))
HEAVY_US = 500_000
"""Longer than a kernel that is asked to pause is waited for, as the machine sets that."""

moments = st.one_of(st.integers(-12, 0), st.integers(0, 12_000))


def ways(size: int, edges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Which kernel reaches which where the host receives, by the edges; a lone one itself."""
    reached = {(i, i) for i in range(size)}
    for source, target in sorted(edges, reverse=True):
        reached |= {(source, end) for start, end in reached if start == target}
    sources = {source for source, _ in edges}
    return sorted((start, end) for start, end in reached if end not in sources)


@st.composite
def operations(draw: st.DrawFn, size: int, edges: list[tuple[int, int]], *, heavy: bool) -> Op:
    name = draw(NAMES) if draw(st.integers(0, 24)) else draw(st.sampled_from(DISTURBANCES))
    good = draw(st.integers(0, 7)) > 0
    start, end = draw(st.sampled_from(ways(size, edges)))
    at = draw(st.integers(0, size - 1))
    to = draw(st.integers(0, size - 1))
    if good and name in MAPPING:
        at, to = start, end
    elif good and name in RECEIVING:
        at = end
    after, cancel = draw(moments), draw(st.none() | moments)
    by_signal = cancel is not None and cancel > 0 and draw(st.integers(0, 3)) == 3
    if name not in (*SENDING, *MAPPING):
        return Op(name, at, to, draw(st.integers(1, 40)), after=after, cancel=cancel, by_signal=by_signal)
    most = {"map": 300, "map_at_rest": 300, "replay": 300, "send_batch": 40}.get(name, 1)
    count = draw(st.integers(1, most))
    poison = draw(st.integers(0, count - 1)) if draw(st.integers(0, 9)) == 9 else None
    spin_us = draw(st.sampled_from([0, 0, 20, 200, 2_000] + [HEAVY_US] * heavy))
    slow = draw(st.integers(0, count - 1)) if spin_us else 0
    return Op(name, at, to, count, poison, spin_us, slow, after, cancel, by_signal)


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    queues = st.sampled_from([1, 2, 4, 8, 16, 64])
    nodes = draw(st.lists(st.builds(Node, st.sampled_from(sorted(KINDS)), queues), min_size=1, max_size=5))
    edges: list[tuple[int, int]] = []
    for i in range(1, len(nodes)):
        sources = draw(st.one_of(st.just([i - 1]), st.lists(st.integers(0, i - 1), max_size=2, unique=True)))
        edges.extend((source, i) for source in sorted(sources))
    heavy = draw(st.integers(0, 9)) == 9
    ops = operations(len(nodes), edges, heavy=heavy)
    rounds = draw(st.lists(st.lists(ops, min_size=1, max_size=6).map(tuple), min_size=1, max_size=5))
    return Script(tuple(nodes), tuple(edges), tuple(rounds))
