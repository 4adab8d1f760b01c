"""Pipelines at work: what is missing is launched, connected and activated; and ended, sources before targets."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.pipeline import Pipeline, pipeline
from ringkernel.devices.event_loop import interrupts
from ringkernel.errors import KernelExistsError, KernelStateError
from ringkernel.lifecycle import Command, KernelState

from .connect import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import numpy.typing as npt

    from ringkernel.messages.frames.options import Extra, FrameForm

    from .supervisor import Supervisor


class RunningPipeline:
    """A pipeline in a runtime, or in a session: their methods, for its first kernel, its last, or both.

    What they return is awaited, or not, as it is with the runtime's or the session's methods of the same names.

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

    def send(self, message: Any, *, timeout: float | None = None) -> Any:
        """Send to the first kernel.

        Example:
            >>> with session.run(double) as running:
            ...     running.send(3)
            ...     running.receive()
            6.0
        """
        return self._runtime.send(self.pipeline.first, message, timeout=timeout)

    def send_batch(self, messages: Any, *, timeout: float | None = None, extra: Extra = "refuse") -> Any:
        """Send many to the first kernel.

        Example:
            >>> with session.run(double) as running:
            ...     running.send_batch([1.0, 2.0])
            ...     running.receive(), running.receive()
            (2.0, 4.0)
        """
        return self._runtime.send_batch(self.pipeline.first, messages, timeout=timeout, extra=extra)

    def receive(self, *, timeout: float | None = None) -> Any:
        """Take the last kernel's next output.

        Example:
            >>> async with runtime.run(double) as running:
            ...     await running.send(3)
            ...     await running.receive(timeout=10)
            6.0
        """
        return self._runtime.receive(self.pipeline.last, timeout=timeout)

    def receive_batch(
        self,
        max_messages: int | None = None,
        *,
        out: npt.NDArray[Any] | None = None,
        timeout: float | None = None,
        to: FrameForm | None = None,
    ) -> Any:
        """Take the last kernel's outputs that wait.

        Example:
            >>> async with runtime.run(double) as running:
            ...     await running.send_batch([1.0, 2.0])
            ...     await running.finish()
            ...     await running.receive_batch()
            array([2., 4.])
        """
        return self._runtime.receive_batch(self.pipeline.last, max_messages, out=out, timeout=timeout, to=to)

    def stream(self, *, max_messages: int | None = None, progress: bool = False, to: FrameForm | None = None) -> Any:
        """Iterate over the last kernel's outputs, batch by batch.

        Example:
            >>> async with runtime.run(double) as running:
            ...     await running.send_batch([1.0, 2.0])
            ...     await running.finish()
            ...     async for batch in running.stream():
            ...         print(batch)
            [2. 4.]
        """
        return self._runtime.stream(self.pipeline.last, max_messages=max_messages, progress=progress, to=to)

    def call(self, message: Any, *, timeout: float | None = None) -> Any:
        """Send a message through; its output.

        Example:
            >>> with session.run(rk.pipeline(double, total)) as running:
            ...     running.call(3)
            6.0
        """
        return self._runtime.call(self.pipeline, message, timeout=timeout)

    def map(
        self,
        messages: Any,
        *,
        out: npt.NDArray[Any] | None = None,
        progress: bool = False,
        extra: Extra = "refuse",
        to: FrameForm | None = None,
    ) -> Any:
        """Send all messages through; all outputs.

        Example:
            >>> with session.run(rk.pipeline(double, total)) as running:
            ...     running.map([1.0, 2.0])
            array([2., 6.])
        """
        return self._runtime.map(self.pipeline, messages, out=out, progress=progress, extra=extra, to=to)

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


def as_pipeline(kernels: Any) -> Pipeline:
    """A pipeline, or the one of a single kernel."""
    return kernels if isinstance(kernels, Pipeline) else pipeline(kernels)


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


async def start(supervisor: Supervisor, kernels: Any) -> bool:
    """Launch, connect and activate what is not there yet, of a pipeline or a single kernel. Whether there was anything
    to do.

    A function that is named anew is an edit of a kernel's handler; one of a pipeline of before an edit is not.

    Raises what `launch`, `connect` and `activate` raise. Kernels that it has launched stay.
    """
    line = as_pipeline(kernels)
    known, changed = supervisor.kernels, False
    for kernel_id in line.kernel_ids:
        if kernel_id not in known:
            await supervisor.launch(kernel_id, line.functions.get(kernel_id), None, None, None)
            changed = True
        elif supervisor.is_edited(known[kernel_id], func := line.functions.get(kernel_id)) and not (
            line is kernels and supervisor.replacements.is_earlier(func)
        ):
            await supervisor.replace(kernel_id, func)
    for source, target in line.connections:
        if known[target] not in known[source].targets:
            connect(known[source], known[target])
            changed = True
    for kernel_id in reversed(line.kernel_ids):
        if known[kernel_id].state is KernelState.LAUNCHED:
            await supervisor.start(kernel_id, Command.ACTIVATE)
            changed = True
    return changed


async def finish(supervisor: Supervisor, line: Pipeline, timeout: float) -> None:
    """End the kernels of a pipeline that are there, sources before targets, each in `timeout` seconds."""
    for kernel_id in line.kernel_ids:
        if kernel_id in supervisor.kernels:
            with suppress(KernelStateError):  # it ends by itself, or has ended
                await supervisor.terminate(kernel_id, timeout)
            await supervisor.wait(kernel_id, None)
