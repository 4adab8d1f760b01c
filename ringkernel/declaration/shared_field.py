"""Fields that all inputs of a kernel have, in one type: with their times, or their keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import ConfigurationError, MessageTypeError

from .keys import STATE_COLUMN

if TYPE_CHECKING:
    from collections.abc import Callable

    from .declaration import Declaration


def check_keys(declaration: Declaration) -> None:
    """Refuse keys without a state, or with batches; inputs that lack the field, or have it in a type that is no key's;
    and a state with another field of that name. Raises `ConfigurationError` or `MessageTypeError`."""
    keys, state = declaration.keys, declaration.state
    if keys is None:
        return
    option = f"kernel {declaration.kernel_id!r}: key={keys.field!r}"
    if state is None:
        raise ConfigurationError(f"{option} needs a state, of which there is one for each key; give one, or drop key")
    if declaration.batch:
        raise ConfigurationError(
            f"{option} does not go with batch=True: the messages of a batch have different keys; write the handler for "
            f"one message, f(msg[, out], state)"
        )
    if any(one.batch for one in declaration.inputs):
        raise ConfigurationError(
            f"{option} does not go with batch=True, in no input: the messages of a batch have different keys"
        )
    if declaration.state_type is None and keys.field == STATE_COLUMN:
        raise ConfigurationError(
            f"{option}, but that is what read_state() calls the states of the keys, which are arrays; give the field "
            f"another name, or the state fields"
        )
    kinds = "a key is an integer, or bytes of a fixed size such as 'S8'"
    first = _field_in_all(
        option, keys.field, declaration, lambda dtype: dtype.kind in "iuS", kinds, "of one type in all of them"
    )
    own = state.dtype[keys.field] if keys.field in (state.dtype.names or ()) else first
    if own != first:
        raise MessageTypeError(
            f"{option} is {first}, and its state has a field of that name, which is {own}; make it {first}, and it "
            f"holds the key, or call it otherwise"
        )


def check_times(declaration: Declaration) -> None:
    """Refuse inputs that lack the field, or have their times in different types. Raises `MessageTypeError`."""
    assert declaration.order is not None
    field = declaration.order.field
    option = f"kernel {declaration.kernel_id!r}: order_by={field!r}"
    kinds = "a time is an integer, a float of at most 64 bits, or a datetime64 with its unit"
    _field_in_all(option, field, declaration, _is_time, kinds, "of one type, with one unit, in all of them")


def _is_time(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iufM" and dtype.itemsize <= 8 and dtype != np.dtype("M8")


def _field_in_all(
    option: str,
    field: str,
    declaration: Declaration,
    fits: Callable[[np.dtype[Any]], bool],
    kinds: str,
    agreeing: str,
) -> np.dtype[Any] | None:
    """Return the field's type, or None where there are no inputs. `kinds` names the types that fit, and `agreeing` how
    they must be the same. Raises `MessageTypeError`, which begins with `option`."""
    first: np.dtype[Any] | None = None
    for name, message_type in declaration.input_types.items():
        which = f"input {name!r}" if name else "its input"
        if field not in (message_type.dtype.names or ()):
            raise MessageTypeError(f"{option}, but {which} is of {message_type.description}, which has no such field")
        dtype = message_type.dtype[field]
        if not fits(dtype):
            raise MessageTypeError(f"{option}, which {which} has as {dtype}; {kinds}")
        first = dtype if first is None else first
        if dtype != first:
            raise MessageTypeError(
                f"{option} is {first} in its first input and {dtype} in {which}; it must be {agreeing}"
            )
    return first
