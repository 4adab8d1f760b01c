"""Coroutine kernels: an asyncio task per kernel, object rings by default, record rings where a type is declared."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import GRACE_S, STALL_S, Engine, Ledger
from ringkernel.devices.event_loop.inlet import Inlet
from ringkernel.devices.event_loop.outlet import Outlet
from ringkernel.errors import KernelExit, KernelStateError
from ringkernel.lifecycle import KernelState
from ringkernel.ring.host.object_ring import ObjectRing

from .context import KernelContext
from .place import Place

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.event_loop.services import Services
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.kinds import Edge, Ring

logger = logging.getLogger("ringkernel")


class CoroutineEngine(Engine):
    """Runs a coroutine kernel in the event loop. Its body starts with the first activation."""

    device = "event-loop"
    __slots__ = ("_failed", "_services", "context", "sink", "source", "task")

    def __init__(self, declaration: Declaration, services: Services) -> None:
        super().__init__(declaration)
        self._services = services
        self.task: asyncio.Task[None] | None = None
        self._failed = 0

    def build(self) -> None:
        declaration, services = self.declaration, self._services
        ring = self._new_ring(declaration.input_type)
        self.outlet = Outlet(ring, services.budget, services)
        self.taken.append(self.outlet.release)
        edge = ring.add_edge()
        self.edges: list[Edge] = [edge]
        self.source = Inlet(services.budget, services)
        self.taken.append(self.source.release)
        self.source.set_open(False)
        self.source.attach(edge)
        self._make_output(self._new_ring(declaration.output_type))
        place = Place(services)
        self.inlet.run_producer = place.run_now
        self.context: KernelContext[Any, Any] = KernelContext(declaration.kernel_id, self.source, self.sink, place)

    def _new_ring(self, message_type: MessageType | None) -> Ring:
        size = self.declaration.queue_size
        if message_type is None:
            return ObjectRing(size)
        from ringkernel.ring.host.record_ring import RecordRing  # imports numba

        return RecordRing(self._services.parker.arena, message_type, size, woke=self._services.woke)

    output: Ring

    def _make_output(self, ring: Ring) -> None:
        self.output = ring
        self.sink = Outlet(ring, self._services.budget, self._services)
        self.taken.append(self.sink.release)
        self.inlet = Inlet(self._services.budget, self._services)
        self.taken.append(self.inlet.release)
        self.inlet.ended = self.told_reason
        self.inlet.attach(ring.add_edge())

    def exchange_input(self, edge: Edge, fresh: Edge) -> None:
        self.edges[self.edges.index(edge)] = fresh
        self.source.exchange(edge, fresh)

    def emit_records_of(self, message_type: MessageType) -> list[tuple[Edge, Edge]]:
        if self.output.tail:
            raise KernelStateError(
                f"kernel {self.kernel_id!r} has already emitted Python objects; connect it to a compiled kernel before"
                f" it runs, or declare output_type={message_type.name}"
            )
        before = self.output
        self.output = ring = self._new_ring(message_type)
        self.sink.bind(ring)
        exchanged = []
        for edge in before.edges:
            fresh = ring.add_edge()
            if edge in self.inlet.edges:
                self.inlet.exchange(edge, fresh)
            exchanged.append((edge, fresh))
        return exchanged

    def add_input(self, edge: Edge, number: int = 0) -> None:
        self.edges.append(edge)
        self.source.attach(edge)

    def look_at_ends(self) -> None:
        if all(edge.ring.is_at_end for edge in self.edges):
            self.context.note_end()

    @property
    def is_running(self) -> bool:
        return self.context.is_active

    async def start(self) -> None:
        self.context.enter(KernelState.ACTIVE)
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._run(), name=f"ringkernel:{self.kernel_id}")
            self.task.add_done_callback(self._on_done)

    async def pause(self) -> None:
        self.context.enter(KernelState.DEACTIVATED)

    async def _run(self) -> None:
        with suppress(KernelExit):
            await self.declaration.func(self.context)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            terminating = self.context.state is KernelState.TERMINATING
            error: BaseException | None = None if terminating else asyncio.CancelledError("its task was cancelled")
        else:
            error = task.exception()
        if not self.has_ended:
            if self.context.busy and (error is not None or task.cancelled()):
                self._failed = 1
            self.context.busy = False
            self._finish(error)

    def _finish(self, error: BaseException | None) -> None:
        self.context.enter(KernelState.TERMINATED)
        self.sink.refuse = lambda: KernelStateError(f"kernel {self.kernel_id!r} has ended and can send no more")
        self.sink.close()
        self.end(error)
        if self.context.on_wait is not None:
            self.context.on_wait()

    async def finish(self, timeout: float, *, drain: bool) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for edge in self.edges:
            edge.limit = edge.published() if drain else edge.head
        self.context.enter(KernelState.TERMINATING)
        if self.task is None:
            self._finish(None)
            return
        await self._wait_for_task(deadline)
        if not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task], timeout=GRACE_S)
        if not self.task.done():
            self.in_flight = int(self.context.busy)
            logger.warning(
                "kernel %r did not end within %g s and ignored its cancellation; it was abandoned",
                self.kernel_id,
                timeout,
            )
            self._finish(
                KernelStateError(f"kernel {self.kernel_id!r} did not end within {timeout:g} s and was abandoned")
            )
        elif not self.has_ended:
            self._on_done(self.task)

    async def end_by_force(self, error: Exception) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task], timeout=GRACE_S)
        if not self.has_ended:
            self.in_flight = int(self.context.busy)
            self._finish(error)

    async def _wait_for_task(self, deadline: float) -> None:
        """Until the task is done, the time is over, or the kernel can do nothing but wait for room."""
        assert self.task is not None
        loop = asyncio.get_running_loop()
        seen, since = self._progress(), loop.time()
        while not self.task.done() and loop.time() < deadline:
            await asyncio.wait([self.task], timeout=min(STALL_S / 2, deadline - loop.time()))
            if self._progress() != seen or not self.sink.line.waiters:
                seen, since = self._progress(), loop.time()
            elif loop.time() - since >= STALL_S:
                return

    def _progress(self) -> tuple[int, ...]:
        output = self.output
        heads = tuple(edge.head for edge in self.edges)
        return (*heads, output.tail if output is not None else 0, output.room() if output is not None else 0)

    def ledger(self) -> Ledger:
        taken = sum(edge.head - edge.start for edge in self.edges)
        busy = self.in_flight or int(self.context.busy and not self.has_ended)
        return Ledger(
            processed=taken - self._failed - busy,
            failed=self._failed,
            in_flight=busy,
            peak_input=max(max(edge.look(), edge.peak) for edge in self.edges),
            peak_output=max((max(e.peak, self.output.position() - e.position()) for e in self.output.edges), default=0),
        )

    async def processed_up_to(self, edge: Edge, sequence: int) -> None:
        reached = asyncio.Event()
        self.context.on_wait = reached.set  # called when the kernel asks for its next message
        try:
            while edge.head < sequence or self.context.busy:
                if self.has_ended:
                    raise self.ended_error()
                reached.clear()
                await reached.wait()
            if self.error is not None:  # it has taken them, and failed on one
                raise self.ended_error()
        finally:
            self.context.on_wait = None
