"""One message at a time in and out of the slots of a ring.

A flat record is packed and unpacked by `struct`, in functions that are generated for its fields, as dataclasses and
named tuples are: reading the fields by name there is twice as fast as by a getter. Any other record is written and read
by NumPy, field by field.
"""

from __future__ import annotations

import dataclasses
import functools
import struct
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkernel.errors import MessageTypeError

from .conversion import converted
from .records import STRUCT_FORMATS, fields_of

if TYPE_CHECKING:
    from .types import MessageType

Array = npt.NDArray[Any]
Encode = Callable[[int, Any], None]
Decode = Callable[[int], Any]

_ENCODE = """
def encode(sequence, value):
    {check}
    try:
        pack(buffer, (sequence & mask) * size, {values})
    except Refused as error:
        refuse(value, error)
"""
_DECODE = """
def decode(sequence):
    {fields}, = unpack(buffer, (sequence & mask) * size)
    {answer}
"""


def codec(message_type: MessageType, slots: Array, mask: int) -> tuple[Encode, Decode]:
    """Functions that write a message to, and read one from, the slot of a sequence number."""
    if message_type.struct_format is None:
        return slow_encode(message_type, slots, mask), slow_decode(message_type, slots, mask)
    packer = struct.Struct(message_type.struct_format)
    buffer: memoryview = slots.view(np.uint8).data
    encode = _fast_encode(message_type, packer, buffer, mask)
    if not message_type.is_scalar and message_type.cls is None:
        return encode, slow_decode(message_type, slots, mask)
    return encode, _fast_decode(message_type, packer, buffer, mask)


# --- flat records ----------------------------------------------------------------------------------------------------


def _fast_encode(message_type: MessageType, packer: struct.Struct, buffer: memoryview, mask: int) -> Any:
    dtype, cls = message_type.dtype, message_type.cls
    names = {
        "pack": packer.pack_into,
        "buffer": buffer,
        "mask": mask,
        "size": dtype.itemsize,
        "cls": cls,
        "refuse": functools.partial(refuse, message_type),
        "as_tuple": functools.partial(_as_tuple, message_type),
        "Refused": (struct.error, TypeError, OverflowError),
        "as_bool": _as_bool,
    }
    check = "pass"
    if message_type.is_scalar:
        values = "as_bool(value)" if dtype["value"].kind == "b" else "value"
    elif cls is None:
        values = "*as_tuple(value)"
    else:
        check = "if value.__class__ is not cls and not isinstance(value, cls): refuse(value)"
        fields = [(f"value.{name}", dtype[name].kind) for name in dtype.names or ()]
        values = ", ".join(f"as_bool({field})" if kind == "b" else field for field, kind in fields)
    return _generate(_ENCODE.format(check=check, values=values), "encode", names)


def _fast_decode(message_type: MessageType, packer: struct.Struct, buffer: memoryview, mask: int) -> Any:
    dtype, cls = message_type.dtype, message_type.cls
    fields = ", ".join(f"v{i}" for i in range(len(dtype.names or ())))
    if message_type.is_scalar:
        answer = "return v0"
    elif _is_filled_by_assignment(cls):  # what its `__init__` does, without the call: 205 instead of 260 ns
        filling = "; ".join(f"made.{name} = v{i}" for i, name in enumerate(dtype.names or ()))
        answer = f"made = new(cls); {filling}; return made"
    else:
        answer = f"return cls({fields})"
    names = {
        "new": object.__new__,
        "unpack": packer.unpack_from,
        "buffer": buffer,
        "mask": mask,
        "size": dtype.itemsize,
        "cls": cls,
    }
    return _generate(_DECODE.format(fields=fields, answer=answer), "decode", names)


def _is_filled_by_assignment(cls: Any) -> bool:
    """Whether assigning the fields of a new instance is all that making one does."""
    parameters = getattr(cls, "__dataclass_params__", None)
    return (
        parameters is not None
        and "__dataclass_fields__" in cls.__dict__  # its own `__init__`, not one that it inherits
        and parameters.init
        and not hasattr(cls, "__post_init__")
        and cls.__new__ is object.__new__
        and cls.__setattr__ is object.__setattr__
        and type(cls).__call__ is type.__call__
        and all(field.init for field in dataclasses.fields(cls))
    )


def _generate(source: str, name: str, names: dict[str, Any]) -> Any:
    """The function of this source, over the given names as locals of a closure."""
    return _maker(source, name, tuple(names))(**names)


