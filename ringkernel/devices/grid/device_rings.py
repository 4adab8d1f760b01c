"""Rings in device memory, and the decision which ones lie there. Nothing else knows of them but a grid's mailbox.

A ring that only grids of one device use lies in that device's memory. Every other one lies in host memory, which all
devices reach. That is decided before the producer starts, while the device is quiesced. Until then nothing new is
published: a consumer that was added since, and reads in host memory, finds nothing to take.

The slots are on the device and nowhere else. The cursors are there and in host memory: the grids look at those in
device memory, and mirror them to the ring's own record once per span, so that whoever only wants to know how far they
are (statistics, drains, maps, watchers) reads it as for any ring. What the host writes, `limit`, `closed` and the
doorbell addresses, is in host memory only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.memory.layout import EDGE, LINE, RING

if TYPE_CHECKING:
    from ringkernel.memory.arenas import Bytes
    from ringkernel.ring.host.record_edge import RecordEdge
    from ringkernel.ring.host.record_ring import RecordRing

    from .hardware import Hardware, Memory


class DeviceStorage:
    """Device memory for one ring and these edges: the tail, the heads, a line each, then the slots.

    See `ring/host/storage.py`.
    """

    __slots__ = ("_is_quarantined", "_memory", "device", "edges")

    def __init__(self, device: Hardware, memory: Memory, edges: list[RecordEdge]) -> None:
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

    def head_address(self, edge: RecordEdge) -> int:
        """Where a consumer's cursor is, in device memory; 0 for one that is in host memory only."""
        return self._memory.address + LINE * (1 + self.edges.index(edge)) if edge in self.edges else 0

    @property
    def address(self) -> int:
        """Where the slots begin."""
        return self._memory.address + self._slots_at

    @property
    def _slots_at(self) -> int:
        return LINE * (1 + len(self.edges))

    def read(self, start: int, nbytes: int) -> Bytes:
        """A copy of bytes of the slot array."""
        return self._memory.read(self._slots_at + start, nbytes) if nbytes else np.empty(0, np.uint8)

    def write(self, slots: Bytes) -> None:
        """Move the slots there."""
        self._memory.write(self._slots_at, slots)

    def write_cursors(self, tail: int) -> None:
        """Move the cursors there."""
        cursors = np.zeros((1 + len(self.edges), LINE // 8), np.int64)
        cursors[:, 0] = [tail, *(edge.position() for edge in self.edges)]
        self._memory.write(0, cursors.view(np.uint8).reshape(-1))

    def quarantine(self) -> None:
        """Never reuse this memory: a grid that does not return may still touch it."""
        self._is_quarantined = True

    def __del__(self) -> None:
        if not self._is_quarantined:
            self._memory.release()


def is_placed(ring: Any) -> bool:
    """Return whether a kernel's output, of whatever kind, lies in the memory where it should."""
    if ring is None or not ring.holds_records or _device_of(ring.engine) is None:
        return True
    readers = [edge for edge in ring.edges if not edge.closed]
    if not readers:
        return True
    device, storage = _wanted(ring), ring.storage
    if not isinstance(storage, DeviceStorage):
        return device is None
    return storage.device is device and set(readers) <= set(storage.edges)


def place(ring: Any) -> None:
    """Put a kernel's output in the memory where it should lie. No grid of the device runs.

    Raises `DeviceUnavailableError`, and then the ring is where it was, or in host memory.
    """
    if is_placed(ring):
        return
    if isinstance(ring.storage, DeviceStorage):
        ring.move_to_host()
        _look_for_cursors_in(ring, None)
    device = _wanted(ring)
    if device is not None:
        edges = [edge for edge in ring.edges if not edge.closed]
        memory = device.allocate(DeviceStorage.nbytes(len(edges), ring.slot_nbytes), ring.arena)
        storage = DeviceStorage(device, memory, edges)
        storage.write_cursors(ring.position())
        ring.move_to(storage)
        _look_for_cursors_in(ring, storage)


def _look_for_cursors_in(ring: RecordRing, storage: DeviceStorage | None) -> None:
    """Tell the grids where the cursors are; None: in host memory."""
    write = ring.api.write_word
    write(ring.address + RING.device_cursor_address, 0 if storage is None else storage.tail_address)
    for edge in ring.edges:
        address = 0 if storage is None else storage.head_address(edge)
        write(edge.address + EDGE.device_cursor_address, address)


def _wanted(ring: RecordRing) -> Hardware | None:
    """The device in whose memory a ring with consumers should lie; None: in host memory."""
    device = _device_of(ring.engine)
    readers = [edge.engine for edge in ring.edges if not edge.closed]
    return device if all(_device_of(reader) is device for reader in readers) else None


def _device_of(engine: Any) -> Hardware | None:
    return getattr(getattr(engine, "executor", None), "hardware", None)
