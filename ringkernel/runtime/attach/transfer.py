"""Arrays in the place of kernels' queues, until they are detached: what a map and a replay are made of.

The rings over the arrays belong to the engines from the moment in which their blocks name them until the token has come
back and the blocks name the kernels' own rings again, whatever is raised or cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import LendingEngine
from ringkernel.errors import KernelFailedError, KernelStateError
from ringkernel.tracebacks import shorten

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from ringkernel.runtime.kernels.kernel import RingKernel

    from .given_input import GivenInput
    from .lease import Lease
    from .results import Results

GRACE_S = 0.05
"""What is waited for the kernels after a cancellation, so that the exception has all that was computed."""


class Transfer:
    """Values on their way into inputs of kernels, and what comes of them out of the last one: of one map or replay.

    A kernel is attached while it reads and writes arrays in place of its own queues. `tasks` feed and empty queues.
    """

    lease: Lease
    what: str
    """The kind of transfer, in words."""
    alone = False
    """True if a kernel that is attached takes nothing from its other inputs."""

    def __init__(self, kernels: list[RingKernel], given: list[GivenInput], results: Results) -> None:
        self.kernels, self.last = kernels, kernels[-1]  # upstream first
        self.given, self.results = given, results
        self.tasks: list[asyncio.Task[None]] = []
        self._attached: list[RingKernel] = []
        self._ending: asyncio.Task[None] | None = None
        self._is_over = False

    def taken(self) -> int:
        """Return how many messages the kernels have taken."""
        return sum(one.taken() for one in self.given)

    # --- arrays in the place of queues -----------------------------------------------------------------------

    def attach(self, kernel: RingKernel) -> None:
        """Let a kernel have its arrays. Its token is the host's, or it rests."""
        engine: Any = kernel.engine
        inputs = {one.number: one.ring for one in self._of(kernel)}
        engine.attach(inputs, self.results.ring if kernel is self.last else None, alone=self.alone)
        self._attached.append(kernel)

    def detach(self, kernel: RingKernel) -> None:
        """Let it have its own queues. Its token is the host's, or it rests or has ended."""
        if kernel not in self._attached:
            return
        engine: Any = kernel.engine
        self._attached.remove(kernel)
        engine.detach()
        for one in self._of(kernel):
            one.detached()
        if kernel is self.last:
            self.results.detached()

    def detach_output(self) -> None:
        """Let the last kernel write to its own queue, and go on reading arrays. As `detach`."""
        engine: Any = self.last.engine
        if self.results.ring is not None:
            engine.detach_output()
            self.results.detached()

    def has_arrays(self, kernel: RingKernel) -> bool:
        """Return whether there are some to attach."""
        return bool(self._of(kernel)) or (kernel is self.last and self.results.ring is not None)

    def _of(self, kernel: RingKernel) -> list[GivenInput]:
        return [one for one in self.given if one.kernel is kernel and one.ring is not None]

    async def take_back(self) -> None:
        """Detach all kernels, upstream first, and hold them all until the last is detached: so a fused chain stays
        whole. As long as it takes."""
        async with AsyncExitStack() as stack:
            for kernel in [*self._attached]:
                await self.before_detaching(kernel)
                await stack.enter_async_context(held_at_last(kernel))
                self.detach(kernel)

    async def before_detaching(self, kernel: RingKernel) -> None:
        """Do what is to be done before that."""

    # --- the end ---------------------------------------------------------------------------------------------

    async def carry(self, through: Awaitable[None], finishing: set[asyncio.Task[None]]) -> Any:
        """Wait until all is through, and return the results. Whatever ends that early has those so far; cancelled, the
        kernels are detached in the background, by one of the tasks that are `finishing`."""
        self._finishing = finishing
        try:
            await through
            await self.let_go()
        except BaseException as error:
            try:
                await self.stop(at_once=isinstance(error, asyncio.CancelledError))
            except BaseException as again:  # noqa: BLE001 (it is raised)
                raise self.explained(again)  # noqa: B904 (it comes of what is its context)
            failure = self.explained(error)
            if failure is error:
                raise
            raise failure from failure.__cause__
        finally:
            self._begin_end()
        return self.results.result()

    async def stop(self, *, at_once: bool) -> None:
        """Hand nothing more over, and detach the kernels; `at_once`: what takes longer goes on by itself."""
        try:
            await self.let_go(GRACE_S if at_once else None)
        except asyncio.CancelledError:
            await self.let_go(GRACE_S)
            raise

    def explained(self, error: BaseException) -> Any:
        """Return what to raise for what has ended it early. It has what had come out; a cancellation says how far it
        was."""
        failure: Any = self._failure(error) if isinstance(error, KernelStateError) else error
        failure.partial = partial = self.results.result()
        if isinstance(error, asyncio.CancelledError):
            outputs = "" if partial is None else f"; the {len(partial)} outputs so far are .partial of this error"
            shorten(error, f"{self.progress()}{outputs}")
        return failure

    def progress(self) -> str:
        """Return how far it is, in words."""
        raise NotImplementedError

    def _failure(self, error: KernelStateError) -> KernelStateError:
        """Return what one of the kernels has failed of, if one has: its neighbours may have noticed the end before. Any
        other end of one is a failure, too, whoever has asked for it."""
        if isinstance(error, KernelFailedError) and error.__cause__ is not None:
            for kernel in self.kernels:
                kernel.engine.is_told |= kernel.error is error.__cause__
            return error
        ended = [kernel for kernel in self.kernels if kernel.engine.has_ended and not self.may_end(kernel)]
        reasons = (kernel.engine.told_reason() for kernel in ended)  # up to the first that has failed
        failed = next((reason for reason in reasons if isinstance(reason, KernelFailedError)), None)
        if failed is not None or not ended:
            return failed or error
        failure = KernelFailedError(f"kernel {ended[0].kernel_id!r} ended during {self.what}")
        failure.__cause__ = error
        return failure

    def may_end(self, kernel: RingKernel) -> bool:  # noqa: ARG002 (see `Replay`)
        """Return whether the end of a kernel is none that it fails of."""
        return False

    async def let_go(self, timeout: float | None = None) -> None:
        """Detach the kernels, and let others go on. After `timeout` seconds that goes on by itself."""
        self._begin_end()
        if self._ending is None:
            return
        if timeout is None:
            await asyncio.shield(self._ending)
        else:
            await asyncio.wait([self._ending], timeout=timeout)

    def _begin_end(self) -> None:
        if self._is_over or self._ending is not None:
            return
        for task in self.tasks:
            task.cancel()  # at once: it hands nothing more over, and takes nothing more
        if not self.tasks and self.is_at_rest():
            for kernel in [*self._attached]:
                self.detach(kernel)
            self._end()
            return
        self._ending = asyncio.get_running_loop().create_task(self._end_later())
        self._finishing.add(self._ending)
        self._ending.add_done_callback(self._finishing.discard)

    def is_at_rest(self) -> bool:
        """Return whether kernels can be detached without having been asked for their tokens."""
        return not self._attached

    async def _end_later(self) -> None:
        try:
            await asyncio.gather(*self.tasks, return_exceptions=True)
            await self.take_back()
        finally:
            self._end()

    def _end(self) -> None:
        self._is_over = True
        if not self._attached:
            for one in self.given:  # those that were never attached
                one.detached()
            self.results.detached()
        self.lease.release()


@asynccontextmanager
async def held(kernel: RingKernel) -> AsyncIterator[None]:
    """Hold a kernel's token. Raises `KernelStateError` if its handler does not return."""
    assert isinstance(kernel.engine, LendingEngine)
    async with kernel.lock, kernel.engine.token():
        yield


@asynccontextmanager
async def held_at_last(kernel: RingKernel) -> AsyncIterator[None]:
    """As `held`, however long the handler takes."""
    async with AsyncExitStack() as stack:
        while True:
            with suppress(KernelStateError):
                await stack.enter_async_context(held(kernel))
                break
        yield
