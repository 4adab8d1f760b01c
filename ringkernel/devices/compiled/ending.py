"""How a compiled kernel ends: it is told to drain and stop, and at last taken from who runs it by force."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from ringkernel.devices.engine import GRACE_S, STALL_S
from ringkernel.errors import KernelStateError
from ringkernel.memory.layout import BEGUN, BLOCK, COMMAND_DRAIN, COMMAND_STOP, NOT_BEGUN, OVER

from .executor import Eviction
from .handshake import SUPERSEDED

if TYPE_CHECKING:
    from ringkernel.ring.host.record_edge import RecordEdge
    from ringkernel.ring.host_api import HostApi

    from .control_block import ControlBlock
    from .executor import Executor
    from .handshake import Handshake
    from .kernel_rings import KernelRings
    from .merging import Merging


class Ending(Protocol):
    """The kernel, as what ends it sees it."""

    kernel_id: str
    device: str
    has_ended: bool
    in_flight: int
    merging: Merging | None
    block: ControlBlock
    executor: Executor
    handshake: Handshake
    rings: KernelRings

    @property
    def is_failing(self) -> bool:
        """Whether its handler has failed, and it will end without further commands."""

    async def wait_end(self, timeout: float | None = None) -> None:
        """Wait until it has ended. Raises `asyncio.TimeoutError`."""

    def finished(self, error: BaseException | None) -> None:
        """It has ended."""

    def lose(self, error: Exception) -> None:
        """It was left to who runs it."""


class Terminator:
    """Ends one kernel."""

    __slots__ = ("_api", "_kernel")

    def __init__(self, kernel: Ending, api: HostApi) -> None:
        self._kernel, self._api = kernel, api

    async def finish(self, timeout: float, *, drain: bool) -> None:
        """See `Engine.finish`."""
        kernel = self._kernel
        kernel.handshake.answer(SUPERSEDED)  # to a pending pause
        if kernel.has_ended:
            return
        if not kernel.executor.has_token and not kernel.is_failing:
            kernel.finished(None)
            return
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        if drain:
            kernel.rings.limit_to_what_is_there()
            kernel.handshake.command(COMMAND_DRAIN)
            await self._wait_while_it_gets_on(deadline)
        if not kernel.has_ended:
            kernel.handshake.command(COMMAND_STOP)
            await self._wait_over(max(GRACE_S, deadline - loop.time() if not drain else 0.0))
        if not kernel.has_ended and not kernel.is_failing:
            self._take_by_force(kernel.executor.unanswered(timeout))
        await kernel.wait_end()

    async def end_by_force(self, error: Exception) -> None:
        """See `Engine.end_by_force`."""
        kernel = self._kernel
        with suppress(Exception):
            kernel.handshake.command(COMMAND_STOP)
            await self._wait_over(GRACE_S)
        if kernel.has_ended or kernel.is_failing:
            return
        try:
            self._take_by_force("could not be ended properly", error)
        except Exception as worse:  # noqa: BLE001 (whatever it is)
            if not kernel.has_ended:
                kernel.executor.abandon()
                self._abandon("could not be taken from who runs it", worse)

    async def _wait_over(self, timeout: float) -> bool:
        with suppress(asyncio.TimeoutError):
            await self._kernel.wait_end(timeout)
        return self._kernel.has_ended

    async def _wait_while_it_gets_on(self, deadline: float) -> None:
        """Until the kernel has ended, the time is over, or it has only waited for room for a while."""
        loop = asyncio.get_running_loop()
        seen, since = self._progress(), loop.time()
        while not self._kernel.has_ended and (left := deadline - loop.time()) > 0:
            if await self._wait_over(min(STALL_S / 2, left)):
                return
            progress = self._progress()
            if progress != seen or not self._kernel.block.read(BLOCK.blocked):
                seen, since = progress, loop.time()
            elif loop.time() - since >= STALL_S:
                return

    def _progress(self) -> tuple[int, int]:
        output = self._kernel.rings.output
        low = 0 if output is None else self._api.slowest_head(output.address)
        return self._kernel.block.read(BLOCK.turns), low

    def _take_by_force(self, why: str, cause: Exception | None = None) -> None:
        """The kernel has not answered, or could not be asked because of `cause`. Unless it only waits for a worker
        that another one holds, its handler does not return."""
        outcome = self._kernel.executor.evict()
        if outcome is Eviction.FREE:
            self._kernel.finished(cause)
        elif outcome is Eviction.ABANDONED:
            self._abandon(why, cause)
        # otherwise its answer is on the way

    def _abandon(self, why: str, cause: Exception | None = None) -> None:
        kernel = self._kernel
        error = KernelStateError(
            f"kernel {kernel.kernel_id!r} on {kernel.device} {why} and was abandoned: {kernel.executor.cost}, "
            f"{kernel.block.read(BLOCK.in_flight)} message(s) are in flight"
        )
        error.__cause__ = cause
        kernel.lose(error)


def in_flight_of(kernel: Ending) -> dict[RecordEdge, int]:
    """What the span of an abandoned kernel has taken of which edges."""
    if kernel.merging is None:
        address = kernel.block.address + kernel.block.read(BLOCK.fault_edge)
        return {edge: kernel.in_flight for edge in kernel.rings.edges if edge.address == address}
    return dict(zip(kernel.rings.reading, kernel.merging.in_flight(), strict=True))


def unfinished(kernel: Ending, *, is_due: bool) -> KernelStateError | None:
    """What to say of a kernel that was stopped before it had done what it does at its end, if that was due."""
    phase = kernel.block.read(BLOCK.end_phase)
    if kernel.executor.end_span_address == 0 or phase == OVER or not (is_due or phase == BEGUN):
        return None
    how = "did not come to its on_end" if phase == NOT_BEGUN else "was stopped in its on_end, which was not through"
    return KernelStateError(f"kernel {kernel.kernel_id!r} {how}: it had no room for its outputs, or took too long")
