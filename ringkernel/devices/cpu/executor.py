"""Runs a compiled kernel on a CPU worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.devices.compiled.executor import Eviction, Executor
from ringkernel.devices.compiled.raised import described, is_stop
from ringkernel.devices.compiled.traffic import Traffic

if TYPE_CHECKING:
    from ringkernel.codegen.span_types import Span
    from ringkernel.devices.compiled.raised import Raised
    from ringkernel.devices.compiled.worker import RunEntry, Worker

    from .pool import WorkerPool


class WorkerExecutor(Executor):
    """Runs a kernel on a worker of a pool, whose threads start when there are kernels for them."""

    device = "cpu"
    cost = "its thread is lost"
    can_rest = appends_inputs = True
    __slots__ = (
        "_inputs",
        "_last",
        "_pool",
        "end_span_address",
        "max_threads",
        "never_drops",
        "run_entry",
        "span",
        "span_address",
        "traffic",
    )

    def __init__(self, span: Span, pool: WorkerPool, max_threads: int) -> None:
        self.run(span, max_threads)
        self._pool = pool
        self.run_entry: RunEntry | None = None
        self._last: RunEntry | None = None
        self._inputs = 0  # when it was last handed over
        self.traffic = Traffic()

    def run(self, span: Span, max_threads: int) -> None:
        """Run this from now on. The token is the host's."""
        self.span = span
        self.max_threads = max_threads
        self.span_address, self.never_drops = span.address, span.never_drops
        self.end_span_address = 0 if span.end is None else span.end.address

    def span_of(self, number: int) -> int:
        return self.span.further[number - 1].address if self.span.further and number > 0 else 0

    @property
    def worker(self) -> Worker | None:
        """The worker on which it runs, or last ran."""
        return None if self._last is None else self._last.worker

    def note_source(self) -> None:
        self._pool.fusing.note(self.kernel)

    @property
    def is_bounded(self) -> bool:
        """True if its handler is sure to end soon, see `codegen/bounded.py`."""
        return self.span.is_bounded

    @property
    def has_token(self) -> bool:
        return self.run_entry is not None

    def hand_over(self) -> None:
        kernel, beside = self.kernel, self._neighbour()
        self.run_entry = self._last = self._pool.enqueue(
            kernel.block.address,
            kernel.doorbell_address,
            self.traffic,
            beside,
            is_bounded=self.is_bounded and not kernel.declaration.is_source,
        )
        self._inputs = len(kernel.rings.edges)

    def runs_here(self, count: int) -> bool:
        return self.run_entry is not None and self._pool.runs_here(self.run_entry, count)

    def woken_doorbell(self) -> int:
        return self._pool.woken_doorbell()

    @property
    def rests(self) -> bool:
        return self.run_entry is not None and self._pool.rests(self.run_entry)

    def _neighbour(self) -> Worker | None:
        """The worker of a kernel that this one has been connected to, so that a chain stays together; else the one on
        which it last ran."""
        edges = self.kernel.rings.edges
        for edge in edges if len(edges) > self._inputs else ():
            executor = getattr(edge.ring.engine, "executor", None)
            if isinstance(executor, WorkerExecutor) and executor.worker is not None:
                return executor.worker
        return self.worker

    def take_token(self) -> None:
        if self.run_entry is not None:
            self._pool.dequeue(self.run_entry)
            self.run_entry = None

    def take_back(self) -> bool:
        if self.run_entry is not None and self._pool.evict(self.run_entry) is Eviction.FREE:
            self.run_entry = None
        return True

    def evict(self) -> Eviction:
        outcome = Eviction.FREE if self.run_entry is None else self._pool.evict(self.run_entry)
        if outcome is not Eviction.GIVING_BACK:
            self.run_entry = None
        return outcome

    def abandon(self) -> None:
        if self.run_entry is not None:
            self._pool.abandon(self.run_entry)
            self.run_entry = None

    def keep(self, reachable: Any) -> None:
        self._pool.keepalive.append((self.span, reachable))

    def unanswered(self, timeout: float) -> str:
        return f"did not return from its handler within {timeout:g} s"

    def is_stop(self, number: int) -> bool:
        return is_stop(number)

    def exception_of(self, number: int) -> Raised:
        return described(number)
