"""Looks at a runtime's kernels now and then: what is shown of them, with rates since the last look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ringkernel.devices.engine import brief
from ringkernel.views.view import KernelView, QueueView, RuntimeView, WaitView

from .statistics import KernelStatistics, statistics_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ringkernel.runtime.kernels.kernel import RingKernel


_SHORTEST_S = 0.1
"""Rates of less time than this would say little."""


class Observer:
    """Views of the kernels of a runtime, one after the other; from any thread.

    Rates are those since the view before, or since an earlier one, if that has just been taken.
    """

    def __init__(self, kernels: Mapping[str, RingKernel]) -> None:
        self._kernels = kernels
        self._before: dict[str, tuple[float, KernelStatistics]] = {}
        self._latest: dict[str, tuple[float, KernelStatistics]] = {}

    def look(self) -> RuntimeView:
        """All kernels now."""
        now = time.monotonic()
        views = []
        for kernel in list(self._kernels.values()):
            counts = statistics_of(kernel)
            views.append(_view_of(kernel, counts, self._since(now, counts), now))
        return RuntimeView(tuple(views))

    def _since(self, now: float, counts: KernelStatistics) -> tuple[float, KernelStatistics] | None:
        """When to count from, and what had been counted then; and remember this look, if the latest is not too new."""
        kernel_id = counts.kernel_id
        latest = self._latest.get(kernel_id)
        if latest is not None and now - latest[0] < _SHORTEST_S:
            return self._before.get(kernel_id, latest)
        self._latest[kernel_id] = now, counts
        if latest is not None:
            self._before[kernel_id] = latest
        return latest


def _view_of(
    kernel: RingKernel, counts: KernelStatistics, before: tuple[float, KernelStatistics] | None, now: float
) -> KernelView:
    rate = busy = blocked = earlier = seconds = None
    if before is not None and now > before[0] and counts.processed >= before[1].processed:
        seconds, earlier = now - before[0], before[1]
        rate = (counts.processed - before[1].processed) / seconds
        busy = min(1.0, max(0.0, counts.busy_s - before[1].busy_s) / seconds)
        blocked = min(1.0 - busy, max(0.0, counts.blocked_s - before[1].blocked_s) / seconds)
    output = None
    if kernel.engine.output is not None:
        output = QueueView(counts.output_depth, kernel.engine.declaration.queue_size)
    return KernelView(
        kernel_id=kernel.kernel_id,
        state=kernel.state.name,
        device=kernel.device,
        processed=counts.processed,
        dropped=counts.dropped,
        failed=counts.failed,
        waiting=QueueView(counts.input_depth, _capacity(kernel)),
        emitted=output,
        mean_ns=counts.mean_ns,
        p50_ns=counts.quantile_ns(0.5),
        p99_ns=counts.quantile_ns(0.99),
        rate=rate,
        busy=busy,
        blocked=blocked,
        starved_by=_waits(counts.starved_by, earlier.starved_by if earlier else (), seconds),
        blocked_by=_waits(counts.blocked_by, earlier.blocked_by if earlier else (), seconds),
        targets=tuple(target.kernel_id for target in kernel.targets),
        error=None if kernel.error is None else brief(kernel.error),
    )


def _waits(
    now: Sequence[tuple[str, float]], before: Sequence[tuple[str, float]], seconds: float | None
) -> tuple[WaitView, ...]:
    """Waits at connections, with their shares of so many seconds."""
    known = dict(before)
    waits = []
    for kernel_id, waited_s in now:
        share = None if seconds is None else min(1.0, max(0.0, waited_s - known.get(kernel_id, 0.0)) / seconds)
        waits.append(WaitView(kernel_id, waited_s, share))
    return tuple(waits)


def _capacity(kernel: RingKernel) -> int:
    """For how many messages its inputs have room: those that its sources fill, or else the one that is sent to."""
    fed_by = kernel.sources or (kernel,)
    return sum(source.engine.declaration.queue_size for source in fed_by)
