"""A runtime as Prometheus metrics, by prometheus-client (the extra `metrics`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .view import KernelView, RuntimeView, WaitView

_COUNTER, _GAUGE = CounterMetricFamily, GaugeMetricFamily
_FIGURES: tuple[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, Callable[[KernelView], float]], ...] = (
    (_COUNTER, "processed", "Messages handled", lambda one: one.processed),
    (_COUNTER, "dropped", "Messages handled without an output", lambda one: one.dropped),
    (_COUNTER, "failed", "Messages in a call that failed", lambda one: one.failed),
    (_GAUGE, "input_depth", "Messages that wait in the input", lambda one: one.waiting.depth),
    (_GAUGE, "input_capacity", "Messages for which the input has room", lambda one: one.waiting.capacity),
    (_GAUGE, "output_depth", "Outputs that wait", lambda one: one.emitted.depth if one.emitted else 0),
    (_GAUGE, "handling_seconds_mean", "Mean time per message in the handler", lambda one: one.mean_ns / 1e9),
    (_GAUGE, "handling_seconds_p99", "99th percentile of that time, at most", lambda one: one.p99_ns / 1e9),
)

_WAITS: dict[str, tuple[str, str, Callable[[KernelView], Iterable[WaitView]]]] = {
    "starved_seconds": ("source", "Time without input, by whom it comes from", lambda kernel: kernel.starved_by),
    "blocked_seconds": ("target", "Time without room, by who has to take outputs", lambda kernel: kernel.blocked_by),
}


class RuntimeCollector(Collector):
    """Collects a runtime's figures when they are scraped: `REGISTRY.register(runtime.collector())`."""

    def __init__(self, look: Callable[[], RuntimeView]) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """Yield the families of metrics, each with a sample per kernel, or per connection of one."""
        kernels = self._look().kernels
        for kind, name, text, value in _FIGURES:
            family = kind(f"ringkernel_{name}", text, labels=("kernel", "device"))
            for kernel in kernels:
                family.add_metric((kernel.kernel_id, kernel.device), value(kernel))
            yield family
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
