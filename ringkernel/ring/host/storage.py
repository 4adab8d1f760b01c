"""Where the slots of a record ring are: in host memory, unless a device keeps them in its own.

A ring knows its storage as `Storage` alone. Its own record and its edges are in host memory always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.memory.arenas import Bytes, Region

Array = npt.NDArray[Any]


class Storage(Protocol):
    """Memory for the slots of one ring. `read` and `write` raise `DeviceUnavailableError` where a device fails them."""

    @property
    def address(self) -> int:
        """Where the slots begin."""

    def read(self, start: int, nbytes: int) -> Bytes:
        """Bytes of the slot array, a copy or a view. Nobody writes them at the moment."""

    def write(self, slots: Bytes) -> None:
        """Move all slots there."""

    def quarantine(self) -> None:
        """Never reuse this memory: whoever does not return may still touch it."""


class HostStorage:
    """Slots in a ring's own region, from `start` on, or an array that it was lent."""

    __slots__ = ("_bytes", "_lent", "_region", "_start", "address")

    def __init__(self, region: Region, start: int, lent: Array | None, address_of: Callable[[Array], int]) -> None:
        self._region, self._start, self._lent = region, start, lent
        self._bytes: Bytes | None = None
        self.address = region.address + start if lent is None else address_of(lent)

    @property
    def bytes(self) -> Bytes:
        """All of it. Made when first asked for: many a ring never sees a single message in Python."""
        if self._bytes is None:
            self._bytes = self._region.bytes[self._start :] if self._lent is None else self._lent.view(np.uint8)
        return self._bytes

    def view(self, dtype: np.dtype[Any], count: int) -> Array:
        """The slot array; it is the array that was lent, if one was."""
        return self._region.view(dtype, count, self._start) if self._lent is None else self._lent

    def read(self, start: int, nbytes: int) -> Bytes:
        """See `Storage`."""
        return self.bytes[start : start + nbytes]

    def write(self, slots: Bytes) -> None:
        """See `Storage`."""
        self.bytes[:] = slots

    def quarantine(self) -> None:
        """See `Storage`. Who lends an array sees to that himself."""
        self._region.quarantine()

    def let_go(self) -> None:
        """Of the array that was lent."""
        self._lent = self._bytes = None
