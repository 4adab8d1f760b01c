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
from ringkernel.ring.waiting import NOTHING

from .graph import edge_between
from .path import check_empty, is_nobodys, most_outputs
from .transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.memory.arenas import Region
    from ringkernel.ring.record_edge import RecordEdge
    from ringkernel.ring.record_ring import RecordRing

    from .kernel import RingKernel
    from .lease import Lease

_DRAIN_S = 1.0


class Lent(Transfer):
    """The array and the result of a map, and where they are."""

    def __init__(self, path: list[RingKernel], messages: Any, lease: Lease | None, out: Any) -> None:
        super().__init__(path, lease)
        self._out = out
        self._is_lent = False
        self._given = -1
        self._regions: list[Region] = []
        engines = [engine for kernel in path if isinstance(engine := kernel.engine, LendingEngine)]
        first, last = self._engines = engines[0], engines[-1]
        self._in_arena = any(engine.arena_only for engine in engines)
        if self._in_arena:
            messages = self._arena_copy(messages)
        own: Any = first.outlet.ring
        self._ring = self._ring_over(messages, first.declaration.input_type, own.woke if own.here else None)
        self.source: RecordEdge = self._ring.add_edge()
        self._ring.fill()
        self.count = self.end = len(messages)
        self._output: RecordRing | None = None
        output_type = last.declaration.output_type
        if output_type is not None:
            most = most_outputs(path, len(messages))
            nbytes = most * output_type.dtype.itemsize
            if self._in_arena:
                room = self._arena_bytes(nbytes)
            else:
                room = first.results.allocate(nbytes) if out is None else out[:most]
            self._output = self._ring_over(room.view(output_type.dtype), output_type)
            self._output.add_edge()

    def _ring_over(self, array: Any, message_type: Any, woke: Callable[[int], None] | None = None) -> RecordRing:
        from ringkernel.ring.record_ring import RecordRing

        capacity = 1 << max(0, len(array) - 1).bit_length()
        return RecordRing(self._engines[0].arena, message_type, capacity, lent=array, woke=woke)

    def _arena_bytes(self, nbytes: int) -> Any:
        self._regions.append(self._engines[0].arena.allocate(nbytes))
        return self._regions[-1].bytes[:nbytes]

    def _arena_copy(self, messages: Any) -> Any:
        """The messages where a device reaches them."""
        copy = self._arena_bytes(messages.nbytes).view(messages.dtype)
        copy.view(np.uint8)[:] = messages.view(np.uint8)
        return copy

    def position(self) -> int:
        return self.source.position()

    async def put(self) -> None:
        """Exchange the rings when nothing is on its way through the chain: what was sent before must not mix with the
        map. Cancelled or failed, nothing was exchanged."""
        if self._is_lent:  # at once
            self.lease.close_output()
            return
        await self.lease.hold_foreign_sources()
        async with AsyncExitStack() as stack:
            await _hold(stack, self._first)
            if self._last is not self._first:
                await _drain(self._path)
                await _hold(stack, self._last)
                check_empty(self._path)
            self.lease.close_output()
            self._exchange()

    def _exchange(self) -> None:
        first, last = self._engines
        self._is_lent = True
        first.lend(self._ring, self._output if last is first else None)
        if last is not first:
            last.lend(None, self._output)

    def put_at_once(self) -> bool:
        """Exchange the rings of kernels that all rest, so that nobody has to be asked, and let the first have the
        messages. Whether they are through already, and the rings are the kernels' own again."""
        self._exchange()
        self._ring.fill()
        return self._end_at_once()

    def _end_at_once(self) -> bool:
        """Exchange the rings again if everything is through and all kernels rest. Whether that is so."""
        if self.source.position() < self.end or not all(is_at_rest(kernel) for kernel in self._path):
            return False
        self._exchange_again()
        return True

    async def take_back(self) -> None:
        """Stop reading at a span's edge; let what is on its way arrive, as far as it can; exchange the rings again.

        Waits for the tokens for as long as it takes.
        """
        if not self._is_lent:
            return
        if self._end_at_once():
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
            else:  # the array that was given is its owner's again
                rest = self._ring_over(output.slots[self._given : output.position()].copy(), output.message_type)
                edge = rest.add_edge()
                rest.fill()
                output.dispose()
            last.inlet.take_first_from(edge)
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


def map_where_it_rests(path: list[RingKernel], messages: Any, out: Any) -> Any:
    """A map over kernels that all rest, and are nobody's: nobody has to be asked before their rings are exchanged. Its
    result, if this thread has run all of it; else the map, which goes on, or `NOTHING`, if this is not so."""
    if not len(messages) or not all(map(is_at_rest, path)) or not is_nobodys(path):
        return NOTHING
    transfer = Lent(path, messages, None, out)
    return transfer.result() if transfer.put_at_once() else transfer


def is_at_rest(kernel: RingKernel) -> bool:
    """Whether a kernel of a path is ACTIVE and rests, and nobody is about to give it a command."""
    engine = kernel.engine
    is_active = kernel.state is KernelState.ACTIVE and not kernel.lock.locked()
    return is_active and isinstance(engine, LendingEngine) and engine.rests


async def _hold(stack: AsyncExitStack, kernel: RingKernel) -> None:
    """Hold a kernel's token until the stack is closed. Raises `KernelStateError` if its handler does not return."""
    async with AsyncExitStack() as attempt:
        await attempt.enter_async_context(kernel.lock)
        assert isinstance(kernel.engine, LendingEngine)
        await attempt.enter_async_context(kernel.engine.token())
        stack.push_async_exit(attempt.pop_all())


async def hold_at_last(stack: AsyncExitStack, kernel: RingKernel) -> None:
    """As `_hold`, however long the handler takes."""
    while True:
        with suppress(KernelStateError):
            await _hold(stack, kernel)
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
