"""Kernels as a graph: which edge connects two of them, and where nothing goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.devices.engine import brief
from ringkernel.errors import KernelStateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.ring.host.kinds import Edge
    from ringkernel.runtime.kernels.kernel import RingKernel


def edges_between(source: RingKernel, target: RingKernel) -> list[Edge]:
    """Return the edges by which the target reads what the source emits: one for each input that it feeds."""
    return [edge for edge in target.engine.edges if edge.ring is source.engine.output]


def edge_between(source: RingKernel, target: RingKernel) -> Edge:
    """Return the edge, if it feeds one input."""
    return edges_between(source, target)[0]


def foreign_sources(path: list[RingKernel]) -> list[tuple[RingKernel, RingKernel]]:
    """Return pairs of source and target: kernels that feed one of the path, besides the one before it."""
    previous = [None, *path]
    return [
        (source, kernel)
        for kernel, before in zip(path, previous, strict=False)
        for source in kernel.sources
        if source is not before
    ]


def dead_end(kernel: RingKernel) -> KernelStateError | None:
    """Return why a kernel cannot go on: it has no room for its outputs, since a kernel that should take them has ended,
    or cannot go on either. None if it can."""
    if not may_come_to_a_dead_end(kernel):  # so it mostly is, and this is asked whenever a queue is full
        return None
    end = _first_dead_end(kernel, _are_full)
    if end is None:
        return None
    consumer, error = end.lost or ("", None)
    how = "has ended" if error is None else f"has failed: {brief(error)}"
    refusal = KernelStateError(
        f"kernel {kernel.kernel_id!r} cannot go on: nobody takes the outputs of kernel {end.kernel_id!r} any more, "
        f"since kernel {consumer!r} {how}; terminate() it, or deactivate() {end.kernel_id!r} and connect() another"
    )
    refusal.__cause__ = error
    return refusal


def may_come_to_a_dead_end(kernel: RingKernel) -> bool:
    """Return whether a kernel downstream has ended while there may still be room before it."""
    return _first_dead_end(kernel, lambda *_: True) is not None


def _first_dead_end(kernel: RingKernel, leads_on: Callable[[RingKernel, RingKernel], bool]) -> RingKernel | None:
    """Return a kernel downstream whose outputs nobody takes any more, over connections that lead on, or None."""
    found = {kernel}
    pending = [kernel]
    for one in pending:
        output = one.engine.output
        if output is None:
            continue
        for edge in output.edges:
            if not edge.closed:
                break
        else:
            return one
        for target in one.targets:
            if target not in found and not target.engine.has_ended and leads_on(one, target):
                found.add(target)
                pending.append(target)
    return None


def _are_full(source: RingKernel, target: RingKernel) -> bool:
    """Return whether the source has no room for its outputs, since the target has not taken them."""
    output = source.engine.output
    assert output is not None
    slowest = min(edge.position() for edge in edges_between(source, target))
    free = output.capacity - (output.position() - slowest)
    return free < source.engine.declaration.max_outputs
