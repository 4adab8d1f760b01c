"""A field that all inputs of a kernel have, in one type: with its times, or its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.errors import MessageTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from ringkernel.messages.types import MessageType


def field_in_all(
    option: str,
    field: str,
    inputs: Mapping[str, MessageType],
    fits: Callable[[np.dtype[Any]], bool],
    kinds: str,
    agreeing: str,
) -> np.dtype[Any] | None:
    """The field's type, or None where there are no inputs. `kinds` says what would fit, and `agreeing` how it must be
    the same. Raises `MessageTypeError`, which begins with `option`."""
    first: np.dtype[Any] | None = None
    for name, message_type in inputs.items():
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
