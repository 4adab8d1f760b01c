"""What is shown of a runtime: plain data, which also goes through a socket as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class QueueView:
    """A queue: how many messages wait in it, and for how many there is room."""

    depth: int
    capacity: int

    @property
    def fill(self) -> float:
        """From 0, empty, to 1, full."""
        return min(1.0, self.depth / self.capacity) if self.capacity else 0.0


@dataclass(frozen=True)
class KernelView:
    """A kernel. Rates and shares are those since the view before; None in the first one.

    Attributes:
        kernel_id: its id.
        state: its state's name.
        device: where it runs.
        processed: messages that it has handled.
        dropped: messages without an output.
        failed: messages in a call that failed.
        waiting: its input.
        emitted: its output; None for a kernel that has none.
        mean_ns: mean time per message in the handler.
        p50_ns: the median of that time, at most.
        p99_ns: its 99th percentile, at most.
        rate: messages that it handles per second.
        busy: the share of the time that it spends in its handler.
        blocked: the share of the time that its output was full, and its input was not empty.
        targets: the ids of the kernels that it feeds.
        error: what it failed with.
    """

    kernel_id: str
    state: str
    device: str
    processed: int
    dropped: int
    failed: int
    waiting: QueueView
    emitted: QueueView | None
    mean_ns: float
    p50_ns: float
    p99_ns: float
    rate: float | None
    busy: float | None
    blocked: float | None
    targets: tuple[str, ...]
    error: str | None

    @property
    def starved(self) -> float | None:
        """The share of the time that it waited for messages, while it was ACTIVE."""
        if self.busy is None or self.blocked is None or self.state != "ACTIVE":
            return None
        return max(0.0, 1.0 - self.busy - self.blocked)


@dataclass(frozen=True)
class RuntimeView:
    """All kernels of a runtime."""

    kernels: tuple[KernelView, ...]

    @property
    def bottleneck(self) -> str | None:
        """The id of the kernel that holds the others up, or None: the busiest one that makes a source wait. In a chain
        that runs as one nobody waits for the next stage: there it is the busiest, if messages queue up before it."""
        held_up = {target for kernel in self.kernels if (kernel.blocked or 0) > 0.05 for target in kernel.targets}
        slow = [one for one in self.kernels if one.kernel_id in held_up and (one.blocked or 0) <= 0.05]
        if not slow:
            fed = {target for kernel in self.kernels for target in kernel.targets}
            chained = [one for one in self.kernels if one.targets or one.kernel_id in fed]
            if any(one.waiting.fill >= 0.5 for one in chained):
                slow = [one for one in chained if (one.busy or 0) > 0.3]
        return max(slow, key=lambda kernel: kernel.busy or 0.0).kernel_id if slow else None

    def as_json(self) -> dict[str, Any]:
        """As what `json` writes."""
        return {"kernels": [asdict(kernel) for kernel in self.kernels]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RuntimeView:
        """What `as_json` has given."""
        kernels = []
        for fields in data["kernels"]:
            emitted = fields["emitted"]
            queues = {
                "waiting": QueueView(**fields["waiting"]),
                "emitted": None if emitted is None else QueueView(**emitted),
                "targets": tuple(fields["targets"]),
            }
            kernels.append(KernelView(**{**fields, **queues}))
        return cls(tuple(kernels))
