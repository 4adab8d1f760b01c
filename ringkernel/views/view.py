"""A view of a runtime: plain data, which also goes through a socket as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SOME = 0.05
"""The share of the time from which on a wait counts."""

_PLAIN: dict[str, Any] = {
    "str": str,
    "str | None": str | None,
    "int": int,
    "float": float | int,
    "float | None": float | int | None,
}


@dataclass(frozen=True)
class QueueView:
    """A queue: how many messages wait in it, and for how many there is room."""

    depth: int
    capacity: int

    @property
    def fill(self) -> float:
        """The share of slots that are taken, from 0 to 1."""
        return min(1.0, self.depth / self.capacity) if self.capacity else 0.0


@dataclass(frozen=True)
class WaitView:
    """A kernel's waiting at one of its connections: the other kernel's id, or "host", the seconds so far, and the share
    of the time since the view before, None in the first one."""

    kernel_id: str
    seconds: float
    share: float | None


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
        starved_by: how long it waited for each kernel that feeds it, or for the host; empty where that is not measured.
        blocked_by: how long it waited for each kernel that it feeds, or for the host, to make room; likewise.
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
    starved_by: tuple[WaitView, ...]
    blocked_by: tuple[WaitView, ...]
    targets: tuple[str, ...]
    error: str | None

    @property
    def starved(self) -> float | None:
        """The share of the time that it waited for messages, while it was ACTIVE."""
        if self.busy is None or self.blocked is None or self.state != "ACTIVE":
            return None
        rest = max(0.0, 1.0 - self.busy - self.blocked)
        shares = [wait.share for wait in self.starved_by if wait.share is not None]
        return min(rest, max(shares, default=rest))

    @property
    def waits_for(self) -> WaitView | None:
        """The longest wait, if it was more than a moment."""
        waits = [wait for wait in (*self.starved_by, *self.blocked_by) if (wait.share or 0) > SOME]
        return max(waits, key=lambda wait: wait.share or 0.0) if waits else None

    @property
    def held_up_by(self) -> set[str]:
        """The ids of the kernels that make it wait for room."""
        if (self.blocked or 0) <= SOME:
            return set()
        return {wait.kernel_id for wait in self.blocked_by if (wait.share or 0) > SOME} or set(self.targets)


@dataclass(frozen=True)
class RuntimeView:
    """The kernels of a runtime."""

    kernels: tuple[KernelView, ...]

    @property
    def bottleneck(self) -> str | None:
        """The id of the kernel that holds the others up, or None: the busiest one that makes a source wait. In a chain
        that runs as one nobody waits for the next stage: there it is the busiest, if messages queue up before it."""
        reasons = {kernel_id for kernel in self.kernels for kernel_id in kernel.held_up_by}
        slow = [one for one in self.kernels if one.kernel_id in reasons and (one.blocked or 0) <= SOME]
        if not slow:
            fed = {target for kernel in self.kernels for target in kernel.targets}
            chained = [one for one in self.kernels if one.targets or one.kernel_id in fed]
            if any(one.waiting.fill >= 0.5 for one in chained):
                slow = [one for one in chained if (one.busy or 0) > 0.3]
        return max(slow, key=lambda kernel: kernel.busy or 0.0).kernel_id if slow else None

    def as_json(self) -> dict[str, Any]:
        """Return it as data for `json`."""
        return {"kernels": [asdict(kernel) for kernel in self.kernels]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RuntimeView:
        """Make a view from what `as_json` returned. Raises `LookupError`, `TypeError` or `AttributeError` for anything
        else."""
        kernels = []
        for fields in data["kernels"]:
            for name, annotation in KernelView.__annotations__.items():
                if not isinstance(fields[name], _PLAIN.get(annotation, object)):
                    raise TypeError(f"{name} is {fields[name]!r}, and not {annotation}")
            emitted = fields["emitted"]
            parts = {
                "waiting": QueueView(**fields["waiting"]),
                "emitted": None if emitted is None else QueueView(**emitted),
                "starved_by": tuple(WaitView(**wait) for wait in fields["starved_by"]),
                "blocked_by": tuple(WaitView(**wait) for wait in fields["blocked_by"]),
                "targets": tuple(fields["targets"]),
            }
            kernels.append(KernelView(**{**fields, **parts}))
        return cls(tuple(kernels))
