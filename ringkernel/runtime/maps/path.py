"""The kernels that a map goes through: which they are, and whether it may."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ringkernel.declaration.pipeline import Pipeline
from ringkernel.devices.engine import no_input_of
from ringkernel.errors import ConfigurationError, KernelStateError
from ringkernel.lifecycle import KernelState
from ringkernel.runtime.graph.neighbours import edges_between

if TYPE_CHECKING:
    from ringkernel.declaration.decorator import KernelId
    from ringkernel.runtime.kernels.kernel import RingKernel


def ends_of(kernel_id: Any) -> tuple[KernelId, KernelId]:
    """The first and the last kernel of what is given to `map`. Raises `ConfigurationError`."""
    if isinstance(kernel_id, Pipeline):
        return kernel_id.first, kernel_id.last
    if not isinstance(kernel_id, tuple | list):
        return kernel_id, kernel_id
    if isinstance(kernel_id, tuple) and len(kernel_id) == 2:
        return kernel_id
    example = f"({kernel_id[0]!r}, {kernel_id[-1]!r})" if kernel_id else "('first', 'last')"
    raise ConfigurationError(
        f"map takes a kernel's id, or a pair of the first and the last of a chain, as in {example}; "
        f"got {kernel_id!r:.200}"
    )


def check_no_branches(line: Pipeline) -> None:
    """Refuse a pipeline with kernels side by side: their outputs would be in the result as chance has it. Raises
    `ConfigurationError`."""
    if all(len(stage) == 1 for stage in line.stages):
        return
    first, last = (" and ".join(map(repr, line.stages[place])) for place in (0, -1))
    raise ConfigurationError(
        f"map: {line!r} has kernels side by side, whose outputs come in no order that is known; use "
        f"`async with runtime.run(...)` instead: send_batch() to {first}, while receive_batch() takes the outputs of "
        f"{last}"
    )


def find_path(first: RingKernel, last: RingKernel) -> list[RingKernel]:
    """The kernels from first to last along their connections. Raises `KernelStateError` if there is no such chain, and
    `ConfigurationError` if what comes out of a kernel there is not only up to what goes into the first, and
    `MessageTypeError` if that is a source."""
    if first.engine.declaration.is_source:
        raise no_input_of(first.kernel_id)
    path = _path(first, last)
    for kernel in path:
        declaration = kernel.engine.declaration
        if declaration.order is not None and (declaration.inputs or declaration.timer is not None):
            why = "waits for the time of its other inputs" if declaration.inputs else "has a timer"
            raise ConfigurationError(
                f"kernel {kernel.kernel_id!r} {why}, so its outputs do not belong to messages of one input; "
                f"send_batch() to its inputs instead, and receive_batch(), or replay()"
            )
    return path


def _path(first: RingKernel, last: RingKernel) -> list[RingKernel]:
    if first is last:
        return [first]
    before: dict[RingKernel, RingKernel | None] = {first: None}
    pending = [first]
    for kernel in pending:
        new = [target for target in kernel.targets if target not in before]
        before.update(dict.fromkeys(new, kernel))
        pending.extend(new)
    if last not in before:
        raise KernelStateError(
            f"no connection leads from kernel {first.kernel_id!r} to {last.kernel_id!r}; connect() them"
        )
    path = [last]
    while (source := before[path[-1]]) is not None:
        path.append(source)
    return path[::-1]


def foreign_sources(path: list[RingKernel]) -> list[tuple[RingKernel, RingKernel]]:
    """Who feeds a kernel of the path besides the one before it: source and target."""
    previous = [None, *path]
    return [
        (source, kernel)
        for kernel, before in zip(path, previous, strict=False)
        for source in kernel.sources
        if source is not before
    ]


def check_path(path: list[RingKernel], *, lend: bool) -> None:
    """Raises `KernelStateError` if a map over these kernels could mix with other messages. `lend`: it is in place."""
    for kernel in path:
        if kernel.state is not KernelState.ACTIVE:
            why = None if kernel.error is None else kernel.engine.told_reason()
            raise why or KernelStateError(f"map: kernel {kernel.kernel_id!r} is {kernel.state.name}; it must be ACTIVE")
        if kernel.engine.closing is not None:
            raise KernelStateError(f"map: kernel {kernel.kernel_id!r} is about to end: {kernel.engine.closing}")
    foreign = foreign_sources(path)
    for source, kernel in foreign:
        name = f"map: kernel {kernel.kernel_id!r} is fed by {source.kernel_id!r}, too"
        if any(one in path for one in source.upstream()):
            raise KernelStateError(
                f"{name}, which the path itself feeds, so its outputs would come in no order that is known; "
                f"send_batch() to {path[0].kernel_id!r} instead, while receive_batch() takes the outputs of "
                f"{path[-1].kernel_id!r}"
            )
        if not lend:
            raise KernelStateError(f"{name}, and coroutine kernels keep no messages apart; map its whole chain instead")
    _check_one_edge(path)
    check_not_fed("map", path)
    check_not_lent(path[-1])
    check_empty(path, of_host_only=bool(foreign))  # theirs may be on their way all the time
    last = path[-1]
    if last.engine.inlet.available() and not foreign:
        raise KernelStateError(f"map: outputs of kernel {last.kernel_id!r} wait to be received; receive them first")
    if last.targets:
        targets = ", ".join(repr(target.kernel_id) for target in last.targets)
        raise KernelStateError(f"map: the outputs of kernel {last.kernel_id!r} go to {targets}; map the whole chain")


def _check_one_edge(path: list[RingKernel]) -> None:
    for source, kernel in pairwise(path):
        if len(edges_between(source, kernel)) > 1:
            raise KernelStateError(
                f"map: kernel {kernel.kernel_id!r} is fed by {source.kernel_id!r} in several inputs, so its outputs "
                f"would come in no order that is known; send_batch() and receive_batch() instead, or replay()"
            )


def most_outputs(path: list[RingKernel], count: int) -> int:
    """How many outputs may come of so many messages, where all kernels of the path are compiled."""
    for kernel in path:
        count *= kernel.engine.declaration.max_outputs
    return count


def feeds_nobody_else(path: list[RingKernel]) -> bool:
    """Whether the kernels of the path feed each other and nobody else, and nobody else but the host feeds them."""
    before: tuple[RingKernel, ...] = ()
    for kernel, after in zip(path, [*path[1:], None], strict=True):
        if (
            kernel.engine.thread_feeds.are_in_use
            or kernel.sources != before
            or kernel.targets != (() if after is None else (after,))
            or (after is not None and len(edges_between(kernel, after)) > 1)
        ):
            return False
        before = (kernel,)
    return True


def check_not_fed(what: str, path: list[RingKernel]) -> None:
    """Raises `KernelStateError` while other threads may feed a kernel of the path: nothing holds these up."""
    for kernel in path:
        if kernel.engine.thread_feeds.are_in_use:
            raise KernelStateError(
                f"{what}: an input of kernel {kernel.kernel_id!r} is open to another thread, whose messages cannot be "
                f"told from these; close() it"
            )


def check_not_lent(last: RingKernel, what: str = "map") -> None:
    """Raises `KernelStateError` while somebody looks at outputs of the last kernel."""
    if last.engine.inlet.line.holder:
        raise KernelStateError(f"{what}: {last.engine.inlet.line.holder} looks at outputs of kernel {last.kernel_id!r}")


def check_empty(path: list[RingKernel], *, of_host_only: bool = False) -> None:
    """Raises `KernelStateError` if messages wait in an input, but for those of foreign sources; with `of_host_only`, if
    messages wait that the host has sent there."""
    foreign = {edge for source, target in foreign_sources(path) for edge in edges_between(source, target)}
    for kernel in path:
        engine = kernel.engine
        edges = [edge for edge in engine.edges if edge not in foreign]
        if of_host_only:
            edges = engine.edges[:1]
        in_hand = engine.declaration.is_coroutine and engine.ledger()["in_flight"]
        if in_hand or any(edge.published() > edge.position() for edge in edges):
            raise KernelStateError(
                f"map: kernel {kernel.kernel_id!r} has messages waiting in its input; receive their outputs first"
            )
