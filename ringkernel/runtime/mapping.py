"""`map`: an array in, an array out, through one kernel or a connected chain.

Between compiled kernels nothing is copied: the array itself becomes the first kernel's input ring, with its end as
the last sequence, and the result array becomes the last kernel's output ring. When stage 1 has consumed everything,
its output cursor is final; so stage 2 is done when it has consumed up to there, and so on: which also holds for
kernels that drop messages.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import ConfigurationError, KernelFailedError, KernelStateError, MessageTypeError, RingKernelError
from ringkernel.lifecycle import KernelState

from .message_queue import as_batch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ringkernel.devices.compiled import CompiledEngine
    from ringkernel.devices.queues import Edge
    from ringkernel.ring.memory import Region
    from ringkernel.ring.typed import TypedRing

    from .kernel import RingKernel


_DRAIN_S = 1.0


def ends_of(kernel_id: Any) -> tuple[str, str]:
    """The first and the last kernel of what is given to `map`. Raises `ConfigurationError`."""
    if not isinstance(kernel_id, tuple | list):
        return kernel_id, kernel_id
    if isinstance(kernel_id, tuple) and len(kernel_id) == 2:
        return kernel_id
    example = f"({kernel_id[0]!r}, {kernel_id[-1]!r})" if kernel_id else "('first', 'last')"
    raise ConfigurationError(
        f"map takes a kernel's id, or a pair of the first and the last of a chain, as in {example}; "
        f"got {kernel_id!r:.200}"
    )


def find_path(first: RingKernel, last: RingKernel) -> list[RingKernel]:
    """The kernels from first to last along their connections. Raises `KernelStateError` if there is no such chain."""
    pending = [[first]]
    while pending:
        path = pending.pop()
        if path[-1] is last:
            return path
        pending.extend([*path, target] for target in path[-1].targets if target not in path)
    raise KernelStateError(f"no connection leads from kernel {first.kernel_id!r} to {last.kernel_id!r}; connect() them")


def check_path(path: list[RingKernel]) -> None:
    """Raises `KernelStateError` if a map over these kernels could mix with other messages."""
    previous = None
    for kernel in path:
        name = f"map: kernel {kernel.kernel_id!r}"
        if kernel.state is not KernelState.ACTIVE:
            why = None if kernel.error is None else kernel.engine.ended_reason()
            raise why or KernelStateError(f"{name} is {kernel.state.name}; it must be ACTIVE")
        if kernel.mapping:
            raise KernelStateError(f"{name} is already in a map; await that first")
        others = [source.kernel_id for source in kernel.sources if source is not previous]
        if others:
            raise KernelStateError(f"{name} is fed by {', '.join(map(repr, others))}, too; map its whole chain instead")
        previous = kernel
    _check_quiet(path)
    last = path[-1]
    if last.targets:
        targets = ", ".join(repr(target.kernel_id) for target in last.targets)
        raise KernelStateError(f"map: the outputs of kernel {last.kernel_id!r} go to {targets}; map the whole chain")


def _check_empty(kernels: list[RingKernel]) -> None:
    """Raises `KernelStateError` if messages wait in an input."""
    for kernel in kernels:
        engine = kernel.engine
        in_hand = engine.declaration.is_coroutine and engine.ledger().in_flight
        if in_hand or any(edge.published() > edge.position() for edge in engine.edges):
            raise KernelStateError(
                f"map: kernel {kernel.kernel_id!r} has messages waiting in its input; receive their outputs first"
            )


def _check_quiet(path: list[RingKernel]) -> None:
    """Raises `KernelStateError` if other messages are in the chain, or have come out of it."""
    _check_empty(path)
    if path[-1].engine.inlet.available():
        raise KernelStateError(f"map: outputs of kernel {path[-1].kernel_id!r} wait to be received; receive them first")


async def _drain(path: list[RingKernel]) -> None:
    """Wait until what the first kernel, which is held, has emitted is through, as far as the others are running."""
    before = path[0]
    for kernel in path[1:]:
        if kernel.state is not KernelState.ACTIVE:
            return
        edge = _edge_between(before, kernel)
        await kernel.engine.processed_up_to(edge, edge.published())
        before = kernel


def _edge_between(source: RingKernel, target: RingKernel) -> Edge:
    return next(edge for edge in target.engine.edges if edge.ring is source.engine.output)


async def map_over(path: list[RingKernel], values: Any, *, progress: bool, reach: Callable[[], Awaitable[None]]) -> Any:
    """Send all values through the path; everything that comes out. See `RingKernelRuntime.map`. `reach` lets devices
    reach memory that is new."""
    from .progress import follow

    first, last = path[0], path[-1]
    message_type = first.engine.declaration.input_type
    messages = as_batch(message_type, values)
    lend = all(kernel.engine.lends for kernel in path) and len(messages) > 0
    transfer = _Lent(path, messages) if lend else _Copied(path, messages)
    for kernel in path:
        kernel.mapping = True
    try:
        await reach()
        async with transfer.in_place():
            with follow(progress, f"{first.kernel_id}..{last.kernel_id}", len(messages), transfer.position):
                await _through(path, transfer.source, transfer.start + len(messages))
    except KernelStateError as error:
        ended = next((kernel for kernel in path if kernel.engine.has_ended), None)
        failure = error
        if ended is not None and not isinstance(error, KernelFailedError):
            failure = KernelFailedError(f"kernel {ended.kernel_id!r} ended during a map")
            failure.__cause__ = error
        if isinstance(failure, KernelFailedError):
            failure.partial = transfer.result()
        raise failure from failure.__cause__
    finally:
        for kernel in path:
            kernel.mapping = False
    return transfer.result()


async def _through(path: list[RingKernel], source: Edge, end: int) -> None:
    """Wait until everything below `end` has gone all the way. Raises when one of the kernels ends before that."""
    passing = asyncio.ensure_future(_pass(path, source, end))
    endings = [asyncio.ensure_future(kernel.engine.wait_end()) for kernel in path]
    try:
        await asyncio.wait([passing, *endings], return_when=asyncio.FIRST_COMPLETED)
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
    edge, before = source, None
    for kernel in path:
        if before is not None:
            edge, end = _edge_between(before, kernel), before.engine.output.position()  # type: ignore[union-attr]
        await kernel.engine.processed_up_to(edge, end)
        before = kernel


class _Lent:
    """The array and the result are the first kernel's input ring and the last one's output ring."""

    def __init__(self, path: list[RingKernel], messages: Any) -> None:
        from ringkernel.ring.typed import TypedRing

        self._path = path
        self._first, self._last = path[0], path[-1]
        first, last = self._engines()
        assert first.declaration.input_type is not None
        arena = first.arena
        count = len(messages)
        self._regions: list[Region] = []
        self._in_arena = any(kernel.engine.reaches_arena_only for kernel in path)
        if self._in_arena:
            messages = self._arena_copy(messages)
        self._ring = TypedRing(arena, first.declaration.input_type, _power_of_two(count), lent=messages)
        self.source: Edge = self._ring.add_edge()
        self._ring.fill()
        self.start = 0
        self._arrays = [messages]
        self._result: Any = None
        self._emitted = 0
        self._output: TypedRing | None = None
        output_type = last.declaration.output_type
        if output_type is not None:
            most = count
            for kernel in path:
                most *= kernel.engine.declaration.max_outputs
            nbytes = most * output_type.dtype.itemsize
            room = self._arena_bytes(nbytes) if self._in_arena else first.results.allocate(nbytes)
            self._result = room.view(output_type.dtype)
            self._output = TypedRing(arena, output_type, _power_of_two(most), lent=self._result)
            self._output.add_edge()
            self._arrays.append(self._result)
        self._chunks = arena.chunks

    def _arena_bytes(self, nbytes: int) -> Any:
        self._regions.append(self._first.engine.arena.allocate(nbytes))  # type: ignore[attr-defined]
        return self._regions[-1].bytes[:nbytes]

    def _arena_copy(self, messages: Any) -> Any:
        """The messages where a device reaches them."""
        copy = self._arena_bytes(messages.nbytes).view(messages.dtype)
        copy.view(np.uint8)[:] = messages.view(np.uint8)
        return copy

    def _engines(self) -> tuple[CompiledEngine, CompiledEngine]:
        return self._first.engine, self._last.engine  # type: ignore[return-value]

    def position(self) -> int:
        return self.source.position()

    @asynccontextmanager
    async def in_place(self) -> AsyncIterator[None]:
        """Put the arrays in the rings' place; on the way out, take the token at a span's edge and put them back."""
        self._chunks.extend(self._arrays)  # a worker that does not come back may reach them for ever
        try:
            await self._put()
            yield
        finally:
            restore = asyncio.ensure_future(self._restore())
            while not restore.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(restore)
            restore.result()

    async def _put(self) -> None:
        """Swap when nothing is on its way through the chain: what was sent before must not mix with the map."""
        async with AsyncExitStack() as stack:
            await self._hold(stack, self._first)
            if self._last is not self._first:
                await _drain(self._path)
                await self._hold(stack, self._last)
                _check_empty(self._path[1:])
            self._lend(self._ring, self._output)

    async def _restore(self) -> None:
        """Stop reading at a span's edge; let what is on its way arrive, as far as it can; swap back."""
        async with AsyncExitStack() as stack:
            await self._hold(stack, self._first)
            if self._last is not self._first:
                with suppress(RingKernelError, asyncio.TimeoutError):
                    async with asyncio.timeout(_DRAIN_S):
                        await _drain(self._path)
                await self._hold(stack, self._last)
            self._lend(None, None)
        self._settle(*self._engines())

    async def _hold(self, stack: AsyncExitStack, kernel: RingKernel) -> None:
        await stack.enter_async_context(kernel.lock)
        await stack.enter_async_context(kernel.engine.token())  # type: ignore[attr-defined]

    def _lend(self, source: TypedRing | None, result: TypedRing | None) -> None:
        first, last = self._engines()
        if first is last:
            first.lend(source, result)
        else:
            first.lend(source, None)
            last.lend(None, result)

    def _settle(self, first: CompiledEngine, last: CompiledEngine) -> None:
        first.mapped_in += self.source.position()
        if self._output is not None:
            self._emitted = self._output.position()
            last.mapped_out += self._emitted
        if not (first.in_flight or last.in_flight):
            for array in self._arrays:
                index = next(i for i, chunk in enumerate(self._chunks) if chunk is array)
                del self._chunks[index]
        else:
            for region in self._regions:
                region.quarantine()
        self._ring.dispose()
        if self._output is not None:
            self._output.dispose()
        self._arrays.clear()

    def result(self) -> Any:
        output_type = self._last.engine.declaration.output_type
        if output_type is None:
            return None
        result, self._result = self._result[: self._emitted], None
        if self._in_arena:
            result, self._regions = result.copy(), []
        return output_type.from_array(result)


