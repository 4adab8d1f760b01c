"""A device runs kernels of one kind, for one event loop: it compiles them, makes their engines, and has their memory.

The runtime knows no more of a device than this. A device that cannot change its memory while its kernels run says so;
whoever calls the methods marked *at rest* then holds the tokens of all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration

    from .engine import Engine


class Device(ABC):
    """A device, as the runtime sees it. All methods belong to the event loop's thread."""

    changes_at_rest = False
    """True if loading code, allocating and mapping memory need its kernels to be at rest."""

    @abstractmethod
    async def compile(self, declaration: Declaration) -> Any:
        """Return what `new_engine` makes an engine of; compiled in another thread, once per process.

        Raises `KernelCompileError`, and `DeviceUnavailableError` if this event loop cannot use the device.
        """

    @abstractmethod
    def new_engine(self, declaration: Declaration, code: Any) -> Engine:
        """An engine, not built yet. At rest. Raises `DeviceUnavailableError`."""

    def cannot_replace(self, engine: Engine, declaration: Declaration) -> str | None:
        """Return why a kernel cannot go on with the handler of another declaration, or None if it can."""
        return f"kernels on {engine.device} cannot be given another handler"

    async def replace(self, engine: Engine, declaration: Declaration, code: Any) -> None:
        """Let a kernel go on with other code, between two spans; at rest, where that is asked for. Its queues and its
        state stay. Cancelled, it goes on with the one or the other.

        Raises `KernelStateError` if its handler does not return, or it has ended; then nothing has changed.
        """
        raise NotImplementedError

    def reaches_memory(self) -> bool:
        """Return whether it reaches all memory that its kernels may touch: blocks, rings, what a map lends."""
        return True

    def reach_memory(self) -> None:
        """Make it reach that memory. At rest. Raises `DeviceUnavailableError`."""

    def is_placed(self, engine: Engine) -> bool:
        """Return whether the output of a kernel lies in the memory where its consumers should find it."""
        return True

    def place_output(self, engine: Engine) -> None:
        """Put a kernel's output there. At rest. Raises `DeviceUnavailableError`; the kernel is as it was then."""
