"""Where a ring lies whose producer and consumers are all grids of one device: in that device's memory.

The slots are there and nowhere else. The cursors are there and in host memory: the grids look at those in device
memory, and mirror them to the ring's own record once per span, so that whoever only wants to know how far they are
(statistics, drains, maps, watchers) reads it as for any ring. What the host writes, `limit`, `closed` and the doorbell
addresses, is in host memory only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ringkernel.memory.layout import LINE

if TYPE_CHECKING:
    from ringkernel.memory.arenas import Bytes


class Memory(Protocol):
    """A piece of device memory. It goes back when it is released; no grid may use it then.

    The host gets at it by copies only; one that the device fails raises `DeviceUnavailableError`.
    """

    address: int

    def read(self, offset: int, nbytes: int) -> Bytes:
        """A copy of what is there. Works while grids run, too."""

    def write(self, offset: int, source: Bytes) -> None:
        """Move bytes there: `source` does not count any more."""

    def release(self) -> None:
        """Nobody uses it any more."""


class DeviceStorage:
    """Device memory for one ring and these edges: the tail, the heads, a line each, then the slots."""

    __slots__ = ("_is_quarantined", "_memory", "device", "edges")

    def __init__(self, device: Any, memory: Memory, edges: list[Any]) -> None:
        self.device = device
        self.edges = tuple(edges)
        self._memory = memory
        self._is_quarantined = False

    @staticmethod
    def nbytes(n_edges: int, slot_nbytes: int) -> int:
        """Bytes that it takes."""
        return LINE * (1 + n_edges) + slot_nbytes

    @property
    def tail_address(self) -> int:
        """Where the producer's cursor is, in device memory."""
        return self._memory.address

    def head_address(self, edge: Any) -> int:
        """Where a consumer's cursor is, in device memory."""
        return self._memory.address + LINE * (1 + self.edges.index(edge))

    @property
    def slots_address(self) -> int:
        """Where the slots begin."""
        return self._memory.address + self._slots_at

    @property
    def _slots_at(self) -> int:
        return LINE * (1 + len(self.edges))

    def read_slots(self, start: int, nbytes: int) -> Bytes:
        """A copy of bytes of the slot array; nobody writes them at the moment."""
        return self._memory.read(self._slots_at + start, nbytes)

    def write(self, cursors: Bytes, slots: Bytes) -> None:
        """Move the cursors, in lines, and the slots there."""
        self._memory.write(0, cursors)
        self._memory.write(self._slots_at, slots)

    def quarantine(self) -> None:
        """Never reuse this memory: a grid that does not return may still touch it."""
        self._is_quarantined = True

    def __del__(self) -> None:
        if not self._is_quarantined:
            self._memory.release()
