"""The end of a compiled kernel: by a command, by a failure or a StopIteration of its handler, or at last by force."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from ringkernel.devices.engine import GRACE_S, brief
from ringkernel.errors import DeviceUnavailableError, KernelStateError, RingKernelError
from ringkernel.memory.layout import BEGUN, BLOCK, COMMAND_DRAIN, COMMAND_STOP, NOT_BEGUN, OVER

from .chain import ALONE
from .executor import Eviction
from .failure import failure_of
from .handshake import SUPERSEDED

if TYPE_CHECKING:
    from ringkernel.ring.host.record_edge import RecordEdge

    from .chain import Stage


class Terminator:
    """Ends one kernel. `is_terminating`: it was told to end; `has_stopped`: its handler has raised `StopIteration`."""

    __slots__ = ("_drains", "_failing", "_kernel", "has_stopped", "is_terminating")

    def __init__(self, kernel: Stage) -> None:
        self._kernel = kernel
        self._failing: asyncio.Task[None] | None = None
        self.is_terminating = self.has_stopped = self._drains = False

    # --- by a command ----------------------------------------------------------------------------------------

    async def finish(self, timeout: float, *, drain: bool) -> None:
        """See `Engine.finish`."""
        kernel, loop = self._kernel, asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await kernel.chain.part_within(max(timeout, GRACE_S))
        self.is_terminating, self._drains = True, drain and kernel.executor.has_token
        kernel.handshake.answer(SUPERSEDED)  # to a pending pause
        if kernel.has_ended:
            return
        if not kernel.executor.has_token and not self.is_failing:
            kernel.finished(None)
            return
        if drain:
            kernel.rings.limit_to_what_is_there()
            kernel.handshake.command(COMMAND_DRAIN)
            await kernel.wait_while_it_gets_on(deadline)
        if not kernel.has_ended:
            kernel.handshake.command(COMMAND_STOP)
            await kernel.has_ended_within(max(GRACE_S, deadline - loop.time() if not drain else 0.0))
        if not kernel.has_ended and not self.is_failing:
            self._take_by_force(kernel.executor.unanswered(timeout))
        await kernel.wait_end()

    # --- by force --------------------------------------------------------------------------------------------

    async def end_by_force(self, error: Exception) -> None:
        """See `Engine.end_by_force`."""
        kernel = self._kernel
        await kernel.chain.part_within(GRACE_S)
        with suppress(Exception):
            kernel.handshake.command(COMMAND_STOP)
            await kernel.has_ended_within(GRACE_S)
        if kernel.has_ended or self.is_failing:
            return
        try:
            self._take_by_force("could not be ended properly", error)
        except Exception as worse:  # noqa: BLE001 (whatever it is)
            if not kernel.has_ended:
                kernel.executor.abandon()
                self._abandon("could not be taken from who runs it", worse)

    def _take_by_force(self, why: str, cause: Exception | None = None) -> None:
        """The kernel has not answered, or could not be asked because of `cause`. Unless it only waits for a worker
        that another one holds, its handler does not return."""
        outcome = self._kernel.executor.evict()
        if outcome is Eviction.FREE:
            self._kernel.finished(cause)
        elif outcome is Eviction.ABANDONED:
            self._abandon(why, cause)
        # otherwise its answer is on the way

    def _abandon(self, why: str, cause: Exception | None) -> None:
        kernel = self._kernel
        error = KernelStateError(
            f"kernel {kernel.kernel_id!r} on {kernel.device} {why} and was abandoned: {kernel.executor.cost}, "
            f"{kernel.block.read(BLOCK.in_flight)} message(s) are in flight"
        )
        error.__cause__ = cause
        kernel.lose(error)

    # --- by its handler --------------------------------------------------------------------------------------

    @property
    def is_failing(self) -> bool:
        """True if the handler has failed, and why is being found out."""
        return self._failing is not None

    async def settled(self) -> None:
        """Wait until it is known why the handler has failed, if it has, and whether the kernel has ended."""
        while self._failing is not None and not self._kernel.has_ended:
            await asyncio.wait([self._failing])

    def fail(self, loop: asyncio.AbstractEventLoop) -> None:
        """The handler has failed, or has raised `StopIteration`. The token is the host's."""
        self._failing = loop.create_task(self._fail())  # the loop itself holds tasks weakly

    async def _fail(self) -> None:
        kernel = self._kernel
        try:
            if kernel.executor.is_stop(int(kernel.snapshot()["fault_info_address"])):
                while kernel.chain is not ALONE:
                    await kernel.chain.part_at_last()
                self._stop()
                return
            error: BaseException = await failure_of(kernel)
        except DeviceUnavailableError as unreadable:  # what it failed on
            error = unreadable
        except Exception as wrong:  # noqa: BLE001 (whatever it is: the kernel has ended, and others wait to hear so)
            error = RingKernelError(f"kernel {kernel.kernel_id!r} has failed; why cannot be said: {brief(wrong)}")
            error.__cause__ = wrong
        kernel.finished(error)

    def _stop(self) -> None:
        """The handler has raised `StopIteration`: that message was processed, and emits nothing. The rest is left, and
        then comes what the kernel does at its end."""
        kernel, counters = self._kernel, self._kernel.snapshot()
        if kernel.block.read(BLOCK.end_phase) != NOT_BEGUN:
            kernel.block.end_is_over()
            kernel.finished(None)
            return
        count = int(counters["fault_count"])
        if count > 0:  # otherwise it is its timer that says so
            kernel.rings.take_failed(int(counters["fault_edge"]), count)
        kernel.block.pardon(count, drops=kernel.declaration.max_outputs == 1 and kernel.output is not None)
        self.has_stopped = True
        kernel.closing = "its handler has raised StopIteration, which ends it"
        if not kernel.executor.end_span_address or (self.is_terminating and not self._drains):
            kernel.finished(None)
            return
        kernel.take_no_more()
        self._failing = None
        kernel.block.look_at_ends()
        kernel.handshake.resume()

    # --- what there is to say of it --------------------------------------------------------------------------

    def unfinished(self) -> KernelStateError | None:
        """Return the error of a kernel that was stopped before its `on_end` was through, if that was due."""
        kernel = self._kernel
        phase = kernel.block.read(BLOCK.end_phase)
        is_due = self._drains or self.has_stopped or phase == BEGUN
        if kernel.executor.end_span_address == 0 or phase == OVER or not is_due:
            return None
        how = "did not come to its on_end" if phase == NOT_BEGUN else "was stopped in its on_end, which was not through"
        return KernelStateError(f"kernel {kernel.kernel_id!r} {how}: it had no room for its outputs, or took too long")


def in_flight_of(kernel: Stage) -> dict[RecordEdge, int]:
    """Return how many messages the span of an abandoned kernel has taken, by edge."""
    if kernel.merging is None:
        address = kernel.block.address + kernel.block.read(BLOCK.fault_edge)
        return {edge: kernel.in_flight for edge in kernel.rings.edges if edge.address == address}
    return dict(zip(kernel.rings.reading, kernel.merging.in_flight(), strict=True))
