"""Kernels that go by time: how far an input has come, and who feeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError, KernelStateError, MessageTypeError
from ringkernel.lifecycle import KernelState
from ringkernel.messages.time_words import word_of

if TYPE_CHECKING:
    from .kernel import RingKernel

_OPEN = (KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED)


def advance(kernel: RingKernel, time: Any, name: str) -> None:
    """See `RingKernelRuntime.advance`."""
    declaration = kernel.engine.declaration
    if declaration.order is None:
        raise ConfigurationError(
            f"advance: kernel {kernel.kernel_id!r} does not go by time; order_by of ring_kernel() says which field "
            f"has it"
        )
    outlet = kernel.engine.outlet_of(name)
    try:
        word = word_of(declaration.times, time)
    except (TypeError, ValueError) as error:
        raise MessageTypeError(
            f"advance: the times of kernel {kernel.kernel_id!r} are {declaration.times}: {error}"
        ) from None
    if kernel.state not in _OPEN:
        raise KernelStateError(f"advance: kernel {kernel.kernel_id!r} is {kernel.state.name}, and takes nothing more")
    if outlet.ring.shut:
        raise outlet.refuse()
    ring: Any = outlet.ring
    ring.say_progress(word)


def check_feed(source: RingKernel, target: RingKernel, name: str) -> None:
    """Refuse a second feed of an input that goes by time, and a circle, in which time would never pass. Raises
    `KernelStateError` or `ConfigurationError`."""
    engine = target.engine
    which = f"input {name!r} of kernel {target.kernel_id!r}" if name else f"the input of kernel {target.kernel_id!r}"
    feeding = feed_of(target, name)
    if feeding is not None:
        raise KernelStateError(
            f"connect: {which} goes by time, so it has one feed, and that is {feeding}; {source.kernel_id!r} needs an "
            f"input of its own, see on_input()"
        )
    outlet = engine.outlet_of(name)
    if outlet.ring.position() > 0:
        raise KernelStateError(
            f"connect: {which} goes by time, so it has one feed, and that is the host, which has sent to it; "
            f"{source.kernel_id!r} cannot feed it, too"
        )
    if target in source.upstream():
        raise ConfigurationError(
            f"connect: {target.kernel_id!r} feeds {source.kernel_id!r}, and goes by time: in a circle each would wait "
            f"for the other's time to pass; break it, or leave order_by out"
        )


def feed_of(target: RingKernel, name: str) -> str | None:
    """Who feeds an input besides the host, in words."""
    number = target.engine.declaration.input_names.index(name)
    edges: list[Any] = [edge for edge in target.engine.edges if edge.input == number]
    if len(edges) == 1:
        return None
    engine = edges[-1].ring.engine
    return "another feed" if engine is None else repr(engine.kernel_id)


def take_hosts_place(source: RingKernel, target: RingKernel, name: str) -> None:
    """The source alone feeds this input from now on."""
    outlet = target.engine.outlet_of(name)
    which = f"input {name!r} of kernel {target.kernel_id!r}" if name else f"the input of kernel {target.kernel_id!r}"
    outlet.close()
    outlet.refuse = lambda: KernelStateError(
        f"{which} goes by time, so it has one feed, and that is {source.kernel_id!r}; send to that one"
    )
