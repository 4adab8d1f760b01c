"""The commit of a span itself, played: what others see at each of its steps, and what a death at each of them leaves.

How, see `playing.py`. Spans of all shapes are committed: of one input, of two by time, of none, and of a chain of three
stages; with faults in any stage. Whoever looks finds outputs before inputs, a ledger from before or after, and never
something in between. A supervisor may revoke the kernel meanwhile. Where the poller dies, `recover` comes to the same
as if it had gone on, or as if the span had not been.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from playing import Memory, caught, generators, source_of

from ringkernel.memory import chain_layout, layout, span_layout
from ringkernel.memory.chain_layout import CHAIN
from ringkernel.memory.layout import (
    ARMED,
    BLOCK,
    CLAIMED,
    COMMIT,
    DOORBELL,
    EDGE,
    GONE,
    NEVER,
    NO_TIME,
    OWN_STAGES,
    REVOKED,
    RING,
    RUN_ENTRY,
    RUNG,
    STAGES,
    STATUS_ACTIVE,
    STATUS_FAILED,
)  # fmt: skip
from ringkernel.memory.span_layout import LANE, NOBODY, SPAN, WITHOUT, lane_at
from ringkernel.ring.block import ledger, stages, token, waits
from ringkernel.ring.protocol import cursors as protocol
from ringkernel.ring.protocol import doorbell
from ringkernel.ring.spans import commit, further_stages, pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from playing import Steps

MODULES = (doorbell, token, protocol, stages, waits, ledger, further_stages, pace, commit)
SOURCES = source_of(MODULES)

ENTRY_AT, CHAIN_AT, BELLS_AT, PARKER_AT, ARRAYS_AT = (i << 40 for i in range(1, 6))
SPAN_OFFSET, EDGES_AT, RINGS_AT, TABLES_AT = 1 << 12, 1 << 16, 1 << 20, 1 << 24
CAPACITY, ITEMSIZE, EVEN = 64, 8, 6
LEDGER = (BLOCK.processed, BLOCK.failed, BLOCK.emitted, BLOCK.dropped)


SEEDS, DEATHS = range(120), 8


def block_at(stage: int) -> int:
    return (16 + stage) << 40


class World(Memory):
    """A kernel, or a chain of three, whose span has just been run, and is to be committed."""

    def __init__(self, code: dict[str, Any], seed: int) -> None:
        super().__init__()
        self.code, self.random = code, random.Random(seed)
        code.update(step=self.step)
        draw = self.random.choice
        self.n_stages = draw([1, 1, 3])
        self.by_time = draw([False, True])
        self.is_end = self.n_stages == 1 and not self.by_time and draw([False, True])
        self.n_lanes = 0 if self.is_end else 2 if self.by_time else 1
        self.rings: list[int] = []  # that a stage reads from, and at last the output
        self.edges: list[int] = []
        self._lay_out()
        self.before = self.seen()

    # --- records ---------------------------------------------------------------------------------------------------

    def ring(self, number: int, tail: int, head: int, edges: list[int]) -> int:
        """A ring with edges at these addresses; the first is read up to `head`."""
        at, words = (8 << 40) + (number << 24), self.memory
        words[at + RING.tail] = words[at + RING.next] = tail
        words[at + RING.slots], words[at + RING.capacity], words[at + RING.itemsize] = 1 << 20, CAPACITY, ITEMSIZE
        words[at + RING.edges], words[at + RING.n_edges] = 1 << 16, len(edges)
        words[at + RING.progress], words[at + RING.wanted] = NO_TIME, head
        words[at + RING.doorbell_address] = self.bell(number)
        for i, edge in enumerate(edges):
            words[at + (1 << 16) + 8 * i] = edge - at
            words[edge + EDGE.ring], words[edge + EDGE.head], words[edge + EDGE.watch] = at - edge, head, NEVER
            words[edge + EDGE.doorbell_address] = self.bell(16 + number)
        self.rings.append(at)
        return at

    def bell(self, number: int) -> int:
        """An armed doorbell, by the word that leads to it."""
        at = BELLS_AT + (number << 16)
        self.memory[at + 4096], self.memory[at + DOORBELL.state] = at, ARMED
        self.memory[at + DOORBELL.parker_address] = PARKER_AT
        return at + 4096

    def _lay_out(self) -> None:
        words, draw = self.memory, self.random.randint
        words[ENTRY_AT + RUN_ENTRY.owner], words[ENTRY_AT + RUN_ENTRY.block_address] = CLAIMED, block_at(0)
        words[ENTRY_AT + RUN_ENTRY.span_limit] = words[ENTRY_AT + RUN_ENTRY.span_ticks] = 8
        for stage in range(self.n_stages):
            block = block_at(stage)
            words[block + BLOCK.span], words[block + BLOCK.max_outputs] = SPAN_OFFSET, 1
            words[block + BLOCK.status], words[block + BLOCK.state_version] = STATUS_ACTIVE, EVEN + 1
            words[block + BLOCK.fault_index] = -1
            words[block + BLOCK.stages], words[block + BLOCK.last] = OWN_STAGES, -OWN_STAGES
            words[block + BLOCK.n_stages], words[block + BLOCK.longest_span] = 1, 8
            words[block + BLOCK.ledger_version] = EVEN
            for word in LEDGER:
                words[block + word] = draw(0, 99)
        self.span = span = block_at(0) + SPAN_OFFSET
        block = block_at(0)
        words[block + BLOCK.inputs], words[block + BLOCK.n_inputs] = TABLES_AT, max(1, self.n_lanes)
        self.taken = [draw(0, 3) for _ in range(self.n_lanes)]
        for i in range(max(1, self.n_lanes)):
            edge, head = block + EDGES_AT + (i << 12), draw(0, 50)
            self.ring(i, head + 8, head, [edge])
            words[block + TABLES_AT + 8 * i] = edge - block
            self.edges.append(edge)
        for i, taken in enumerate(self.taken):
            lane = span + lane_at(i)
            words[lane + LANE.edge], words[lane + LANE.taken] = self.edges[i] - block, taken
            words[lane + LANE.head], words[lane + LANE.count] = words[self.edges[i] + EDGE.head], 8
        chain = CHAIN_AT if self.n_stages > 1 else 0
        for stage in range(1, self.n_stages):
            between, edge = draw(0, 50), block_at(stage) + EDGES_AT
            ring = self.ring(4 + stage, between, between, [edge])
            words[block_at(stage - 1) + BLOCK.output] = ring - block_at(stage - 1)
            words[CHAIN_AT + CHAIN.edges + 8 * stage] = edge - CHAIN_AT
        last, self.tail = block_at(self.n_stages - 1), draw(0, 50)
        self.readers = [last + EDGES_AT + ((5 + i) << 12) for i in range(2)]
        self.output = self.ring(9, self.tail, self.tail - 2, self.readers)
        words[last + BLOCK.output] = self.output - last
        self._say_what_it_did(chain, sum(self.taken))

    def _say_what_it_did(self, chain: int, taken: int) -> None:
        """What the span says that it has done: some messages are dropped in each stage, and one may have failed."""
        words, span, draw = self.memory, self.span, self.random.randint
        self.failing = self.random.choice([-1, -1, *range(self.n_stages)])
        if self.is_end and self.failing >= 0:
            self.lane = WITHOUT
        elif self.failing >= 0:
            self.lane = draw(0, self.n_lanes - 1)
        else:
            self.lane = NOBODY
        words[span + SPAN.by_time], words[span + SPAN.n_lanes] = int(self.by_time), self.n_lanes
        words[span + SPAN.failed_lane], words[span + SPAN.waiting] = self.lane, 8
        words[span + SPAN.fault_index], words[span + SPAN.fault_stage] = -1, max(0, self.failing)
        if self.failing >= 0:
            words[span + SPAN.fault_index], words[span + SPAN.fault_count] = taken, 0 if self.is_end else 1
        words[span + SPAN.output], words[span + SPAN.tail] = self.output, self.tail
        self.passed = [taken + (self.failing > 0)]  # messages that come to each stage
        self.dropped = []
        for stage in range(self.n_stages):
            lost = 1 if stage == self.failing and stage > 0 else 0
            self.dropped.append(draw(0, max(0, self.passed[-1] - lost - (self.failing > stage))))
            self.passed.append(self.passed[-1] - self.dropped[-1] - lost)
        self.emitted = draw(0, 3) if self.is_end else self.passed[-1]
        words[span + SPAN.emitted], words[span + SPAN.by_timer] = self.emitted, self.emitted if self.is_end else 0
        words[span + SPAN.steps] = max(taken, self.emitted)
        if self.by_time:
            words[span + SPAN.low], words[span + SPAN.told] = self.random.choice([(5, 4), (5, 5)])
        if chain:
            words[block_at(0) + BLOCK.stages] = CHAIN_AT - block_at(0)
            words[CHAIN_AT + STAGES.n_stages], words[CHAIN_AT + STAGES.longest_span] = self.n_stages, 8
            words[CHAIN_AT + STAGES.last] = block_at(self.n_stages - 1) - CHAIN_AT
            words[CHAIN_AT + CHAIN.failed_address] = ARRAYS_AT
            for stage in range(self.n_stages):
                words[CHAIN_AT + CHAIN.blocks + 8 * stage] = block_at(stage) - CHAIN_AT
                words[CHAIN_AT + CHAIN.dropped + 8 * stage] = self.dropped[stage]
                words[CHAIN_AT + CHAIN.parts + 8 * stage] = 1

    # --- operations ------------------------------------------------------------------------------------------------

    def copy_bytes(self, target: int, source: int, count: int) -> None:
        for i in range(0, count, 8):
            self.memory[target + i] = self.memory[source + i]

    def fence_release(self) -> None: ...

    # --- what others see -------------------------------------------------------------------------------------------

    def seen(self) -> dict[str, Any]:
        """All cursors, ledgers and versions."""
        words = self.memory
        return {
            "tails": [words[ring + RING.tail] for ring in self.rings],
            "heads": [words[edge + EDGE.head] for edge in self.every_edge()],
            "ledgers": [tuple(words[block_at(i) + word] for word in LEDGER) for i in range(self.n_stages)],
            "progress": words[self.output + RING.progress],
            "versions": [words[block_at(i) + BLOCK.state_version] for i in range(self.n_stages)],
        }

    def every_edge(self) -> list[int]:
        return [*self.edges, *(block_at(stage) + EDGES_AT for stage in range(1, self.n_stages))]

    def after(self) -> dict[str, Any]:
        """What is to be seen once the span is committed."""
        tails, heads = list(self.before["tails"]), list(self.before["heads"])
        ledgers = [list(one) for one in self.before["ledgers"]]
        for i, taken in enumerate(self.taken):
            heads[i] += taken + (1 if self.failing > 0 and i == self.lane else 0)
        n_inputs = len(self.edges)
        for stage in range(1, self.n_stages):
            tails[n_inputs + stage - 1] += self.passed[stage]
            heads[n_inputs + stage - 1] += self.passed[stage] - (1 if stage == self.failing else 0)
        tails[-1] += self.emitted
        for stage in range(self.n_stages):
            lost = 1 if stage == self.failing and self.lane != WITHOUT else 0
            processed = self.passed[stage] - (lost if stage > 0 else 0)
            emitted = self.emitted if self.is_end else processed - self.dropped[stage]
            came = (processed, lost, emitted, self.dropped[stage] if not self.is_end else 0)
            ledgers[stage] = [a + b for a, b in zip(ledgers[stage], came, strict=True)]
        is_news = self.by_time and self.n_stages == 1 and self.memory[self.span + SPAN.low] == 5
        return {
            "tails": tails, "heads": heads, "ledgers": [tuple(one) for one in ledgers],
            "progress": 5 if is_news and self.was_news else self.before["progress"],
            "versions": [EVEN + 2] * self.n_stages,
        }  # fmt: skip

    def look(self) -> None:
        """Look at each step, as a reader of the outputs, of the inputs' cursors, or of the ledgers might."""
        words, seen = self.memory, self.seen()
        is_committed = words[ENTRY_AT + RUN_ENTRY.owner] in (COMMIT, GONE)
        if not is_committed:
            assert seen == self.before, "something of it is seen before the commit"
            return
        expected = self.after()
        if seen["heads"] != self.before["heads"]:
            assert seen["tails"] == expected["tails"], "an input's cursor is seen before what came of it"
        if seen["progress"] != self.before["progress"]:
            assert seen["tails"][-1] == expected["tails"][-1], "a time is seen before the outputs before it"
        for stage in range(self.n_stages):
            if words[block_at(stage) + BLOCK.ledger_version] % 2 == 0:
                assert seen["ledgers"][stage] in (self.before["ledgers"][stage], expected["ledgers"][stage])
        if words[BELLS_AT + ((16 + 9) << 16) + DOORBELL.state] == RUNG:
            assert seen["tails"][-1] == expected["tails"][-1], "a consumer is rung before there is something"

    # --- the play --------------------------------------------------------------------------------------------------

    def play(self, dies_after: int, revokes_after: int) -> int:
        """Commit, but die, or be revoked, after so many steps. How many there were."""
        words = self.memory
        self.was_news = words[self.span + SPAN.told] == 4
        committing = self.code["commit"](block_at(0), ENTRY_AT, self.span, 0)
        steps, is_over, is_revoked = 0, False, False
        while not is_over and steps < dies_after:
            if steps == revokes_after and words[ENTRY_AT + RUN_ENTRY.owner] == CLAIMED:
                words[ENTRY_AT + RUN_ENTRY.owner], is_revoked = REVOKED, True
            try:
                next(committing)
            except StopIteration:
                is_over = True
            steps += 1
            if dies_after == NEVER:
                self.look()
        if is_revoked:
            assert self.seen() == self.before, "it was revoked, and something of it has happened"
            return steps
        turns = [words[block_at(i) + BLOCK.turns] for i in range(self.n_stages)]
        is_counted = [words[block_at(i) + BLOCK.ledger_version] == EVEN + 2 for i in range(self.n_stages)]
        if not is_over:
            happened = self.run(self.code["recover"](ENTRY_AT))
            assert words[ENTRY_AT + RUN_ENTRY.owner] == GONE
            if not happened:
                assert self.seen() == self.before  # the versions are odd: the states are torn
                return steps
        assert self.seen() == self.after(), "it has happened in part"
        for stage, was_counted in enumerate(is_counted):
            assert not was_counted or words[block_at(stage) + BLOCK.turns] == turns[stage], "it is counted twice"
        if self.emitted or self.seen()["progress"] != self.before["progress"]:
            assert words[BELLS_AT + ((16 + 9) << 16) + DOORBELL.state] == RUNG, "a consumer is not told"
        if self.failing >= 0:
            assert words[block_at(self.failing) + BLOCK.status] == STATUS_FAILED
        return steps

    def run(self, steps: Steps) -> Any:
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return end.value


