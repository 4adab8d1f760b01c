"""A launched kernel as its user sees it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ringkernel.lifecycle import Command, KernelState, next_state

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.devices.engine import Engine

    from .message_queue import MessageQueue


@dataclass(eq=False, slots=True, weakref_slot=True)
class RingKernel:
    """A kernel of a runtime. Read it; the runtime writes it."""

    kernel_id: str
    func: Callable[..., Any]
    input_queue: MessageQueue
    output_queue: MessageQueue
    state: KernelState = KernelState.CREATED
    task: asyncio.Task[Any] | None = None
    device: str = "cpu"
    error: BaseException | None = None
    engine: Engine = field(repr=False, default=None)  # type: ignore[assignment]
    lock: asyncio.Lock = field(repr=False, default_factory=asyncio.Lock)
    sources: list[RingKernel] = field(repr=False, default_factory=list)
    targets: list[RingKernel] = field(repr=False, default_factory=list)
    mapping: bool = field(repr=False, default=False)

    def check(self, command: Command) -> KernelState:
        """The state that a command leads to. Raises `KernelStateError`."""
        return next_state(self.kernel_id, self.state, command)

    def enter(self, command: Command) -> None:
        """Apply a command's row of the table."""
        self.state = self.check(command)
