"""The input of a source: a ring without records, in which a message always waits.

So a kernel without input runs by the same turns as any other: each call of its handler takes a message that is nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.memory.layout import RING

from .record_edge import RecordEdge
from .record_ring import RecordRing

if TYPE_CHECKING:
    from ringkernel.memory.arenas import Arena

ENDLESS = 2**60
"""So many calls no kernel makes."""
_CAPACITY = 2**30


class _Nothing:
    """The type of what waits there."""

    dtype = np.dtype([])

    @staticmethod
    def is_batch(_: Any) -> bool:
        """Nothing is an array of it."""
        return False


class EndlessEdge(RecordEdge):
    """The consumer. What it has taken was all that there was."""

    __slots__ = ()

    def published(self) -> int:
        """The next call."""
        return self.position()

    def leftovers(self) -> list[Any]:
        """Nothing."""
        return []


class EndlessRing(RecordRing):
    """The ring. Nobody sends there: it is shut."""

    edge_class = EndlessEdge
    __slots__ = ()

    def __init__(self, arena: Arena) -> None:
        nothing: Any = _Nothing
        super().__init__(arena, nothing, _CAPACITY)
        self.shut_off()

    def add_edge(self) -> RecordEdge:
        """The one consumer."""
        edge = super().add_edge()
        self.api.write_word(self.address + RING.tail, ENDLESS)
        return edge

    def position(self) -> int:
        """Return the number of messages taken: the ring never holds more than its consumer wants."""
        return self.edges[0].position() if self.edges else 0

    def copy_out(self, head: int, count: int) -> Any:  # noqa: ARG002 (as of any ring)
        """So many times nothing."""
        return np.empty(count, self.message_type.dtype)
