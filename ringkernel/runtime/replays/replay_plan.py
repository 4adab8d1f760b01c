"""The plan of a replay: which inputs get values, and which kernels have to take part for the last one to end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError, KernelStateError
from ringkernel.runtime.attach.given_input import GivenInput
from ringkernel.runtime.attach.lease import check_not_lent
from ringkernel.runtime.graph.closing import has_ended_by_itself, only_from_host, was_used
from ringkernel.runtime.graph.neighbours import edges_between
from ringkernel.runtime.maps.path import check_active, check_no_targets

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.declaration.decorator import KernelId
    from ringkernel.runtime.kernels.kernel import RingKernel


def given_inputs(values: Any, find: Callable[[KernelId, str], RingKernel], extra: str) -> list[GivenInput]:
    """Return the inputs that the caller gives values for. Raises `ConfigurationError`, `KernelNotFoundError`,
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
        found = given[kernel, name] = GivenInput(kernel, one, None, name, key, extra)
        if not hasattr(one, "__next__") and not hasattr(one, "__aiter__"):
            found.values = found.batch_of(one)
            found.count = len(found.values)
    return list(given.values())


def kernels_of(given: list[GivenInput], last: RingKernel) -> list[RingKernel]:
    """Return all kernels that feed the last one, and the last one at the end. Raises `KernelStateError` if an input
    does not lead there."""
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
        if any(one.kernel is kernel for one in given) or not has_ended_by_itself(kernel):
            check_active(kernel, "replay")
    for one in given:
        _check_free(one)
    check_no_targets(last, "replay", "replay until the last of them")
    check_not_lent(last, "replay")
    for kernel in kernels:
        _check_ends(kernel, {one.name for one in given if one.kernel is kernel})


def _check_free(one: GivenInput) -> None:
    """Raises `KernelStateError` unless the host alone feeds an input."""
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
    """Raises `KernelStateError` if an input of a kernel would never end, and so the kernel neither."""
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
