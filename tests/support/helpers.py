"""What several test files need: waiting for a condition, and looking at a kernel's ledger."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import time
from typing import TYPE_CHECKING, Any, Self

from ringkernel import KernelStateError, MessageQueue, QueueEmptyError, RingKernel, RingKernelRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

PATIENCE_S = 5.0
"""How long a test waits for something that should happen at once, on a machine that is busy with other things."""

SLACK_S = 0.25
"""What a deadline may be missed by on a machine that is busy with other things; the promise itself is 0.1 s."""


async def eventually(predicate: Callable[[], Any], timeout: float = PATIENCE_S) -> Any:
    """Wait until `predicate()`, plain or a coroutine, is true; what it returned. Fails the test after `timeout` s."""
    deadline = time.monotonic() + timeout
    while True:
        result = predicate()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(f"not true within {timeout} s: {inspect.getsource(predicate).strip()}")
        await asyncio.sleep(0.001)


async def turns(count: int = 10) -> None:
    """Let everything in the event loop that is ready run, `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def within(awaitable: Any, timeout: float = PATIENCE_S) -> Any:
    """The result of something that should not hang. Fails the test after `timeout` s."""
    try:
        async with asyncio.timeout(timeout) as scope:
            return await awaitable
    except TimeoutError:
        if scope.expired():
            raise AssertionError(f"did not end within {timeout} s") from None
        raise


async def start(runtime: RingKernelRuntime, kernel_id: str, func: Any, **options: Any) -> RingKernel:
    """Launch and activate."""
    kernel = await runtime.launch(kernel_id, func, **options)
    await runtime.activate(kernel_id)
    return kernel


async def connect_chain(runtime: RingKernelRuntime, *, queue_size: int | None = None, **kernels: Any) -> None:
    """Launch and connect in a row."""
    for name, func in kernels.items():
        await runtime.launch(name, func, queue_size=queue_size)
    for source, target in itertools.pairwise(kernels):
        runtime.connect(source, target)


async def start_chain(runtime: RingKernelRuntime, *, queue_size: int | None = None, **kernels: Any) -> None:
    """Launch, connect in a row, and activate."""
    await connect_chain(runtime, queue_size=queue_size, **kernels)
    await activate(runtime, *kernels)


async def start_pair(runtime: RingKernelRuntime, source: Any, target: Any, *, input: str = "") -> None:  # noqa: A002
    """Launch two declared kernels, connect the one with this input of the other, and activate them."""
    await runtime.launch(source)
    await runtime.launch(target)
    runtime.connect(source, target, input=input)
    await activate(runtime, source, target)


async def activate(runtime: RingKernelRuntime, *kernel_ids: Any) -> None:
    """Activate one after the other."""
    for kernel_id in kernel_ids:
        await runtime.activate(kernel_id)


async def receive_all(runtime: RingKernelRuntime, kernel_id: str, count: int) -> list[Any]:
    """`count` outputs. Fails the test if more come."""
    received: list[Any] = []
    while len(received) < count:
        received.extend(await within(runtime.receive_batch(kernel_id)))
    assert len(received) == count
    return received


async def in_line(queue: MessageQueue, operation: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task for an operation that has to wait, once it stands in the queue's line."""

    def length() -> int:
        counts = queue.statistics()
        return counts.waiting_putters + counts.waiting_getters

    before = length()
    task = asyncio.create_task(operation)
    await eventually(lambda: length() > before)
    return task


def live_state(runtime: RingKernelRuntime, kernel_id: str) -> Any:
    """The state record that a running kernel works on, for handlers that wait for the test."""
    engine: Any = runtime.kernels[kernel_id].engine
    on_host = engine.block.state
    memory = getattr(engine.executor, "_memory", None)
    return (memory[0].region.view(on_host.dtype) if memory else on_host)[0]


def drain(runtime: RingKernelRuntime, kernel_id: str) -> list[Any]:
    """All outputs that wait, without waiting for more."""
    outputs: list[Any] = []
    while True:
        try:
            outputs.append(runtime.receive_nowait(kernel_id))
        except (QueueEmptyError, KernelStateError):
            return outputs


def partial_of(error: BaseException) -> list[Any]:
    """What had come out of a map before it ended with this."""
    partial = getattr(error, "partial", None)
    return [] if partial is None else list(partial)


def check_books(runtime: RingKernelRuntime, kernel_id: str) -> Any:
    """Assert that no message of an idle kernel is unaccounted for. Its statistics."""
    counts = runtime.statistics(kernel_id)
    handled = counts.processed + counts.failed + counts.in_flight
    assert counts.accepted == handled + counts.unprocessed, counts
    assert counts.input_depth == counts.unprocessed, counts
    assert counts.emitted == counts.received + counts.output_depth, counts
    assert min(counts.processed, counts.failed, counts.in_flight, counts.unprocessed, counts.output_depth) >= 0, counts
    return counts


class Ticker:
    """A task that runs whenever it is let, and notes the longest step of `progress()` between two of its runs."""

    def __init__(self, progress: Callable[[], int]) -> None:
        self.progress = progress
        self.runs = self.longest = 0

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.tick())
        await turns(2)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def tick(self) -> None:
        seen = self.progress()
        while True:
            await asyncio.sleep(0)
            now = self.progress()
            self.longest = max(self.longest, now - seen)
            seen = now
            self.runs += 1
