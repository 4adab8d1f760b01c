"""The counts and times of `runtime.statistics()`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError
from ringkernel.extras import installing
from ringkernel.runtime.graph.neighbours import edges_between
from ringkernel.views.facts import facts_html
from ringkernel.views.numbers import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringkernel.lifecycle import KernelState
    from ringkernel.runtime.kernels.kernel import RingKernel


HOST = "host"
"""In the place of a kernel's id: the event loop, which sends to a kernel that no other feeds, and receives."""


@dataclass(frozen=True)
class KernelStatistics:
    """A kernel's counts since its launch, in messages; times carry their unit.

    `accepted` = `processed` + `failed` + `in_flight` + `unprocessed`, up to messages that are on their way while the
    kernel runs; exact in every other state.

    Example:
        >>> await runtime.map(double, [1.0, 2.0])
        array([2., 4.])
        >>> counts = runtime.statistics(double)
        >>> counts.accepted, counts.processed, counts.failed
        (2, 2, 0)
    """

    kernel_id: str
    state: KernelState
    device: str
    accepted: int
    """Published to the kernel, by the host and by connected kernels."""
    processed: int
    failed: int
    """Taken by a call that failed."""
    in_flight: int
    """Taken, neither processed nor failed: being handled now, or with a handler that never returned."""
    unprocessed: int
    """Waiting in the input, or left there at the end."""
    emitted: int
    """Published to the output."""
    dropped: int
    """Processed without an output, for a kernel that has one output per message."""
    late: int
    """Messages whose time had passed, of a kernel that goes by time and does not fail on them."""
    received: int
    """Taken from the output by its slowest consumer."""
    input_depth: int
    output_depth: int
    peak_input_depth: int
    peak_output_depth: int
    busy_s: float
    """Seconds in the handler."""
    blocked_s: float
    """Seconds in which a compiled kernel on the CPU had input, and no room in its output."""
    starved_by: tuple[tuple[str, float], ...]
    """For each kernel that feeds it, or else for "host": its id, and the seconds in which this kernel had nothing to do
    and nothing came from there. Of a compiled kernel on the CPU; else empty. In a chain that runs as one only the first
    waits for input."""
    blocked_by: tuple[tuple[str, float], ...]
    """For each kernel that it feeds, or else for "host": its id, and the seconds of `blocked_s` in which that one was
    the slowest to take outputs. In a chain that runs as one only the last waits for room."""
    turns: int
    """How often the kernel was served; each turn handles one or many messages."""
    keys: int
    """Keys that there are states for, of a kernel with `key=`."""
    keys_nbytes: int
    """Bytes of these states, with the room that there is for more."""
    histogram_ns: tuple[tuple[float, int], ...] = field(repr=False)
    """Messages by handling time: (lower bound of the bucket in ns, messages), the bounds powers of two in ticks."""

    @property
    def mean_ns(self) -> float:
        """Mean time per message in the handler, in nanoseconds.

        Example:
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> runtime.statistics(double).mean_ns >= 0
            True
        """
        handled = self.processed + self.failed
        return 1e9 * self.busy_s / handled if handled else 0.0

    def _repr_html_(self) -> str | None:
        facts: dict[str, object] = {"state": self.state.name, "device": self.device}
        counts = "accepted", "processed", "failed", "in_flight", "unprocessed", "emitted", "dropped", "received"
        facts |= {name.replace("_", " "): f"{getattr(self, name):,}" for name in counts}
        times = {"mean": self.mean_ns, "p50": self.quantile_ns(0.5), "p99": self.quantile_ns(0.99)}
        facts |= {f"{name} in the handler": duration(ns) for name, ns in times.items()}
        if self.late:
            facts["late"] = f"{self.late:,}"
        facts["without room"] = duration(1e9 * self.blocked_s)
        facts |= {f"starved by {source}": duration(1e9 * seconds) for source, seconds in self.starved_by}
        facts |= {f"blocked by {target}": duration(1e9 * seconds) for target, seconds in self.blocked_by}
        return facts_html(f"statistics of {self.kernel_id}", facts)

    def plot(self, ax: Any = None) -> Any:
        """Draw how long messages took in the handler, on the given matplotlib axes or new ones, which are returned.
        Raises `ConfigurationError` without matplotlib (the extra `notebook`).

        Example:
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> runtime.statistics(double).plot().get_xlabel()
            'time per message (ns)'
        """
        try:
            import matplotlib.pyplot as plt
        except ImportError:
            raise ConfigurationError(f"plot() draws with matplotlib: {installing('notebook')}") from None
        ax = plt.subplots()[1] if ax is None else ax
        lower = [bound for bound, _ in self.histogram_ns]
        ax.bar(lower, [count for _, count in self.histogram_ns], width=lower, align="edge", edgecolor="white")
        ax.set_xscale("log", base=2)
        ax.set(xlabel="time per message (ns)", ylabel="messages", title=f"{self.kernel_id}: time in the handler")
        return ax

    def quantile_ns(self, part: float) -> float:
        """Return the time that at least this part of the messages (0 to 1) took at most in the handler, in nanoseconds:
        the upper bound of a bucket of `histogram_ns`, so up to twice the exact one. 0 if there are none.

        Example:
            >>> await runtime.map(double, [1.0, 2.0])
            array([2., 4.])
            >>> counts = runtime.statistics(double)
            >>> counts.quantile_ns(0.5) <= counts.quantile_ns(0.99)
            True
        """
        wanted = part * sum(count for _, count in self.histogram_ns)
        upper = seen = 0.0
        for lower, count in self.histogram_ns:
            upper, seen = max(1.0, 2 * lower), seen + count
            if seen >= wanted:
                break
        return upper


