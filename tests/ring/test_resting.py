"""A kernel with nothing to do rests, and whatever gives it something to do rings it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.memory.arenas import Arena
from ringkernel.memory.layout import (
    ARMED,
    BLOCK,
    BLOCK_DTYPE,
    FREE,
    LINE,
    OWN_STAGES,
    PARKER,
    PARKER_DTYPE,
    RUN_ENTRY,
    RUN_ENTRY_DTYPE,
    RUNG,
)
from ringkernel.messages.types import MessageType
from ringkernel.ring.host.record_ring import RecordRing
from ringkernel.ring.turns.turn import rest


class RestingKernel:
    """A run entry, a block, an input and an output of 4 slots, and the parker of a worker."""

    def __init__(self) -> None:
        self.arena = arena = Arena()
        message_type = MessageType(np.int64)
        self.input, self.output = RecordRing(arena, message_type, 4), RecordRing(arena, message_type, 4)
        edge, self.taker = self.input.add_edge(), self.output.add_edge()
        self.api = self.input.api
        self.parker = arena.allocate(PARKER_DTYPE.itemsize)
        self.parker.view(PARKER_DTYPE)["fd"] = -1
        self.block = arena.allocate(BLOCK_DTYPE.itemsize + LINE)
        record = self.block.view(BLOCK_DTYPE)[0]
        record["inputs"], record["n_inputs"] = BLOCK_DTYPE.itemsize, 1
        record["stages"], record["n_stages"], record["last"] = OWN_STAGES, 1, -OWN_STAGES
        record["output"], record["max_outputs"] = self.output.address - self.block.address, 1
        self.block.view(np.dtype(np.int64), 1, BLOCK_DTYPE.itemsize)[0] = edge.address - self.block.address
        self.run_entry = arena.allocate(RUN_ENTRY_DTYPE.itemsize)
        run_entry = self.run_entry.view(RUN_ENTRY_DTYPE)[0]
        run_entry["state"], run_entry["owner"] = RUNG, FREE
        run_entry["parker_address"], run_entry["block_address"] = self.parker.address, self.block.address
        self.doorbell_address = arena.allocate(LINE)
        self.api.write_word(self.doorbell_address.address, self.run_entry.address)
        edge.set_doorbell(self.doorbell_address.address)
        self.output.set_doorbell(self.doorbell_address.address)

    def word(self, offset: int) -> int:
        return self.api.read_word(self.run_entry.address + offset)

    def is_rung(self) -> bool:
        inbox = self.api.read_word(self.parker.address + PARKER.inbox_address)
        return self.word(RUN_ENTRY.state) == RUNG and inbox == self.run_entry.address


@pytest.fixture(scope="module")
def compiled_rest() -> Any:
    return compile_entry(rest)


def test_an_idle_kernel_rests_and_a_message_rings_it(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert compiled_rest(kernel.run_entry.address, 0) == 1
    assert (kernel.word(RUN_ENTRY.state), kernel.word(RUN_ENTRY.owner)) == (ARMED, FREE)
    assert kernel.input.offer(7)
    assert kernel.is_rung()


def test_a_kernel_with_input_and_room_does_not_rest(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert kernel.input.offer(7)
    assert compiled_rest(kernel.run_entry.address, 0) == 0
    assert (kernel.word(RUN_ENTRY.state), kernel.word(RUN_ENTRY.owner)) == (RUNG, FREE)


@pytest.mark.parametrize("blocked", [1, 0], ids=["found blocked", "message came between its turn and its rest"])
def test_a_kernel_that_rests_on_a_full_output_is_rung_by_room(compiled_rest: Any, blocked: int) -> None:
    """Its last turn saw no input, or saw that there was no room: both ways somebody has to tell it of room."""
    kernel = RestingKernel()
    kernel.api.publish(kernel.output.address, 4, 0)
    kernel.api.write_word(kernel.block.address + BLOCK.blocked, blocked)
    assert kernel.input.offer(7)
    assert compiled_rest(kernel.run_entry.address, 0) == 1
    assert not kernel.is_rung()
    assert kernel.taker.look() == 4
    kernel.taker.take_many(4)
    assert kernel.is_rung()


def test_a_command_rings_a_resting_kernel(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert compiled_rest(kernel.run_entry.address, 0) == 1
    kernel.api.give_command(kernel.block.address, 1, 1, kernel.doorbell_address.address, 0)
    assert kernel.is_rung()


def test_a_kernel_that_was_taken_away_does_not_rest(compiled_rest: Any) -> None:
    kernel = RestingKernel()
    assert kernel.api.revoke(kernel.run_entry.address, 0) == FREE
    assert compiled_rest(kernel.run_entry.address, 0) == 0
