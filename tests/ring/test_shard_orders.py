"""The code of a span in shards itself, played by several threads in thousands of orders: see `test_split_orders.py`.

Whatever the order, a message fails or not, the table is full or not: states, keys and outputs are those of one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playing import caught, generators, source_of
from test_split_orders import (
    ALONE,
    BLOCK_AT,
    ENTRY_AT,
    JOB_AT,
    MODULES,
    SOURCE_AT,
    SPAN_AT,
    TARGET_AT,
    TEAM_AT,
    World,
    words_of,
)

from ringkernel.codegen import key_table
from ringkernel.codegen.span_body import FAULT_COUNT
from ringkernel.memory import keys_layout, layout, span_layout
from ringkernel.memory.keys_layout import INITIAL, KEYS, NO_KEY, NUMBER, UNUSED
from ringkernel.memory.layout import BLOCK, KEYS_IN_ORDER, KEYS_UNORDERED, REVOKED, RUN_ENTRY
from ringkernel.memory.share_layout import SHARED, TEAM
from ringkernel.memory.span_layout import SPAN

if TYPE_CHECKING:
    from collections.abc import Callable

    from playing import Steps

SOURCES = source_of((key_table, *MODULES)) + ALONE

TABLE_AT, SLOTS_AT, ORDER_AT, SPACE_AT = (BLOCK_AT + (i << 24) for i in range(1, 5))
N, BITS, BEGINS = 24, 5, 7
FUNCTIONS = {1: "lay_out_shards"}
FIRST_KEY = NO_KEY
"""The key whose tag is 0."""


class KeyedWorld(World):
    """The kernel has a state for each key; the messages are pairs of a key and a number."""

    def _lay_out(self) -> None:
        super()._lay_out()
        draw, words = self.random, self.memory
        keys = [FIRST_KEY, *range(draw.randrange(1, 12))]
        self.pairs = [(draw.choice(keys), number) for number in range(N)]
        for at in draw.sample(range(N), draw.choice([0, 1, 3])):
            self.pairs[at] = (self.pairs[at][0], -1)
        self.is_ordered = draw.random() < 0.5
        self.capacity = draw.choice([3, 6, 24])
        words[BLOCK_AT + BLOCK.keyed] = KEYS_IN_ORDER if self.is_ordered else KEYS_UNORDERED
        words[BLOCK_AT + BLOCK.state], words[SPAN_AT + SPAN.context] = TABLE_AT - BLOCK_AT, TABLE_AT
        words[BLOCK_AT + BLOCK.fault_edge] = 1 << 20
        words[ENTRY_AT + RUN_ENTRY.span_ticks] = draw.choice([0, 1 << 20])  # late at once, or never
        words[JOB_AT + SHARED.space_address] = SPACE_AT
        words[TEAM_AT + TEAM.lay_out_shards_address] = 1
        described = {
            KEYS.slots_address: SLOTS_AT,
            KEYS.order_address: ORDER_AT,
            KEYS.mask: (1 << BITS) - 1,
            KEYS.shift: 64 - BITS,
            KEYS.capacity: self.capacity,
            KEYS.nbytes: 16,
            KEYS.state_at: 8,
            KEYS.state_nbytes: 8,
            KEYS.own_at: -1,
            KEYS.key_nbytes: 8,
            KEYS.key_kind: NUMBER,
            INITIAL: BEGINS,
        }
        words.update({TABLE_AT + offset: value for offset, value in described.items()})
        words[SLOTS_AT] = UNUSED
        for i, (key, value) in enumerate(self.pairs):
            words[SOURCE_AT + 16 * i], words[SOURCE_AT + 16 * i + 8] = key, value

    # --- operations ------------------------------------------------------------------------------------------------

    def peek(self, address: int) -> int:
        return self.memory[address]

    peek_fixed = peek

    def poke(self, address: int, value: int) -> None:
        self.memory[address] = value

    def call_span(self, span: int, run: int) -> Steps:
        """The handler adds to its state, and emits what that is then if it is even; on a negative number it fails."""
        words, emitted = self.memory, 0
        source, count, target, state, fault = words_of(words, run)
        for i in range(count):
            yield
            self.check()
            key, value = words[source + 16 * i], words[source + 16 * i + 8]
            tag = yield from self.code["tag_of_number"](key)
            slot = yield from self.code["slot_of"](state, 16, tag, 0, 0)
            if (yield from self.code["is_taken"](state, slot)) == 0:
                assert count > 1 or self.count_of(state) == self.capacity or span == 0, "a record was not made before"
                if (yield from self.code["take_slot"](state, slot, tag, 0, 0, 8, 8)) == 0:
                    words[fault], words[fault + FAULT_COUNT] = i, 1
                    return emitted
            before = words[slot + 8]
            yield
            assert words[slot + 8] == before, "two threads have one record"
            words[slot + 8] = before + value + 100
            if value < 0:
                words[fault], words[fault + FAULT_COUNT] = i, 1
                return emitted
            words[target + 8 * emitted] = words[slot + 8]
            emitted += 1 - words[slot + 8] % 2
        return emitted

    def call_function(self, address: int, argument: int) -> Steps:
        return (yield from self.code[FUNCTIONS[address]](argument))

    def count_of(self, table: int) -> int:
        return self.memory[table + KEYS.count]

    # --- threads ---------------------------------------------------------------------------------------------------

    def leader(self) -> Steps:
        words, head = self.memory, 0
        while head < N:
            self.is_given_back = False
            words[BLOCK_AT + BLOCK.in_flight] = N - head
            words[SPAN_AT + SPAN.source], words[SPAN_AT + SPAN.count] = SOURCE_AT + 16 * head, N - head
            yield from self.run_span(16)
            emitted = words[SPAN_AT + SPAN.emitted]
            if words[ENTRY_AT + RUN_ENTRY.owner] == REVOKED:
                break  # and the memory is quarantined
            fault, done = words[SPAN_AT + SPAN.fault_index], words[SPAN_AT + SPAN.done]
            done = fault if fault >= 0 else done
            self.compare(head, done, [words[TARGET_AT + 8 * i] for i in range(emitted)], has_failed=fault >= 0)
            self.is_given_back = True
            head += done
            words[BLOCK_AT + BLOCK.echo] = words[BLOCK_AT + BLOCK.epoch]
            if fault >= 0:
                break
        self.is_over = True

    def compare(self, head: int, done: int, outputs: list[int], *, has_failed: bool) -> None:
        """With what one thread would have come to, from the first message on."""
        states: dict[int, int] = {}
        expected: list[int] = []
        fails = False
        for i, (key, value) in enumerate(self.pairs[: head + done + has_failed]):
            if key not in states and len(states) == self.capacity:
                fails = True
                break
            states[key] = states.get(key, BEGINS) + value + 100
            fails = value < 0
            if i >= head and not fails and states[key] % 2 == 0:
                expected.append(states[key])
        assert fails == has_failed
        assert (outputs if self.is_ordered else sorted(outputs)) == (expected if self.is_ordered else sorted(expected))
        assert self.records() == states
        assert self.count_of(TABLE_AT) == len(states)
        assert [self.key_at(self.memory[ORDER_AT + 8 * i]) for i in range(len(states))] == list(states)

    def records(self) -> dict[int, int]:
        words = self.memory
        used = [16 * i for i in range(1 << BITS) if (words[SLOTS_AT + 16 * i] == 0) == (i == 0)]
        return {self.key_at(offset): words[SLOTS_AT + offset + 8] for offset in used}

    def key_at(self, offset: int) -> int:
        return self.memory[SLOTS_AT + offset] ^ FIRST_KEY


def play(source: str, seeds: range) -> None:
    code = generators(
        source,
        (layout, span_layout, keys_layout, key_table, *MODULES),
        given=["call_span", "call_function"],
        atomic=["unpark"],
    )
    for seed in seeds:
        KeyedWorld(code, seed).play()


def test_in_whatever_order_threads_go_on_the_outcome_is_that_of_one(random_cases: Callable[[int], int]) -> None:
    play(SOURCES, range(random_cases(1000)))


MUTATIONS = {
    "states are not undone": ("copy_bytes(states_of(table) + (entry & OFFSET), before", "max(before"),
    "the message that failed is not undone": ("if entry >> NUMBER_AT >= done", "if entry >> NUMBER_AT > done"),
    "a message before it is undone, too": ("if entry >> NUMBER_AT >= done", "if entry >> NUMBER_AT >= done - 1"),
    "that of a shard that fails later is not undone": (
        "store(entries + 8 * done, entry | flags)",
        "store(entries + 8 * done, entry | (flags if load(part + PART.fault_index) < 0 else 0))",
    ),
    "a state is written back that is another's": ("before = log + (count - back)", "before = log + (count - 1 - back)"),
    "the first is undone first": ("for back in range(1, count + 1)", "for back in range(count, 0, -1)"),
    "keys that came later stay": ("        take_last_back(table)\n", "        pass\n"),
    "a key too many is taken back": ("            if entry & NEW != 0:", "        if entry & NEW != 0:"),
    "the first slot is emptied like any other": ("UNUSED if offset == 0 else 0", "0"),
    "the leader does not wait": ("if wait_for_helpers(job, run_entry) == 0:", "if False:"),
    "a shard for every two keys": (
        "shard = (((tag * MULTIPLIER) >> 32) & LOWER) * n_shards >> 32",
        "shard = i % n_shards",
    ),
    "outputs that were undone count": ("entry & EMITTED != 0 and entry >> NUMBER_AT < done", "entry & EMITTED != 0"),
    "outputs stay by shard": ("by_shard = 1 if outputs == target else 0", "by_shard = 1"),
    "what came after a failure comes out": ("gather_outputs(job, done)", "gather_outputs(job, count)"),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_caught(mutation: str) -> None:
    caught(MUTATIONS, mutation, SOURCES, lambda source: play(source, range(1000)))
