"""A compiled kernel as the supervisor sees it: the parts that it is made of, whoever runs its turns."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

from ringkernel.errors import KernelStateError, MessageTypeError
from ringkernel.memory.layout import (
    BEGUN,
    BLOCK,
    COMMAND_PAUSE,
    COMMAND_RUN,
    NEVER,
    STATUS_ACTIVE,
    STATUS_DEACTIVATED,
    STATUS_FAILED,
    STATUS_TERMINATED,
)
from ringkernel.ring.host.endless_ring import EndlessRing
from ringkernel.ring.host.record_edge import RecordEdge

from .block_state import BlockState
from .chain import ALONE, Stage, token_of
from .control_block import ControlBlock
from .counts import Counts
from .ending import Terminator, in_flight_of
from .feeds import AppendedFeeds
from .handshake import SUPERSEDED, Handshake
from .kernel_rings import KernelRings
from .merging import Merging

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.event_loop.outlet import Outlet
    from ringkernel.devices.event_loop.services import Services
    from ringkernel.memory.arenas import Arena, ResultPool
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.kinds import Edge
    from ringkernel.ring.host.record_ring import RecordRing

    from .executor import Executor

logger = logging.getLogger("ringkernel")


class CompiledEngine(Stage):
    """Runs a compiled kernel by an executor, which has the token while the kernel runs.

    `chain`: what it runs as one with. What needs it by itself parts that first.
    """

    __slots__ = ("_parker", "_terminator", "_waiters", "counts", "device")

    def __init__(self, declaration: Declaration, services: Services, executor: Executor) -> None:
        super().__init__(declaration, services)
        self.executor = executor
        executor.kernel = self
        self.device = executor.device
        self._parker = services.parker
        self._waiters: tuple[asyncio.Event, ...] = ()
        self._terminator = Terminator(self)
        self.thread_feeds = AppendedFeeds(self, services)
        self.chain = ALONE
        self.output = None
        self.is_reached = False
        self.merging = None
        self.counts = Counts(self, self._parker.clock)

    # --- memory ----------------------------------------------------------------------------------------------

    @property
    def arena(self) -> Arena:
        return self._parker.arena

    @property
    def results(self) -> ResultPool:
        return self._parker.results

    @property
    def arena_only(self) -> bool:
        return self.executor.arena_only

    def build(self) -> None:
        parker, declaration = self._parker, self.declaration
        status_doorbell = parker.doorbell(self.on_status, standing=True)
        self.taken.append(status_doorbell.release)
        self.doorbell_address = parker.new_doorbell_address()
        self.taken.append(self._release_doorbell_address)
        self.block = ControlBlock(declaration, self.executor, status_doorbell.address, parker.arena, parker.api)
        self.state_access = BlockState(self, self.executor)
        if declaration.order is not None:
            self.merging = Merging(self, parker.api, self._services.loop, self.executor.ticks_of)
            self.taken.append(self.merging.release)
        self.rings = KernelRings(self.block, parker.arena, self.doorbell_address, one_feed=self.merging is not None)
        self.handshake = Handshake(self, self.executor, self._services.woke)
        self.edges = cast("list[Edge]", self.rings.edges)
        self.outlet = self._make_input(0, declaration.input_type)
        if declaration.inputs:
            self.further = {
                one.name: self._make_input(number, one.message_type) for number, one in enumerate(declaration.inputs, 1)
            }
        self._make_output()
        self.executor.build()

    def _release_doorbell_address(self) -> None:
        if not self.is_reached:
            self._parker.release_doorbell_address(self.doorbell_address)

    def _make_input(self, number: int, message_type: MessageType | None) -> Outlet:
        ring = EndlessRing(self.arena) if message_type is None else self.new_ring(message_type)
        outlet = self.new_outlet(ring)
        self.add_input(ring.add_edge(), number)
        return outlet

    def _make_output(self) -> None:
        self.inlet, declaration = self.new_inlet(), self.declaration
        if declaration.output_type is None:
            self.inlet.ended = lambda: MessageTypeError(
                f"kernel {self.kernel_id!r} has no output_type, so there is nothing to receive"
            )
            self.inlet.over = True
            return
        self.output = self.new_ring(declaration.output_type, overhang=declaration.max_outputs - 1)
        self.output.engine = self
        self.inlet.attach(self.output.add_edge())
        self.rings.set_output(self.output)

    def add_input(self, edge: Edge, number: int = 0) -> None:
        assert isinstance(edge, RecordEdge)
        self.check_edges(inputs=1)
        edge.engine = self
        self.rings.add_input(edge, number, self.executor.span_of(number))
        if edge.ring.engine is not None:
            self.executor.note_source()

    def check_edges(self, inputs: int = 0, consumers: int = 0) -> None:
        n_consumers = 0 if self.output is None else len(self.output.edges)
        self.executor.check_edges(len(self.edges) + inputs, n_consumers + consumers)

    def make_room(self) -> None:
        if not self.is_running:
            self.block.make_room()

    def run(self, declaration: Declaration) -> None:
        """Go on with the handler of this declaration, which the executor has got. The token is the host's."""
        self.declaration = declaration
        if declaration.keys is not None:
            assert self.block.state is not None
            self.block.state[...] = declaration.state  # that of new keys
        self.block.run(declaration, self.executor)
        self.rings.run(self.executor.span_of)

    # --- what a map lends ------------------------------------------------------------------------------------

    @property
    def block_address(self) -> int:
        return self.block.address

    @property
    def turns_by(self) -> Stage | None:
        if not self.executor.can_rest or self.closing is not None:
            return None
        return self if self.chain is ALONE else self.chain.leader_of(self)  # the former: once per small map

    @property
    def rests(self) -> bool:
        first = self.turns_by
        return first is not None and first.executor.rests

    def attach(self, inputs: Mapping[int, RecordRing], output: RecordRing | None, *, alone: bool) -> None:
        for ring in inputs.values():
            ring.edges[0].engine = self
        self.rings.attach(inputs, output, self.executor.span_of, alone=alone)

    def detach(self) -> None:
        self.rings.detach(is_reached=self.is_reached)

    def detach_output(self) -> None:
        self.rings.detach_output(is_reached=self.is_reached)

    def note_map(self, taken: int, emitted: int) -> None:
        self.rings.note_map(taken, emitted)

    # --- start and pause -------------------------------------------------------------------------------------

    def on_status(self) -> None:
        if self.has_ended or not self.executor.has_told():
            return
        status = self.handshake.take_news()
        if status == STATUS_TERMINATED:
            self.finished(None)
        elif status == STATUS_FAILED:
            self._terminator.fail(self._services.loop)
            self.chain.broken(self)

    @property
    def is_running(self) -> bool:
        return self.chain.is_running(self)

    @property
    def was_started(self) -> bool:
        return self.chain.goes_on(self)

    @property
    def takes_no_more(self) -> bool:
        return self.has_ended or self._terminator.has_stopped

    @property
    def is_ending(self) -> bool:
        return self.has_ended or self._terminator.is_terminating or self._terminator.is_failing

    async def settled(self) -> None:
        await self._terminator.settled()

    async def start(self) -> None:
        await self._check_usable()
        await self.handshake.ask(COMMAND_RUN, STATUS_ACTIVE)

    async def pause(self) -> None:
        await self._check_usable()
        await self.chain.part()
        await self._check_usable()
        while self.executor.has_token:
            try:
                await self.handshake.ask(COMMAND_PAUSE, STATUS_DEACTIVATED)
            except KernelStateError:
                if not self._terminator.is_failing:
                    raise
                await self._check_usable()  # its handler may have said that nothing more is to be taken
            self.rings.let_in()

    async def _check_usable(self) -> None:
        """Raises if the kernel has failed, or was told to end, and the supervisor does not know yet."""
        await self.settled()
        if self.has_ended or self._terminator.is_terminating:
            raise self.ended_reason() or KernelStateError(f"kernel {self.kernel_id!r} is TERMINATING")

    def token(self) -> AbstractAsyncContextManager[None]:
        return self.chain.token(self)

    def hold(self) -> AbstractAsyncContextManager[None]:
        return self.chain.hold(self)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold the token for a moment, and no chain runs the kernel as one with others. Raises `KernelStateError` if it
        is ending, or its handler does not return."""
        await self.chain.part()
        async with token_of(self):
            await self._check_usable()
            yield

    # --- the end ---------------------------------------------------------------------------------------------

    def look_at_ends(self) -> None:
        if not self.chain.part_and(self.look_at_ends) and not self.has_ended:
            self.block.look_at_ends()
            self._parker.api.ring_doorbell_at(self.doorbell_address)

    async def finish(self, timeout: float, *, drain: bool) -> None:
        await self._terminator.finish(timeout, drain=drain)

    async def end_by_force(self, error: Exception) -> None:
        await self._terminator.end_by_force(error)

    def progress(self) -> tuple[int, ...]:
        low = 0 if self.output is None else self._parker.api.slowest_head(self.output.address)
        return self.block.read(BLOCK.turns), low

    def waits_for_room(self) -> bool:
        return self.block.read(BLOCK.blocked) != 0

    def take_no_more(self) -> None:
        self.detach()  # arrays, if it has some
        self.close_outlets()
        self.rings.stop()
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        for waiter in self._waiters:
            waiter.set()

    def lose(self, error: Exception) -> None:
        self.in_flight = self.block.read(BLOCK.in_flight)
        if self.in_flight and self.merging is not None:
            self.in_flight = sum(self.merging.in_flight())
        is_at_end = self.block.read(BLOCK.end_phase) == BEGUN
        self.is_reached = self.is_reached or bool(self.in_flight) or is_at_end
        if self.executor.outlives_end:
            self.counts.freeze(self.emitted)
        self.block.quarantine()
        self.executor.keep(self.rings.all_reachable())
        logger.warning("%s", error)
        self.finished(error)

    def finished(self, error: BaseException | None) -> None:
        self.executor.take_token()
        self.counts.note_end()
        self.end(error or self._terminator.unfinished())
        self.chain.broken(self)
        self.handshake.answer(SUPERSEDED)
        self._wake_waiters()

    def close_inputs(self) -> None:
        if self.counts.frozen is not None:
            self.rings.quarantine()
        if self.in_flight or self.is_reached:
            self.rings.quarantine_span(in_flight_of(self))
        super().close_inputs()
        lost, reason = self.unreadable()
        if lost:
            logger.warning("kernel %r: %d message(s) that it had not taken are lost: %s", self.kernel_id, lost, reason)

    # --- looking inside --------------------------------------------------------------------------------------

    @property
    def answers_each(self) -> bool:
        declaration = self.declaration
        is_one_each = declaration.max_outputs == 1 and self.executor.never_drops and declaration.end is None
        return self.output is not None and is_one_each

    def runs_here(self, count: int) -> bool:
        return self.chain.runs_here(self, count)

    def snapshot(self) -> Any:
        return self.counts.snapshot()

    def ledger(self) -> dict[str, Any]:
        return self.counts.ledger()

    def keys(self) -> tuple[int, int]:
        keys = self.block.keys
        return (0, 0) if keys is None else (keys.count, keys.nbytes)

    def holding_up(self) -> list[str]:
        return [] if self.merging is None or not self.is_running else self.merging.holding_up()

    @contextmanager
    def watching(self, edge: Edge, sequence: int, reached: asyncio.Event) -> Iterator[Callable[[], object]]:
        assert isinstance(edge, RecordEdge)
        doorbell = self._parker.doorbell(reached.set)  # the poller rings when the edge's cursor gets there
        edge.watch(sequence, doorbell.doorbell_address)
        self._waiters += (reached,)
        try:
            yield doorbell.arm
        finally:
            self._waiters = tuple(waiter for waiter in self._waiters if waiter is not reached)
            edge.watch(NEVER, 0)
            doorbell.release()

    def has_processed(self, edge: Edge, sequence: int) -> bool:
        return edge.position() >= sequence

    def accepted(self) -> int:
        return super().accepted() + self.rings.mapped_in()

    def emitted(self) -> int:
        frozen = self.counts.frozen
        return super().emitted() + self.rings.mapped_out() if frozen is None else frozen.emitted

    def received(self) -> int:
        return super().received() + self.rings.mapped_out() - self.inlet.kept