def play(source: str, seeds: range) -> None:
    code = generators(source, (layout, chain_layout, span_layout, *MODULES), ("unpark",), atomic=("unpark",))
    Memory.unpark = lambda self, parker: 1  # type: ignore[attr-defined]
    for seed in seeds:
        steps = World(code, seed).play(NEVER, NEVER)
        World(code, seed).play(NEVER, seed % 60)
        for dies_after in random.Random(seed).sample(range(steps), DEATHS):
            World(code, seed).play(dies_after, NEVER)


def test_whoever_looks_and_whenever_it_dies_a_span_has_happened_or_not(random_cases: Callable[[int], int]) -> None:
    play(SOURCES, SEEDS[: random_cases(len(SEEDS))])


MUTATIONS = {
    "a commit does not look whether it was revoked": (
        "if compare_exchange(run_entry + RUN_ENTRY.owner, CLAIMED, COMMIT) != CLAIMED:",
        "if exchange(run_entry + RUN_ENTRY.owner, COMMIT) < 0:",
    ),
    "a span is published before it is committed": (
        "    settle(block, span)\n",
        "    settle(block, span)\n    move_heads(block, span)\n",
    ),
    "inputs before outputs": (
        "    end_writing(block, stages)\n",
        "    end_writing(block, stages)\n    move_heads(block, span)\n",
    ),
    "time before outputs": (
        "        publish_outputs(output, load(span + SPAN.tail), emitted)\n",
        "        tell(output, span)\n        publish_outputs(output, load(span + SPAN.tail), emitted)\n",
    ),
    "doorbells before cursors": (
        "    end_writing(block, stages)\n",
        "    end_writing(block, stages)\n    notify_consumers(load(span + SPAN.output), here)\n",
    ),
    "a chain's inputs before its last outputs": (
        "    move_tails(span, stages, processed)\n    move_heads(block, span)\n",
        "    move_heads(block, span)\n    move_tails(span, stages, processed)\n",
    ),
    "states are whole only if it goes on": (
        "version + (version & 1))",
        "version + 1)",
    ),
    "a ledger is added to": (
        "load(span + SPAN.processed) + processed)",
        "load(block + BLOCK.processed) + processed)",
    ),
    "a ledger is kept again": ("        return  # it was counted\n", "        pass\n"),
    "a ledger is changed in the open": (
        "    store(block + BLOCK.ledger_version, version + 1)\n    fence_release()\n",
        "",
    ),
    "cursors between stages are added to": (
        "arrived_before(stages, i) + arriving",
        "load(ring + RING.next) + arriving",
    ),
    "what was told is not told again": (
        "    store(span + SPAN.is_news, is_told_more(block, span))\n",
        "    store(span + SPAN.is_news, 0)\n",
    ),
    "what has died is not taken": ("    dismiss(run_entry)\n    return 1 if", "    return 1 if"),
    "what was committed is not finished": (
        "    if owner == COMMIT:\n        if load",
        "    if False:\n        if load",
    ),
    "a failed kernel keeps its token": (
        "    if failing >= 0:\n        return let_go(block, stages, failing, here)\n",
        "",
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(mutation: str) -> None:
    caught(MUTATIONS, mutation, SOURCES, lambda source: play(source, SEEDS))
