"""The watcher of grids, in plain Python."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ringkernel.codegen import operations as ops
from ringkernel.codegen.specialise import Specializer
from ringkernel.devices.grid import watcher as watch
from ringkernel.memory.layout import BLOCK_DTYPE, FREE, RUNG, SEAT, SEAT_DTYPE
from ringkernel.memory.mailbox_layout import BOOK_DTYPE


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


def test_a_seat_is_not_claimed_while_its_watcher_naps():
    """The host has to find it free before it can give up a grid that does not answer."""
    seat, book, block = (np.zeros(1, dtype) for dtype in (SEAT_DTYPE, BOOK_DTYPE, BLOCK_DTYPE))
    seat["block_address"], book["block_address"] = book.ctypes.data, block.ctypes.data
    block["epoch"] = 1  # an answer is to come, so it is watched on
    owners = []
    table: dict[Any, Any] = {
        **dict.fromkeys((ops.load, ops.load_acquire), load),
        **dict.fromkeys((ops.store, ops.store_release), store),
        ops.compare_exchange: compare_exchange,
        ops.fence: lambda: None,
        ops.nap: lambda ns: owners.append(load(seat.ctypes.data + SEAT.owner)),
    }
    rest_watch = Specializer(lambda function: function, table)(watch.rest_watch)
    assert rest_watch(seat.ctypes.data) == 0
    assert owners == [FREE]
    assert seat["state"] == RUNG
