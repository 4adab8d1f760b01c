"""A pipeline for the length of a block, and what is done with it there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ringkernel.devices.event_loop import interrupts
from ringkernel.errors import KernelExistsError
from ringkernel.lifecycle import KernelState

from .lifecycle.starting import as_pipeline, start
from .messaging import Messaging
from .threads.blocking import options_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ringkernel.declaration.pipeline import Pipeline

    from .lifecycle.supervisor import Supervisor


class RunningPipeline:
    """A pipeline in a runtime, or in a session: their methods, for its first kernel, its last, or both.

    The options are theirs. What the methods return is awaited, or not, as it is with the runtime's or the session's.

    Example:
        >>> async with runtime.run(rk.pipeline(double, total)) as running:
        ...     await running.call(1)
        ...     await running.call(2)
        2.0
        6.0
    """

    __slots__ = ("_runtime", "pipeline")

    def __init__(self, runtime: Any, line: Pipeline) -> None:
        self._runtime, self.pipeline = runtime, line

    def __repr__(self) -> str:
        return f"<running {self.pipeline!r}>"

    @options_of(Messaging.send)
    def send(self, message: Any, **options: Any) -> Any:
        """Send to the first kernel.

        Example:
            >>> with session.run(double) as running:
            ...     running.send(3)
            ...     running.receive()
            6.0
        """
        return self._runtime.send(self.pipeline.first, message, **options)

    @options_of(Messaging.send_batch)
    def send_batch(self, messages: Any, **options: Any) -> Any:
        """Send many to the first kernel.

        Example:
            >>> with session.run(double) as running:
            ...     running.send_batch([1.0, 2.0])
            ...     running.receive(), running.receive()
            (2.0, 4.0)
        """
        return self._runtime.send_batch(self.pipeline.first, messages, **options)

    @options_of(Messaging.receive)
    def receive(self, **options: Any) -> Any:
        """Take the last kernel's next output.

        Example:
            >>> async with runtime.run(double) as running:
            ...     await running.send(3)
            ...     await running.receive(timeout=10)
            6.0
        """
        return self._runtime.receive(self.pipeline.last, **options)

    @options_of(Messaging.receive_batch)
    def receive_batch(self, max_messages: int | None = None, **options: Any) -> Any:
        """Take the last kernel's outputs that wait.

        Example:
            >>> async with runtime.run(double) as running:
            ...     await running.send_batch([1.0, 2.0])
            ...     await running.finish()
            ...     await running.receive_batch()
            array([2., 4.])
        """
        return self._runtime.receive_batch(self.pipeline.last, max_messages, **options)

    @options_of(Messaging.stream)
    def stream(self, **options: Any) -> Any:
        """Iterate over the last kernel's outputs, batch by batch.

        Example:
            >>> async with runtime.run(double) as running:
            ...     await running.send_batch([1.0, 2.0])
            ...     await running.finish()
            ...     async for batch in running.stream():
            ...         print(batch)
            [2. 4.]
        """
        return self._runtime.stream(self.pipeline.last, **options)

    @options_of(Messaging.call)
    def call(self, message: Any, **options: Any) -> Any:
        """Send a message through; its output.

        Example:
            >>> with session.run(rk.pipeline(double, total)) as running:
            ...     running.call(3)
            6.0
        """
        return self._runtime.call(self.pipeline, message, **options)

    @options_of(Messaging.map)
    def map(self, messages: Any, **options: Any) -> Any:
        """Send all messages through; all outputs.

        Example:
            >>> with session.run(rk.pipeline(double, total)) as running:
            ...     running.map([1.0, 2.0])
            array([2., 6.])
        """
        return self._runtime.map(self.pipeline, messages, **options)

    def finish(self) -> Any:
        """End its kernels, sources before targets, each with what is queued in it. The outputs of the last one can
        still be received.

        Example:
            >>> async with runtime.run(total) as running:
            ...     await running.send_batch([1.0, 2.0])
            ...     await running.finish()
            >>> await runtime.receive_batch(total)
            array([1., 3.])
        """
        return self._runtime.terminate(self.pipeline)


@asynccontextmanager
async def running(runtime: Any, supervisor: Supervisor, kernels: Any) -> AsyncIterator[RunningPipeline]:
    """Start a pipeline of kernels that are not there yet, and end them. See `RingKernelRuntime.run`."""
    line = as_pipeline(kernels)
    for kernel_id in line.kernel_ids:
        kernel = supervisor.kernels.get(kernel_id)
        if kernel is not None and kernel.state is not KernelState.TERMINATED:
            raise KernelExistsError(f"run: kernel {kernel_id!r} is {kernel.state.name} already; terminate() it first")
    for kernel_id in line.kernel_ids:
        if kernel_id in supervisor.kernels:
            runtime.remove(kernel_id)
    error: BaseException | None = None
    try:
        await start(supervisor, line)
        yield RunningPipeline(runtime, line)
    except BaseException as caught:
        error = caught
        raise
    finally:
        await interrupts.finish(runtime.terminate(line), error)
