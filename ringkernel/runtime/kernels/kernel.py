"""A launched kernel as its user sees it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ringkernel.devices.engine import brief, no_input_of
from ringkernel.errors import KernelStateError
from ringkernel.lifecycle import Command, KernelState, next_state
from ringkernel.views.facts import facts_html
from ringkernel.views.view import QueueView

from .leasing import Leasing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ringkernel.devices.device import Device
    from ringkernel.devices.engine import Engine
    from ringkernel.errors import RingKernelError

    from .message_queue import MessageQueue

TOLD_WITHIN_S = 1.0
"""A failure of which no caller has heard for so long is logged; if all ends sooner, then."""

logger = logging.getLogger("ringkernel")


@dataclass(eq=False, slots=True, weakref_slot=True, repr=False)
class RingKernel:
    """A kernel of a runtime. For reading; only the runtime changes it.

    Attributes:
        kernel_id: its id.
        func: the function that was declared.
        input_queue: what waits to be taken; the host may put.
        output_queue: what waits to be received; the host may get.
        state: its state now.
        task: of a coroutine kernel that was activated; None for a compiled one.
        device: "event-loop", "cpu", or "cuda:N".
        error: what a kernel that has failed ended with, or None.
        sources: the kernels that feed it.
        targets: the kernels that it feeds.
        lost: id and error of a target that has ended: the last that failed, else the last.

    The rest belongs to the runtime.

    Example:
        >>> kernel = await runtime.launch(double)
        >>> kernel.kernel_id, kernel.state.name, kernel.device, kernel.input_queue.capacity
        ('double', 'LAUNCHED', 'cpu', 4096)
    """

    kernel_id: str
    func: Callable[..., Any]
    input_queue: MessageQueue
    output_queue: MessageQueue
    state: KernelState = KernelState.CREATED
    task: asyncio.Task[Any] | None = None
    device: str = "cpu"
    error: BaseException | None = None
    engine: Engine = field(repr=False, default=None)  # type: ignore[assignment]
    runs_on: Device = field(repr=False, default=None)  # type: ignore[assignment]
    lock: asyncio.Lock = field(repr=False, default_factory=asyncio.Lock)
    sources: tuple[RingKernel, ...] = field(repr=False, default=())
    targets: tuple[RingKernel, ...] = field(repr=False, default=())
    lost: tuple[str, BaseException | None] | None = field(repr=False, default=None)
    leasing: Leasing = field(repr=False, default_factory=Leasing)

    def __repr__(self) -> str:
        what = self.state.name if self.error is None else f"FAILED with {brief(self.error)}"
        return f"<RingKernel {self.kernel_id!r} on {self.device}: {what}, {self.input_queue!r} in its input>"

    def _repr_html_(self) -> str | None:
        facts: dict[str, object] = {"state": self.state.name, "device": self.device}
        for name, queue in (("input", self.input_queue), ("output", self.output_queue)):
            facts[name] = QueueView(queue.qsize(), queue.capacity)
        if self.targets:
            facts["feeds"] = ", ".join(target.kernel_id for target in self.targets)
        if self.error is not None:
            facts["failed with"] = brief(self.error)
        return facts_html(f"kernel {self.kernel_id}", facts)

    def check(self, command: Command) -> KernelState:
        """Return the state that a command leads to. Raises `KernelStateError`."""
        return next_state(self.kernel_id, self.state, command)

    def enter(self, command: Command) -> None:
        """Apply a command's row of the table."""
        self.state = self.check(command)

    def end(self, error: BaseException | None) -> None:
        """The kernel is over: the automatic rows of the table."""
        if self.state is KernelState.LAUNCHED:
            self.enter(Command.ACTIVATE)  # it failed before its activation had been noticed
        self.enter(Command.FINISH if error is None else Command.FAIL)
        self.error = error
        if isinstance(error, asyncio.CancelledError):
            logger.info("kernel %r was ended by the cancellation of its task", self.kernel_id)
        elif error is not None:
            logger.info("kernel %r has failed: %s", self.kernel_id, brief(error))
            asyncio.get_running_loop().call_later(TOLD_WITHIN_S, self.log_failure)
        for source in self.sources:
            if error is not None or source.lost is None or source.lost[1] is None:
                source.lost = self.kernel_id, error
        for kernel in self.upstream():
            kernel.engine.notify_senders()  # who waits for room there may wait for nothing

    def log_failure(self) -> None:
        """Log what it failed with, with its traceback, once, unless a caller was told: a script shows that one."""
        if self.error is not None and not self.engine.is_told and not isinstance(self.error, asyncio.CancelledError):
            self.engine.is_told = True
            logger.error("kernel %r has failed", self.kernel_id, exc_info=self.error)

    def upstream(self) -> Iterator[RingKernel]:
        """Yield the kernel, its sources, theirs, and so on: each once."""
        found = {self}
        pending = [self]
        for one in pending:
            yield one
            new = [source for source in one.sources if source not in found]
            found.update(new)
            pending.extend(new)

    def refusal(self) -> RingKernelError:
        """Why nothing may be sent to it."""
        if self.engine.declaration.is_source:
            return no_input_of(self.kernel_id)
        reason, closing = self.engine.told_reason(), self.engine.closing
        if self.error is not None and reason is not None:
            return reason
        if closing is not None:
            return KernelStateError(f"cannot send to kernel {self.kernel_id!r}: {closing}")
        return KernelStateError(
            f"cannot send to kernel {self.kernel_id!r} while it is {self.state.name}; "
            f"allowed is LAUNCHED, ACTIVE or DEACTIVATED"
        )
