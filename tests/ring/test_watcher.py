"""The watcher of a grid never keeps the host from giving up one that does not answer."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ringkernel.codegen import operations as ops
from ringkernel.codegen.specialise import Specializer
from ringkernel.devices.grid import watcher
from ringkernel.memory.layout import BLOCK_DTYPE, FREE, RUN_ENTRY, RUN_ENTRY_DTYPE, RUNG
from ringkernel.memory.mailbox_layout import CONTROL_DTYPE
from ringkernel.ring.protocol import cursors
from ringkernel.ring.spans import fill
from ringkernel.ring.turns import turn


def word(address: int) -> Any:
    return ctypes.c_int64.from_address(address)


def load(address: int) -> int:
    return int(word(address).value)


def store(address: int, value: int) -> None:
    word(address).value = value


def compare_exchange(address: int, expected: int, value: int) -> int:
    seen = load(address)
    if seen == expected:
        store(address, value)
    return seen


def test_a_grid_is_watched_until_it_says_that_there_is_no_room() -> None:
    """Its outputs are posted before its inputs: they may be full, and its last inputs not have been told."""
    run_entry, control, block = (np.zeros(1, dtype) for dtype in (RUN_ENTRY_DTYPE, CONTROL_DTYPE, BLOCK_DTYPE))
    run_entry["block_address"], control["block_address"] = control.ctypes.data, block.ctypes.data
    for blocked, rests in ((0, 0), (1, 1)):
        block["blocked"] = blocked
        table: dict[Any, Any] = {
            **dict.fromkeys((ops.load, ops.load_acquire), load),
            **dict.fromkeys((ops.store, ops.store_release), store),
            ops.compare_exchange: compare_exchange,
            ops.fence: lambda: None,
            ops.nap: lambda ns: None,
            cursors.waiting_of: lambda block: 1,
            turn.has_room: lambda block: 0,
            **dict.fromkeys((fill.goes_by_time, watcher.tell, turn.let_producers_in), lambda *given: 0),
        }
        assert Specializer(lambda function: function, table)(watcher.rest_watch)(run_entry.ctypes.data, 0) == rests


def test_a_run_entry_is_not_claimed_while_its_watcher_naps() -> None:
    """The host has to find it free before it can give up a grid that does not answer."""
    run_entry, control, block = (np.zeros(1, dtype) for dtype in (RUN_ENTRY_DTYPE, CONTROL_DTYPE, BLOCK_DTYPE))
    run_entry["block_address"], control["block_address"] = control.ctypes.data, block.ctypes.data
    block["epoch"] = 1  # an answer is to come, so it is watched on
    owners = []
    table: dict[Any, Any] = {
        **dict.fromkeys((ops.load, ops.load_acquire), load),
        **dict.fromkeys((ops.store, ops.store_release), store),
        ops.compare_exchange: compare_exchange,
        ops.fence: lambda: None,
        ops.nap: lambda ns: owners.append(load(run_entry.ctypes.data + RUN_ENTRY.owner)),
    }
    rest_watch = Specializer(lambda function: function, table)(watcher.rest_watch)
    assert rest_watch(run_entry.ctypes.data, 0) == 0
    assert owners == [FREE]
    assert run_entry["state"] == RUNG
