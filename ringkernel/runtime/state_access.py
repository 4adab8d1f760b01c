"""What a kernel holds: its state, its parameters, and the messages that it never took."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import DeviceUnavailableError, KernelStateError, MessageTypeError
from ringkernel.lifecycle import KernelState
from ringkernel.messages.arrays import MASKED, as_array, as_messages, from_array
from ringkernel.messages.conversion import converted

if TYPE_CHECKING:
    from ringkernel.declaration.decorator import Declaration
    from ringkernel.messages.types import MessageType

    from .kernel import RingKernel


def leftovers_of(kernel: RingKernel, name: str) -> Any:
    """See `RingKernelRuntime.unprocessed`."""
    kernel.engine.outlet_of(name)
    declaration = kernel.engine.declaration
    left = kernel.engine.leftovers(declaration.input_names.index(name))
    message_type = declaration.type_of(name)
    if message_type is None:
        return [message for part in left for message in part]
    parts = [np.empty(0, message_type.dtype), *(np.asarray(part, message_type.dtype) for part in left)]
    messages = from_array(message_type, np.concatenate(parts))
    lost, reason = kernel.engine.unreadable()
    if lost:
        error = DeviceUnavailableError(
            f"{lost} message(s) that kernel {kernel.kernel_id!r} had not taken cannot be read: {reason}; "
            f"the error's `partial` has the other {len(messages)}"
        )
        error.partial = messages
        raise error from reason
    return messages


async def read_state(kernel: RingKernel) -> Any:
    """See `RingKernelRuntime.read_state`."""
    declaration = _stateful(kernel)
    async with kernel.lock:
        copy = await kernel.engine.read_state()
    return copy if declaration.state_type is None else _as_one(declaration.state_type, copy)


def _as_one(message_type: MessageType, copy: Any) -> Any:
    """An array of one record as the caller sees that."""
    if message_type.is_scalar or message_type.cls is not None:
        return as_messages(message_type, copy)[0]
    return copy.view(np.dtype((np.record, message_type.dtype)))[0]  # to be changed, and written back


async def write_state(kernel: RingKernel, value: Any) -> None:
    """See `RingKernelRuntime.write_state`."""
    declaration = _stateful(kernel)
    state = declaration.state
    assert state is not None
    if declaration.state_type is not None:
        new = as_array(declaration.state_type, [value])
    else:
        new = _as_state(value, state, kernel.kernel_id)
    async with kernel.lock:
        if kernel.state not in (KernelState.LAUNCHED, KernelState.DEACTIVATED):
            raise KernelStateError(
                f"cannot write the state of kernel {kernel.kernel_id!r} while it is {kernel.state.name}; "
                f"deactivate() it"
            )
        kernel.engine.write_state(new)


def read_params(kernel: RingKernel) -> Any:
    """See `RingKernelRuntime.read_params`."""
    return _as_one(_params_type(kernel), kernel.engine.read_params())


async def write_params(kernel: RingKernel, value: Any) -> None:
    """See `RingKernelRuntime.write_params`."""
    new = as_array(_params_type(kernel), [value])
    async with kernel.lock:
        if kernel.state in (KernelState.TERMINATING, KernelState.TERMINATED):
            raise KernelStateError(
                f"cannot write the parameters of kernel {kernel.kernel_id!r} while it is {kernel.state.name}; "
                f"allowed is LAUNCHED, ACTIVE or DEACTIVATED"
            )
        await kernel.engine.write_params(new)


def _params_type(kernel: RingKernel) -> MessageType:
    message_type = kernel.engine.declaration.params_type
    if message_type is None:
        raise MessageTypeError(f"kernel {kernel.kernel_id!r} was declared without parameters; params= declares them")
    return message_type


def _as_state(value: Any, state: np.ndarray[Any, Any], kernel_id: str) -> np.ndarray[Any, Any]:
    """A value as an array like `state`. Raises `MessageTypeError` if that would change it."""
    given = np.asarray(value)
    reason = f"; {MASKED}" if isinstance(value, np.ma.MaskedArray) else ""
    if given.shape == state.shape and not reason:
        try:
            return converted(given, state.dtype)
        except (TypeError, ValueError, OverflowError) as error:
            reason = f": {error}"
    raise MessageTypeError(
        f"the state of kernel {kernel_id!r} is an array of shape {state.shape} and dtype {state.dtype}, got shape "
        f"{given.shape} and dtype {given.dtype}{reason}"
    )


def _stateful(kernel: RingKernel) -> Declaration:
    declaration = kernel.engine.declaration
    if declaration.state is None:
        raise MessageTypeError(f"kernel {kernel.kernel_id!r} was declared without a state")
    return declaration
