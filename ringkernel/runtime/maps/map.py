"""`map`: an array in, an array out, through one kernel or a connected chain.

Between compiled kernels nothing is copied: the array itself becomes the first kernel's input ring, with its end as
the last sequence, and the result array becomes the last kernel's output ring. When stage 1 has consumed everything,
its output cursor is final; so stage 2 is done when it has consumed up to there, and so on: which also holds for
kernels that drop messages. If one of them is a coroutine, the messages go through the kernels' own queues.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import LendingEngine
from ringkernel.errors import ConfigurationError, RingKernelError
from ringkernel.lifecycle import KernelState
from ringkernel.ring.host.waiting import NOTHING
from ringkernel.runtime.attach.given_input import GivenInput
from ringkernel.runtime.attach.lease import Lease
from ringkernel.runtime.attach.results import Results
from ringkernel.runtime.attach.transfer import Transfer, held
from ringkernel.runtime.graph.neighbours import dead_end, edge_between
from ringkernel.runtime.observing.progress import follow
from ringkernel.tracebacks import shorten

from .given_array import batch_of, check_result_array
from .path import check_empty, check_path, most_outputs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.ring.host.kinds import Edge
    from ringkernel.ring.host.record_ring import RecordRing
    from ringkernel.runtime.kernels.kernel import RingKernel

LOOK_S = 0.05
"""How often a map that waits looks whether it ever can be through."""
_DRAIN_S = 1.0


async def map_over(
    path: list[RingKernel],
    values: Any,
    *,
    begun: Any,
    out: Any,
    progress: bool,
    reach: Callable[[list[RingKernel]], Awaitable[None]],
    finishing: set[asyncio.Task[None]],
) -> Any:
    """Send all values through the path, or see to a map that has `begun`, if that is not `NOTHING`; all that comes
    out. See `Messaging.map`. `reach` lets devices reach memory that is new; `finishing` holds what goes on after a
    cancelled map."""
    if begun is NOTHING:
        values = batch_of(path, values)
        if out is not None:
            check_result_array(path, values, out)
    lease = await Lease.of(path)  # does not wait if it has begun
    try:
        one: Map = Map.of(path, values, out) if begun is NOTHING else begun
        one.lease = lease
        lease.close_inputs()
    except BaseException:
        lease.release()
        raise
    if not one.source.count:
        lease.release()
        return one.results.result()
    result = await one.carry(one.through(reach, progress=progress), finishing)
    if out is not None and len(result) > len(out):
        raise _does_not_fit(result, out)
    return result


class Map(Transfer):
    """One map over the kernels of a path; the first of them takes the messages of `source`."""

    what = "a map"
    alone = True

    def __init__(self, path: list[RingKernel], source: GivenInput, results: Results) -> None:
        super().__init__(path, [source], results)
        self.first, self.source = path[0], source

    @classmethod
    def of(cls, path: list[RingKernel], messages: Any, out: Any) -> Map:
        """Return a map of these messages that has not begun. Raises `KernelStateError` if it cannot be done now."""
        engines = [engine for kernel in path if isinstance(engine := kernel.engine, LendingEngine)]
        in_place = len(engines) == len(path)
        check_path(path, lend=in_place)
        source, results = GivenInput(path[0], messages, len(messages)), Results(path[-1], out)
        if in_place and len(messages):
            in_arena = any(engine.arena_only for engine in engines)
            source.use_array(in_arena=in_arena)
            results.use_array(most_outputs(path, len(messages)), in_arena=in_arena)
        else:
            source.use_queue()
        return cls(path, source, results)

    @classmethod
    def begun(cls, path: list[RingKernel], source: RecordRing, output: RecordRing | None, out: Any) -> Map:
        """Return a map that is running, over rings that `map_here` has put in place."""
        given, results = GivenInput(path[0], source.slots, len(source.slots)), Results(path[-1], out)
        given.use_ring(source)
        results.use_ring(output)
        one = cls(path, given, results)
        one._attach_all()
        return one

    def _attach_all(self) -> None:
        for kernel in dict.fromkeys((self.first, self.last)):
            self.attach(kernel)

    async def through(self, reach: Callable[[list[RingKernel]], Awaitable[None]], *, progress: bool) -> None:
        """Let the first kernel have the messages, and wait until they are through."""
        await reach(self.kernels)
        await self._put()
        with follow(progress, f"map {arrows(self.kernels)}", self.source.count, self.taken):
            await _through(self.kernels, self.source.edge, self.source.end)

    async def _put(self) -> None:
        """Cancelled or failed, the first kernel has none of them."""
        if self.source.ring is None:
            self.lease.close_output()
            start = asyncio.get_running_loop().create_task
            self.tasks.append(start(self.source.hand_over(self.source.values, self.lease.putting)))
            if self.last.engine.output is not None:
                self.tasks.append(start(self.results.take_all(self.lease.getting)))
        elif self._attached:  # it has begun
            self.lease.close_output()
        else:
            await self._exchange()

    async def _exchange(self) -> None:
        """Attach the array when nothing is on its way through the chain: what was sent before must not mix with it."""
        await self.lease.hold_foreign_sources()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(held(self.first))
            if self.last is not self.first:
                await _drain(self.kernels, as_far_as_active=True)
                await stack.enter_async_context(held(self.last))
                check_empty(self.kernels)
            self.lease.close_output()
            self._attach_all()

    # --- the end ---------------------------------------------------------------------------------------------

    def is_at_rest(self) -> bool:
        """Return whether nothing is attached, or all kernels rest after all messages."""
        return super().is_at_rest() or (self.source.is_through and all(map(_is_at_rest, self.kernels)))

    async def before_detaching(self, kernel: RingKernel) -> None:
        """Stop reading at a span's edge; let what is on its way to the last kernel arrive, as far as it can."""
        if kernel is self.first:
            self.source.edge.limit = 0  # beyond the span that runs now, nothing more is taken
        else:
            with suppress(RingKernelError, asyncio.TimeoutError):
                async with asyncio.timeout(_DRAIN_S):
                    await _drain(self.kernels, as_far_as_active=True)

    async def take_back(self) -> None:
        """Detach the kernels, or take what else has come out of the last one's queue."""
        await super().take_back()
        if self.source.ring is None:
            self.results.take_rest()

    def progress(self) -> str:
        """Return how far it is, in words."""
        return f"map over {named(self.kernels)}: {self.taken()} of {self.source.count} messages were taken"


