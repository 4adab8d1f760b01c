"""`replay`: recorded messages in the place of live ones, through ACTIVE kernels to their end; all that the last emits.

Each input has a task that feeds it, and another one takes the outputs, so that nothing waits for something else than
what the kernels themselves wait for. An array that is there as a whole is not copied: its kernel reads it in place.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import LendingEngine
from ringkernel.errors import KernelStateError
from ringkernel.runtime.attach.lease import Lease
from ringkernel.runtime.attach.results import Results
from ringkernel.runtime.attach.transfer import Transfer, held, held_at_last
from ringkernel.runtime.graph.closing import close_input, has_ended_by_itself
from ringkernel.runtime.observing.progress import follow

from .replay_plan import check_replay, kernels_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.runtime.attach.given_input import GivenInput
    from ringkernel.runtime.kernels.kernel import RingKernel

    from .pace import Pace

SETTLE_S = 1.0
"""How long what is on its way may take to arrive, once one of the kernels has failed."""
_LOOK_S = 0.005
_FULL_LOOK_S = 0.01
"""How often it is seen whether the array for the outputs is full."""


async def replay(
    given: list[GivenInput],
    last: RingKernel,
    *,
    pace: Pace | None,
    progress: bool,
    reach: Callable[[list[RingKernel]], Awaitable[None]],
    finishing: set[asyncio.Task[None]],
) -> Any:
    """See `Messaging.replay`. `reach` lets devices reach memory that is new; `finishing` holds what goes on after a
    cancellation."""
    kernels = kernels_of(given, last)
    check_replay(given, kernels, last)
    lease = await Lease.of(kernels, f"a replay until {last.kernel_id!r}")
    try:
        check_replay(given, kernels, last)  # it may have had to wait for others
        one = Replay(given, kernels, lease, pace)
    except BaseException:
        lease.release()
        raise
    return await one.carry(one.through(reach, progress=progress), finishing)


class Replay(Transfer):
    """One replay, which has all inputs of its kernels, and the outputs of the last one, to itself."""

    what = "a replay"

    def __init__(self, given: list[GivenInput], kernels: list[RingKernel], lease: Lease, pace: Pace | None) -> None:
        super().__init__(kernels, given, Results(kernels[-1]))
        self.lease, self._pace = lease, pace
        self._holds = lease.close_inputs()
        if self.last.engine.output is not None:
            lease.close_output()
        for one in given:
            one.use_queue()
        self._feeding: dict[GivenInput, asyncio.Task[None]] = {}
        self._taking: asyncio.Task[None] | None = None

    async def through(self, reach: Callable[[list[RingKernel]], Awaitable[None]], *, progress: bool) -> None:
        """Feed all inputs, and take all outputs. Raises when one of the kernels ends before its inputs have."""
        await reach(self.kernels)
        if self._pace is None:
            await self._put_in_place()
        counts = [one.count for one in self.given]
        total = None if None in counts else sum(counts)  # type: ignore[arg-type]  # there is no None
        with follow(progress, f"replay until {self.last.kernel_id}", total, self.taken):
            await self._run()
        for kernel in self.kernels:
            self._check_end(kernel)

    async def _put_in_place(self) -> None:
        """Let kernels read the arrays that they can read where they lie, and the last one write to one."""
        room = sum(one.count or 0 for one in self.given)
        if room and _can_write(self.last):
            self.results.use_array(room)
        for one in filter(_can_read, self.given):
            one.use_array()
            one.edge.ring.say_ended()
        for kernel in filter(self.has_arrays, self.kernels):
            async with held(kernel):
                if kernel is self.last and kernel.engine.inlet.available():
                    self.results.detached()  # what it has emitted meanwhile comes first
                if not kernel.engine.has_ended:
                    self.attach(kernel)

    async def _run(self) -> None:
        start = asyncio.get_running_loop().create_task
        self._feeding = {one: start(self._feed(one)) for one in self.given}
        ending = [start(self._end_of(kernel)) for kernel in self.kernels]
        taking = self._taking = start(self._take())
        self.tasks = [*self._feeding.values(), *ending, taking]
        pending = {*self.tasks}
        while not taking.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    # --- its tasks -------------------------------------------------------------------------------------------

    async def _feed(self, one: GivenInput) -> None:
        """Hand all values of an input over, or have them taken where they lie; then close it."""
        engine, pace = one.kernel.engine, self._pace
        try:
            if one.ring is not None:
                await engine.processed_up_to(one.edge, one.end)
            else:
                hand_over = one.hand_over if pace is None else partial(pace.hand_over, one)
                async for batch in one.batches():
                    await hand_over(batch, self._holds[one.kernel, one.name])
            if not engine.has_ended:
                close_input(one.kernel, one.name)
        except KernelStateError:  # what the end of its kernel means, is told by who waits for that
            if not engine.takes_no_more:
                raise
        if pace is not None:
            pace.leave(one)

    async def _end_of(self, kernel: RingKernel) -> None:
        """Wait until it has ended. Raises if that was not by itself."""
        await kernel.engine.wait_end()
        self._check_end(kernel)

    def _check_end(self, kernel: RingKernel) -> None:
        if kernel.engine.has_ended and not self.may_end(kernel):
            raise kernel.engine.ended_error()

    def may_end(self, kernel: RingKernel) -> bool:
        """Return whether it has ended by itself, as is wanted."""
        engine = kernel.engine
        is_through = kernel is self.last and engine.declaration.is_coroutine and engine.error is None
        return has_ended_by_itself(kernel) or is_through

    async def _take(self) -> None:
        """Take all outputs of the last kernel, until it has ended."""
        if self.results.ring is not None:
            await self._until_queue()
        if self.last.engine.output is not None:
            with suppress(KernelStateError):
                await self.results.take_all(self.lease.getting)
        await self._end_of(self.last)

    async def _until_queue(self) -> None:
        """Wait until the last kernel has to write to its own queue, and let it do so. How many outputs come is not
        known, and what a kernel does at its end needs a queue without an end."""
        start = asyncio.get_running_loop().create_task
        reasons = [start(self._is_full()), start(self._has_consumed())]
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in reasons:
                one.cancel()
            await asyncio.gather(*reasons, return_exceptions=True)
        async with held_at_last(self.last):
            self.detach_output()

    async def _is_full(self) -> None:
        """Wait until the array has no room for what one message may emit."""
        most = self.last.engine.declaration.max_outputs
        while self.results.has_room(most):  # noqa: ASYNC110 (compiled code fills it)
            await asyncio.sleep(_FULL_LOOK_S)

    async def _has_consumed(self) -> None:
        """Wait until the last kernel has consumed all of its inputs, or ended before that."""
        last = self.last.engine
        with suppress(KernelStateError):
            for source in self.last.sources:
                await source.engine.wait_end()
            for one, task in self._feeding.items():
                if one.kernel is self.last:
                    await asyncio.wait([task])
            for edge in last.edges:
                await last.processed_up_to(edge, edge.published())

    # --- the end ---------------------------------------------------------------------------------------------

    async def stop(self, *, at_once: bool) -> None:
        """Hand nothing more over. Unless `at_once`, what is on its way to the last kernel's output is taken still."""
        taking = self._taking
        for task in self.tasks:
            if task is not taking or at_once:
                task.cancel()
        if taking is not None and not at_once:
            await self.take_back()
            await self._settle(taking)
        await super().stop(at_once=True)

    async def _settle(self, taking: asyncio.Task[None]) -> None:
        """Wait until nothing moves any more."""
        engines = [kernel.engine for kernel in self.kernels]
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        before: list[int] = []
        while not taking.done() and asyncio.get_running_loop().time() < deadline:
            now = [one.emitted() for one in engines] + [edge.position() for one in engines for edge in one.edges]
            if now == before and not engines[-1].inlet.available():
                return
            before = now
            await asyncio.sleep(_LOOK_S)

    def explained(self, error: BaseException) -> Any:
        """As ever, and it has how many messages each input was given."""
        failure = super().explained(error)
        failure.sent = {one.key: one.given() for one in self.given}
        return failure

    def progress(self) -> str:
        """Return how far it is, in words."""
        sent = ", ".join(f"{one.given()} of {one.total} to {one}" for one in self.given)
        return f"replay until {self.last.kernel_id!r}: of the messages were sent {sent}"


def _can_read(one: GivenInput) -> bool:
    """Return whether this is an array that the kernel can read where it lies, with nothing before it."""
    engine = one.kernel.engine
    if not one.count or not isinstance(engine, LendingEngine) or engine.arena_only:
        return False
    edge = engine.edges[one.number]
    return edge.published() == edge.position()


def _can_write(last: RingKernel) -> bool:
    """Return whether the kernel can write to an array, and no outputs of it wait."""
    engine = last.engine
    return isinstance(engine, LendingEngine) and not engine.arena_only and not engine.inlet.available()
