"""A compiled kernel as the supervisor sees it: its block, its rings, and how it ends, whoever runs its turns."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, cast

from ringkernel.devices.engine import GRACE_S, Ledger, LendingEngine, brief
from ringkernel.devices.event_loop.inlet import Inlet
from ringkernel.devices.event_loop.outlet import Outlet
from ringkernel.errors import DeviceUnavailableError, KernelStateError, MessageTypeError, RingKernelError
from ringkernel.memory.layout import (
    BEGUN,
    BLOCK,
    COMMAND_PAUSE,
    COMMAND_RUN,
    NOT_BEGUN,
    STATUS_ACTIVE,
    STATUS_DEACTIVATED,
    STATUS_FAILED,
    STATUS_TERMINATED,
)
from ringkernel.ring.host.endless_ring import EndlessRing
from ringkernel.ring.host.record_edge import RecordEdge
from ringkernel.ring.host.record_ring import RecordRing

from .appended_feeds import AppendedFeeds
from .block_state import BlockState
from .control_block import ControlBlock
from .counts import Counts
from .ending import Terminator, in_flight_of, unfinished
from .failure import failure_of
from .handshake import SUPERSEDED, Handshake
from .holding import token_of
from .kernel_rings import KernelRings
from .merging import Merging
from .processed import processed_up_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from ringkernel.declaration.declaration import Declaration
    from ringkernel.devices.event_loop.services import Services
    from ringkernel.memory.arenas import Arena, ResultPool
    from ringkernel.messages.types import MessageType
    from ringkernel.ring.host.kinds import Edge

    from .executor import Executor
    from .fused_chain import FusedChain

logger = logging.getLogger("ringkernel")


class CompiledEngine(LendingEngine):
    """Runs a compiled kernel by an executor, which has the token while the kernel runs."""

    output: RecordRing | None
    state_access: BlockState
    __slots__ = (
        "_api",
        "_drains",
        "_failing",
        "_parker",
        "_parting",
        "_services",
        "_terminating",
        "block",
        "chain",
        "counts",
        "device",
        "doorbell_address",
        "executor",
        "handshake",
        "is_reached",
        "merging",
        "rings",
        "stopped",
        "waiters",
    )

    def __init__(self, declaration: Declaration, services: Services, executor: Executor) -> None:
        super().__init__(declaration)
        self.executor = executor
        executor.kernel = self
        self.device = executor.device
        self._services = services
        self._parker = services.parker
        self._api = self._parker.api
        self.waiters: tuple[asyncio.Event, ...] = ()  # those of `processed_up_to`
        self._failing: asyncio.Task[None] | None = None
        self._terminating = self._drains = False
        self._parting: asyncio.Task[None] | None = None
        self.thread_feeds = AppendedFeeds(self, services)
        self.chain: FusedChain | None = None
        self.output = None
        self.is_reached = self.stopped = False
        self.merging: Merging | None = None
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
        services = self._services
        parker, woke = self._parker, services.woke  # one bound method for all: it takes 64 bytes
        status_doorbell = parker.doorbell(self.on_status, standing=True)
        self.taken.append(status_doorbell.release)
        self.doorbell_address = parker.new_doorbell_address()
        self.taken.append(self._release_doorbell_address)
        self.block = ControlBlock(self.declaration, self.executor, status_doorbell.address, parker.arena, self._api)
        self.state_access = BlockState(self, self.block)
        if self.declaration.order is not None:
            self.merging = Merging(self, self._api, services.loop)
            self.taken.append(self.merging.release)
        self.rings = KernelRings(self.block, parker.arena, self.doorbell_address, one_feed=self.merging is not None)
        self.handshake = Handshake(self, self.block, self.doorbell_address, self.executor, woke)
        self.edges = cast("list[Edge]", self.rings.edges)
        self.outlet = self._make_input(0, self.declaration.input_type, woke)
        if self.declaration.inputs:
            self.further = {
                one.name: self._make_input(number, one.message_type, woke)
                for number, one in enumerate(self.declaration.inputs, 1)
            }
        self._make_output(woke)
        self.executor.build()

    def _release_doorbell_address(self) -> None:
        if not self.is_reached:
            self._parker.release_doorbell_address(self.doorbell_address)

    def _make_input(self, number: int, message_type: MessageType | None, woke: Callable[[int], None]) -> Outlet:
        services = self._services
        if message_type is None:
            ring: RecordRing = EndlessRing(self.arena)
        else:
            ring = RecordRing(self.arena, message_type, self.declaration.queue_size, woke=woke)
        outlet = Outlet(ring, services.budget, services)
        self.taken.append(outlet.release)
        self.add_input(ring.add_edge(), number)
        return outlet

    def _make_output(self, woke: Callable[[int], None]) -> None:
        services, declaration = self._services, self.declaration
        self.inlet = Inlet(services.budget, services)
        self.taken.append(self.inlet.release)
        self.inlet.ended = self.told_reason
        self.output = None
        if declaration.output_type is None:
            self.inlet.ended = lambda: MessageTypeError(
                f"kernel {self.kernel_id!r} has no output_type, so there is nothing to receive"
            )
            self.inlet.over = True
            return
        overhang = declaration.max_outputs - 1
        self.output = RecordRing(
            self.arena, declaration.output_type, declaration.queue_size, overhang=overhang, woke=woke
        )
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

    @property
    def answers_each(self) -> bool:
        declaration = self.declaration
        is_one_each = declaration.max_outputs == 1 and self.executor.never_drops and declaration.end is None
        return self.output is not None and is_one_each

    def runs_here(self, count: int) -> bool:
        return self.executor.runs_here(count) if self.chain is None else self.chain.runs_here(count)

    @property
    def block_address(self) -> int:
        return self.block.address

    @property
    def turns_by(self) -> CompiledEngine | None:
        if not self.executor.can_rest or self.closing is not None:
            return None
        return self if self.chain is None else cast("CompiledEngine | None", self.chain.turns_of(self))

    @property
    def rests(self) -> bool:
        first = self.turns_by
        return first is not None and first.executor.rests

    def lend(self, source: RecordRing | None, result: RecordRing | None) -> None:
        self.rings.lend(source, result)

    def lend_inputs(self, sources: Mapping[int, RecordRing]) -> None:
        for source in sources.values():
            source.edges[0].engine = self
        self.rings.lend_inputs(sources, self.executor.span_of)

    def take_back_result(self) -> None:
        self.rings.take_back_result(is_reached=self.is_reached)

    def take_back(self) -> None:
        self.rings.take_back(is_reached=self.is_reached)

    def note_map(self, taken: int, emitted: int) -> None:
        self.rings.note_map(taken, emitted)

    # --- start and pause -------------------------------------------------------------------------------------

    def on_status(self) -> None:
        """The kernel's poller has answered, or given the token back."""
        if self.has_ended or not self.executor.has_told():
            return
        status = self.handshake.take_news()
        if status == STATUS_TERMINATED:
            self.finished(None)
        elif status == STATUS_FAILED:
            self._failing = self._services.loop.create_task(self._fail())  # the loop itself holds tasks weakly
            self._leave_chain()

    @property
    def is_running(self) -> bool:
        return self.executor.has_token or (self.chain is not None and self.chain.is_running)

    @property
    def was_started(self) -> bool:
        return self.chain is not None or (self.executor.has_token and self.handshake.commanded != COMMAND_PAUSE)

    @property
    def is_failing(self) -> bool:
        """Whether its handler has failed, and why is being found out."""
        return self._failing is not None

    @property
    def takes_no_more(self) -> bool:
        """Whether it has ended, or its handler has said so."""
        return self.has_ended or self.stopped

    async def settled(self) -> None:
        """If its handler has failed: wait until it is known why, and whether the kernel has ended."""
        while self._failing is not None and not self.has_ended:
            await asyncio.wait([self._failing])

    @property
    def is_ending(self) -> bool:
        """Whether it has ended, or will without further commands."""
        return self.has_ended or self._terminating or self.is_failing

    def check_edges(self, inputs: int = 0, consumers: int = 0) -> None:
        n_consumers = 0 if self.output is None else len(self.output.edges)
        self.executor.check_edges(len(self.edges) + inputs, n_consumers + consumers)

    def make_room(self) -> None:
        if not self.is_running:
            self.block.make_room()

    async def start(self) -> None:
        await self._check_usable()
        await self.handshake.ask(COMMAND_RUN, STATUS_ACTIVE)

    async def pause(self) -> None:
        await self._check_usable()
        if self.chain is not None:
            await self.chain.part()
            await self._check_usable()
        while self.executor.has_token:
            try:
                await self.handshake.ask(COMMAND_PAUSE, STATUS_DEACTIVATED)
            except KernelStateError:
                if not self.is_failing:
                    raise
                await self._check_usable()  # its handler may have said that nothing more is to be taken
            self.rings.let_in()

    async def _check_usable(self) -> None:
        """Raises if the kernel has failed, or was told to end, and the supervisor does not know yet."""
        await self.settled()
        if self.has_ended or self._terminating:
            raise self.ended_reason() or KernelStateError(f"kernel {self.kernel_id!r} is TERMINATING")

    def token(self) -> AbstractAsyncContextManager[None]:
        if self.chain is not None and self.chain.can_hold(self):
            return self.chain.hold(self)
        return token_of(self)

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Hold the token for a moment, and no chain runs the kernel as one with others. Raises `KernelStateError` if it
        is ending, or its handler does not return."""
        if self.chain is not None:
            await self.chain.part()
        async with token_of(self):
            await self._check_usable()
            yield

    def run(self, declaration: Declaration) -> None:
        """What the executor has now been given is the handler of this declaration. The token is the host's."""
        self.declaration = declaration
        if declaration.keys is not None:
            assert self.block.state is not None
            self.block.state[...] = declaration.state  # that of new keys
        self.block.run(declaration, self.executor)
        self.rings.run(self.executor.span_of)

    def _leave_chain(self) -> None:
        """Whatever it runs as one with goes on without it."""
        if self.chain is not None:
            self._api.write_word(self.doorbell_address, 0)
            self.chain.broken()

    # --- the end ---------------------------------------------------------------------------------------------

    def look_at_ends(self) -> None:
        if self.chain is not None:
            if self._parting is None:
                self._parting = self._services.loop.create_task(self._part_and_look())
        elif not self.has_ended:
            self.block.look_at_ends()
            self._api.ring_doorbell_at(self.doorbell_address)

    async def _part_and_look(self) -> None:
        await self._apart()
        self.look_at_ends()

    async def _apart(self) -> None:
        """Wait until no chain runs the kernel as one with others: its turns look at no kernel's end."""
        while (chain := self.chain) is not None:
            with suppress(KernelStateError):  # a handler takes its time
                await chain.part()

    async def finish(self, timeout: float, *, drain: bool) -> None:
        deadline = self._services.loop.time() + timeout
        if self.chain is not None:
            await self.chain.part_within(max(timeout, GRACE_S))
        self._terminating, self._drains = True, drain and self.executor.has_token
        left = max(0.0, deadline - self._services.loop.time())
        await Terminator(self, self._api).finish(left, drain=drain)

    async def end_by_force(self, error: Exception) -> None:
        if self.chain is not None:
            await self.chain.part_within(GRACE_S)
        await Terminator(self, self._api).end_by_force(error)

    def lose(self, error: Exception) -> None:
        """Leave all that the kernel may reach to who runs it, and let everybody else go on."""
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

    def close_inputs(self) -> None:
        if self.counts.frozen is not None:
            self.rings.quarantine()
        if self.in_flight or self.is_reached:
            self.rings.quarantine_span(in_flight_of(self))
        super().close_inputs()
        lost, reason = self.unreadable()
        if lost:
            logger.warning("kernel %r: %d message(s) that it had not taken are lost: %s", self.kernel_id, lost, reason)

    async def _fail(self) -> None:
        try:
            if self.executor.is_stop(int(self.snapshot()["fault_info_address"])):
                await self._apart()
                self._stop()
                return
            error: BaseException = await failure_of(self)
        except DeviceUnavailableError as unreadable:  # what it failed on
            error = unreadable
        except Exception as wrong:  # noqa: BLE001 (whatever it is: the kernel has ended, and others wait to hear so)
            error = RingKernelError(f"kernel {self.kernel_id!r} has failed; why cannot be said: {brief(wrong)}")
            error.__cause__ = wrong
        self.finished(error)

    def _stop(self) -> None:
        """The handler has raised `StopIteration`: that message was processed, and emits nothing. The rest is left, and
        then comes what the kernel does at its end."""
        counters = self.snapshot()
        edge, count = int(counters["fault_edge"]), int(counters["fault_count"])
        if self.block.read(BLOCK.end_phase) != NOT_BEGUN:
            self.block.end_is_over()
            self.finished(None)
            return
        if count > 0:  # otherwise it is its timer that says so
            self.rings.take_failed(edge, count)
        self.block.pardon(count, drops=self.declaration.max_outputs == 1 and self.output is not None)
        self.stopped = True
        self.closing = "its handler has raised StopIteration, which ends it"
        if not self.executor.end_span_address or (self._terminating and not self._drains):
            self.finished(None)
            return
        self.rings.take_back(is_reached=False)  # if a map has lent it some
        self.close_outlets()
        self.rings.stop()
        self._wake_waiters()
        self._failing = None
        self.block.look_at_ends()
        self.handshake.resume()

    def _wake_waiters(self) -> None:
        for waiter in self.waiters:
            waiter.set()

    def finished(self, error: BaseException | None) -> None:
        """It has ended, with this error if it has failed."""
        self.executor.take_token()
        self.counts.note_end()
        error = error or unfinished(self, is_due=self._drains or self.stopped)
        self.end(error)
        self._leave_chain()
        self.handshake.answer(SUPERSEDED)
        self._wake_waiters()

    # --- looking inside --------------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        return self.counts.snapshot()

    def ledger(self) -> Ledger:
        return self.counts.ledger()

    def keys(self) -> tuple[int, int]:
        keys = self.block.keys
        return (0, 0) if keys is None else (keys.count, keys.nbytes)

    def holding_up(self) -> list[str]:
        return [] if self.merging is None or not self.is_running else self.merging.holding_up()

    async def processed_up_to(self, edge: Edge, sequence: int) -> None:
        assert isinstance(edge, RecordEdge)
        await processed_up_to(self, self._parker, edge, sequence)

    def accepted(self) -> int:
        return super().accepted() + self.rings.mapped_in()

    def emitted(self) -> int:
        frozen = self.counts.frozen
        return super().emitted() + self.rings.mapped_out() if frozen is None else frozen.emitted

    def received(self) -> int:
        return super().received() + self.rings.mapped_out() - self.inlet.kept
