"""Which of its messages a kernel has a state of its own for: those with the same value in one of their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.errors import ConfigurationError, MessageTypeError

from .shared_field import field_in_all

if TYPE_CHECKING:
    from ringkernel.messages.types import MessageType

DEFAULT_KEYS = 1024
MAX_KEYS = 2**30
STATE_COLUMN = "state"
"""The column of `read_state` with the states of all keys, where they are arrays."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The field, how many keys there is room for at least, and whether outputs of different keys are in order."""

    field: str
    capacity: int
    ordered: bool = True


def keys_of(kernel_id: str, field: Any, capacity: Any, ordered: bool) -> Keys | None:
    """Return the keys that the options declare, if any. Raises `ConfigurationError`."""
    if field is None:
        if not ordered:
            raise ConfigurationError(
                f"kernel {kernel_id!r}: ordered=False needs key: outputs of different keys may then come in any order"
            )
        if capacity is not None:
            raise ConfigurationError(
                f"kernel {kernel_id!r}: keys={capacity!r} needs key, the field by whose value there is a state for each"
            )
        return None
    if not isinstance(field, str) or not field:
        raise ConfigurationError(f"kernel {kernel_id!r}: key is {field!r}; it must be the name of a field")
    if capacity is None:
        return Keys(field, DEFAULT_KEYS, ordered)
    is_number = isinstance(capacity, int | np.integer) and not isinstance(capacity, bool)
    if not is_number or not 1 <= capacity <= MAX_KEYS:
        raise ConfigurationError(
            f"kernel {kernel_id!r}: keys is {capacity!r}; it must be a number of keys from 1 to {MAX_KEYS}"
        )
    return Keys(field, int(capacity), ordered)


def check_keys(
    kernel_id: str, keys: Keys | None, state: np.ndarray[Any, Any] | None, state_type: MessageType | None, batch: bool
) -> None:
    """Refuse keys without a state, or with batches. Raises `ConfigurationError`."""
    if keys is None:
        return
    option = f"kernel {kernel_id!r}: key={keys.field!r}"
    if state is None:
        raise ConfigurationError(f"{option} needs a state, of which there is one for each key; give one, or drop key")
    if batch:
        raise ConfigurationError(
            f"{option} does not go with batch=True: the messages of a batch have different keys; write the handler for "
            f"one message, f(msg[, out], state)"
        )
    if state_type is None and keys.field == STATE_COLUMN:
        raise ConfigurationError(
            f"{option}, but that is what read_state() calls the states of the keys, which are arrays; give the field "
            f"another name, or the state fields"
        )


def check_key_fields(keys: Keys | None, kernel_id: str, inputs: dict[str, MessageType], state: Any) -> None:
    """Refuse inputs that lack the field, or have it in a type that is no key's; and a state with another field of that
    name. Raises `MessageTypeError`."""
    if keys is None:
        return
    option = f"kernel {kernel_id!r}: key={keys.field!r}"
    kinds = "a key is an integer, or bytes of a fixed size such as 'S8'"
    first = field_in_all(option, keys.field, inputs, _is_key, kinds, "of one type in all of them")
    own = state.dtype[keys.field] if keys.field in (state.dtype.names or ()) else first
    if own != first:
        raise MessageTypeError(
            f"{option} is {first}, and its state has a field of that name, which is {own}; make it {first}, and it "
            f"holds the key, or call it otherwise"
        )


def _is_key(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iuS"
