"""Arrays of a replay in the place of kernels' queues: read where they lie, and written in place, as those of a map."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ringkernel.devices.engine import LendingEngine
from ringkernel.runtime.maps.lend import hold, hold_at_last, leave_to_receive, ring_over

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ringkernel.ring.host.record_edge import RecordEdge
    from ringkernel.runtime.kernels.kernel import RingKernel

    from .replay_plan import GivenInput


LOOK_S = 0.01
"""How often it is seen whether an array for outputs is full."""


def can_be_lent(one: GivenInput) -> bool:
    """Whether this is an array that the kernel can read where it lies, with nothing before it."""
    engine = one.kernel.engine
    if not one.count or not isinstance(engine, LendingEngine) or engine.arena_only:
        return False
    edge = engine.edges[one.number]
    return edge.published() == edge.position()


async def lend(kernel: RingKernel, arrays: Iterable[LentInputs | LentResult]) -> None:
    """Let a kernel have these arrays. Cancelled or failed, it has none of them."""
    async with AsyncExitStack() as stack:
        await hold(stack, kernel)
        if not kernel.engine.has_ended:
            for one in arrays:
                one.begin()


class LentInputs:
    """Arrays that one kernel reads in place of its own queues, whose `edges` these are."""

    def __init__(self, kernel: RingKernel, given: Iterable[GivenInput]) -> None:
        assert isinstance(kernel.engine, LendingEngine)
        self._kernel, self._engine = kernel, kernel.engine
        self._given = list(given)
        self._rings = {}
        self.edges: dict[str, RecordEdge] = {}
        for one in self._given:
            message_type = kernel.engine.declaration.type_of(one.name)
            ring = ring_over(kernel.engine.arena, one.values, message_type)
            self.edges[one.name] = ring.add_edge()
            ring.fill()
            ring.say_ended()
            self._rings[one.number] = ring
        self._taken: dict[GivenInput, int] = {}  # in the end
        self._is_lent = False

    def begin(self) -> None:
        """Let the kernel, which is held, have them."""
        self._engine.lend_inputs(self._rings)
        self._is_lent = True

    async def end(self) -> None:
        """Let it go on with its own queues; it takes no more of these. As long as it takes."""
        if not self._is_lent:
            return
        async with AsyncExitStack() as stack:
            await hold_at_last(stack, self._kernel)
            self._is_lent = False
            self._taken = {one: self.position(one) for one in self._given}
            self._engine.take_back()
        for ring in self._rings.values():
            ring.dispose()

    def position(self, one: GivenInput) -> int:
        """How much of an input was taken."""
        return self._taken[one] if one in self._taken else self.edges[one.name].position()


class LentResult:
    """An array that a kernel writes to in place of its own queue; what has no room there goes into that.

    How many outputs come is not known, and what a kernel does at its end needs a queue without an end. So the kernel
    has its own again, when the array is full, or all inputs are consumed.
    """

    def __init__(self, kernel: RingKernel, room: int) -> None:
        assert isinstance(kernel.engine, LendingEngine)
        self._kernel, self._engine = kernel, kernel.engine
        message_type = kernel.engine.declaration.output_type
        assert message_type is not None
        self.records = kernel.engine.results.allocate(room * message_type.dtype.itemsize).view(message_type.dtype)
        self._ring = ring_over(kernel.engine.arena, self.records, message_type)
        self._ring.add_edge()
        self._is_lent, self._given = False, -1
        self._count = 0

    @classmethod
    def of(cls, kernel: RingKernel, room: int) -> LentResult | None:
        """One of so much room, if the kernel can have that, and no outputs of it wait."""
        engine = kernel.engine
        can_be = isinstance(engine, LendingEngine) and not engine.arena_only and not engine.inlet.available()
        return cls(kernel, room) if can_be and room else None

    def begin(self) -> None:
        """Let the kernel, which is held, write there, unless it has emitted something meanwhile."""
        if not self._engine.inlet.available():
            self._engine.lend(None, self._ring)
            self._is_lent = True

    async def full(self) -> None:
        """Wait until there is no room for what one message may emit."""
        most = self._engine.declaration.max_outputs
        while self.position() + most <= len(self.records):  # noqa: ASYNC110 (compiled code fills it)
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """Let the kernel write to its own queue. As long as it takes."""
        if not self._is_lent:
            return
        async with AsyncExitStack() as stack:
            await hold_at_last(stack, self._kernel)
            self._count, self._is_lent = self.position(), False
            self._engine.take_back_result()
        if 0 <= self._given < self._count:
            # what came after somebody had the result
            leave_to_receive(self._engine, self.records[self._given : self._count], self._ring.message_type)
        self._ring.dispose()

    def position(self) -> int:
        """How much is filled."""
        return self._ring.position() if self._is_lent else self._count

    def give(self) -> int:
        """The same, for who has the result by now."""
        self._given = self.position()
        return self._given
