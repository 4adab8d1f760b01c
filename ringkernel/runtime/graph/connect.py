"""Connecting kernels: which types fit, and whose edge is whose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.errors import KernelStateError, MessageTypeError
from ringkernel.lifecycle import KernelState

from .by_time import check_circle, check_feed, take_hosts_place
from .neighbours import edges_between

if TYPE_CHECKING:
    from ringkernel.devices.engine import Engine
    from ringkernel.runtime.kernels.kernel import RingKernel

_CONNECTABLE = (KernelState.LAUNCHED, KernelState.DEACTIVATED)


def connect(source: RingKernel, target: RingKernel, name: str = "") -> None:
    """Make the source's output feed the target's input of this name. Raises, and then has changed nothing."""
    for kernel in (source, target):
        _check_at_rest(kernel)
    if source.engine.inlet.line.holder:
        raise KernelStateError(f"connect: {source.engine.inlet.line.holder} looks at outputs of {source.kernel_id!r}")
    if source.engine.inlet.kept:
        raise KernelStateError(
            f"connect: outputs of a map over {source.kernel_id!r} that was cancelled wait; receive them first"
        )
    target.engine.outlet_of(name)
    number = target.engine.declaration.input_names.index(name)
    if any(edge.input == number for edge in edges_between(source, target)):
        which = f"input {name!r} of {target.kernel_id!r}" if name else repr(target.kernel_id)
        raise KernelStateError(f"connect: {source.kernel_id!r} already feeds {which}")
    target.engine.check_edges(inputs=1)
    source.engine.check_edges(consumers=0 if source.engine.inlet.edges else 1)
    _fit_types(source.engine, target.engine, name, [reader.engine for reader in source.targets])
    by_time = target.engine.declaration.order is not None
    if by_time:
        check_feed(target, name, repr(source.kernel_id))
        check_circle(source, target)
    ring = source.engine.output
    assert ring is not None
    inlet = source.engine.inlet
    if inlet.edges:  # the first target takes the host's place, with what already waits
        edge: Any = inlet.edges[0]
        inlet.detach(edge)
        edge.refresh()
        edge.start = edge.head
    else:
        edge = ring.add_edge()
    target.engine.add_input(edge, number)
    if by_time:
        take_hosts_place(target, name)
    if target not in source.targets:  # it may feed another input already
        source.targets += (target,)
        target.sources += (source,)
    inlet.ended = lambda: _goes_elsewhere(source)
    inlet.finish()


def _check_at_rest(kernel: RingKernel) -> None:
    which = f"connect: kernel {kernel.kernel_id!r}"
    if kernel.state not in _CONNECTABLE:
        raise KernelStateError(f"{which} is {kernel.state.name}; both must be LAUNCHED or DEACTIVATED")
    if kernel.leasing.wanted:
        raise KernelStateError(f"{which} is in a map; await that first")


def _goes_elsewhere(source: RingKernel) -> KernelStateError:
    if not source.targets and source.lost is not None:
        return KernelStateError(
            f"the outputs of kernel {source.kernel_id!r} went to {source.lost[0]!r}, which has ended; connect() another"
        )
    names = ", ".join(repr(target.kernel_id) for target in source.targets)
    return KernelStateError(
        f"the outputs of kernel {source.kernel_id!r} go to {names}; receive at the end of the chain"
    )


def _fit_types(source: Engine, target: Engine, name: str, readers: list[Engine]) -> None:
    """Raises `MessageTypeError` if the target cannot read what the source emits. `readers` do already."""
    output = source.output
    if output is None:
        raise MessageTypeError(f"connect: kernel {source.kernel_id!r} has no output_type, so it emits nothing")
    wanted = target.declaration.type_of(name)
    emitted = getattr(output, "message_type", None)
    if wanted is None:
        return  # a coroutine kernel that takes anything
    if emitted is None:
        for edge, fresh in source.emit_records_of(wanted):
            for reader in readers:
                if edge in reader.edges:
                    reader.exchange_input(edge, fresh)
    elif not wanted.matches(emitted):
        raise MessageTypeError(
            f"connect: kernel {source.kernel_id!r} emits {emitted.description}, kernel {target.kernel_id!r} takes "
            f"{wanted.description}{f' in its input {name!r}' if name else ''}"
        )
