"""A map in place: the array is the first kernel's input ring, the result the last one's output ring.

The rings belong to the engines from the moment in which their blocks name them until the token has come back and the
blocks name the kernels' own rings again, whatever is raised or cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.devices.engine import LendingEngine
from ringkernel.errors import KernelStateError, RingKernelError
from ringkernel.lifecycle import KernelState
from ringkernel.messages.arrays import from_array
from ringkernel.runtime.graph.neighbours import edge_between

from .path import check_empty, most_outputs
from .transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.memory.arenas import Arena, Region
    from ringkernel.ring.host.record_edge import RecordEdge
    from ringkernel.ring.host.record_ring import RecordRing
    from ringkernel.runtime.kernels.kernel import RingKernel

    from .lease import Lease

_DRAIN_S = 1.0


class LentRings:
    """The input ring of a map and its output ring, over the arrays of the messages and of the results; `output` is None
    for a kernel that emits nothing."""

    __slots__ = ("edge", "output", "source")

    def __init__(self, path: list[RingKernel], messages: Any, room: Any) -> None:
        first, last = _ends(path)
        own: Any = first.outlet.ring
        woke = own.woke if own.here else None
        self.source = ring_over(first.arena, messages, first.declaration.input_type, woke)
        self.edge = self.source.add_edge()
        output_type = last.declaration.output_type
        self.output = None if output_type is None else ring_over(first.arena, room, output_type)
        if self.output is not None:
            self.output.add_edge()


class Lent(Transfer):
    """The array and the result of a map, and where they are."""

    def __init__(
        self, path: list[RingKernel], rings: LentRings, lease: Lease | None, out: Any, regions: list[Region]
    ) -> None:
        super().__init__(path, lease)
        self._out = out
        self._is_lent = False
        self._given = -1
        self._taken: int | None = None  # in the end
        self._regions = regions
        self._engines = _ends(path)
        self._in_arena = bool(regions)
        self._ring, self._output = rings.source, rings.output
        self.source: RecordEdge = rings.edge
        self.count = self.end = len(self._ring.slots)

    @classmethod
    def over(cls, path: list[RingKernel], messages: Any, lease: Lease, out: Any) -> Lent:
        """A map of these messages: not begun."""
        first, last = _ends(path)
        regions: list[Region] = []
        in_arena = any(isinstance(engine := kernel.engine, LendingEngine) and engine.arena_only for kernel in path)
        if in_arena:
            messages = _arena_copy(first.arena, messages, regions)
        room = None
        output_type = last.declaration.output_type
        if output_type is not None:
            most = most_outputs(path, len(messages))
            nbytes = most * output_type.dtype.itemsize
            if in_arena:
                room = _arena_bytes(first.arena, nbytes, regions)
            else:
                room = first.results.allocate(nbytes) if out is None else out[:most]
            room = room.view(output_type.dtype)
        rings = LentRings(path, messages, room)
        rings.source.fill()
        return cls(path, rings, lease, out, regions)

    @classmethod
    def begun(cls, path: list[RingKernel], rings: LentRings, out: Any) -> Lent:
        """A map that is running, over rings that `map_here` has lent."""
        transfer = cls(path, rings, None, out, [])
        transfer._exchange()
        return transfer

    def position(self) -> int:
        return self.source.position() if self._taken is None else self._taken

    async def put(self) -> None:
        """Exchange the rings when nothing is on its way through the chain: what was sent before must not mix with the
        map. Cancelled or failed, nothing was exchanged."""
        if self._is_lent:  # it has begun
            self.lease.close_output()
            return
        await self.lease.hold_foreign_sources()
        async with AsyncExitStack() as stack:
            await hold(stack, self._first)
            if self._last is not self._first:
                await _drain(self._path)
                await hold(stack, self._last)
                check_empty(self._path)
            self.lease.close_output()
            self._exchange()

    def _exchange(self) -> None:
        first, last = self._engines
        self._is_lent = True
        first.lend(self._ring, self._output if last is first else None)
        if last is not first:
            last.lend(None, self._output)

    def end_at_once(self) -> bool:
        if not self._is_lent:
            return True
        if self.source.position() < self.end or not all(is_at_rest(kernel) for kernel in self._path):
            return False
        self._exchange_again()
        return True

    async def take_back(self) -> None:
        """Stop reading at a span's edge; let what is on its way arrive, as far as it can; exchange the rings again.

        Waits for the tokens for as long as it takes.
        """
        if self.end_at_once():
            return
        self.source.limit = 0  # beyond the span that runs now, nothing more is taken
        async with AsyncExitStack() as stack:
            await hold_at_last(stack, self._first)
            if self._last is not self._first:
                with suppress(RingKernelError, asyncio.TimeoutError):
                    async with asyncio.timeout(_DRAIN_S):
                        await _drain(self._path)
                await hold_at_last(stack, self._last)
            self._exchange_again()

    def _exchange_again(self) -> None:
        first, last = self._engines
        self._taken = self.source.position()
        first.take_back()
        if last is not first:
            last.take_back()
        self._leave_the_rest(last)
        self._let_go(is_reached=first.is_reached or last.is_reached)

    def _leave_the_rest(self, last: LendingEngine) -> None:
        """What came after somebody had the result can be received."""
        output = self._output
        if output is not None and 0 <= self._given < output.position():
            if self._out is None or self._in_arena:
                edge = output.edges[0]
                edge.skip_to(self._given)
                output.keepalive = self._regions
                last.inlet.take_first_from(edge)
            else:  # the array that was given is its owner's again
                leave_to_receive(last, output.slots[self._given : output.position()], output.message_type)
                output.dispose()
        elif output is not None and self._given >= 0:
            output.dispose()

    def _let_go(self, *, is_reached: bool) -> None:
        """Of the memory, unless a handler that does not return may reach it."""
        if is_reached:
            for region in self._regions:
                region.quarantine()
        self._ring.dispose()
        self._is_lent = False

    def result(self) -> Any:
        output = self._output
        if output is None:
            return None
        self._given = given = output.position()
        result = from_array(output.message_type, output.slots[:given])
        if self._out is None:
            made = result.copy() if self._in_arena else result
        else:
            made = self._out[:given]
            if self._in_arena:
                made[:] = result
        if not self._is_lent:
            output.dispose()  # at once, so that its memory can serve again when the result is let go of
        return made


def _ends(path: list[RingKernel]) -> tuple[LendingEngine, LendingEngine]:
    first, last = path[0].engine, path[-1].engine
    assert isinstance(first, LendingEngine)
    assert isinstance(last, LendingEngine)
    return first, last


def ring_over(arena: Arena, array: Any, message_type: Any, woke: Callable[[int], None] | None = None) -> RecordRing:
    """A ring with this array as its slots."""
    from ringkernel.ring.host.record_ring import RecordRing

    return RecordRing(arena, message_type, 1 << max(0, len(array) - 1).bit_length(), lent=array, woke=woke)


def leave_to_receive(engine: LendingEngine, records: Any, message_type: Any) -> None:
    """A copy of these outputs can be received from a kernel, before anything else."""
    ring = ring_over(engine.arena, records.copy(), message_type)
    edge = ring.add_edge()
    ring.fill()
    engine.inlet.take_first_from(edge)


def _arena_bytes(arena: Arena, nbytes: int, regions: list[Region]) -> Any:
    regions.append(arena.allocate(nbytes))
    return regions[-1].bytes[:nbytes]


def _arena_copy(arena: Arena, messages: Any, regions: list[Region]) -> Any:
    """The messages where a device reaches them."""
    copy = _arena_bytes(arena, messages.nbytes, regions).view(messages.dtype)
    copy.view(np.uint8)[:] = messages.view(np.uint8)
    return copy


def is_at_rest(kernel: RingKernel) -> bool:
    """Whether a kernel of a path is ACTIVE and rests, and nobody is about to give it a command."""
    engine = kernel.engine
    is_active = kernel.state is KernelState.ACTIVE and not kernel.lock.locked()
    return is_active and isinstance(engine, LendingEngine) and engine.rests


async def hold(stack: AsyncExitStack, kernel: RingKernel) -> None:
    """Hold a kernel's token until the stack is closed. Raises `KernelStateError` if its handler does not return."""
    async with AsyncExitStack() as attempt:
        await attempt.enter_async_context(kernel.lock)
        assert isinstance(kernel.engine, LendingEngine)
        await attempt.enter_async_context(kernel.engine.token())
        stack.push_async_exit(attempt.pop_all())


async def hold_at_last(stack: AsyncExitStack, kernel: RingKernel) -> None:
    """As `hold`, however long the handler takes."""
    while True:
        with suppress(KernelStateError):
            await hold(stack, kernel)
            return


async def _drain(path: list[RingKernel]) -> None:
    """Wait until what the first kernel, which is held, has emitted is through, as far as the others are running."""
    before = path[0]
    for kernel in path[1:]:
        if kernel.state is not KernelState.ACTIVE:
            return
        edge = edge_between(before, kernel)
        await kernel.engine.processed_up_to(edge, edge.published())
        before = kernel
