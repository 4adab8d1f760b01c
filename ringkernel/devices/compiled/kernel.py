"""A compiled kernel, as the parts of its engine see it, and each other through it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import LendingEngine

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ringkernel.ring.host.record_ring import RecordRing

    from .control_block import ControlBlock
    from .kernel_rings import KernelRings


class Kernel(LendingEngine):
    """One compiled kernel: its block, and its rings."""

    block: ControlBlock
    rings: KernelRings
    output: RecordRing | None
    __slots__ = ("block", "rings")

    @property
    @abstractmethod
    def is_ending(self) -> bool:
        """True if it has ended, or will without further commands."""

    @abstractmethod
    def hold(self) -> AbstractAsyncContextManager[None]:
        """Hold the token for a moment, in whatever chain the kernel is part of: that stays as it is."""

    @abstractmethod
    def on_status(self) -> None:
        """Read the block: the kernel's poller has answered, or given the token back."""

    @abstractmethod
    def take_no_more(self) -> None:
        """Refuse further messages, and take none of those that are there. The token is the host's."""

    @abstractmethod
    def lose(self, error: Exception) -> None:
        """Leave all that the kernel may reach to who runs it, and let everybody else go on."""

    @abstractmethod
    def finished(self, error: BaseException | None) -> None:
        """End the kernel, with this error if it has failed, or there is nobody to run it any more."""

    @abstractmethod
    def snapshot(self) -> Any:
        """Return a consistent copy of its counters, as a record."""
