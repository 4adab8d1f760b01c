"""Pipelines that a session launches for a block of code, or for one map, and ends after it: in the session's thread."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

from ringkernel.devices.event_loop.interrupts import wait_out
from ringkernel.errors import RingKernelError
from ringkernel.lifecycle import KernelState

from .lifecycle.starting import as_pipeline
from .maps.path import check_no_branches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .running import RunningPipeline
    from .runtime import RingKernelRuntime

_END_S = 1.0
"""How long what ends a map is waited for when all kernels have ended."""


class Blocks:
    """The blocks of a runtime. One of them at a time launches or ends a kernel of some name: the next one waits for one
    that was interrupted and is about to end."""

    def __init__(self, runtime: RingKernelRuntime) -> None:
        self.runtime = runtime
        self._names: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._endings: set[asyncio.Task[None]] = set()

    async def hold(self, names: Iterable[str]) -> AsyncExitStack:
        """Wait until no other block launches or ends kernels of these names; others wait until the stack is closed."""
        async with AsyncExitStack() as stack:
            for name in sorted(set(names)):  # in one order, so that nobody waits in a circle
                await stack.enter_async_context(self._names[name])
            return stack.pop_all()

    async def map_once(self, kernels: Any, messages: Any, options: dict[str, Any]) -> Any:
        """See `Session.map_once`. Cancelled, it is over at once, and its kernels end by themselves."""
        line = as_pipeline(kernels)
        check_no_branches(line)
        block = Block(self, line)
        held = await self.hold(line.kernel_ids)
        is_cancelled = False
        try:
            running = await block.enter_held()
            return await running.map(messages, **options)
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        finally:
            ending = asyncio.get_running_loop().create_task(self._end(block, held, at_once=is_cancelled))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            if not is_cancelled:
                await asyncio.shield(ending)

    async def _end(self, block: Block, held: AsyncExitStack, *, at_once: bool) -> None:
        async with held:
            if at_once:
                await self._end_coroutines(block.names)
            await block.leave_held()
            known = self.runtime.kernels
            for name in block.names:
                if name in known and known[name].state is KernelState.TERMINATED:
                    self.runtime.remove(name)

    async def _end_coroutines(self, names: Iterable[str]) -> None:
        """End coroutine kernels at once: their outputs would go to nobody."""
        for name in names:
            kernel = self.runtime.kernels.get(name)
            if kernel is not None and kernel.engine.declaration.is_coroutine:
                with suppress(RingKernelError):
                    await self.runtime.terminate(name, 0)

    async def close(self) -> None:
        """Close the runtime, and let the maps end that were interrupted."""
        await self.runtime.close()
        if self._endings:
            await asyncio.wait(set(self._endings), timeout=_END_S)


class Block:
    """A pipeline that runs between `enter` and `leave`, in tasks that may be cancelled."""

    def __init__(self, blocks: Blocks, kernels: Any) -> None:
        self._blocks = blocks
        self._context = blocks.runtime.run(kernels)
        self.names = as_pipeline(kernels).kernel_ids
        self._is_inside = False

    async def enter(self) -> RunningPipeline:
        """Launch, connect and activate. Cancelled or failed, it has ended what it has launched."""
        async with await self._blocks.hold(self.names):
            return await self.enter_held()

    async def enter_held(self) -> RunningPipeline:
        """`enter`, by who holds the names."""
        running = await self._context.__aenter__()
        self._is_inside = True
        return running

    async def leave(self) -> None:
        """End the kernels, if that has not been done. Once begun it goes on, even if its caller is cancelled."""
        held = await self._blocks.hold(self.names)  # in the task's first step: before who comes next
        ending = asyncio.ensure_future(self._leave(held))
        await wait_out(ending)
        if ending.done():
            ending.result()

    async def _leave(self, held: AsyncExitStack) -> None:
        async with held:
            await self.leave_held()

    async def leave_held(self) -> None:
        """`leave`, by who holds the names."""
        if self._is_inside:
            self._is_inside = False
            await self._context.__aexit__(None, None, None)
