"""Coroutine kernels: an asyncio task per kernel, object rings by default, record rings where a type is declared."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import GRACE_S, Engine
from ringkernel.devices.thread_feeds import ThreadFeeds
from ringkernel.errors import KernelExit, KernelStateError
from ringkernel.lifecycle import KernelState
from ringkernel.ring.host.object_ring import ObjectRing

from .context import KernelContext
from .place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.event_loop.services import Services
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.kinds import Edge, Ring

logger = logging.getLogger("ringkernel")


class CoroutineEngine(Engine):
    """Runs a coroutine kernel in the event loop. Its body starts with the first activation."""

    device = "event-loop"
    __slots__ = ("_failed", "context", "sink", "source", "task")

    def __init__(self, declaration: Declaration, services: Services) -> None:
        super().__init__(declaration, services)
        self.thread_feeds = ThreadFeeds(declaration.kernel_id)
        self.task: asyncio.Task[None] | None = None
        self._failed = 0

    def build(self) -> None:
        declaration = self.declaration
        ring = self._new_ring(declaration.input_type)
        self.outlet = self.new_outlet(ring)
        edge = ring.add_edge()
        self.edges: list[Edge] = [edge]
        self.source = self.new_inlet()
        self.source.set_open(False)
        self.source.attach(edge)
        self._make_output(self._new_ring(declaration.output_type))
        place = Place(self._services)
        self.inlet.run_producer = place.run_now
        self.context: KernelContext[Any, Any] = KernelContext(declaration.kernel_id, self.source, self.sink, place)

    def _new_ring(self, message_type: MessageType | None) -> Ring:
        return ObjectRing(self.declaration.queue_size) if message_type is None else self.new_ring(message_type)

    output: Ring

    def _make_output(self, ring: Ring) -> None:
        self.output = ring
        self.sink = self.new_outlet(ring)
        self.inlet = self.new_inlet()
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
        await self.wait_while_it_gets_on(deadline)
        await self._cancel()
        if not self.task.done():
            why = f"kernel {self.kernel_id!r} did not end within {timeout:g} s and"
            logger.warning("%s ignored its cancellation; it was abandoned", why)
            self._abandon(KernelStateError(f"{why} was abandoned"))
        elif not self.has_ended:
            self._on_done(self.task)

    async def end_by_force(self, error: Exception) -> None:
        await self._cancel()
        if not self.has_ended:
            self._abandon(error)

    async def _cancel(self) -> None:
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task], timeout=GRACE_S)

    def _abandon(self, error: BaseException) -> None:
        """Leave the task what it holds: that is in flight for ever."""
        self.in_flight = int(self.context.busy)
        self._finish(error)

    def progress(self) -> tuple[int, ...]:
        return (*(edge.head for edge in self.edges), self.output.tail, self.output.room())

    def waits_for_room(self) -> bool:
        return bool(self.sink.line.waiters)

    def ledger(self) -> dict[str, Any]:
        taken = sum(edge.head - edge.start for edge in self.edges)
        busy = self.in_flight or int(self.context.busy and not self.has_ended)
        return {
            "processed": taken - self._failed - busy,
            "failed": self._failed,
            "in_flight": busy,
            "peak_input_depth": max(max(edge.look(), edge.peak) for edge in self.edges),
            "peak_output_depth": max(
                (max(e.peak, self.output.position() - e.position()) for e in self.output.edges), default=0
            ),
        }

    @contextmanager
    def watching(self, edge: Edge, sequence: int, reached: asyncio.Event) -> Iterator[Callable[[], object]]:
        self.context.on_wait = reached.set  # called when the kernel asks for its next message
        try:
            yield reached.clear
        finally:
            self.context.on_wait = None

    def has_processed(self, edge: Edge, sequence: int) -> bool:
        return edge.head >= sequence and not self.context.busy