_COUNTS = [one.name for one in fields(KernelStatistics)]


def statistics_of(kernel: RingKernel) -> KernelStatistics:
    """Read everything; the ledger first, since cursors may run ahead of it, never behind."""
    engine = kernel.engine
    ledger = engine.ledger()
    counts: dict[str, Any] = {name: ledger.get(name, 0) for name in _COUNTS}
    consumed = counts["processed"] + counts["failed"] + counts["in_flight"]
    accepted = max(engine.accepted(), consumed)
    received = engine.received()
    emitted = max(engine.emitted(), received)
    keys, keys_nbytes = engine.keys()
    return KernelStatistics(
        **counts
        | {
            "kernel_id": kernel.kernel_id,
            "state": kernel.state,
            "device": engine.device,
            "accepted": accepted,
            "unprocessed": accepted - consumed,
            "emitted": emitted,
            "received": received,
            "input_depth": accepted - consumed,
            "output_depth": emitted - received,
            "starved_by": tuple(_by_source(kernel, ledger.get("starved_by", ()))),
            "blocked_by": tuple(_by_target(kernel, ledger.get("blocked_by", ()))),
            "histogram_ns": ledger.get("histogram_ns", ()),
            "keys": keys,
            "keys_nbytes": keys_nbytes,
        }
    )


def _by_source(kernel: RingKernel, starved_s: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    """Yield the ids of a kernel's feeds, each with the time in which that input was empty."""
    times = dict(zip(kernel.engine.edges, starved_s, strict=False))
    if times and not kernel.sources:
        yield HOST, starved_s[0]
    for source in kernel.sources if times else ():
        fed = [times[edge] for edge in edges_between(source, kernel) if edge in times]
        if fed:  # otherwise it was connected just now
            yield source.kernel_id, max(fed)


def _by_target(kernel: RingKernel, blocked_on_s: tuple[float, ...]) -> Iterator[tuple[str, float]]:
    """Yield the ids of the kernels that it feeds, each with the time in which that edge had no room."""
    output = kernel.engine.output
    times = {} if output is None else dict(zip(output.edges, blocked_on_s, strict=False))
    if times and not kernel.targets:
        yield HOST, sum(times[edge] for edge in kernel.engine.inlet.edges if edge in times)
    for target in kernel.targets if times else ():
        read = [times[edge] for edge in edges_between(kernel, target) if edge in times]
        if read:
            yield target.kernel_id, sum(read)
