"""Kernels as a graph: who is upstream of whom, and where nothing gets on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.errors import KernelStateError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ringkernel.devices.queues import Edge

    from .kernel import RingKernel


def upstream(kernel: RingKernel) -> Iterator[RingKernel]:
    """The kernel, its sources, theirs, and so on: each once."""
    found = [kernel]
    for one in found:
        yield one
        found.extend(source for source in one.sources if source not in found)


def edge_between(source: RingKernel, target: RingKernel) -> Edge:
    """The input of the target that the source feeds."""
    return next(edge for edge in target.engine.edges if edge.ring is source.engine.output)


def dead_end(kernel: RingKernel) -> KernelStateError | None:
    """Why a kernel cannot get on any more: it has no room for its outputs, since whoever would have to take them has
    ended, or cannot get on either. None if it can."""
    end = _dead_end(kernel, [], only_if_full=True)
    if end is None:
        return None
    consumer, error = end.lost or ("", None)
    how = "has ended" if error is None else f"has failed: {type(error).__name__}: {error}"
    refusal = KernelStateError(
        f"kernel {kernel.kernel_id!r} cannot get on: nobody takes the outputs of kernel {end.kernel_id!r} any more, "
        f"since kernel {consumer!r} {how}; terminate() it, or deactivate() {end.kernel_id!r} and connect() another"
    )
    refusal.__cause__ = error
    return refusal


def may_come_to_a_dead_end(kernel: RingKernel) -> bool:
    """Whether there is one downstream, for which there still may be room before it."""
    return _dead_end(kernel, [], only_if_full=False) is not None


def _dead_end(kernel: RingKernel, seen: list[RingKernel], *, only_if_full: bool) -> RingKernel | None:
    """The kernel downstream whose outputs nobody takes any more, and which holds this one up."""
    output = kernel.engine.output
    if output is None or kernel in seen:
        return None
    if all(edge.closed for edge in output.edges):
        return kernel
    seen.append(kernel)
    for target in kernel.targets:
        if target.engine.has_ended:
            continue
        waiting = output.position() - edge_between(kernel, target).position()
        is_full = output.capacity - waiting < kernel.engine.declaration.max_outputs
        if is_full or not only_if_full:
            end = _dead_end(target, seen, only_if_full=only_if_full)
            if end is not None:
                return end
    return None
