"""Messages and results that a caller gives: arrays, which have to be of a form, and the forms of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.devices.event_loop.inlet import check_most
from ringkernel.errors import ConfigurationError, MessageTypeError
from ringkernel.messages.arrays import from_array
from ringkernel.messages.frames.columns import is_endless
from ringkernel.messages.frames.making import frame_maker
from ringkernel.runtime.kernels.message_queue import as_batch

from .path import most_outputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.messages.types import MessageType
    from ringkernel.runtime.kernels.kernel import RingKernel


def output_type_of(kernel: RingKernel, what: str) -> MessageType:
    """Return the type of a kernel's outputs. `what` needs records, such as "an `out` array". Raises
    `MessageTypeError`."""
    output: Any = kernel.engine.output
    if output is None:
        raise MessageTypeError(f"kernel {kernel.kernel_id!r} has no output_type, so there is nothing to receive")
    if not output.holds_records:
        raise MessageTypeError(
            f"kernel {kernel.kernel_id!r} emits Python objects, and {what} needs records; declare an output_type"
        )
    found: MessageType = output.message_type
    return found


def form_of(kernel: RingKernel, to: str | None) -> Callable[[Any], Any] | None:
    """Return a function that makes the frame `to` of outputs; None for NumPy. Raises what `frame_maker` raises, and
    `MessageTypeError` for a kernel without records."""
    if to is None or to == "numpy":
        return None
    return frame_maker(to, output_type_of(kernel, f"to={to!r}"))


def in_form(make: Callable[[Any], Any], values: Any) -> Any:
    """Outputs as a frame. What cannot be one has them in `.partial`: they are taken already."""
    try:
        return make(values)
    except Exception as error:
        error.partial = values  # type: ignore[attr-defined]
        raise


def check_given(kernel: RingKernel, out: Any) -> None:
    """Refuse an `out` that a kernel's outputs cannot be copied to as they are.

    Raises `MessageTypeError` for what is no array of them, `ConfigurationError` for one that has not the form.
    """
    message_type = output_type_of(kernel, "`out`")
    wanted = message_type.array_dtype
    if not isinstance(out, np.ndarray):
        raise MessageTypeError(f"out is no array: {out!r:.100}; make one with np.empty(length, {wanted})")
    if isinstance(out, np.ma.MaskedArray):
        raise MessageTypeError("out is a masked array, and its mask would hide what is written; give its `.data`")
    if out.dtype != wanted:
        raise MessageTypeError(
            f"out has dtype {out.dtype}, kernel {kernel.kernel_id!r} emits {message_type.description}: "
            f"an array for that has dtype {wanted}"
        )
    if out.ndim != 1:
        raise ConfigurationError(f"out has shape {out.shape}; it must have one dimension")
    if not out.flags.c_contiguous:
        raise ConfigurationError("out is not contiguous: its messages must follow each other without gaps")
    if not out.flags.writeable:
        raise ConfigurationError("out is read-only")


def room_in(kernel: RingKernel, out: Any, most: int | None) -> int:
    """Return how many messages to take into `out`, at most `most`. Raises what `check_given` raises."""
    output: Any = kernel.engine.output
    if not (output.holds_records and output.message_type.is_batch(out) and out.flags.writeable):
        check_given(kernel, out)  # which takes its time to say what is wrong
    if not len(out):
        raise ConfigurationError("out has no room: its length is 0")
    if most is None:
        return len(out)
    check_most(most)
    return min(most, len(out))


def batch_of(path: list[RingKernel], values: Any, extra: str = "refuse") -> Any:
    """Return the messages of a map. Raises `MessageTypeError` for what is not a batch, or not one of the first kernel's
    type."""
    if isinstance(values, str | bytes) or (not hasattr(values, "__len__") and is_endless(values)):
        remedy = "; make a list of it first" if hasattr(values, "__iter__") else "; one message is sent by call()"
        raise MessageTypeError(f"map takes an array or a sequence of messages, got {values!r:.100}{remedy}")
    return as_batch(path[0].engine.declaration.input_type, values, extra)


def array_of(path: list[RingKernel], values: Any, extra: str) -> Any:
    """Return messages that are no array yet as one that `batch_of` takes as it is: a reader can be read only once.
    Raises what `batch_of` raises."""
    batch = batch_of(path, values, extra)
    message_type = path[0].engine.declaration.input_type
    return batch if message_type is None else from_array(message_type, batch)


def check_result_array(path: list[RingKernel], messages: Any, out: Any) -> None:
    """Refuse an `out` that the outputs of a map cannot be written to. Raises what `check_given` raises, and
    `ConfigurationError` for one that is too short, or not apart from the messages."""
    output: Any = path[-1].engine.output
    if output is None or not output.holds_records or not output.message_type.is_batch(out) or not out.flags.writeable:
        check_given(path[-1], out)  # which takes its time to say what is wrong
    most = most_outputs(path, len(messages))
    if len(out) < most:
        raise ConfigurationError(f"out has room for {len(out)} outputs; of {len(messages)} messages {most} may come")
    if not out.flags.aligned:
        raise ConfigurationError(f"out is not aligned: its address is no multiple of {out.dtype.alignment}")
    if isinstance(messages, np.ndarray) and np.may_share_memory(messages, out):
        raise ConfigurationError("out overlaps the messages: a kernel reads them while it writes there")