class _Copied:
    """Through the kernels' own rings, for chains with a kernel in them that cannot be lent an array."""

    def __init__(self, path: list[RingKernel], messages: Any) -> None:
        self._first, self._last = path[0], path[-1]
        self._messages = messages
        self.source = self._first.engine.edges[0]
        self.start = self.source.published()
        self._batches: list[Any] = []

    def position(self) -> int:
        return self.source.position() - self.start

    @asynccontextmanager
    async def in_place(self) -> AsyncIterator[None]:
        engine = self._last.engine
        feeder = asyncio.ensure_future(self._first.engine.outlet.put_many(self._messages))
        collector = asyncio.ensure_future(self._collect()) if engine.output is not None else None
        try:
            yield
        finally:
            for task in (feeder, collector):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, RingKernelError):
                        await task
            if engine.output is not None:
                self._take_rest()

    async def _collect(self) -> None:
        while True:
            self._batches.append(await self._last.engine.inlet.get_many())

    def _take_rest(self) -> None:
        inlet = self._last.engine.inlet
        while inlet.available():
            self._batches.append(inlet.try_get_many(None))

    def result(self) -> Any:
        engine = self._last.engine
        if engine.output is None:
            return None
        if not engine.output.typed:
            return [message for batch in self._batches for message in batch]
        message_type = engine.output.message_type  # type: ignore[union-attr]
        records = np.concatenate(self._batches) if self._batches else np.empty(0, message_type.dtype)
        return message_type.from_array(records)


def _power_of_two(count: int) -> int:
    return 1 << max(0, count - 1).bit_length()


def check_array(values: Any) -> None:
    """Refuse what is not a batch at all. Raises `MessageTypeError`."""
    if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
        raise MessageTypeError(f"map takes an array or a sequence of messages, got {values!r:.100}")
