"""A runtime as Prometheus metrics, by prometheus-client (the extra `metrics`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .view import KernelView, RuntimeView, WaitView

_COUNTERS: dict[str, tuple[str, Callable[[KernelView], float]]] = {
    "processed": ("Messages handled", lambda kernel: kernel.processed),
    "dropped": ("Messages handled without an output", lambda kernel: kernel.dropped),
    "failed": ("Messages in a call that failed", lambda kernel: kernel.failed),
}
_GAUGES: dict[str, tuple[str, Callable[[KernelView], float]]] = {
    "input_depth": ("Messages that wait in the input", lambda kernel: kernel.waiting.depth),
    "input_capacity": ("Messages for which the input has room", lambda kernel: kernel.waiting.capacity),
    "output_depth": ("Outputs that wait", lambda kernel: 0 if kernel.emitted is None else kernel.emitted.depth),
    "handling_seconds_mean": ("Mean time per message in the handler", lambda kernel: kernel.mean_ns / 1e9),
    "handling_seconds_p99": ("99th percentile of that time, at most", lambda kernel: kernel.p99_ns / 1e9),
}

_WAITS: dict[str, tuple[str, str, Callable[[KernelView], Iterable[WaitView]]]] = {
    "starved_seconds": ("source", "Time without input, by whom it comes from", lambda kernel: kernel.starved_by),
    "blocked_seconds": ("target", "Time without room, by who has to take outputs", lambda kernel: kernel.blocked_by),
}


class RuntimeCollector(Collector):
    """Collects a runtime's figures when they are scraped: `REGISTRY.register(runtime.collector())`."""

    def __init__(self, look: Callable[[], RuntimeView]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """The families of metrics, each with a sample per kernel, or per connection of one."""
        kernels = self._look().kernels
        for name, (text, value) in _COUNTERS.items():
            counter = CounterMetricFamily(f"ringkernel_{name}", text, labels=("kernel", "device"))
            for kernel in kernels:
                counter.add_metric((kernel.kernel_id, kernel.device), value(kernel))
            yield counter
        for name, (text, value) in _GAUGES.items():
            gauge = GaugeMetricFamily(f"ringkernel_{name}", text, labels=("kernel", "device"))
            for kernel in kernels:
                gauge.add_metric((kernel.kernel_id, kernel.device), value(kernel))
            yield gauge
        for name, (other, text, waits) in _WAITS.items():
            counter = CounterMetricFamily(f"ringkernel_{name}", text, labels=("kernel", "device", other))
            for kernel in kernels:
                for wait in waits(kernel):
                    counter.add_metric((kernel.kernel_id, kernel.device, wait.kernel_id), wait.seconds)
            yield counter
        active = GaugeMetricFamily("ringkernel_kernel_state", "1 for the state of a kernel", labels=("kernel", "state"))
        for kernel in kernels:
            active.add_metric((kernel.kernel_id, kernel.state), 1)
        yield active
