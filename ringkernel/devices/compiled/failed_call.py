"""The call of a handler that has failed, as far as a kernel's block and rings say what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ringkernel.codegen.faults import LARGEST
from ringkernel.memory.layout import BLOCK, NOT_BEGUN

from .handler_views import arguments_between, arguments_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ringkernel.declaration.declaration import Declaration

    from .block_state import BlockState
    from .control_block import ControlBlock
    from .executor import Executor
    from .kernel_rings import KernelRings
    from .merging import Merging


class HasFailed(Protocol):
    """The kernel, as this needs it. The token is the host's."""

    kernel_id: str
    declaration: Declaration
    executor: Executor
    block: ControlBlock
    rings: KernelRings
    merging: Merging | None
    state_access: BlockState

    def snapshot(self) -> Any:
        """Its counters, with the fault, as a record."""


class FailedCall:
    """What a kernel's handler failed in. `count`: of how many messages; 0 if it was called without one. `fault`: the
    number by which the machine code says why."""

    __slots__ = ("_edge", "_kernel", "count", "fault")

    def __init__(self, kernel: HasFailed) -> None:
        self._kernel = kernel
        counters = kernel.snapshot()
        self.count, self.fault = int(counters["fault_count"]), int(counters["fault_info_address"])
        self._edge = int(counters["fault_edge"])

    @property
    def handler(self) -> Declaration:
        """The kernel as it is for the messages of the input that it failed on."""
        return self._kernel.declaration.handlers[self._kernel.rings.edge_at(self._edge).input]

    def take_messages(self) -> np.ndarray[tuple[int], np.dtype[np.void]]:
        """The messages that it failed on; they count as taken from now on."""
        return self._kernel.rings.take_failed(self._edge, self.count)

    def arguments(self, messages: Any) -> list[Any]:
        """What the handler was called with, for these messages."""
        arguments, _ = arguments_of(self.handler, messages, self._kernel.state_access.copy_for(messages))
        return arguments

    @property
    def n_keys(self) -> int:
        """How many keys there are states for."""
        keys = self._kernel.block.keys
        return 0 if keys is None else keys.count

    def out_of_time(self, message: Any) -> str | None:
        """What the merge of the inputs found wrong with a message, in words; None if it was something else."""
        merging = self._kernel.merging
        if merging is None or not 0 < self.fault <= LARGEST:
            return None
        return merging.explain(self.fault, self._kernel.rings.edge_at(self._edge).input, message)

    def between_messages(self) -> tuple[str, Callable[..., Any], list[Any]]:
        """Of a handler that was called without a message: what to say of it, the function, and its arguments."""
        kernel = self._kernel
        declaration, state_access = kernel.declaration, kernel.state_access
        timer, merging, end = declaration.timer, kernel.merging, declaration.end
        if end is not None and kernel.block.read(BLOCK.end_phase) != NOT_BEGUN:
            held = state_access.copy_of_nth(kernel.block.read(BLOCK.end_record))
            arguments, _ = arguments_between(declaration, [], held)
            return f"kernel {kernel.kernel_id!r} failed in its on_end", end.func, arguments
        assert timer is not None
        assert merging is not None
        time = merging.timer_time()
        arguments, _ = arguments_between(declaration, [time], state_access.copy_of_nth(merging.timer_record))
        return f"kernel {kernel.kernel_id!r} failed in its timer, at {time}", timer.func, arguments

    @property
    def exception(self) -> tuple[type[BaseException] | None, tuple[Any, ...]]:
        """The class and arguments of the exception that it raised; None if it raised none."""
        return self._kernel.executor.exception_of(self.fault)
