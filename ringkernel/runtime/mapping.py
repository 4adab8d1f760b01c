"""`map`: an array in, an array out, through one kernel or a connected chain.

Between compiled kernels nothing is copied: the array itself becomes the first kernel's input ring, with its end as
the last sequence, and the result array becomes the last kernel's output ring. When stage 1 has consumed everything,
its output cursor is final; so stage 2 is done when it has consumed up to there, and so on: which also holds for
kernels that drop messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import KernelFailedError, KernelStateError, MessageTypeError, RingKernelError
from ringkernel.lifecycle import KernelState

from .message_queue import as_batch

if TYPE_CHECKING:
    from ringkernel.devices.compiled import CompiledEngine
    from ringkernel.devices.queues import Edge

    from .kernel import RingKernel


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
            raise KernelStateError(f"{name} is {kernel.state.name}; it must be ACTIVE")
        if kernel.mapping:
            raise KernelStateError(f"{name} is already in a map; await that first")
        others = [source.kernel_id for source in kernel.sources if source is not previous]
        if others:
            raise KernelStateError(f"{name} is fed by {', '.join(map(repr, others))}, too; map its whole chain instead")
        if any(edge.published() > edge.position() for edge in kernel.engine.edges):
            raise KernelStateError(f"{name} has messages waiting in its input; receive their outputs first")
        previous = kernel
    last = path[-1]
    if last.targets:
        targets = ", ".join(repr(target.kernel_id) for target in last.targets)
        raise KernelStateError(f"map: the outputs of kernel {last.kernel_id!r} go to {targets}; map the whole chain")
    if last.engine.inlet.available():
        raise KernelStateError(f"map: outputs of kernel {last.kernel_id!r} wait to be received; receive them first")


async def map_over(path: list[RingKernel], values: Any, *, progress: bool) -> Any:
    """Send all values through the path; everything that comes out. See `RingKernelRuntime.map`."""
    from .progress import follow

    first, last = path[0], path[-1]
    message_type = first.engine.declaration.input_type
    messages = as_batch(message_type, values)
    lend = all(_is_compiled(kernel) for kernel in path) and len(messages) > 0
    transfer = _Lent(path, messages) if lend else _Copied(path, messages)
    for kernel in path:
        kernel.mapping = True
    try:
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
    """Wait until everything below `end` has gone all the way."""
    edge = source
    for kernel, following in zip(path, [*path[1:], None], strict=True):
        await kernel.engine.processed_up_to(edge, end)
        if following is not None:
            ring = kernel.engine.output
            assert ring is not None
            edge = next(edge for edge in following.engine.edges if edge.ring is ring)
            end = ring.position()


def _is_compiled(kernel: RingKernel) -> bool:
    return not kernel.engine.declaration.is_coroutine


class _Lent:
    """The array and the result are the first kernel's input ring and the last one's output ring."""

    def __init__(self, path: list[RingKernel], messages: Any) -> None:
        from ringkernel.ring.typed import TypedRing

        self._first, self._last = path[0], path[-1]
        first, last = self._engines()
        assert first.declaration.input_type is not None
        arena = first.arena
        count = len(messages)
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
            self._result = first.results.allocate(most * output_type.dtype.itemsize).view(output_type.dtype)
            self._output = TypedRing(arena, output_type, _power_of_two(most), lent=self._result)
            self._output.add_edge()
            self._arrays.append(self._result)
        self._chunks = arena.chunks

    def _engines(self) -> tuple[CompiledEngine, CompiledEngine]:
        return self._first.engine, self._last.engine  # type: ignore[return-value]

    def position(self) -> int:
        return self.source.position()

    @asynccontextmanager
    async def in_place(self) -> AsyncIterator[None]:
        """Put the arrays in the rings' place; on the way out, take the token at a span's edge and put them back."""
        self._chunks.extend(self._arrays)  # a worker that does not come back may reach them for ever
        try:
            await self._swap(lent=True)
            yield
        finally:
            restore = asyncio.ensure_future(self._swap(lent=False))
            while not restore.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(restore)
            restore.result()

    async def _swap(self, *, lent: bool) -> None:
        first, last = self._engines()
        source, result = (self._ring, self._output) if lent else (None, None)
        if self._first is self._last:
            async with self._first.lock, first.token():
                first.lend(source, result)
        else:
            async with self._last.lock, last.token():
                last.lend(None, result)
            async with self._first.lock, first.token():
                first.lend(source, None)
        if not lent:
            self._settle(first, last)

    def _settle(self, first: CompiledEngine, last: CompiledEngine) -> None:
        first.mapped_in += self.source.position()
        if self._output is not None:
            self._emitted = self._output.position()
            last.mapped_out += self._emitted
        if not (first.in_flight or last.in_flight):
            for array in self._arrays:
                index = next(i for i, chunk in enumerate(self._chunks) if chunk is array)
                del self._chunks[index]

        self._ring.dispose()
        if self._output is not None:
            self._output.dispose()
        self._arrays.clear()

    def result(self) -> Any:
        output_type = self._last.engine.declaration.output_type
        if output_type is None:
            return None
        result, self._result = self._result[: self._emitted], None
        return output_type.from_array(result)


class _Copied:
    """Through the kernels' own rings, for chains with a coroutine kernel in them."""

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
