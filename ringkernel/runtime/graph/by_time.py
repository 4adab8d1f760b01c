"""Kernels that go by time: how far an input has come, and who feeds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.errors import ConfigurationError, KernelStateError, MessageTypeError
from ringkernel.lifecycle import OPEN, KernelState
from ringkernel.messages.time_words import word_of

if TYPE_CHECKING:
    from ringkernel.runtime.kernels.kernel import RingKernel


def advance(kernel: RingKernel, time: Any, name: str) -> None:
    """See `RingKernelRuntime.advance`."""
    word = word_for(kernel, time)
    outlet = kernel.engine.outlet_of(name)
    if kernel.state not in OPEN:
        raise KernelStateError(f"advance: kernel {kernel.kernel_id!r} is {kernel.state.name}, and takes nothing more")
    ring: Any = outlet.ring
    if ring.shut:
        raise outlet.refuse()
    ring.say_progress(word)


def word_for(kernel: RingKernel, time: Any) -> int:
    """Return a time of a kernel as a word. Raises `ConfigurationError` if it does not go by time, `MessageTypeError`
    for what is no time of its type."""
    declaration = kernel.engine.declaration
    if declaration.order is None:
        raise ConfigurationError(
            f"advance: kernel {kernel.kernel_id!r} does not go by time; order_by of ring_kernel() says which field "
            f"has it"
        )
    try:
        return word_of(declaration.times, time)
    except (TypeError, ValueError) as error:
        raise MessageTypeError(
            f"advance: the times of kernel {kernel.kernel_id!r} are {declaration.times}: {error}"
        ) from None


def check_feed(target: RingKernel, name: str, feed: str) -> None:
    """Refuse a second feed of an input that goes by time; `feed` says in words who wants to be one. Raises
    `KernelStateError`."""
    which, feeding = _named(target, name), feed_of(target, name)
    if feeding is None and target.engine.outlet_of(name).ring.position() > 0:
        feeding = "the host, which has sent to it"
    if feeding is not None:
        raise KernelStateError(
            f"{which} goes by time, so it has one feed, and that is {feeding}; {feed} needs an input of its own, see "
            f"on_input()"
        )


def check_circle(source: RingKernel, target: RingKernel) -> None:
    """Refuse a circle, in which time would never pass. Raises `ConfigurationError`."""
    if target in source.upstream():
        raise ConfigurationError(
            f"connect: {target.kernel_id!r} feeds {source.kernel_id!r}, and goes by time: in a circle each would wait "
            f"for the other's time to pass; break it, or leave order_by out"
        )


def check_opening(target: RingKernel, name: str) -> None:
    """Refuse to let a thread feed an input that goes by time. Raises `KernelStateError`."""
    if target.state is KernelState.ACTIVE:
        raise KernelStateError(
            f"{_named(target, name)} goes by time, so it has one feed, which cannot become another while the kernel is "
            f"ACTIVE; open it before, or deactivate() the kernel for it"
        )
    check_feed(target, name, "this one")


def feed_of(target: RingKernel, name: str) -> str | None:
    """Name the feeds of an input besides the host."""
    number = target.engine.declaration.input_names.index(name)
    edges: list[Any] = [edge for edge in target.engine.edges if edge.input == number]
    if len(edges) == 1:
        return None
    engine = edges[-1].ring.engine
    return "a thread, by open_input()" if engine is None else repr(engine.kernel_id)


def take_hosts_place(target: RingKernel, name: str) -> None:
    """Another than the host feeds this input from now on."""
    outlet, which = target.engine.outlet_of(name), _named(target, name)
    feeding = feed_of(target, name)
    outlet.close()
    outlet.refuse = lambda: KernelStateError(
        f"{which} goes by time, so it has one feed, and that is {feeding}; nobody else can send to it"
    )


def _named(target: RingKernel, name: str) -> str:
    return f"input {name!r} of kernel {target.kernel_id!r}" if name else f"the input of kernel {target.kernel_id!r}"
