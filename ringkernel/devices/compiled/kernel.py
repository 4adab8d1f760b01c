"""A compiled kernel, as the parts of its engine see it, and each other through it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.errors import RingKernelError
    from ringkernel.ring.host.kinds import Edge
    from ringkernel.ring.host.record_ring import RecordRing

    from .control_block import ControlBlock
    from .kernel_rings import KernelRings


class Kernel(Protocol):
    """One compiled kernel. All `waiters` are set when it takes no more."""

    kernel_id: str
    device: str
    declaration: Declaration
    block: ControlBlock
    rings: KernelRings
    output: RecordRing | None
    doorbell_address: int
    has_ended: bool
    is_reached: bool
    closing: str | None
    in_flight: int
    error: BaseException | None
    waiters: tuple[asyncio.Event, ...]
    taken: list[Callable[[], object]]

    @property
    def is_running(self) -> bool:
        """Whether the token is with who runs it."""

    @property
    def is_ending(self) -> bool:
        """Whether it has ended, or will without further commands."""

    @property
    def takes_no_more(self) -> bool:
        """Whether it has ended, or its handler has said so."""

    async def start(self) -> None:
        """Hand the token over."""

    async def pause(self) -> None:
        """Take the token. Raises `KernelStateError` if that does not go."""

    def add_input(self, edge: Edge, number: int = 0) -> None:
        """Read from a further edge, as from the input of this number."""

    def token(self) -> AbstractAsyncContextManager[None]:
        """Hold the token for a moment, whatever the state."""

    def hold(self) -> AbstractAsyncContextManager[None]:
        """The same, in whatever chain it is part of: that stays as it is."""

    async def settled(self) -> None:
        """If its handler has failed: wait until it is known why, and whether the kernel has ended."""

    async def wait_end(self, timeout: float | None = None) -> None:
        """Wait until it has ended. Raises `asyncio.TimeoutError`."""

    async def has_ended_within(self, timeout: float) -> bool:
        """Wait until it has ended, at most so long. Return whether it has."""

    async def wait_while_it_gets_on(self, deadline: float) -> None:
        """Wait until it has ended, the time is over, or it has only waited for room for a while."""

    def on_status(self) -> None:
        """There is an answer in the block."""

    def finished(self, error: BaseException | None) -> None:
        """It has ended; with this error, for instance since there is nobody to run it any more."""

    def lose(self, error: Exception) -> None:
        """Leave all that it may reach to who runs it, and let everybody else go on."""

    def snapshot(self) -> Any:
        """A consistent copy of its counters, as a record."""

    def take_no_more(self) -> None:
        """Refuse further messages, and take none of those that are there. The token is the host's."""

    def ended_reason(self) -> RingKernelError | None:
        """Why nothing more will come out, or None."""

    def ended_error(self) -> RingKernelError:
        """Why it has ended."""
