"""What is known of a graph's messages, and the proof that each of them has ended in exactly one place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from graph_kernels import KINDS, STATELESS, Kind

if TYPE_CHECKING:
    from ringkernel import KernelStatistics

Row = tuple[int, int, int, int, int]
Instance = tuple[int, int]
"""A message's number and trail."""


@dataclass
class Sending:
    """Messages that the host gave to a kernel, in order: a prefix of `least` to `most` of them was sent."""

    numbers: range
    least: int
    most: int


@dataclass(eq=False)
class Link:
    """A connection. `lossy`: not everything that the source emitted is meant for the target, or can be seen there."""

    source: Stage
    target: Stage
    lossy: bool = False


@dataclass(eq=False)
class Stage:
    """One launch of a kernel: what went in, what the host has seen come out, and in the end what was left in it."""

    kernel_id: str
    kind_name: str
    tag: int
    kernel: Any
    sendings: list[Sending] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    received: list[Row] = field(default_factory=list)
    mapped: list[Row] = field(default_factory=list)
    """By maps and replays."""
    unprocessed: list[Row] = field(default_factory=list)
    counts: KernelStatistics | None = None
    """Once it has ended."""

    @property
    def kind(self) -> Kind:
        return KINDS[self.kind_name]

    def __str__(self) -> str:
        return f"{self.kernel_id} ({self.kind_name}, tag {self.tag})"


def expected_of(path: list[Stage], numbers: range) -> list[Instance]:
    """What comes out at the end of a path."""
    instances = [(number, 0) for number in numbers]
    for stage in path:
        instances = [(n, out) for n, trail in instances for out in stage.kind.outputs(n, trail, stage.tag)]
    return instances


def instances_of(rows: list[Row]) -> list[Instance]:
    return [(row[0], row[1]) for row in rows]


def check_counts(counts: KernelStatistics, kind: Kind) -> None:
    """Assert that the ledger of an idle kernel balances."""
    handled = counts.processed + counts.failed + counts.in_flight
    assert counts.accepted == handled + counts.unprocessed, counts
    assert counts.emitted == counts.received + counts.output_depth, counts
    if kind.handler is not None and kind.max_outputs == 1:
        assert counts.processed == counts.emitted + counts.dropped, counts
    assert min(handled, counts.unprocessed, counts.output_depth) >= 0, counts


class Audit:
    """Follows every message that was sent through the graph, and crosses off where it was seen."""

    def __init__(self, stages: list[Stage]) -> None:
        self.stages = stages
        self.seen = {stage: Counter(instances_of(stage.received + stage.mapped)) for stage in stages}
        self.left = {stage: Counter(instances_of(stage.unprocessed)) for stage in stages}
        self.budget = {stage: _lost_with(stage) for stage in stages}
        self.doubtful: list[tuple[Stage, int, int, tuple[Stage, ...]]] = []
        """What may have gone on over a link that was not there from the start, or that lost its target. Followed last:
        kernels may mark messages alike, and what came on a sure way must not be crossed off for a doubtful one."""
        self.paid: set[tuple[Stage, int]] = set()
        """Who failed on which message: all its copies are gone then."""
        self.known = {row[0] for stage in stages for row in stage.received + stage.mapped + stage.unprocessed}

    def run(self) -> None:
        for stage in self.stages:
            self._check_order(stage)
            for sending in stage.sendings:
                there = [i for i, number in enumerate(sending.numbers) if number in self.known]
                certain = max(sending.least, there[-1] + 1 if there else 0)
                assert certain <= sending.most, f"{stage}: {sending} was not sent, and yet is there"
                for number in sending.numbers[:certain]:
                    self._follow(stage, number, 0, (stage,), excused=False)
        for target, number, trail, way in self.doubtful:
            self._follow(target, number, trail, way, excused=True)
        for what, places in (("received", self.seen), ("unprocessed", self.left)):
            extra = {str(stage): +counter for stage, counter in places.items() if +counter}
            assert not extra, f"{what} twice, or never sent there: {extra}"

    def _follow(self, stage: Stage, number: int, trail: int, way: tuple[Stage, ...], *, excused: bool) -> None:
        instance = number, trail
        if self.left[stage][instance]:
            self.left[stage][instance] -= 1
            return
        for output in stage.kind.outputs(number, trail, stage.tag):
            if self.seen[stage][number, output]:
                self.seen[stage][number, output] -= 1
            elif not stage.links:
                self._miss(number, output, way, excused=excused)
            else:
                for link in stage.links:
                    further = link.target, number, output, (*way, link.target)
                    if link.lossy and not excused:
                        self.doubtful.append(further)
                    else:
                        self._follow(*further, excused=excused)

    def _miss(self, number: int, trail: int, way: tuple[Stage, ...], *, excused: bool) -> None:
        if excused:
            return
        for stage in way:
            if (stage, number) in self.paid:
                return
        for stage in way:
            if self.budget[stage]:
                self.budget[stage] -= 1
                self.paid.add((stage, number))
                return
        names = " -> ".join(map(str, way))
        raise AssertionError(f"message {number} (trail {trail:#x}) is lost on the way {names}")

    def _check_order(self, stage: Stage) -> None:
        """Of each sending, what took the same way comes out in the order in which it went in; and in all, in that in
        which the kernel emitted it."""
        if stage.tag != STATELESS:
            assert stage.received == sorted(stage.received, key=lambda row: row[2]), f"{stage}: out of order"
            nths = sorted(row[2] for row in stage.received + stage.mapped)
            assert len(set(nths)) == len(nths), f"{stage}: an output came twice"
            assert stage.counts is not None
            if not stage.links:
                assert nths == list(range(stage.counts.emitted)), f"{stage}: outputs are missing, or foreign: {nths}"
        begins = sorted(sending.numbers.start for one in self.stages for sending in one.sendings)
        latest: dict[tuple[int, int], int] = {}
        for number, trail in instances_of(stage.received):
            origin = begins[int(np.searchsorted(begins, number, "right")) - 1], trail
            assert number >= latest.get(origin, -1), f"{stage}: {number} came after {latest[origin]}"
            latest[origin] = number


def _lost_with(stage: Stage) -> int:
    """How many messages were in the kernel's hands when it ended."""
    assert stage.counts is not None
    return stage.counts.failed + stage.counts.in_flight


def path_between(stages: list[Stage], first: Stage, last: Stage) -> list[Stage] | None:
    """The kernels from first to last, as the runtime finds them."""
    pending = [[first]]
    while pending:
        path = pending.pop()
        if path[-1] is last:
            return path
        targets = [stage for kernel in path[-1].kernel.targets for stage in stages if stage.kernel is kernel]
        pending.extend([*path, target] for target in targets if target not in path)
    return None
