"""Waiting until a kernel has processed an input up to a message: the poller rings when the edge's cursor gets there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from ringkernel.memory.layout import NEVER

if TYPE_CHECKING:
    from ringkernel.devices.event_loop.loop_parker import LoopParker
    from ringkernel.errors import RingKernelError
    from ringkernel.ring.record_edge import RecordEdge


class Processing(Protocol):
    """The kernel, as who waits for its cursor sees it. It sets all `waiters` when it has ended."""

    has_ended: bool
    error: BaseException | None
    waiters: tuple[asyncio.Event, ...]

    @property
    def is_failing(self) -> bool:
        """Whether its handler has failed, and why is being found out."""

    async def wait_end(self, timeout: float | None = None) -> None:
        """Wait until it has ended."""

    def ended_error(self) -> RingKernelError:
        """Why it has ended."""


async def processed_up_to(kernel: Processing, parker: LoopParker, edge: RecordEdge, sequence: int) -> None:
    """See `Engine.processed_up_to`."""
    reached = asyncio.Event()
    doorbell = parker.doorbell(reached.set)
    edge.watch(sequence, doorbell.doorbell_address)
    kernel.waiters += (reached,)
    try:
        while edge.position() < sequence:
            if kernel.has_ended:
                raise kernel.ended_error()
            doorbell.arm()
            if edge.position() < sequence:
                await reached.wait()
                reached.clear()
        if kernel.is_failing:
            await kernel.wait_end()
        if kernel.error is not None:  # the cursor has also moved over what the kernel failed on
            raise kernel.ended_error()
    finally:
        kernel.waiters = tuple(waiter for waiter in kernel.waiters if waiter is not reached)
        edge.watch(NEVER, 0)
        doorbell.release()
