"""Connected kernels that run as one: by the first one's run entry, in one span, without their rings.

The first has its token with its worker; those of the others are the host's, on loan to the chain. Their states, ledgers
and cursors go on as if each ran by itself, so only a command needs the kernels apart, and a message or a map from
outside; they are then handed over again one by one, which happens between two spans and loses nothing, since the rings
in between are empty.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import TYPE_CHECKING

from ringkernel.errors import KernelStateError
from ringkernel.memory.layout import BLOCK, COMMAND_PAUSE, STATUS_DEACTIVATED

from .chain import ALONE, Chain, token_of
from .chain_record import ChainRecord
from .executor import Eviction
from .gathering import CannotFuseError, pause_in_order
from .handshake import SUPERSEDED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from ringkernel.codegen.span_types import Span
    from ringkernel.devices.event_loop.loop_parker import LoopParker

    from .chain import Stage

LOOK_S = 0.0002
HELD_UP_S = 0.05
"""A chain that has had no room for so long comes apart, so that its rings take what they can."""


class Phase(Enum):
    """Return whether the stages are one."""

    GATHERING = auto()
    FUSED = auto()
    PARTED = auto()


class FusedChain(Chain):
    """Stages that are to be, are, or were one. All methods belong to the event loop's thread."""

    def __init__(self, stages: Sequence[Stage], span: Span, parker: LoopParker, parted: Callable[[], None]) -> None:
        self.stages, self.first, self.last = stages, stages[0], stages[-1]
        self.phase = Phase.GATHERING
        self._span, self._parker, self._loop = span, parker, parker.loop
        self._on_parted = parted
        self._record: ChainRecord | None = None
        self._lock = asyncio.Lock()  # for who commands the first stage
        self._held: set[Stage] = set()
        self._broken = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._parting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        for stage in stages:
            stage.chain = self
        self._gathering = self._spawn(self._gather())

    def _spawn(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits for it has it

    @property
    def is_fused(self) -> bool:
        """True if the stages are one now."""
        return self.phase is Phase.FUSED

    def is_running(self, kernel: Stage) -> bool:
        """Return whether the stages run, or go on in a moment; not if somebody holds their tokens."""
        return not self._held or kernel.executor.has_token

    def goes_on(self, kernel: Stage) -> bool:  # noqa: ARG002 (whichever stage it is)
        """Return True: what pauses a stage parts the chain first."""
        return True

    @property
    def _is_one(self) -> bool:
        """True if the first stage's turns run all. Not if a stage has failed just now, and nobody has noticed."""
        return self.phase is Phase.FUSED and self.first.block.runs_chain

    def runs_here(self, kernel: Stage, count: int) -> bool:  # noqa: ARG002 (whichever stage it is)
        """As `Chain.runs_here`, for all stages together."""
        return self._is_one and self.first.executor.runs_here(count)

    def leader_of(self, kernel: Stage) -> Stage | None:
        """Return the first stage. None while somebody makes one of them or takes them apart, or is to: one has failed,
        or something waits between them."""
        if not self._is_one or self._held or self._lock.locked():
            return None
        is_fed = kernel is not self.first and any(edge.published() > edge.position() for edge in kernel.rings.edges)
        return None if is_fed else self.first

    # --- becoming one ----------------------------------------------------------------------------------------

    async def _gather(self) -> None:
        """Pause the stages, and run them as one."""
        paused: list[Stage] = []
        try:
            await pause_in_order(self.stages, paused)
            self._fuse()
        except (CannotFuseError, KernelStateError):
            pass
        finally:
            if self.phase is Phase.GATHERING:
                self._leave()
                for stage in paused:
                    _resume(stage)

    def _fuse(self) -> None:
        """All tokens are the host's."""
        record = ChainRecord(self.stages, self._span, self._parker, self._on_foreign, self._on_held_up)
        if record.is_fed() or any(stage.is_ending for stage in self.stages):
            record.discard()
            raise CannotFuseError
        record.install()
        self._record = record
        self.phase = Phase.FUSED
        self.first.handshake.resume()
        if record.is_fed():
            self._on_foreign()

    # --- and not ---------------------------------------------------------------------------------------------

    async def part(self) -> None:
        """Let each stage run by itself again. Raises `KernelStateError` if a handler does not return; then nothing has
        changed. Cancelled, that goes on."""
        if self._parting is None or self._parting.done():
            self._parting = self._spawn(self._part())
        await asyncio.shield(self._parting)

    async def part_at_last(self) -> None:
        """As `part`, as often as it takes."""
        while self.phase is not Phase.PARTED:
            with suppress(KernelStateError):
                await self.part()

    def part_and(self, then: Callable[[], None]) -> bool:
        """`part_at_last` in the background, and `then`. Return True."""

        async def part_and_go_on() -> None:
            await self.part_at_last()
            then()

        self._spawn(part_and_go_on())
        return True

    async def _part(self) -> None:
        if not self._gathering.done():
            self._gathering.cancel()
            await asyncio.wait([self._gathering])
        async with self._lock:
            if self.phase is not Phase.FUSED:
                return
            if not self._held:
                await self._pause_first()
            self._dissolve()

    async def _pause_first(self) -> None:
        if not self.first.executor.has_token:
            return
        try:
            await self.first.handshake.ask(COMMAND_PAUSE, STATUS_DEACTIVATED)
        except KernelStateError:
            if not self.first.is_ending and self.phase is Phase.FUSED:
                raise

    def _dissolve(self) -> None:
        """The first stage rests, or its poller has ended the chain."""
        if self.phase is not Phase.FUSED:
            return
        assert self._record is not None
        self._record.remove()
        self._leave()
        for stage in self.stages:
            if stage not in self._held:
                _resume(stage)

    def _leave(self) -> None:
        self.phase = Phase.PARTED
        if self._timer is not None:
            self._timer.cancel()
        for stage in self.stages:
            stage.chain = ALONE
        self._on_parted()

    def broken(self, kernel: Stage) -> None:
        """A stage has failed, or ended: the others go on by themselves."""
        self._parker.api.write_word(kernel.doorbell_address, 0)
        if self._lock.locked():
            self._broken = True  # whoever has it does so
        else:
            self._dissolve()

    # --- force -----------------------------------------------------------------------------------------------

    async def part_within(self, timeout: float) -> None:
        """As `part`, but if a handler does not return in time, all stages are left to the worker, and have ended."""
        with suppress(KernelStateError, TimeoutError):
            async with asyncio.timeout(timeout):
                await self.part()
        while self.phase is Phase.FUSED:
            outcome = self.first.executor.evict()
            if outcome is Eviction.GIVING_BACK:
                await asyncio.sleep(LOOK_S)
                continue
            if outcome is Eviction.ABANDONED:
                self._abandon()
            else:
                self._dissolve()
            self.first.handshake.answer(SUPERSEDED)

    def _abandon(self) -> None:
        assert self._record is not None
        self._record.quarantine()
        ids = ", ".join(repr(stage.kernel_id) for stage in self.stages)
        cost, count = self.first.executor.cost, self.first.block.read(BLOCK.in_flight)
        self._leave()
        for stage in self.stages:
            if not stage.has_ended:
                error = KernelStateError(
                    f"kernel {stage.kernel_id!r} on {stage.device} ran as one with {ids}, one of which did not return "
                    f"from its handler; they were abandoned: {cost}, {count} message(s) are in flight"
                )
                stage.is_reached = True
                stage.lose(error)

    # --- holding the tokens ----------------------------------------------------------------------------------

    def token(self, kernel: Stage) -> AbstractAsyncContextManager[None]:
        """Hold a stage's token. The chain stays as it is for a map, which lends to the first and then the last."""
        is_for_map = kernel is self.first or (kernel is self.last and self.first in self._held)
        return self.hold(kernel) if self.is_fused and is_for_map else token_of(kernel)

    @asynccontextmanager
    async def hold(self, kernel: Stage) -> AsyncIterator[None]:
        """Hold the token of a stage, and with it those of all."""
        if not await self._take(kernel):  # they have come apart meanwhile
            async with token_of(kernel):
                yield
            return
        try:
            await kernel.settled()
            if kernel.is_ending:
                await kernel.wait_end()
            if self.phase is not Phase.FUSED and kernel.executor.has_token:  # it goes on by itself, to its end
                async with token_of(kernel):
                    yield
            else:
                yield
        finally:
            await asyncio.shield(self._spawn(self._let_go(kernel)))

    async def _take(self, stage: Stage) -> bool:
        async with self._lock:
            if self.phase is not Phase.FUSED:
                return False
            if not self._held:
                await self._pause_first()
            self._held.add(stage)
            if self._broken:
                self._dissolve()
            return True

    async def _let_go(self, stage: Stage) -> None:
        async with self._lock:
            self._held.discard(stage)
            if self._broken:
                self._dissolve()
            if self.phase is not Phase.FUSED:
                _resume(stage)
            elif not self._held and not self.first.executor.has_token and not self.first.is_ending:
                self.first.handshake.resume()

    # --- what happens ----------------------------------------------------------------------------------------

    def _on_foreign(self) -> None:
        """Somebody has sent to a stage that is not the first."""
        if self.phase is Phase.FUSED:
            self._spawn(self.part_at_last())

    def _on_held_up(self) -> None:
        """There is no room: if that lasts, the rings in between can take some."""
        if self.phase is Phase.FUSED:
            seen = self.first.block.read(BLOCK.turns)
            self._timer = self._loop.call_later(HELD_UP_S, self._look_whether_held_up, seen)

    def _look_whether_held_up(self, seen: int) -> None:
        if self.phase is not Phase.FUSED or self._record is None:
            return
        is_blocked = self.first.block.read(BLOCK.blocked) == 1
        if is_blocked and self.first.block.read(BLOCK.turns) == seen:
            self._on_foreign()
            return
        self._record.ask()
        if is_blocked:
            self._on_held_up()


def _resume(stage: Stage) -> None:
    """Let a stage run again whose token is the host's, if it has not ended."""
    if not stage.executor.has_token and not stage.is_ending:
        stage.handshake.resume()
