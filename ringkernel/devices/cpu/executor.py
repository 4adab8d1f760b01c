"""Runs a compiled kernel on a CPU worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.devices.compiled.executor import Eviction, Executor
from ringkernel.devices.compiled.failure import described

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.codegen.span_types import Span
    from ringkernel.devices.compiled.executor import Raised
    from ringkernel.devices.compiled.worker import RunEntry, Worker
    from ringkernel.ring.clock import TickClock

    from .pool import WorkerPool


class WorkerExecutor(Executor):
    """Runs a kernel on a worker of a pool, which starts with the first kernel that is handed to it."""

    device = "cpu"
    cost = "its thread is lost"
    __slots__ = ("_clock", "_pool", "kernel", "run_entry", "span", "span_address", "worker")

    def __init__(self, span: Span, clock: TickClock, pool: Callable[[], WorkerPool]) -> None:
        self.span = span
        self.span_address = span.address
        self._clock = clock
        self._pool = pool
        self.run_entry: RunEntry | None = None
        self.worker: Worker | None = None

    @property
    def has_token(self) -> bool:
        return self.run_entry is not None

    def hand_over(self) -> None:
        kernel = self.kernel
        self.run_entry = self._pool().enqueue(
            kernel.block.address, self.span_address, kernel.doorbell_address, self._neighbour()
        )
        self.worker = self.run_entry.worker

    def _neighbour(self) -> Worker | None:
        """The worker of a kernel that this one is connected to, so that a chain stays together."""
        for edge in self.kernel.rings.edges:
            executor = getattr(edge.ring.engine, "executor", None)
            if isinstance(executor, WorkerExecutor) and executor.worker is not None:
                return executor.worker
        return self.worker

    def take_token(self) -> None:
        if self.run_entry is not None:
            self._pool().dequeue(self.run_entry)
            self.run_entry = None

    def take_back(self) -> bool:
        if self.run_entry is not None and self._pool().evict(self.run_entry) is Eviction.FREE:
            self.run_entry = None
        return True

    def evict(self) -> Eviction:
        outcome = Eviction.FREE if self.run_entry is None else self._pool().evict(self.run_entry)
        if outcome is not Eviction.GIVING_BACK:
            self.run_entry = None
        return outcome

    def abandon(self) -> None:
        if self.run_entry is not None:
            self._pool().abandon(self.run_entry)
            self.run_entry = None

    def keep(self, reachable: Any) -> None:
        self._pool().keepalive.append((self.span, reachable))

    def unanswered(self, timeout: float) -> str:
        return f"did not return from its handler within {timeout:g} s"

    def ns_of(self, ticks: int) -> int:
        return int(self._clock.ns_of(ticks))

    def exception_of(self, number: int) -> Raised:
        return described(number)
