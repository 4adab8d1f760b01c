"""Which memory a ring lies in: the one module that decides it.

A ring that only grids of one device use lies in device memory, see `ring/storage.py`. Every other one lies in host
memory, which all devices reach. That is settled before the producer starts, while the device is quiesced. Until then
nothing new is published: a consumer that was added since, and reads in host memory, finds nothing to take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.ring.storage import DeviceStorage

if TYPE_CHECKING:
    from ringkernel.ring.record_ring import RecordRing

    from .device import GridDevice


def is_settled(ring: Any) -> bool:
    """Whether a kernel's output, of whatever kind, lies in the memory where it should."""
    if ring is None or not ring.holds_records or _device_of(ring.engine) is None:
        return True
    readers = [edge for edge in ring.edges if not edge.closed]
    if not readers:
        return True
    device = _wanted(ring)
    if device is None or ring.storage is None:
        return device is None and ring.storage is None
    return ring.storage.device is device and set(readers) <= set(ring.storage.edges)


def settle(ring: Any) -> None:
    """Put a kernel's output in the memory where it should lie. No grid of the device runs.

    Raises `DeviceUnavailableError`, and then the ring is where it was, or in host memory.
    """
    if is_settled(ring):
        return
    ring.bring_to_host()
    device = _wanted(ring)
    if device is not None:
        edges = [edge for edge in ring.edges if not edge.closed]
        memory = device.allocate(DeviceStorage.nbytes(len(edges), ring.slot_nbytes), ring.arena)
        ring.move_to(DeviceStorage(device, memory, edges))


def _wanted(ring: RecordRing) -> GridDevice | None:
    """The device in whose memory a ring with consumers should lie; None: in host memory."""
    device = _device_of(ring.engine)
    readers = [edge.engine for edge in ring.edges if not edge.closed]
    return device if all(_device_of(reader) is device for reader in readers) else None


def _device_of(engine: Any) -> GridDevice | None:
    return getattr(engine, "grid_device", None)
