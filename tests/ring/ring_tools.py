"""Rings for tests, and what tests do with rings of either kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from ringkernel.memory.arenas import Arena
from ringkernel.messages.arrays import as_array
from ringkernel.messages.types import MessageType
from ringkernel.ring.host.record_ring import RecordRing
from ringkernel.ring.host.waiting import NOTHING

INT64 = MessageType(np.int64)
JOIN_S = 60.0


def record_ring(capacity: int, message_type: MessageType = INT64) -> RecordRing:
    return RecordRing(Arena(), message_type, capacity)


def take(edge: Any) -> Any:
    return edge.take() if edge.available() else NOTHING


def leftovers(edge: Any) -> list[int]:
    """What a closed edge had not taken."""
    return [int(one if isinstance(one, int) else one["value"]) for batch in edge.leftovers() for one in batch]


def some(start: int, count: int) -> Any:
    return as_array(INT64, np.arange(start, start + count))


class Pair:
    """A ring of int64 with one edge, and words for compiled code to copy from and to."""

    def __init__(self, capacity: int, message_type: MessageType = INT64, edges: int = 1) -> None:
        self.ring = RecordRing(Arena(), message_type, capacity)
        self.edges = [self.ring.add_edge() for _ in range(edges)]
        self.edge = self.edges[0]
        self.words = np.zeros(16, np.int64)
        self.address = int(self.words.ctypes.data)
