"""What threads feed of a kernel that are neither the event loop's nor a worker's, as the supervisor sees it."""

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
        """Whether none can be opened while the kernel is ACTIVE."""
        return False

    @property
    def are_crowded(self) -> bool:
        """Whether there are many inputs that were closed, which `retire` lets go of."""
        return False

    @property
    def were_used(self) -> bool:
        """Whether there ever was a feeder."""
        return False

    @property
    def are_in_use(self) -> bool:
        """Whether somebody may push by a feeder at any moment."""
        return False

    def open(self, number: int, when_full: int) -> Feeder:  # noqa: ARG002 (where there are some, they matter)
        """What a thread pushes with, into a ring of its own, which is read as the input of this number; whatever the
        state, until the kernel has ended. Raises `ConfigurationError` where there are none, `DeviceUnavailableError`
        when there is nothing to sleep on."""
        raise ConfigurationError(
            f"open_input() is for compiled kernels, and kernel {self._kernel_id!r} is on event-loop; port() is for "
            f"every kernel"
        )

    def close(self, feeder: Feeder) -> None:
        """Nobody pushes with it any more; what was pushed is the kernel's. In any thread."""

    async def retire(self) -> None:
        """Have no more inputs that nobody feeds. Raises `KernelStateError` for a handler that does not return."""

    def shut(self) -> None:
        """The kernel takes nothing more."""

    def wake(self) -> None:
        """Who waits for room may wait for nothing: have them look."""
