"""The code of a split span itself, played by several threads in thousands of orders.

How, see `playing.py`. What must hold is looked at in each order, as in the model in Promela, and mutations of the code
do not pass.
"""

from __future__ import annotations

import inspect
import random
from typing import TYPE_CHECKING, Any

import pytest
from playing import Memory, caught, generators, source_of

from ringkernel.codegen.span_body import FAULT_COUNT
from ringkernel.devices.compiled import helping
from ringkernel.memory import layout, span_layout
from ringkernel.memory.layout import BLOCK, CLAIMED, OWN_STAGES, PARKER, REVOKED, RING, RUN_ENTRY
from ringkernel.memory.share_layout import SHARED, TEAM
from ringkernel.memory.span_layout import RUN, SPAN
from ringkernel.ring.block import stages
from ringkernel.ring.sharing import job, length, shards, share
from ringkernel.ring.sharing.job import CLOSED
from ringkernel.ring.spans.run_span import run_alone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playing import Steps

MODULES = (stages, job, length, shards, share, helping)
ALONE = inspect.getsource(run_alone)
SOURCES = source_of(MODULES) + ALONE


BLOCK_AT, ENTRY_AT, JOB_AT, TEAM_AT, LOOP_AT, SOURCE_AT, TARGET_AT, SPAN_AT, OUTPUT_AT = (i << 32 for i in range(1, 10))
PARKERS_AT = 16 << 32
N, N_HELPERS, ECHO = 24, 2, 7


def words_of(memory: Any, run: int) -> tuple[int, int, int, int, int]:
    """What a span is called with."""
    source, count = memory[run + RUN.source], memory[run + RUN.count]
    return source, count, memory[run + RUN.target], memory[run + RUN.context], run + RUN.fault_index