async def let_others_run(result: Any) -> None:
    """Let other tasks have the loop, between a map and what its caller does next."""
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as error:
        shorten(error, "a map was over; all its outputs are .partial of this error")
        error.partial = result  # type: ignore[attr-defined]
        raise


def _does_not_fit(result: Any, out: Any) -> ConfigurationError:
    """Coroutine kernels have emitted more than the given array has room for."""
    error = ConfigurationError(f"out has room for {len(out)} outputs, and {len(result)} came; they are in .partial")
    error.partial = result  # type: ignore[attr-defined]
    return error


def named(path: list[RingKernel]) -> str:
    """Return the names of a path for an error."""
    return " to ".join(repr(kernel.kernel_id) for kernel in (path if len(path) == 1 else (path[0], path[-1])))


def arrows(path: list[RingKernel]) -> str:
    """Return the names of a path for a progress bar."""
    names = [kernel.kernel_id for kernel in path]
    return " → ".join(names if len(names) <= 3 else [names[0], "…", names[-1]])


async def _through(path: list[RingKernel], source: Edge, end: int) -> None:
    """Wait until everything below `end` has gone all the way. Raises when one of the kernels ends before that, or can
    never go on."""
    if len(path) == 1:
        await _pass(path, source, end)  # which notices the end of the kernel that it waits for: 60 us less
        return
    passing = asyncio.ensure_future(_pass(path, source, end))
    endings = [asyncio.ensure_future(kernel.engine.wait_end()) for kernel in path]
    try:
        while True:
            done, _ = await asyncio.wait([passing, *endings], timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
            if done:
                break
            for reason in filter(None, map(dead_end, path)):
                raise reason
        if passing.done():
            passing.result()
            return
        ended = next(kernel for kernel in path if kernel.engine.has_ended)
        raise ended.engine.ended_error()
    finally:
        for task in (passing, *endings):
            task.cancel()
        await asyncio.gather(passing, *endings, return_exceptions=True)


async def _pass(path: list[RingKernel], source: Edge, end: int) -> None:
    await path[0].engine.processed_up_to(source, end)
    await _drain(path)


async def _drain(path: list[RingKernel], *, as_far_as_active: bool = False) -> None:
    """Wait until what the first kernel has emitted, which emits nothing more, is through."""
    for before, kernel in pairwise(path):
        if as_far_as_active and kernel.state is not KernelState.ACTIVE:
            return
        output: Any = before.engine.output
        await kernel.engine.processed_up_to(edge_between(before, kernel), output.position())


def _is_at_rest(kernel: RingKernel) -> bool:
    """Return True if a kernel is ACTIVE and rests, and nobody is about to give it a command."""
    engine = kernel.engine
    is_active = kernel.state is KernelState.ACTIVE and not kernel.lock.locked()
    return is_active and isinstance(engine, LendingEngine) and engine.rests
