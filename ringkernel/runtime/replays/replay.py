"""`replay`: recorded messages in the place of live ones, through ACTIVE kernels to their end; all that the last emits.

Each input has a task that feeds it, and another one takes the outputs, so that nothing waits for something else than
what the kernels themselves wait for. An array that is there as a whole is not copied: its kernel reads it in place.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ringkernel.errors import KernelFailedError, KernelStateError
from ringkernel.runtime.graph.closing import has_ended_by_itself
from ringkernel.runtime.maps.lease import Lease
from ringkernel.runtime.observing.progress import follow
from ringkernel.tracebacks import shorten

from .growing import Growing
from .replay_feed import feed
from .replay_lend import LentInputs, LentResult, can_be_lent, lend
from .replay_plan import check_replay, kernels_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.runtime.kernels.kernel import RingKernel

    from .pace import Pace
    from .replay_plan import GivenInput

SETTLE_S = 1.0
"""How long what is on its way may take to arrive, once one of the kernels has failed."""
GRACE_S = 0.05
"""What a cancelled replay waits for a kernel to let go of an array."""
_LOOK_S = 0.005


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
    run = _Replay(given, kernels, last, lease, pace)
    try:
        check_replay(given, kernels, last)  # it may have had to wait for others
        run.begin()
    except BaseException:
        lease.release()
        raise
    try:
        await run.lend(reach)
        total = None if None in (counts := [one.count for one in given]) else sum(counts)  # type: ignore[arg-type]
        with follow(progress, f"replay until {last.kernel_id}", total, run.taken):
            await run.through()
        await run.let_go(finishing, None)
    except BaseException as error:
        try:
            await run.stop(finishing, at_once=isinstance(error, asyncio.CancelledError))
        except BaseException as again:  # noqa: BLE001 (it is raised)
            raise run.explained(again)  # noqa: B904 (it comes of what is its context)
        failure = run.explained(error)
        if failure is error:
            raise
        raise failure from failure.__cause__
    finally:
        await run.let_go(finishing, 0)
    return run.result()


class _Replay:
    """One replay that is going on."""

    def __init__(
        self, given: list[GivenInput], kernels: list[RingKernel], last: RingKernel, lease: Lease, pace: Pace | None
    ) -> None:
        self._given, self._kernels, self._last = given, kernels, last
        self.lease, self._pace = lease, pace
        self._lent: dict[RingKernel, LentInputs] = {}
        self._starts: dict[GivenInput, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._feeding: list[asyncio.Task[None]] = []
        self._result: LentResult | None = None
        self._results: Growing | None = None
        self._taking: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Have the inputs, and the outputs of the last kernel, alone."""
        self._holds = self.lease.close_all_inputs()
        if self._last.engine.output is not None:
            self.lease.close_output()
            self._results = Growing(self._last.engine.declaration.output_type)
        self._starts = {one: one.kernel.engine.edges[one.number].position() for one in self._given}

    async def lend(self, reach: Callable[[list[RingKernel]], Awaitable[None]]) -> None:
        """Let kernels read the arrays that they can read where they lie, and the last one write to one."""
        await reach(self._kernels)
        lent: dict[RingKernel, list[LentInputs | LentResult]] = {}
        if self._results is not None and self._pace is None:
            room = sum(one.count or 0 for one in self._given)
            self._result = LentResult.of(self._last, room)
            if self._result is not None:
                self._results = Growing(self._last.engine.declaration.output_type, self._result.records)
                lent[self._last] = [self._result]
        lendable = [one for one in self._given if self._pace is None and can_be_lent(one)]
        for kernel in {one.kernel: None for one in lendable}:
            self._lent[kernel] = LentInputs(kernel, [one for one in lendable if one.kernel is kernel])
            lent.setdefault(kernel, []).append(self._lent[kernel])
        for kernel, arrays in lent.items():
            await lend(kernel, arrays)

    async def through(self) -> None:
        """Feed all inputs, and take all outputs. Raises when one of the kernels ends before its inputs have."""
        loop = asyncio.get_running_loop()
        self._feeding = [loop.create_task(self._feed(one)) for one in self._given]
        ending = [loop.create_task(self._end_of(kernel)) for kernel in self._kernels]
        taking = self._taking = loop.create_task(self._take())
        self._tasks = [*self._feeding, *ending, taking]
        pending = {*self._tasks}
        while not taking.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        for kernel in self._kernels:
            self._check_end(kernel)

    async def _feed(self, one: GivenInput) -> None:
        try:
            await feed(one, self._holds[one.kernel, one.name], self._lent_of(one), self._pace)
        except KernelStateError:
            if not one.kernel.engine.takes_no_more:
                raise
            if self._pace is not None:  # what the end of its kernel means, is told by who waits for that
                self._pace.leave(one)

    def _lent_of(self, one: GivenInput) -> LentInputs | None:
        lent = self._lent.get(one.kernel)
        return lent if lent is not None and one.name in lent.edges else None

    async def _end_of(self, kernel: RingKernel) -> None:
        """Wait until it has ended. Raises if that was not by itself."""
        await kernel.engine.wait_end()
        self._check_end(kernel)

    def _check_end(self, kernel: RingKernel) -> None:
        engine = kernel.engine
        if engine.has_ended and not self._is_well(kernel):
            failure = None if engine.error is None else engine.told_reason()
            raise failure or KernelFailedError(f"kernel {kernel.kernel_id!r} ended during a replay")

    def _is_well(self, kernel: RingKernel) -> bool:
        engine = kernel.engine
        is_through = kernel is self._last and engine.declaration.is_coroutine and engine.error is None
        return has_ended_by_itself(kernel) or is_through

    async def _take(self) -> None:
        """Take all outputs of the last kernel, until it has ended."""
        last = self._last.engine
        if self._result is not None:
            await self._until_own(self._result)
        if self._results is not None:
            with suppress(KernelStateError):
                await self._results.take_all(last.inlet, self.lease.getting)
        await self._end_of(self._last)

    async def _until_own(self, result: LentResult) -> None:
        """Wait until the last kernel has ended, or has to write to its own queue, and let it do so."""
        loop = asyncio.get_running_loop()
        reasons = [loop.create_task(one) for one in (result.full(), self._consumed())]
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in reasons:
                one.cancel()
            await asyncio.gather(*reasons, return_exceptions=True)
        await self._end_result()

    async def _consumed(self) -> None:
        """Wait until the last kernel has consumed all of its inputs, or ended before that."""
        last = self._last.engine
        with suppress(KernelStateError):
            for source in self._last.sources:
                await source.engine.wait_end()
            for task, one in zip(self._feeding, self._given, strict=True):
                if one.kernel is self._last:
                    await asyncio.wait([task])
            for edge in last.edges:
                await last.processed_up_to(edge, edge.published())

    async def _end_result(self) -> None:
        if self._result is not None and self._results is not None:
            await self._result.end()
            self._results.filled = max(self._results.filled, self._result.position())

    def taken(self) -> int:
        """How many of all messages the kernels have taken."""
        return sum(map(self._taken_of, self._given))

    def _taken_of(self, one: GivenInput) -> int:
        lent = self._lent_of(one)
        if lent is not None:
            return lent.position(one)
        return one.kernel.engine.edges[one.number].position() - self._starts[one]

    async def stop(self, finishing: set[asyncio.Task[None]], *, at_once: bool) -> None:
        """Hand nothing more over. Unless `at_once`, what is on its way to the last kernel's output is taken still."""
        for task in self._tasks:
            if task is not self._taking or at_once:
                task.cancel()
        if self._taking is not None and not at_once:
            await self._take_back()
            await self._settle(self._taking)
            self._taking.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.let_go(finishing, GRACE_S)

    async def let_go(self, finishing: set[asyncio.Task[None]], timeout: float | None) -> None:
        """Let kernels have their own queues, and others go on. What takes longer goes on by itself."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
            finishing.add(self._ending)
            self._ending.add_done_callback(finishing.discard)
        if not self._ending.done() and timeout != 0:
            await asyncio.wait([self._ending], timeout=timeout)

    async def _end(self) -> None:
        try:
            await self._take_back()
        finally:
            self.lease.release()

    async def _take_back(self) -> None:
        """As long as it takes."""
        if self._result is not None:
            await self._result.end()
        for lent in self._lent.values():
            await lent.end()

    async def _settle(self, taking: asyncio.Task[None]) -> None:
        """Wait until nothing moves any more."""
        engines = [kernel.engine for kernel in self._kernels]
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        before: list[int] = []
        while not taking.done() and asyncio.get_running_loop().time() < deadline:
            now = [one.emitted() for one in engines] + [edge.position() for one in engines for edge in one.edges]
            if now == before and not engines[-1].inlet.available():
                return
            before = now
            await asyncio.sleep(_LOOK_S)

    def explained(self, error: BaseException) -> Any:
        """What to raise for what has ended it early. It has what came of it so far."""
        failure: Any = error
        if isinstance(error, KernelStateError):
            ended = (kernel for kernel in self._kernels if kernel.engine.has_ended and not self._is_well(kernel))
            failure = next((kernel.engine.told_reason() for kernel in ended if kernel.error is not None), None) or error
        failure.partial = partial = self.result()
        failure.sent = {one.key: self._sent_of(one) for one in self._given}
        if isinstance(error, asyncio.CancelledError):
            sent = ", ".join(f"{self._sent_of(one)} of {one.total} to {one}" for one in self._given)
            outputs = "" if partial is None else f"; the {len(partial)} outputs so far are .partial of this error"
            shorten(error, f"replay until {self._last.kernel_id!r}: of the messages were sent {sent}{outputs}")
        return failure

    def _sent_of(self, one: GivenInput) -> int:
        lent = self._lent_of(one)
        return one.sent if lent is None else lent.position(one)

    def result(self) -> Any:
        """All that has come out."""
        if self._results is None:
            return None
        if self._result is not None:
            self._results.filled = max(self._results.filled, self._result.give())
        return self._results.result()