@functools.cache
def _maker(source: str, name: str, names: tuple[str, ...]) -> Any:
    body = "".join(f"    {line}\n" for line in source.splitlines())
    scope: dict[str, Any] = {}
    exec(f"def make({', '.join(names)}):\n{body}    return {name}\n", scope)  # noqa: S102 (fixed templates over field names)
    return scope["make"]


def _as_tuple(message_type: MessageType, value: Any) -> tuple[Any, ...]:
    dtype, values = message_type.dtype, _field_values(message_type, value)
    return tuple(_as_bool(v) if dtype[n].kind == "b" else v for n, v in zip(dtype.names or (), values, strict=True))


# --- any record ------------------------------------------------------------------------------------------------------


def slow_encode(message_type: MessageType, slots: Array, mask: int) -> Encode:
    """Write a message, of whatever fields, to the slot of a sequence number."""

    def encode(sequence: int, value: Any) -> None:
        index = sequence & mask
        record = np.zeros(1, message_type.dtype)
        write_record(message_type, record, 0, value)
        slots[index : index + 1] = record

    return encode


def slow_decode(message_type: MessageType, slots: Array, mask: int) -> Decode:
    """Read a message, of whatever fields, from the slot of a sequence number."""

    def decode(sequence: int) -> Any:
        index = sequence & mask
        return from_record(message_type, slots[index : index + 1].copy())

    return decode


def from_record(message_type: MessageType, one: Array) -> Any:
    """The message in an array of one record, which the message may keep."""
    if message_type.is_scalar:
        return one["value"][0].item()
    if message_type.cls is not None:
        record = one[0]
        return message_type.cls(*(_python(record[name]) for name in message_type.dtype.names or ()))
    return one.view(message_type.record_dtype)[0]


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) and value.dtype.fields is None else value


def write_record(message_type: MessageType, records: Array, index: int, value: Any) -> None:
    """Write a message into an array of records. Raises `MessageTypeError`."""
    dtype = message_type.dtype
    for name, field in zip(dtype.names or (), _field_values(message_type, value), strict=True):
        try:
            records[name][index] = _fitting(dtype[name], field)
        except (struct.error, TypeError, ValueError, OverflowError) as error:
            refuse(message_type, value, error)


def _field_values(message_type: MessageType, row: Any) -> tuple[Any, ...]:
    """The field values of one message, of whatever form. Raises `MessageTypeError`."""
    names = message_type.dtype.names or ()
    if message_type.is_scalar:
        return (row,)
    if message_type.cls is not None:
        if not isinstance(row, message_type.cls):
            refuse(message_type, row)
        return tuple(getattr(row, name) for name in names)
    if isinstance(row, np.ndarray) and row.shape == ():
        row = row[()]
    if isinstance(row, np.void) and row.dtype.names == names:
        return tuple(row[name] for name in names)
    if not isinstance(row, tuple) or len(row) != len(names):
        refuse(message_type, row)
    return typing.cast("tuple[Any, ...]", row)


def _fitting(dtype: np.dtype[Any], value: Any) -> Array:
    """A field's value as an array of its shape. Raises `TypeError`, `ValueError` or `OverflowError` for what does
    not fit: NumPy itself would parse text, broadcast, and wrap around."""
    format_ = STRUCT_FORMATS.get((dtype.kind, dtype.itemsize)) if dtype.subdtype is None else None
    if format_ is not None:  # the same rules as for a record that `struct` packs whole
        plain = _as_bool(value) if format_ == "?" else value
        return np.frombuffer(struct.pack("=" + format_, plain), dtype).reshape(())
    given = np.asarray(value)
    if given.shape != dtype.shape:
        raise ValueError(f"shape {given.shape} instead of {dtype.shape}")
    base = dtype.base
    if base.kind == "b" and given.dtype.kind != "b":
        return np.asarray([_as_bool(v) for v in given.ravel().tolist()]).reshape(given.shape)
    return converted(given, base)


def _as_bool(value: Any) -> bool:
    """`struct` takes anything for a bool."""
    if value.__class__ is bool or isinstance(value, np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{value!r} is no bool")


def refuse(message_type: MessageType, value: Any, error: BaseException | None = None) -> None:
    """Raise `MessageTypeError` for a value that is no message of this type."""
    if isinstance(error, MessageTypeError):
        raise error from None  # it says all of what follows
    record = f"a {message_type.name}" if message_type.cls is not None else "a record or tuple"
    wanted = "a number" if message_type.is_scalar else record
    reason = f": {error}" if error is not None else ""
    raise MessageTypeError(
        f"expected {wanted} for message type {message_type.name} ({fields_of(message_type.dtype)}), "
        f"got {value!r:.200}{reason}"
    ) from None
