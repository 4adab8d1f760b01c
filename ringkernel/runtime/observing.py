"""Looks at a runtime's kernels now and then: what is shown of them, with rates since the last look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ringkernel.views.view import KernelView, QueueView, RuntimeView

from .statistics import KernelStatistics, statistics_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .kernel import RingKernel


class Observer:
    """Views of the kernels of a runtime, one after the other; from any thread."""

    def __init__(self, kernels: Mapping[str, RingKernel]) -> None:
        self._kernels = kernels
        self._before: dict[str, tuple[float, KernelStatistics]] = {}

    def look(self) -> RuntimeView:
        """All kernels now."""
        now = time.monotonic()
        views = []
        for kernel in list(self._kernels.values()):
            counts = statistics_of(kernel.kernel_id, kernel.state, kernel.engine)
            views.append(_view_of(kernel, counts, self._before.get(kernel.kernel_id), now))
            self._before[kernel.kernel_id] = now, counts
        return RuntimeView(tuple(views))


def _view_of(
    kernel: RingKernel, counts: KernelStatistics, before: tuple[float, KernelStatistics] | None, now: float
) -> KernelView:
    declaration = kernel.engine.declaration
    rate = busy = blocked = None
    if before is not None and now > before[0] and counts.processed >= before[1].processed:
        seconds = now - before[0]
        rate = (counts.processed - before[1].processed) / seconds
        busy = min(1.0, max(0.0, counts.busy_s - before[1].busy_s) / seconds)
        blocked = min(1.0 - busy, max(0.0, counts.blocked_s - before[1].blocked_s) / seconds)
    output = None
    if kernel.engine.output is not None:
        output = QueueView(counts.output_depth, declaration.queue_size)
    return KernelView(
        kernel_id=kernel.kernel_id,
        state=kernel.state.name,
        device=kernel.device,
        processed=counts.processed,
        dropped=counts.dropped,
        failed=counts.failed,
        waiting=QueueView(counts.input_depth, declaration.queue_size),
        emitted=output,
        mean_ns=counts.mean_ns,
        p50_ns=counts.quantile_ns(0.5),
        p99_ns=counts.quantile_ns(0.99),
        rate=rate,
        busy=busy,
        blocked=blocked,
        targets=tuple(target.kernel_id for target in kernel.targets),
        error=None if kernel.error is None else f"{type(kernel.error).__name__}: {kernel.error}",
    )