class World(Memory):
    """Three workers, one of which leads the spans of a kernel that drops odd messages and fails on negative ones."""

    def __init__(self, code: dict[str, Any], seed: int) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.is_given_back = self.is_over = False
        self.messages = list(range(N))
        self.handled: set[int] = set()
        if self.random.random() < 0.5:
            self.messages[self.random.randrange(N)] = -1
        self.code = code
        code.update(
            step=self.step, call_span=self.call_span, call_function=self.call_function
        )  # the functions' globals
        self._lay_out()

    def _lay_out(self) -> None:
        words, parkers = self.memory, [PARKERS_AT + (i << 20) for i in range(1 + N_HELPERS)]
        words[BLOCK_AT + BLOCK.epoch] = words[BLOCK_AT + BLOCK.echo] = ECHO
        words[BLOCK_AT + BLOCK.max_outputs] = 1
        words[BLOCK_AT + BLOCK.max_threads] = len(parkers)
        words[BLOCK_AT + BLOCK.stages] = OWN_STAGES
        words[SPAN_AT + SPAN.fault_index], words[SPAN_AT + SPAN.output] = -1, OUTPUT_AT
        words[SPAN_AT + SPAN.target], words[OUTPUT_AT + RING.itemsize] = TARGET_AT, 8
        words[ENTRY_AT + RUN_ENTRY.owner] = CLAIMED
        words[ENTRY_AT + RUN_ENTRY.parker_address] = parkers[0]
        words[ENTRY_AT + RUN_ENTRY.span_limit] = 2
        words[ENTRY_AT + RUN_ENTRY.span_ticks] = 1 << 20
        words[ENTRY_AT + RUN_ENTRY.pace] = 32 << 20  # two messages in a chunk
        words[JOB_AT + SHARED.gate] = CLOSED
        words[TEAM_AT + TEAM.n_cores] = words[TEAM_AT + TEAM.n_workers] = len(parkers)
        for i, parker in enumerate(parkers):
            words[TEAM_AT + TEAM.workers + 8 * i] = parker
            words[parker + PARKER.job_address], words[parker + PARKER.team_address] = JOB_AT, TEAM_AT
            words[parker + PARKER.n_queued] = 1
            words[parker + PARKER.loop_address] = LOOP_AT
        self.parkers = parkers

    # --- operations ------------------------------------------------------------------------------------------------

    def move_bytes(self, target: int, source: int, count: int) -> None:
        self.check()
        moved = [self.memory[source + i] for i in range(0, count, 8)]
        for i, value in enumerate(moved):
            self.memory[target + 8 * i] = value

    copy_bytes = move_bytes

    def unpark(self, parker: int) -> int:
        self.memory[parker + PARKER.parked] = 0
        return 1

    def is_runnable(self, stat: int, scratch: int) -> int:
        return 0

    def waits_for_cpu(self, stat: int, cpu: int, text: int) -> int:
        return self.random.randrange(2)

    def check(self) -> None:
        assert not self.is_given_back, "memory that was given back is used"

    def call_span(self, span: int, run: int) -> Steps:
        source, count, target, _, fault = words_of(self.memory, run)
        emitted = 0
        for i in range(count):
            yield
            self.check()
            index = (source - SOURCE_AT) // 8 + i
            assert index not in self.handled, "a message is handled twice"
            self.handled.add(index)
            value = self.messages[index]
            if value < 0:
                self.memory[fault], self.memory[fault + FAULT_COUNT] = i, 1
                return emitted
            self.memory[target + 8 * emitted] = value
            emitted += 1 - value % 2
        return emitted

    def call_function(self, address: int, argument: int) -> Steps:
        raise AssertionError("no table of keys is here")
        yield

    # --- threads ---------------------------------------------------------------------------------------------------

    def leader(self) -> Steps:
        """Run spans until all messages are done, one fails, or the kernel is revoked."""
        words, head = self.memory, 0
        while head < N:
            self.is_given_back = False
            self.handled.clear()
            words[SPAN_AT + SPAN.source], words[SPAN_AT + SPAN.count] = SOURCE_AT + 8 * head, N - head
            yield from self.run_span(8)
            emitted = words[SPAN_AT + SPAN.emitted]
            if words[ENTRY_AT + RUN_ENTRY.owner] == REVOKED:
                break  # and the memory is quarantined
            done, fault = words[SPAN_AT + SPAN.done], words[SPAN_AT + SPAN.fault_index]
            done = fault if fault >= 0 else done
            taken = self.messages[head : head + done]
            assert [words[TARGET_AT + 8 * i] for i in range(emitted)] == [one for one in taken if one % 2 == 0]
            assert -1 not in taken
            if fault >= 0:
                assert self.messages[head + done] == -1
            else:
                assert done > 0, "nothing goes on"
            self.is_given_back = True
            head += done
            words[BLOCK_AT + BLOCK.echo] = words[BLOCK_AT + BLOCK.epoch]
            if fault >= 0:
                break
        self.is_over = True

    def run_span(self, message_nbytes: int) -> Steps:
        """As the turn does: with others, or alone if that comes to nothing."""
        if (yield from self.code["lead"](BLOCK_AT, ENTRY_AT, SPAN_AT, message_nbytes)) == 0:
            self.handled.clear()
            yield from self.code["run_alone"](SPAN_AT)

    def helper(self, parker: int) -> Steps:
        words = self.memory
        while not self.is_over:
            words[parker + PARKER.parked] = 1
            while not self.is_over and words[parker + PARKER.offer_address] == 0:
                yield
            words[parker + PARKER.parked] = 0
            yield from self.code["help_others"](parker, 0, 0)

    def supervisor(self) -> Steps:
        """Command, ring for workers, revoke: at some time, perhaps."""
        for _ in range(self.random.randrange(600)):
            yield
        what = self.random.randrange(4)
        if what == 0:
            self.memory[BLOCK_AT + BLOCK.epoch] += 1
        elif what == 1:
            self.memory[self.random.choice(self.parkers[1:]) + PARKER.inbox_address] = 1
        elif what == 2:
            self.memory[ENTRY_AT + RUN_ENTRY.owner] = REVOKED
            yield from self.code["stop_job"](JOB_AT, BLOCK_AT)

    def play(self) -> None:
        threads: list[Iterator[None]] = [self.leader(), self.supervisor(), *map(self.helper, self.parkers[1:])]
        steps = 0
        while threads:
            steps += 1
            assert steps < 100_000, "somebody waits for ever"
            thread = self.random.choice(threads)
            for _ in range(self.random.choice([1, 1, 2, 40])):
                try:
                    next(thread)
                except StopIteration:
                    threads.remove(thread)
                    break
        assert self.memory[JOB_AT + SHARED.gate] == CLOSED


def play(source: str, seeds: range) -> None:
    code = generators(source, (layout, span_layout, *MODULES), given=["call_span", "call_function"], atomic=["unpark"])
    for seed in seeds:
        World(code, seed).play()


def test_in_whatever_order_threads_go_on_the_outcome_is_that_of_one(random_cases: Callable[[int], int]) -> None:
    play(SOURCES, range(random_cases(2000)))


MUTATIONS = {
    "the leader does not wait": ("if wait_for_helpers(job, run_entry) == 0:", "if False:"),
    "a helper comes in through a closed gate": ("while gate >= 0:\n        seen", "while True:\n        seen"),
    "the gate is not closed": ("            close_gate(job)\n", ""),
    "two take the same part": (
        "number = fetch_add(job + SHARED.next_part, 1)",
        "number = load(job + SHARED.next_part)\n    store(job + SHARED.next_part, number + 1)",
    ),
    "chunks after a failed one count": ("while is_whole == 1 and", "while"),
    "a failed chunk's outputs are forgotten": (
        "        emitted += here\n",
        "        emitted += here if load(part + PART.fault_index) < 0 else 0\n",
    ),
    "a helper stays inside": ("        leave(job)\n", ""),
    "the gate opens before the job is laid out": (
        "        if lay_out(",
        "        store_release(job + SHARED.gate, 0)\n        if lay_out(",
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(mutation: str) -> None:
    caught(MUTATIONS, mutation, SOURCES, lambda source: play(source, range(2000)))
