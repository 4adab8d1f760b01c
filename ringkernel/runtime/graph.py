"""Kernels as a graph: which edge connects two of them, and where nothing goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.errors import KernelStateError

if TYPE_CHECKING:
    from ringkernel.ring.kinds import Edge

    from .kernel import RingKernel


def edge_between(source: RingKernel, target: RingKernel) -> Edge:
    """The input of the target that the source feeds."""
    return next(edge for edge in target.engine.edges if edge.ring is source.engine.output)


def dead_end(kernel: RingKernel) -> KernelStateError | None:
    """Why a kernel cannot go on any more: it has no room for its outputs, since whoever would have to take them has
    ended, or cannot go on either. None if it can."""
    end = _find_dead_end(kernel, through_full_queues=True)
    if end is None:
        return None
    consumer, error = end.lost or ("", None)
    how = "has ended" if error is None else f"has failed: {type(error).__name__}: {error}"
    refusal = KernelStateError(
        f"kernel {kernel.kernel_id!r} cannot go on: nobody takes the outputs of kernel {end.kernel_id!r} any more, "
        f"since kernel {consumer!r} {how}; terminate() it, or deactivate() {end.kernel_id!r} and connect() another"
    )
    refusal.__cause__ = error
    return refusal


def may_come_to_a_dead_end(kernel: RingKernel) -> bool:
    """Whether there is one downstream, for which there still may be room before it."""
    return _find_dead_end(kernel, through_full_queues=False) is not None


def _find_dead_end(kernel: RingKernel, *, through_full_queues: bool) -> RingKernel | None:
    """A kernel downstream whose outputs nobody takes any more; if so asked, one that holds this one up."""
    found = {kernel}
    pending = [kernel]
    for one in pending:
        output = one.engine.output
        if output is None:
            continue
        if all(edge.closed for edge in output.edges):
            return one
        for target in one.targets:
            if target in found or target.engine.has_ended:
                continue
            free = output.capacity - (output.position() - edge_between(one, target).position())
            if not through_full_queues or free < one.engine.declaration.max_outputs:
                found.add(target)
                pending.append(target)
    return None
