"""An input of a kernel, and what a map or a replay has for it: an array in the place of the queue, or batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.runtime.kernels.message_queue import as_batch

from .results import ring_over

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ringkernel.devices.event_loop.outlet import Outlet
    from ringkernel.devices.event_loop.waiting_line import Hold
    from ringkernel.memory.arenas import Region
    from ringkernel.ring.host.record_ring import RecordRing
    from ringkernel.runtime.kernels.kernel import RingKernel


@dataclass(eq=False)
class GivenInput:
    """The values for one input of a kernel.

    Attributes:
        values: one batch as it is sent, if `count` is known, else an iterator of batches.
        key: how the caller has named the input.
        sent: how many messages the kernel was sent; of an array, how many it had taken when that was detached.
        ring: the ring over an array that the kernel reads where it lies.
        edge: where its cursor is, which begins at `start`; None once an array is detached.
    """

    kernel: RingKernel
    values: Any
    count: int | None
    name: str = ""
    key: Any = None
    extra: str = "refuse"
    sent: int = 0
    ring: RecordRing | None = None
    edge: Any = None
    start: int = 0
    _region: Region | None = None

    @property
    def outlet(self) -> Outlet:
        """The host's end of it."""
        return self.kernel.engine.outlet_of(self.name)

    @property
    def number(self) -> int:
        """Its place among the inputs of its kernel."""
        return self.kernel.engine.declaration.input_names.index(self.name)

    @property
    def total(self) -> str:
        """The number of messages, in words."""
        return "so many" if self.count is None else str(self.count)

    def __str__(self) -> str:
        which = f"input {self.name!r}" if self.name else "the input"
        return f"{which} of kernel {self.kernel.kernel_id!r}"

    def batch_of(self, values: Any) -> Any:
        """Return messages as they are sent. Raises `MessageTypeError`."""
        return as_batch(self.kernel.engine.declaration.type_of(self.name), values, self.extra)

    async def batches(self) -> AsyncIterator[Any]:
        """Yield the values as they are sent. Raises `MessageTypeError` for a batch of another type."""
        if self.count is not None:
            yield self.values
        elif hasattr(self.values, "__aiter__"):
            async for values in self.values:
                yield self.batch_of(values)
        else:
            for values in self.values:
                yield self.batch_of(values)

    async def hand_over(self, batch: Any, hold: Hold) -> None:
        """Send a batch at the head of the queue's line, and count it. Cancelled or failed, a prefix was sent, and is
        counted."""
        try:
            await self.outlet.put_many(batch, hold=hold)
        except BaseException as error:
            self.sent += getattr(error, "sent", 0)
            raise
        self.sent += len(batch)

    # --- how far the kernel is -------------------------------------------------------------------------------

    def use_queue(self) -> None:
        """Have the kernel take the values from its own queue, which nobody else feeds from here on."""
        self.edge = self.kernel.engine.edges[self.number]
        self.start = self.edge.position()

    def use_array(self, *, in_arena: bool = False) -> None:
        """Have the kernel read the values where they lie once it is attached; or a copy `in_arena`, for a device that
        reaches nothing else."""
        engine: Any = self.kernel.engine
        array = self.values
        if in_arena:
            self._region = engine.arena.allocate(array.nbytes)
            array = self._region.bytes[: array.nbytes].view(array.dtype)
            array.view(np.uint8)[:] = self.values.view(np.uint8)
        self.use_ring(ring_over(engine, array, engine.declaration.type_of(self.name)))
        self.edge.ring.fill()

    def use_ring(self, ring: RecordRing) -> None:
        """Have the kernel read this ring once it is attached."""
        self.ring, self.edge, self.start = ring, ring.edges[0], 0

    @property
    def is_through(self) -> bool:
        """True once all messages have been taken."""
        return self.taken() == self.count

    @property
    def end(self) -> int:
        """The cursor's place when all messages have been taken, if their number is known."""
        assert self.count is not None
        return self.start + self.count

    def taken(self) -> int:
        """Return how many messages the kernel has taken."""
        return self.sent if self.edge is None else int(self.edge.position()) - self.start

    def given(self) -> int:
        """Return how many messages the kernel has: what is in its queue is its own, what is left of an array is not."""
        return self.sent if self.ring is None else self.taken()

    def detached(self) -> None:
        """Note that the kernel reads its own queue again: let go of the array."""
        if self.ring is None or self.edge is None:
            return
        self.sent, self.edge = self.taken(), None
        if self._region is not None and self.kernel.engine.is_reached:  # type: ignore[attr-defined]  # one that lends
            self._region.quarantine()
        self.ring.dispose()
