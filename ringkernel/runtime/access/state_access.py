"""A kernel's state, its parameters, and the messages that it never took."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.devices.event_loop.background import in_thread
from ringkernel.devices.state_access import MANY_KEYS
from ringkernel.errors import DeviceUnavailableError, KernelStateError, KeyNotFoundError, MessageTypeError
from ringkernel.lifecycle import KernelState
from ringkernel.messages.arrays import MASKED, as_array, as_messages, from_array
from ringkernel.messages.conversion import converted
from ringkernel.messages.fitting import fitted_array
from ringkernel.messages.records import fields_of

if TYPE_CHECKING:
    from ringkernel.declaration.declaration import Declaration
    from ringkernel.messages.types import MessageType
    from ringkernel.runtime.kernels.kernel import RingKernel


def leftovers_of(kernel: RingKernel, name: str) -> Any:
    """See `RingKernelRuntime.unprocessed`."""
    declaration = kernel.engine.declaration
    if not declaration.is_source:
        kernel.engine.outlet_of(name)
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


async def read_state(kernel: RingKernel, key: Any) -> Any:
    """See `RingKernelRuntime.read_state`."""
    declaration = _stateful(kernel)
    wanted = None if key is None else _as_key(declaration, key)
    async with kernel.lock:
        access = kernel.engine.state_access
        copy = await (access.read() if wanted is None else access.read_of(wanted))
    if copy is None:
        assert declaration.keys is not None
        raise KeyNotFoundError(
            f"kernel {kernel.kernel_id!r} has no state for {declaration.keys.field}={key!r}: no message with it has "
            f"come; there are states for {kernel.engine.keys()[0]} others"
        )
    are_all = declaration.keys is not None and wanted is None
    return copy if are_all or declaration.state_type is None else _as_one(declaration.state_type, copy)


def _as_one(message_type: MessageType, copy: Any) -> Any:
    """Return an array of one record as the caller sees it."""
    if message_type.is_scalar or message_type.cls is not None:
        return as_messages(message_type, copy)[0]
    return copy.view(np.dtype((np.record, message_type.dtype)))[0]  # to be changed, and written back


async def write_state(kernel: RingKernel, value: Any, key: Any) -> None:
    """See `RingKernelRuntime.write_state`."""
    declaration = _stateful(kernel)
    state = declaration.state
    assert state is not None
    wanted = None if key is None else _as_key(declaration, key)
    if declaration.keys is not None and wanted is None:
        convert = partial(_as_states, value, kernel.engine.state_access.keyed_dtype, kernel.kernel_id)
        new = convert() if np.size(value) < MANY_KEYS else await in_thread(convert)
    elif declaration.state_type is not None:
        new = as_array(declaration.state_type, [value])
    else:
        new = _as_state(value, state, kernel.kernel_id)
    async with kernel.lock:
        if kernel.state not in (KernelState.LAUNCHED, KernelState.DEACTIVATED):
            raise KernelStateError(
                f"cannot write the state of kernel {kernel.kernel_id!r} while it is {kernel.state.name}; "
                f"deactivate() it"
            )
        if wanted is None:
            await kernel.engine.state_access.write(new)
        else:
            kernel.engine.state_access.write_of(wanted, new)


def _as_key(declaration: Declaration, key: Any) -> np.ndarray[Any, Any]:
    """Return a key as an array without dimensions. Raises `MessageTypeError`."""
    if declaration.keys is None:
        raise MessageTypeError(
            f"kernel {declaration.kernel_id!r} has one state, not one for each key; leave key={key!r} out, or declare "
            f"it with key=FIELD"
        )
    assert declaration.input_type is not None
    dtype = declaration.input_type.dtype[declaration.keys.field]
    try:
        return fitted_array(dtype, (), key)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageTypeError(
            f"kernel {declaration.kernel_id!r}: {key!r} is no {declaration.keys.field}, which is {dtype}: {error}"
        ) from None


def _as_states(value: Any, dtype: np.dtype[Any], kernel_id: str) -> np.ndarray[Any, Any]:
    """Return a value as an array of keys and states. Raises `MessageTypeError`."""
    given = np.asarray(value)
    wanted = (
        f"the states of kernel {kernel_id!r} are a structured array of one dimension, as read_state() gives it "
        f"({fields_of(dtype)})"
    )
    fits = given.ndim == 1 and given.dtype.names == dtype.names
    return _converted(value, dtype, wanted, "; for one of them give key=..., too", fits=fits)


def _as_state(value: Any, state: np.ndarray[Any, Any], kernel_id: str) -> np.ndarray[Any, Any]:
    """Return a value as an array like `state`. Raises `MessageTypeError` if that would change it."""
    wanted = f"the state of kernel {kernel_id!r} is an array of shape {state.shape} and dtype {state.dtype}"
    return _converted(value, state.dtype, wanted, fits=np.shape(value) == state.shape)


def _converted(value: Any, dtype: np.dtype[Any], wanted: str, remedy: str = "", *, fits: bool) -> np.ndarray[Any, Any]:
    given = np.asarray(value)
    reason = f"; {MASKED}" if isinstance(value, np.ma.MaskedArray) else ""
    if fits and not reason:
        try:
            return converted(given, dtype)
        except (TypeError, ValueError, OverflowError) as error:
            reason = f": {error}"
    raise MessageTypeError(f"{wanted}, got shape {given.shape} and dtype {given.dtype}{reason}{remedy}")


def read_params(kernel: RingKernel) -> Any:
    """See `RingKernelRuntime.read_params`."""
    return _as_one(_params_type(kernel), kernel.engine.state_access.read_params())


async def write_params(kernel: RingKernel, value: Any) -> None:
    """See `RingKernelRuntime.write_params`."""
    new = as_array(_params_type(kernel), [value])
    async with kernel.lock:
        if kernel.state in (KernelState.TERMINATING, KernelState.TERMINATED):
            raise KernelStateError(
                f"cannot write the parameters of kernel {kernel.kernel_id!r} while it is {kernel.state.name}; "
                f"allowed is LAUNCHED, ACTIVE or DEACTIVATED"
            )
        await kernel.engine.state_access.write_params(new)


def _params_type(kernel: RingKernel) -> MessageType:
    message_type = kernel.engine.declaration.params_type
    if message_type is None:
        raise MessageTypeError(f"kernel {kernel.kernel_id!r} was declared without parameters; params= declares them")
    return message_type


def _stateful(kernel: RingKernel) -> Declaration:
    declaration = kernel.engine.declaration
    if declaration.state is None:
        raise MessageTypeError(f"kernel {kernel.kernel_id!r} was declared without a state")
    return declaration
