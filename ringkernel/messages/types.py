"""Message types: what a slot of a ring holds.

Three forms are understood: a NumPy structured dtype, a scalar type (the record then has the one field `value`), and
a class under `@message`. Inside, each is an aligned structured dtype. How values get in and out of such records is in
`codecs.py`, one at a time, and in `arrays.py`, in batches.
"""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, TypeVar, dataclass_transform

import numpy as np

from ringkernel.errors import MessageTypeError

from .records import aligned, empty_part, fields_of, is_plain, said

T = TypeVar("T")

_SCALARS: dict[type, Any] = {int: np.int64, float: np.float64, bool: np.bool_, complex: np.complex128}


@dataclass_transform()
def message(cls: type[T]) -> type[T]:
    """Make a class a message type: a dataclass with a `.dtype`.

    Annotations are `int`, `float`, `bool`, `complex`, NumPy scalar types (`np.float32`), `Annotated[bytes, 8]` for up
    to so many bytes, or, for a nested array, `Annotated[npt.NDArray[np.float32], 4]` (or a tuple for its shape). Raises
    `MessageTypeError` for anything else.

    Example:
        >>> @rk.message
        ... class Tick:
        ...     price: float
        ...     volume: float
        >>> def turnover(msg: Tick, out: float):
        ...     out.value = msg.price * msg.volume
        >>> rk.map(turnover, [Tick(10, 2), Tick(3, 4)])
        array([20., 12.])
    """
    decorated = cls if "__dataclass_fields__" in cls.__dict__ else dataclasses.dataclass(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    names = [field.name for field in dataclasses.fields(decorated)]  # type: ignore[arg-type]
    fields = [(name, *_field_format(cls, name, hints[name])) for name in names]
    if not fields:
        raise MessageTypeError(
            f"message class {cls.__name__} has no fields; annotate at least one, as in `price: float`"
        )
    decorated.dtype = np.dtype(fields, align=True)  # type: ignore[attr-defined]
    return decorated


def _field_format(cls: type, name: str, hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        base, shape, *_ = typing.get_args(hint)
        if base is bytes and isinstance(shape, int) and shape > 0:
            return (np.dtype(f"S{shape}"),)
        arguments = typing.get_args(base)  # ndarray[shape, dtype[scalar]], or NDArray[scalar] as an alias
        if arguments:
            scalar = (typing.get_args(arguments[-1]) or arguments[-1:])[0]
            found = np.dtype(scalar).newbyteorder("="), (shape,) if isinstance(shape, int) else tuple(shape)
            if is_plain(np.dtype(found)):
                return found
    if isinstance(hint, type) and hint in _SCALARS:
        return (np.dtype(_SCALARS[hint]),)
    is_numpy = isinstance(hint, np.dtype) or (isinstance(hint, type) and issubclass(hint, np.generic))
    if is_numpy and is_plain(np.dtype(hint)):
        return (np.dtype(hint).newbyteorder("="),)
    raise MessageTypeError(
        f"field {cls.__name__}.{name}: {hint!r} is no message field type; use int, float, bool, a NumPy scalar type, "
        f"Annotated[bytes, length], or Annotated[npt.NDArray[np.float64], length] for a nested array"
    )


class MessageType:
    """A message type of any of the three forms. `dtype` is the aligned record; `is_scalar` marks a lone field `value`.

    `array_dtype` is that of arrays of messages in a user's hands.
    """

    def __init__(self, declared: Any) -> None:
        self.cls: type | None = None
        self.is_scalar = False
        self.dtype = self._resolve(declared)
        self.array_dtype = self.dtype["value"] if self.is_scalar else self.dtype

    def _resolve(self, declared: Any) -> np.dtype[Any]:
        if isinstance(declared, MessageType):
            self.cls, self.is_scalar = declared.cls, declared.is_scalar
            return declared.dtype
        dtype = getattr(declared, "dtype", None)
        if isinstance(declared, type) and isinstance(dtype, np.dtype) and is_plain(dtype):
            self.cls = declared
            return dtype
        try:
            plain = np.dtype(_SCALARS.get(declared, declared) if isinstance(declared, type) else declared)
        except TypeError:
            plain = np.dtype(object)
        if not is_plain(plain):
            raise MessageTypeError(_no_message_type(declared, plain))
        if plain.fields is None:
            self.is_scalar = True
            return np.dtype([("value", plain.newbyteorder("="))], align=True)
        return aligned(plain)

    @property
    def name(self) -> str:
        """The name of the type in errors."""
        if self.cls is not None:
            return self.cls.__name__
        return said(self.dtype["value"]) if self.is_scalar else f"record({', '.join(self.dtype.names or ())})"

    @property
    def description(self) -> str:
        """The name, with the fields where there are any."""
        return self.name if self.is_scalar else f"{self.name} ({fields_of(self.dtype)})"

    def field(self, name: str) -> tuple[np.dtype[Any], int]:
        """Return the type of a field, and where in a record it is, in bytes."""
        fields = self.dtype.fields
        assert fields is not None
        return fields[name][:2]

    def is_batch(self, values: Any) -> bool:
        """Return whether this is an array of messages that can be copied as it is. Called once per batch."""
        return (
            type(values) is np.ndarray
            and values.dtype == self.array_dtype
            and values.ndim == 1
            and values.flags.c_contiguous
        )

    def matches(self, other: MessageType) -> bool:
        """Return whether records of the other type can be read as this one."""
        return self.dtype == other.dtype


def _no_message_type(declared: Any, dtype: np.dtype[Any]) -> str:
    """Return why a type cannot be that of messages."""
    empty = empty_part(dtype)
    if empty is not None:
        return f"{declared!r} is no message type: {empty}"
    bad = next((name for name in dtype.names or () if not is_plain(dtype[name])), None)
    if bad is not None:
        return (
            f"{declared!r} is no message type: its field {bad!r} is of {dtype[bad]}; fields are numbers, "
            f"booleans, times, bytes of a fixed size such as 'S8', records of these, and arrays of all but bytes"
        )
    return (
        f"{declared!r} is no message type; use a NumPy structured dtype, a scalar type such as np.float64, or a class "
        f"under @ringkernel.message"
    )
