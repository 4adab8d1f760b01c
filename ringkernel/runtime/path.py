"""The kernels that a map goes through: which they are, and whether it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError, KernelStateError
from ringkernel.lifecycle import KernelState

if TYPE_CHECKING:
    from .kernel import RingKernel


def ends_of(kernel_id: Any) -> tuple[str, str]:
    """The first and the last kernel of what is given to `map`. Raises `ConfigurationError`."""
    if not isinstance(kernel_id, tuple | list):
        return kernel_id, kernel_id
    if isinstance(kernel_id, tuple) and len(kernel_id) == 2:
        return kernel_id
    example = f"({kernel_id[0]!r}, {kernel_id[-1]!r})" if kernel_id else "('first', 'last')"
    raise ConfigurationError(
        f"map takes a kernel's id, or a pair of the first and the last of a chain, as in {example}; "
        f"got {kernel_id!r:.200}"
    )


def find_path(first: RingKernel, last: RingKernel) -> list[RingKernel]:
    """The kernels from first to last along their connections. Raises `KernelStateError` if there is no such chain."""
    pending = [[first]]
    while pending:
        path = pending.pop()
        if path[-1] is last:
            return path
        pending.extend([*path, target] for target in path[-1].targets if target not in path)
    raise KernelStateError(f"no connection leads from kernel {first.kernel_id!r} to {last.kernel_id!r}; connect() them")


def check_path(path: list[RingKernel]) -> None:
    """Raises `KernelStateError` if a map over these kernels could mix with other messages."""
    previous = None
    for kernel in path:
        name = f"map: kernel {kernel.kernel_id!r}"
        if kernel.state is not KernelState.ACTIVE:
            why = None if kernel.error is None else kernel.engine.ended_reason()
            raise why or KernelStateError(f"{name} is {kernel.state.name}; it must be ACTIVE")
        others = [source.kernel_id for source in kernel.sources if source is not previous]
        if others:
            raise KernelStateError(f"{name} is fed by {', '.join(map(repr, others))}, too; map its whole chain instead")
        previous = kernel
    check_empty(path)
    last = path[-1]
    if last.engine.inlet.available():
        raise KernelStateError(f"map: outputs of kernel {last.kernel_id!r} wait to be received; receive them first")
    if last.targets:
        targets = ", ".join(repr(target.kernel_id) for target in last.targets)
        raise KernelStateError(f"map: the outputs of kernel {last.kernel_id!r} go to {targets}; map the whole chain")


def check_empty(kernels: list[RingKernel]) -> None:
    """Raises `KernelStateError` if messages wait in an input."""
    for kernel in kernels:
        engine = kernel.engine
        in_hand = engine.declaration.is_coroutine and engine.ledger().in_flight
        if in_hand or any(edge.published() > edge.position() for edge in engine.edges):
            raise KernelStateError(
                f"map: kernel {kernel.kernel_id!r} has messages waiting in its input; receive their outputs first"
            )
