"""The turns of kernels that go to and fro between a worker and the event loop's thread, in thousands of orders.

It is the code itself that is played, see `playing.py`: who rings, who takes turns, who lays a kernel to rest, and who
parks. Another thread feeds the kernels, too, as another worker's kernel would, and the supervisor moves them. Every
message is taken in the end, no two threads are in one kernel, and what was revoked is dismissed.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from playing import Memory, caught, generators, source_of

from ringkernel.devices.compiled import helping, worker_loop
from ringkernel.memory import layout
from ringkernel.memory.layout import BLOCK, CLAIMED, COMMIT, EDGE, FREE, GONE, NEVER, PARKER, RING, RUN_ENTRY, RUNG
from ringkernel.ring.block import stages, token, waits
from ringkernel.ring.block.token import WORKED
from ringkernel.ring.protocol import cursors as protocol
from ringkernel.ring.protocol import doorbell
from ringkernel.ring.spans import fill
from ringkernel.ring.spans.fill import NOTHING_THERE, READY
from ringkernel.ring.turns import ends, loop_turns, turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playing import Steps

MODULES = (doorbell, token, protocol, stages, waits, fill, ends, turn, loop_turns, helping, worker_loop)
SOURCES = source_of(MODULES)
GIVEN = ("fill", "run_span", "record_of", "goes_by_time", "is_told_more", "call_function", "sleep_on")
NOT_PLAYED = ("run_span_by_time", "run_span_at_end")

LOOP_AT, WORKER_AT, TAKE_TURNS_AT, KERNELS_AT, ENTRIES_AT = (i << 32 for i in range(1, 6))
N_KERNELS, PATIENCE = 2, 40


class Kernel:
    """The addresses of a kernel with two inputs: the event loop's, and another thread's."""

    def __init__(self, memory: dict[int, int], number: int) -> None:
        self.block, self.doorbell_address, table, self.edges, self.rings = (
            KERNELS_AT + (number << 24),
            KERNELS_AT + (number << 24) + (1 << 16),
            KERNELS_AT + (number << 24) + (2 << 16),
            [KERNELS_AT + (number << 24) + (i << 16) for i in (3, 4)],
            [KERNELS_AT + (number << 24) + (i << 16) for i in (5, 6)],
        )
        self.is_in_turn = False
        memory[self.block + BLOCK.inputs], memory[self.block + BLOCK.n_inputs] = table - self.block, 2
        for i, (edge, ring) in enumerate(zip(self.edges, self.rings, strict=True)):
            memory[table + 8 * i] = edge - self.block
            memory[edge + EDGE.ring], memory[edge + EDGE.doorbell_address] = ring - edge, self.doorbell_address
            memory[edge + EDGE.limit] = memory[edge + EDGE.watch] = memory[ring + RING.wanted] = NEVER
            memory[ring + RING.edges], memory[ring + RING.n_edges] = 1 << 12, 1
            memory[ring + (1 << 12)] = edge - ring


class World(Memory):
    """A worker with two kernels, which an event loop and another thread feed."""

    def __init__(self, code: dict[str, Any], seed: int) -> None:
        super().__init__()
        self.code, self.random = code, random.Random(seed)
        code.update({name: getattr(self, name) for name in ("step", *GIVEN)})  # the functions' globals
        self.awake, self.sleeps, self.outstanding = False, False, 2
        self.entries: list[int] = []
        self.kernels = [Kernel(self.memory, number) for number in range(N_KERNELS)]
        words = self.memory
        words[LOOP_AT + PARKER.take_turns_address] = TAKE_TURNS_AT
        words[LOOP_AT + PARKER.max_credit] = self.random.choice([0, 2_000, 1 << 40])
        words[WORKER_AT + PARKER.loop_address] = LOOP_AT
        words[WORKER_AT + PARKER.min_patience] = words[WORKER_AT + PARKER.patience] = PATIENCE
        words[WORKER_AT + PARKER.max_patience], words[WORKER_AT + PARKER.stay] = 4 * PATIENCE, NEVER
        for kernel in self.kernels:
            self.finish(self.enqueue(kernel))

    @staticmethod
    def finish(steps: Steps) -> None:
        for _ in steps:
            pass

    def enqueue(self, kernel: Kernel) -> Steps:
        """Hand a kernel to the worker, with a new run entry."""
        entry, words = ENTRIES_AT + (len(self.entries) << 16), self.memory
        self.entries.append(entry)
        words[entry + RUN_ENTRY.state], words[entry + RUN_ENTRY.parker_address] = RUNG, WORKER_AT
        words[entry + RUN_ENTRY.block_address], words[entry + RUN_ENTRY.is_bounded] = kernel.block, 1
        words[kernel.doorbell_address] = entry
        yield from self.code["push_doorbell"](entry)

    # --- what the code calls -------------------------------------------------------------------------------------

    def fill(self, block: int, run_entry: int, span: int, here: int) -> Steps:
        self.memory[span] = yield from self.code["find_input"](block, run_entry)
        return READY if self.memory[span] else NOTHING_THERE

    def run_span(self, block: int, run_entry: int, span: int, here: int) -> Steps:
        words, kernel = self.memory, next(one for one in self.kernels if one.block == block)
        edge = words[span]
        assert not kernel.is_in_turn, "two threads are in one kernel"
        kernel.is_in_turn = True
        head, tail = words[edge + EDGE.head], words[edge + words[edge + EDGE.ring] + RING.tail]
        for _ in range(self.random.randrange(4)):
            yield
        assert words[run_entry + RUN_ENTRY.owner] == CLAIMED, "it has lost its claim"
        words[run_entry + RUN_ENTRY.owner] = COMMIT
        yield
        words[edge + EDGE.head] = self.random.randint(head + 1, tail)
        words[run_entry + RUN_ENTRY.quick_spans] += 1 if here == 0 else 0
        kernel.is_in_turn = False
        yield
        return WORKED

    def record_of(self, block: int) -> Steps:
        yield
        return block + (1 << 20)

    def goes_by_time(self, block: int) -> Steps:
        yield
        return 0

    def is_told_more(self, block: int, span: int) -> Steps:
        yield
        return 0

    def call_function(self, address: int, argument: int) -> Steps:
        assert address == TAKE_TURNS_AT
        return (yield from self.code["take_turns"](argument))

    def sleep_on(self, descriptor: int, scratch: int) -> Steps:
        self.sleeps = True
        while not self.awake:
            yield
        self.sleeps = self.awake = False

    def wake(self, descriptor: int) -> None:
        self.awake = True

    # --- threads -------------------------------------------------------------------------------------------------

    def pause(self) -> Steps:
        for _ in range(self.random.choice([0, 0, 10, 100, 400])):
            yield

    def feed(self, number: int, here: int) -> Steps:
        """Publish to one of the kernels, into its input of this number."""
        ring = self.random.choice(self.kernels).rings[number]
        yield from self.code["publish"](ring, self.memory[ring + RING.tail] + self.random.choice([1, 1, 3]), here)

    def loop(self) -> Steps:
        for _ in range(8):
            yield from self.pause()
            if self.random.random() < 0.2:
                yield from self.move(self.random.choice(self.kernels))
            else:
                yield from self.feed(0, LOOP_AT)
                yield from self.code["see_to"](LOOP_AT)
        self.outstanding -= 1

    def move(self, kernel: Kernel) -> Steps:
        """As `WorkerPool.move`: not if it is in a turn just now."""
        old = self.memory[kernel.doorbell_address]
        if (yield from self.code["revoke"](old, 0)) == FREE:
            yield from self.enqueue(kernel)
            yield from self.code["ring_doorbell"](old, 0)

    def another(self) -> Steps:
        for _ in range(8):
            yield from self.pause()
            yield from self.feed(1, 0)
        self.outstanding -= 1

    def play(self) -> None:
        threads: list[Iterator[None]] = [self.loop(), self.another(), self.code["run_worker"](WORKER_AT, 0)]
        steps = 0
        while self.outstanding or self.awake or not self.sleeps:
            assert self.now < 50_000, "somebody is never done"
            thread = self.random.choice(threads)
            for _ in range(self.random.choice([1, 1, 2, 40])):
                steps += 1
                next(thread, None)
        self.check()

    def check(self) -> None:
        words, current = self.memory, {self.memory[kernel.doorbell_address] for kernel in self.kernels}
        for kernel in self.kernels:
            for edge, ring in zip(kernel.edges, kernel.rings, strict=True):
                assert words[edge + EDGE.head] == words[ring + RING.tail], "messages wait for ever"
        for entry in self.entries:
            assert words[entry + RUN_ENTRY.owner] == (FREE if entry in current else GONE)


def play(source: str, seeds: range) -> None:
    code = generators(source, (layout, *MODULES), (*GIVEN, *NOT_PLAYED))
    for seed in seeds:
        World(code, seed).play()


def test_in_whatever_order_threads_go_on_no_message_waits_for_ever(random_cases: Callable[[int], int]) -> None:
    play(SOURCES, range(random_cases(1500)))


MUTATIONS = {
    "a kernel that the loop lays to rest counts as revoked": ("IDLE if seen == CLAIMED else LEFT", "LEFT"),
    "a kernel that was revoked counts as the loop's": ("IDLE if seen == CLAIMED else LEFT", "IDLE"),
    "a turn goes on without a claim": ("    if seen != FREE:\n", "    if False:\n"),
    "who rests does not look again": ("if can_work(block) == 1 and ", "if False and "),
    "who rests and was rung keeps it": (
        "compare_exchange(run_entry + RUN_ENTRY.state, ARMED, RUNG) == ARMED",
        "compare_exchange(run_entry + RUN_ENTRY.state, ARMED, RUNG) >= ARMED",
    ),
    "a worker parks without a look": ("if is_free(parker) == 1 and load(", "if load("),
    "a worker does not say that it parks": ("    store(parker + PARKER.parked, 1)\n", ""),
    "who rings does not look who has": (
        "if compare_exchange(doorbell + DOORBELL.state, ARMED, RUNG) != ARMED:",
        "if False:",
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(mutation: str) -> None:
    caught(MUTATIONS, mutation, SOURCES, lambda source: play(source, range(1500)))
