"""The inputs of a kernel that are fed by threads which are neither the event loop's nor a worker's: the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.errors import ConfigurationError

if TYPE_CHECKING:
    from ringkernel.ring.host.feeder import Feeder


class ThreadFeeds:
    """The inputs of one kernel that threads feed: none, unless its engine has some. All methods but `close` are the
    event loop's."""

    __slots__ = ("_kernel_id",)

    def __init__(self, kernel_id: str) -> None:
        self._kernel_id = kernel_id

    @property
    def open_at_rest(self) -> bool:
        """True if none can be opened while the kernel is ACTIVE."""
        return False

    @property
    def are_crowded(self) -> bool:
        """True if there are many inputs that were closed, which `retire` lets go of."""
        return False

    @property
    def were_used(self) -> bool:
        """True if there ever was a feeder."""
        return False

    @property
    def are_in_use(self) -> bool:
        """True if somebody may push by a feeder at any moment."""
        return False

    def open(self, number: int, when_full: int) -> Feeder:  # noqa: ARG002 (where there are some, they matter)
        """Return the right to push into a new ring, which is read as the input of this number; in any state, until the
        kernel has ended. Raises `ConfigurationError` where there are none, `DeviceUnavailableError`
        when there is nothing to sleep on."""
        raise ConfigurationError(
            f"open_input() is for compiled kernels, and kernel {self._kernel_id!r} is on event-loop; port() is for "
            f"every kernel"
        )

    def close(self, feeder: Feeder) -> None:
        """Push no more with it; what was pushed is the kernel's. In any thread."""

    async def retire(self) -> None:
        """Have no more inputs that nobody feeds. Raises `KernelStateError` for a handler that does not return."""

    def shut(self) -> None:
        """The kernel takes nothing more."""

    def wake(self) -> None:
        """Have all who wait for room look again: they may wait for nothing."""
