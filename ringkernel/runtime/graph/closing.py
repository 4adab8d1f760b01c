"""When kernels end by themselves: inputs that are closed, and what the end of a kernel means to those that it feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringkernel.errors import KernelStateError
from ringkernel.lifecycle import OPEN

if TYPE_CHECKING:
    from ringkernel.runtime.kernels.kernel import RingKernel


def close_input(kernel: RingKernel, name: str) -> None:
    """Close an input of a kernel: nothing more will be sent to it. See `RingKernelRuntime.close_input`."""
    engine = kernel.engine
    outlet = engine.outlet_of(name)
    if kernel.state not in OPEN:
        raise (
            kernel.refusal()
            if kernel.error
            else KernelStateError(
                f"cannot close an input of kernel {kernel.kernel_id!r} while it is {kernel.state.name}"
            )
        )
    if engine.closing is None and outlet.ring.shut:
        raise outlet.refuse()
    engine.closing = engine.closing or "close_input() has said that nothing more is sent to it"
    outlet.close()
    outlet.ring.say_ended()
    engine.look_at_ends()


def note_end(kernel: RingKernel) -> None:
    """Tell the kernels that an ended kernel feeds that nothing more comes from it. Those without other feeds end, too,
    if it has ended by itself."""
    output = kernel.engine.output
    if output is None:
        return
    output.say_ended()
    for target in kernel.targets:
        if target.state not in OPEN:
            continue
        engine = target.engine
        if engine.closing is None and _is_left(target):
            engine.closing = "the kernels that feed it have ended, and so does it"
            engine.close_outlets()
            for outlet in engine.outlets.values():
                outlet.ring.say_ended()
        if engine.closing is not None:
            engine.look_at_ends()


def _is_left(kernel: RingKernel) -> bool:
    """Return whether all feeds of a kernel have ended by themselves, each of its inputs had one, and nothing else has
    ever been sent to it."""
    if was_used(kernel) or only_from_host(kernel):
        return False
    return all(map(has_ended_by_itself, kernel.sources))


def only_from_host(kernel: RingKernel) -> list[str]:
    """Return the inputs that no kernel feeds."""
    engine = kernel.engine
    names = list(engine.outlets)
    fed = {edge.input for edge in engine.edges[len(names) :]}  # the host's are the first ones
    return [name for number, name in enumerate(names) if number not in fed and not engine.outlets[name].ring.shut]


def was_used(kernel: RingKernel) -> bool:
    """Return whether anything but other kernels has ever sent to it."""
    engine = kernel.engine
    return engine.thread_feeds.were_used or any(outlet.ring.position() > 0 for outlet in engine.outlets.values())


def has_ended_by_itself(kernel: RingKernel) -> bool:
    """Return whether it has ended without a failure, of closed inputs or of its handler."""
    engine = kernel.engine
    return engine.has_ended and engine.error is None and engine.closing is not None
