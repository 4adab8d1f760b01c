"""The kernels that a map goes through: which they are, and whether it may."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ringkernel.declaration.pipeline import Pipeline
from ringkernel.devices.engine import no_input_of
from ringkernel.errors import ConfigurationError, KernelStateError
from ringkernel.lifecycle import KernelState
from ringkernel.runtime.attach.lease import check_not_lent
from ringkernel.runtime.graph.neighbours import edges_between, foreign_sources

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.declaration.pipeline import KernelPath
    from ringkernel.runtime.kernels.kernel import RingKernel

T = TypeVar("T")


def ends_of(kernel_id: Any) -> tuple[KernelId, KernelId]:
    """Return the ids of the first and the last kernel of a path as `map` is given it. Raises `ConfigurationError`."""
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
    """Return the kernels from first to last along their connections. Raises `KernelStateError` if there is no such
    chain, `ConfigurationError` if the outputs of one of them depend on other inputs than that of the first, and
    `MessageTypeError` if the first is a source."""
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


class PathTable(Generic[T]):
    """One object for each path, by what the user gives for the path, as long as kernels are connected as they are."""

    def __init__(self, find: Callable[[KernelId], RingKernel], make: Callable[[list[RingKernel]], T]) -> None:
        self._find, self._make = find, make
        self.known: dict[Any, T] = {}

    def of(self, kernel_id: KernelPath) -> T:
        """Return the object of a kernel, or of the chain between two. Once made it is in `known`. Raises
        `KernelNotFoundError`, `KernelStateError` and `ConfigurationError`."""
        try:
            return self.known[kernel_id]
        except (KeyError, TypeError):
            first_id, last_id = ends_of(kernel_id)
            first = self._find(first_id)
            path = find_path(first, first if last_id == first_id else self._find(last_id))
            made = self.known[kernel_id] = self._make(path)
            return made

    def forget(self) -> None:
        """Kernels have gone, or are connected in another way."""
        self.known.clear()

    def forget_name(self, func: Callable[..., Any]) -> None:
        """A function may name another kernel than before. In any thread."""
        for given in list(self.known):
            if given is func or (isinstance(given, tuple) and func in given):
                self.known.pop(given, None)


def check_active(kernel: RingKernel, what: str) -> None:
    """Raises `KernelStateError` for a kernel that is not ACTIVE, with the reason if it has failed."""
    if kernel.state is not KernelState.ACTIVE:
        why = None if kernel.error is None else kernel.engine.told_reason()
        raise why or KernelStateError(f"{what}: kernel {kernel.kernel_id!r} is {kernel.state.name}; it must be ACTIVE")


def check_path(path: list[RingKernel], *, lend: bool) -> None:
    """Raises `KernelStateError` if a map over these kernels could mix with other messages. `lend`: it is in place."""
    for kernel in path:
        check_active(kernel, "map")
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
    check_no_targets(last, "map", "map the whole chain")


def check_no_targets(last: RingKernel, what: str, remedy: str) -> None:
    """Raises `KernelStateError` if the outputs of the last kernel go to another."""
    if last.targets:
        targets = ", ".join(repr(target.kernel_id) for target in last.targets)
        raise KernelStateError(f"{what}: the outputs of kernel {last.kernel_id!r} go to {targets}; {remedy}")


def _check_one_edge(path: list[RingKernel]) -> None:
    for source, kernel in pairwise(path):
        if len(edges_between(source, kernel)) > 1:
            raise KernelStateError(
                f"map: kernel {kernel.kernel_id!r} is fed by {source.kernel_id!r} in several inputs, so its outputs "
                f"would come in no order that is known; send_batch() and receive_batch() instead, or replay()"
            )


def most_outputs(path: list[RingKernel], count: int) -> int:
    """Return how many outputs may come of so many messages, where all kernels of the path are compiled."""
    for kernel in path:
        count *= kernel.engine.declaration.max_outputs
    return count


def feeds_nobody_else(path: list[RingKernel]) -> bool:
    """Return True if the kernels of the path feed nobody but each other, and only the host feeds the first."""
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


def check_empty(path: list[RingKernel], *, of_host_only: bool = False) -> None:
    """Raises `KernelStateError` if messages wait in an input, but for those of foreign sources; with `of_host_only`, if
    messages wait that the host has sent there."""
    foreign = {edge for source, target in foreign_sources(path) for edge in edges_between(source, target)}
    for kernel in path:
        engine = kernel.engine
        edges = [edge for edge in engine.edges if edge not in foreign]
        if of_host_only:
            edges = engine.edges[: len(engine.outlets)]
        in_hand = engine.declaration.is_coroutine and engine.ledger()["in_flight"]
        if in_hand or any(edge.published() > edge.position() for edge in edges):
            raise KernelStateError(
                f"map: kernel {kernel.kernel_id!r} has messages waiting in its input; receive their outputs first"
            )
