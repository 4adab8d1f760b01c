"""Waiting until a kernel has processed an input up to a message: the poller rings when the edge's cursor gets there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ringkernel.memory.layout import NEVER

if TYPE_CHECKING:
    from ringkernel.devices.event_loop.loop_parker import LoopParker
    from ringkernel.ring.host.record_edge import RecordEdge

    from .kernel import Kernel


async def processed_up_to(kernel: Kernel, parker: LoopParker, edge: RecordEdge, sequence: int) -> None:
    """See `Engine.processed_up_to`."""
    reached = asyncio.Event()
    doorbell = parker.doorbell(reached.set)
    edge.watch(sequence, doorbell.doorbell_address)
    kernel.waiters += (reached,)
    try:
        while edge.position() < sequence:
            if kernel.takes_no_more:
                raise kernel.ended_error()
            doorbell.arm()
            if edge.position() < sequence:
                await reached.wait()
                reached.clear()
        await kernel.settled()
        if kernel.error is not None:  # the cursor has also moved over what the kernel failed on
            raise kernel.ended_error()
    finally:
        kernel.waiters = tuple(waiter for waiter in kernel.waiters if waiter is not reached)
        edge.watch(NEVER, 0)
        doorbell.release()
