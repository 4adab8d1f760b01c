"""Kernels with a state for each key: the messages with the same value in one of their fields share one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ringkernel.errors import ConfigurationError

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
