"""What a replay is to do: which inputs get what, and which kernels have to take part for the last one to end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError, KernelStateError
from ringkernel.lifecycle import KernelState
from ringkernel.runtime.graph.closing import has_ended_by_itself, only_from_host, was_used
from ringkernel.runtime.graph.neighbours import edges_between
from ringkernel.runtime.kernels.message_queue import as_batch
from ringkernel.runtime.maps.path import check_not_lent

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.devices.event_loop.outlet import Outlet
    from ringkernel.runtime.kernels.kernel import RingKernel


@dataclass(eq=False)
class GivenInput:
    """An input that a replay feeds. `values` is one batch as it is sent, if `count` is known, else an iterator of
    batches; `key` is how the caller has named it, `sent` how many messages the kernel has been given."""

    key: Any
    kernel: RingKernel
    name: str
    values: Any
    count: int | None
    extra: str
    sent: int = 0

    @property
    def outlet(self) -> Outlet:
        """The host's end of it."""
        return self.kernel.engine.outlet_of(self.name)

    @property
    def number(self) -> int:
        """Its place among the inputs of its kernel."""
        return self.kernel.engine.declaration.input_names.index(self.name)

    def batch_of(self, values: Any) -> Any:
        """Messages as they are sent. Raises `MessageTypeError`."""
        return as_batch(self.kernel.engine.declaration.type_of(self.name), values, self.extra)

    @property
    def total(self) -> str:
        """How many messages there are, in words."""
        return "so many" if self.count is None else str(self.count)

    def __str__(self) -> str:
        which = f"input {self.name!r}" if self.name else "the input"
        return f"{which} of kernel {self.kernel.kernel_id!r}"


def given_inputs(values: Any, find: Callable[[KernelId, str], RingKernel], extra: str) -> list[GivenInput]:
    """What the caller has given for which input. Raises `ConfigurationError`, `KernelNotFoundError`,
    `MessageTypeError`."""
    if not isinstance(values, Mapping) or not values:
        raise ConfigurationError(
            f"replay takes a dict with the values of each input, as in {{'trades': array, ('trades', 'quotes'): "
            f"array}}; got {values!r:.100}"
        )
    given: dict[tuple[RingKernel, str], GivenInput] = {}
    for key, one in values.items():
        kernel_id, name = key if isinstance(key, tuple) and len(key) == 2 else (key, "")
        kernel = find(kernel_id, "replay to")
        kernel.engine.outlet_of(name)  # which there has to be
        if (kernel, name) in given:
            raise ConfigurationError(f"replay: {given[kernel, name]} is given twice")
        found = given[kernel, name] = GivenInput(key, kernel, name, one, None, extra)
        if not hasattr(one, "__next__") and not hasattr(one, "__aiter__"):
            found.values = found.batch_of(one)
            found.count = len(found.values)
    return list(given.values())


def kernels_of(given: list[GivenInput], last: RingKernel) -> list[RingKernel]:
    """All kernels that feed the last one, and that one in the end. Raises `KernelStateError` if one of the inputs does
    not lead there."""
    kernels = list(last.upstream())[::-1]
    for one in given:
        if one.kernel not in kernels:
            raise KernelStateError(
                f"replay: no connection leads from kernel {one.kernel.kernel_id!r} to {last.kernel_id!r}, the one to "
                f"replay until; connect() them"
            )
    return kernels


def check_replay(given: list[GivenInput], kernels: list[RingKernel], last: RingKernel) -> None:
    """Raises `KernelStateError` if this cannot be replayed now: nothing was sent then."""
    for kernel in kernels:
        is_given = any(one.kernel is kernel for one in given)
        if kernel.state is not KernelState.ACTIVE and (is_given or not has_ended_by_itself(kernel)):
            why = None if kernel.error is None else kernel.engine.told_reason()
            raise why or KernelStateError(
                f"replay: kernel {kernel.kernel_id!r} is {kernel.state.name}; it must be ACTIVE"
            )
    for one in given:
        _check_free(one)
    if last.targets:
        targets = ", ".join(repr(target.kernel_id) for target in last.targets)
        raise KernelStateError(
            f"replay: the outputs of kernel {last.kernel_id!r} go to {targets}; replay until the last of them"
        )
    check_not_lent(last, "replay")
    for kernel in kernels:
        _check_ends(kernel, {one.name for one in given if one.kernel is kernel})


def _check_free(one: GivenInput) -> None:
    """The host alone feeds it."""
    engine = one.kernel.engine
    sources = [
        source
        for source in one.kernel.sources
        if any(edge.input == one.number and not edge.closed for edge in edges_between(source, one.kernel))
    ]
    if sources:
        names = " and ".join(repr(source.kernel_id) for source in sources)
        raise KernelStateError(f"replay: {one} is fed by kernel {names}; replay to that one instead")
    if engine.thread_feeds.are_in_use:
        raise KernelStateError(
            f"replay: an input of kernel {one.kernel.kernel_id!r} is open to another thread; close() it"
        )
    if one.outlet.ring.shut:
        raise one.outlet.refuse()


def _check_ends(kernel: RingKernel, given: set[str]) -> None:
    """The kernel will end by itself, since each of its inputs does."""
    engine = kernel.engine
    if engine.has_ended:
        return
    is_left = kernel.sources and not given and engine.closing is None and not was_used(kernel)
    names = only_from_host(kernel) if is_left else engine.outlets  # if it is, the end of what feeds it is its own
    unfed = [name for name in names if name not in given and not engine.outlets[name].ring.shut]
    if not unfed:
        return
    key = (kernel.kernel_id, unfed[0]) if unfed[0] else kernel.kernel_id
    which = f"input {unfed[0]!r}" if unfed[0] else "the first input"
    remedy = "close_input() it before"
    if unfed[0] in only_from_host(kernel):
        remedy = f"give it {{{key!r}: []}}, or {remedy}"
    raise KernelStateError(
        f"replay: nothing is given for {which} of kernel {kernel.kernel_id!r}, which would wait for it for "
        f"ever; {remedy}"
    )
