"""Message types: what a slot of a ring holds, and how Python values get in and out.

Three forms are understood: a NumPy structured dtype, a scalar type (the record then has the one field `value`), and
a class under `@message`. Inside, each is an aligned structured dtype.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import struct
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, TypeVar, dataclass_transform

import numpy as np
import numpy.typing as npt

from ringkernel.errors import MessageTypeError

T = TypeVar("T")
Array = npt.NDArray[Any]
Encode = Callable[[int, Any], None]
Decode = Callable[[int], Any]

_SCALARS: dict[type, Any] = {int: np.int64, float: np.float64, bool: np.bool_, complex: np.complex128}
MASKED = "the mask would be lost: use what `.filled(value)` or `.compressed()` makes of it"
_STRUCT_FORMATS = {
    ("b", 1): "?",
    **{("i", 2**i): "bhiq"[i] for i in range(4)},
    **{("u", 2**i): "BHIQ"[i] for i in range(4)},
    **{("f", 2**i): "-efd"[i] for i in range(1, 4)},
}


@dataclass_transform()
def message(cls: type[T]) -> type[T]:
    """Make a class a message type: a dataclass with a `.dtype`.

    Annotations are `int`, `float`, `bool`, `complex`, NumPy scalar types (`np.float32`), or, for a nested array,
    `Annotated[npt.NDArray[np.float32], 4]` (or a tuple for its shape). Raises `MessageTypeError` for anything else.
    """
    decorated = cls if "__dataclass_fields__" in cls.__dict__ else dataclasses.dataclass(cls)
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [(field.name, *_field_format(cls, field.name, hints[field.name])) for field in _fields(decorated)]
    if not fields:
        raise MessageTypeError(
            f"message class {cls.__name__} has no fields; annotate at least one, as in `price: float`"
        )
    decorated.dtype = np.dtype(fields, align=True)  # type: ignore[attr-defined]
    return decorated


def _fields(cls: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(cls)


def _field_format(cls: type, name: str, hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is typing.Annotated:
        base, shape, *_ = typing.get_args(hint)
        arguments = typing.get_args(base)  # ndarray[shape, dtype[scalar]], or NDArray[scalar] as an alias
        if arguments:
            scalar = (typing.get_args(arguments[-1]) or arguments[-1:])[0]
            found = np.dtype(scalar), (shape,) if isinstance(shape, int) else tuple(shape)
            if _is_plain(np.dtype(found)):
                return found
    if isinstance(hint, type) and hint in _SCALARS:
        return (np.dtype(_SCALARS[hint]),)
    is_numpy = isinstance(hint, np.dtype) or (isinstance(hint, type) and issubclass(hint, np.generic))
    if is_numpy and _is_plain(np.dtype(hint)):
        return (np.dtype(hint),)
    raise MessageTypeError(
        f"field {cls.__name__}.{name}: {hint!r} is no message field type; use int, float, bool, a NumPy scalar type, "
        f"or Annotated[npt.NDArray[np.float64], length] for a nested array"
    )


class MessageType:
    """One of the three forms, resolved. `dtype` is the aligned record; `scalar` says that it is a lone `value`."""

    def __init__(self, declared: Any) -> None:
        self.declared = declared
        self.cls: type | None = None
        self.scalar = False
        self.dtype = self._resolve(declared)
        self._format = _struct_format(self.dtype)
        self._record_dtype = np.dtype((np.record, self.dtype))

    def _resolve(self, declared: Any) -> np.dtype[Any]:
        if isinstance(declared, MessageType):
            self.cls, self.scalar = declared.cls, declared.scalar
            return declared.dtype
        dtype = getattr(declared, "dtype", None)
        if isinstance(declared, type) and isinstance(dtype, np.dtype) and _is_plain(dtype):
            self.cls = declared
            return dtype
        try:
            plain = np.dtype(_SCALARS.get(declared, declared) if isinstance(declared, type) else declared)
        except TypeError:
            plain = np.dtype(object)
        if not _is_plain(plain):
            raise MessageTypeError(_no_message_type(declared, plain))
        if plain.fields is None:
            self.scalar = True
            return np.dtype([("value", plain.newbyteorder("="))], align=True)
        return _aligned(plain)

    @property
    def name(self) -> str:
        """How the type is called in errors."""
        if self.cls is not None:
            return self.cls.__name__
        return str(self.dtype["value"]) if self.scalar else f"record({', '.join(self.dtype.names or ())})"

    @property
    def description(self) -> str:
        """The name, with the fields where there are any."""
        return self.name if self.scalar else f"{self.name} ({_describe(self.dtype)})"

    def matches(self, other: MessageType) -> bool:
        """Whether records of the other type can be read as this one."""
        return self.dtype == other.dtype

    # --- one message -----------------------------------------------------------------------------------------

    def codec(self, slots: Array, mask: int) -> tuple[Encode, Decode]:
        """Functions that write a message to, and read one from, the slot of a sequence number."""
        if self._format is None:
            return self._slow_encode(slots, mask), self._slow_decode(slots, mask)
        packer = struct.Struct(self._format)
        buffer: memoryview = slots.view(np.uint8).data
        return self._fast_encode(packer, buffer, mask), self._fast_decode(packer, buffer, slots, mask)

    def _fast_encode(self, packer: struct.Struct, buffer: memoryview, mask: int) -> Any:
        names = {
            "pack": packer.pack_into,
            "buffer": buffer,
            "mask": mask,
            "size": self.dtype.itemsize,
            "cls": self.cls,
            "refuse": self._refuse,
            "as_tuple": self._as_tuple,
            "Refused": (struct.error, TypeError, OverflowError),
            "as_bool": _as_bool,
        }
        if self.scalar:
            values = "as_bool(value)" if self.dtype["value"].kind == "b" else "value"
            return _generate(_ENCODE.format(check="pass", values=values), "encode", names)
        if self.cls is not None:
            values = ", ".join(
                f"as_bool(value.{name})" if self.dtype[name].kind == "b" else f"value.{name}"
                for name in self.dtype.names or ()
            )
            check = "if value.__class__ is not cls and not isinstance(value, cls): refuse(value)"
            return _generate(_ENCODE.format(check=check, values=values), "encode", names)
        return _generate(_ENCODE.format(check="pass", values="*as_tuple(value)"), "encode", names)

    def _fast_decode(self, packer: struct.Struct, buffer: memoryview, slots: Array, mask: int) -> Any:
        if not self.scalar and self.cls is None:
            return self._slow_decode(slots, mask)
        fields = ", ".join(f"v{i}" for i in range(len(self.dtype.names or ())))
        if self.scalar:
            answer = "return v0"
        elif _is_filled_by_assignment(self.cls):  # what its `__init__` does, without the call: 205 instead of 260 ns
            filling = "; ".join(f"made.{name} = v{i}" for i, name in enumerate(self.dtype.names or ()))
            answer = f"made = new(cls); {filling}; return made"
        else:
            answer = f"return cls({fields})"
        names = {
            "new": object.__new__,
            "unpack": packer.unpack_from,
            "buffer": buffer,
            "mask": mask,
            "size": self.dtype.itemsize,
            "cls": self.cls,
        }
        return _generate(_DECODE.format(fields=fields, answer=answer), "decode", names)

    def _slow_encode(self, slots: Array, mask: int) -> Encode:
        def encode(sequence: int, value: Any) -> None:
            index = sequence & mask
            try:
                slots[index : index + 1] = self.as_array([value])
            except (TypeError, ValueError, OverflowError) as error:
                self._refuse(value, error)

        return encode

    def _slow_decode(self, slots: Array, mask: int) -> Decode:
        def decode(sequence: int) -> Any:
            index = sequence & mask
            return self.from_record(slots[index : index + 1].copy())

        return decode

    def from_record(self, one: Array) -> Any:
        """The message in an array of one record, which the message may keep."""
        if self.scalar:
            return one["value"][0].item()
        if self.cls is not None:
            record = one[0]
            return self.cls(*(_python(record[name]) for name in self.dtype.names or ()))
        return one.view(self._record_dtype)[0]

    def _as_tuple(self, value: Any) -> tuple[Any, ...]:
        values = self._values(value)
        return tuple(
            _as_bool(v) if self.dtype[n].kind == "b" else v for n, v in zip(self.dtype.names or (), values, strict=True)
        )

    def _refuse(self, value: Any, error: BaseException | None = None) -> None:
        if isinstance(error, MessageTypeError):
            raise error from None  # it says all of what follows
        want = {True: "a number", False: f"a {self.name}" if self.cls else "a record or tuple"}[self.scalar]
        reason = f": {error}" if error is not None else ""
        raise MessageTypeError(
            f"expected {want} for message type {self.name} ({_describe(self.dtype)}), got {value!r:.200}{reason}"
        ) from None

    # --- many messages ---------------------------------------------------------------------------------------

    def as_array(self, values: Any) -> Array:
        """The messages as a 1-D array of `dtype`; without a copy when they are one already."""
        remedy = _no_batch(values)
        if remedy is not None:
            raise MessageTypeError(
                f"expected an array or a sequence of {self.name}, got {_article(type(values).__name__)}; {remedy}"
            )
        if isinstance(values, np.ndarray):
            return self._array_as_array(values)
        if not isinstance(values, Iterable):
            raise MessageTypeError(f"expected an array or a sequence of {self.name}, got {values!r:.200}")
        rows = list(values)
        result = np.zeros(len(rows), self.dtype)
        if self._format is not None:
            encode, _ = self.codec(result, -1)
            for i, row in enumerate(rows):
                encode(i, row)
            return result
        for i, row in enumerate(rows):
            for name, value in zip(self.dtype.names or (), self._values(row), strict=True):
                try:
                    result[name][i] = _fitting(self.dtype[name], value)
                except (struct.error, TypeError, ValueError, OverflowError) as error:
                    self._refuse(row, error)
        return result

    def _values(self, row: Any) -> tuple[Any, ...]:
        """The field values of one message, of whatever form. Raises `MessageTypeError`."""
        names = self.dtype.names or ()
        if self.scalar:
            return (row,)
        if self.cls is not None:
            if not isinstance(row, self.cls):
                self._refuse(row)
            return tuple(getattr(row, name) for name in names)
        if isinstance(row, np.ndarray) and row.shape == ():
            row = row[()]
        if isinstance(row, np.void) and row.dtype.names == names:
            return tuple(row[name] for name in names)
        if not isinstance(row, tuple) or len(row) != len(names):
            self._refuse(row)
        return typing.cast("tuple[Any, ...]", row)

    def _array_as_array(self, values: Array) -> Array:
        if values.ndim != 1:
            raise MessageTypeError(f"expected a 1-D array of {self.name}, got shape {values.shape}")
        if values.dtype == self.dtype:
            return np.ascontiguousarray(values).view(self.dtype)
        if self.scalar and values.dtype.fields is None and np.can_cast(values.dtype, self.dtype["value"]):
            plain = np.ascontiguousarray(values, dtype=self.dtype["value"])
            return plain.view(self.dtype)
        if values.dtype.fields is not None and _aligned(values.dtype) == self.dtype:
            return values.astype(self.dtype)
        raise MessageTypeError(
            f"expected an array of {self.name} ({_describe(self.dtype)}), got one of dtype {values.dtype}"
            f"{self._remedy(values.dtype)}"
        )

    def _remedy(self, given: np.dtype[Any]) -> str:
        """How an array of another dtype may be made to fit, as the end of an error, or nothing."""
        names, have = self.dtype.names or (), given.names
        if have is None:
            wanted = f"np.{self.dtype['value']}" if self.scalar and _is_plain(given) else None
        elif have == names:
            wanted = f"{self.cls.__name__}.dtype" if self.cls is not None else "dtype"
        else:
            same = set(names) <= set(have)
            return f"; its fields in order are `array[{list(names)}]`" if same else ""
        return "" if wanted is None else f"; convert it, as in `array.astype({wanted})`"

    def as_messages(self, records: Array) -> list[Any]:
        """The messages in an array of records, one by one."""
        return [self.from_record(records[i : i + 1].copy()) for i in range(len(records))]

    def from_array(self, records: Array) -> Array:
        """What a user gets for an array of records: a plain array for a scalar type, the records otherwise."""
        return records["value"] if self.scalar else records


# Generated, as dataclasses and named tuples are: reading the fields by name here is twice as fast as by a getter.
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


def _as_bool(value: Any) -> bool:
    """`struct` takes anything for a bool."""
    if value.__class__ is bool or isinstance(value, np.bool_) or (isinstance(value, int) and value in (0, 1)):
        return bool(value)
    raise TypeError(f"{value!r} is no bool")


def _fitting(dtype: np.dtype[Any], value: Any) -> Array:
    """A field's value as an array of its shape. Raises `TypeError`, `ValueError` or `OverflowError` for what does
    not fit: NumPy itself would parse text, broadcast, and wrap around."""
    format_ = _STRUCT_FORMATS.get((dtype.kind, dtype.itemsize)) if dtype.subdtype is None else None
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


def converted(given: Array, dtype: np.dtype[Any]) -> Array:
    """The array as one of `dtype`, every value of it: NumPy's own conversions wrap around, and cut off.

    Raises `TypeError` for a kind of values that is not, by NumPy's rule "same_kind", one of `dtype` (an integer is one
    of any integer type that it fits into), and `OverflowError` for the first value that does not fit.
    """
    if dtype.fields is not None:
        if given.dtype.names != dtype.names:
            raise TypeError(f"{given.dtype} has other fields than {dtype}")
        result = np.zeros(given.shape, dtype)
        for name in dtype.names or ():
            field = dtype[name]
            if given.dtype[name].shape != field.shape:
                raise ValueError(f"field {name!r} has shape {given.dtype[name].shape} instead of {field.shape}")
            result[name] = converted(given[name], field.base)
        return result
    is_integer = given.dtype.kind in "iu" and dtype.kind in "iu"
    if not is_integer and not np.can_cast(given.dtype, dtype, "same_kind"):
        raise TypeError(f"{given.dtype} is no {dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        result = given.astype(dtype)
    bad = _misfits(given, result)
    if bad is not None and bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f" at index {index if len(index) > 1 else index[0]}" if index else ""
        raise OverflowError(f"{given[index].item()!r}{where} does not fit into {dtype}")
    return result


def _misfits(given: Array, result: Array) -> Any:
    """Which values a conversion has changed beyond rounding; None for kinds where none can be."""
    kind = result.dtype.kind
    if kind in "iu" and given.dtype.kind in "iu":
        return (result.astype(given.dtype) != given) | ((result < 0) != (given < 0))
    if kind in "fc" and given.dtype.kind in "iufc":
        return np.isfinite(given) & ~np.isfinite(result)
    if kind in "mM" and given.dtype.kind == kind:
        return (result.astype(given.dtype) != given) & ~np.isnat(given)
    return None


_NO_BATCHES: dict[Any, str] = {
    np.ma.MaskedArray: MASKED,
    bytes | bytearray | memoryview: "`np.frombuffer(data, dtype)` makes an array of it",
    str: "text is no sequence of messages",
    Mapping: "its keys are no messages: send an array, or a list of its values",
    AbstractSet: "it has no order: send `sorted(values)`, or a list",
}


def _no_batch(values: Any) -> str | None:
    """What to do with something that is no batch, though NumPy or `iter` would make one of it; None for all others."""
    for kinds, remedy in _NO_BATCHES.items():
        if isinstance(values, kinds):
            return remedy
    if hasattr(values, "columns") and hasattr(values, "to_records"):  # iterating it gives the columns' names
        return "its records are `.to_records(index=False)`, a column is `[name].to_numpy()`"
    return None


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _python(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) and value.dtype.fields is None else value


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether values of this dtype have a fixed size and no pointers in them."""
    if dtype.subdtype is not None:
        return dtype.itemsize > 0 and _is_plain(dtype.base)
    if dtype.fields is None:
        return dtype.kind in "biufcmM" and dtype.itemsize > 0
    return bool(dtype.names) and all(_is_plain(dtype[name]) for name in dtype.names or ())


def _no_message_type(declared: Any, dtype: np.dtype[Any]) -> str:
    """Why a type cannot be that of messages."""
    empty = empty_part(dtype)
    if empty is not None:
        return f"{declared!r} is no message type: {empty}"
    bad = next((name for name in dtype.names or () if not _is_plain(dtype[name])), None)
    if bad is not None:
        return (
            f"{declared!r} is no message type: its field {bad!r} is of {dtype[bad]}; fields are numbers, "
            f"booleans, times, and arrays and records of these"
        )
    return (
        f"{declared!r} is no message type; use a NumPy structured dtype, a scalar type such as np.float64, or a class "
        f"under @ringkernel.message"
    )


def empty_part(dtype: np.dtype[Any], path: str = "") -> str | None:
    """Which part of a record, or all of it, has no size, as words for an error; None if there is none."""
    for name in dtype.base.names or ():
        found = empty_part(dtype.base[name], f"{path}.{name}".lstrip("."))
        if found is not None:
            return found
    if dtype.itemsize == 0:
        return f"{f'field {path!r}' if path else str(dtype)} holds nothing, so it has no size"
    return None


def _aligned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same fields with natural alignment, nested records included."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return np.dtype((_aligned(base), shape))
    if dtype.fields is None:
        return dtype.newbyteorder("=")
    return np.dtype([(name, _aligned(dtype.fields[name][0])) for name in dtype.names or ()], align=True)


def misaligned_field(dtype: np.dtype[Any]) -> str | None:
    """Which field of an array of records does not lie where its size wants it, as words for an error, or None."""
    leaves = list(_leaves(dtype, "", 0))
    for name, offset, size in leaves:
        if offset % size:
            return f"field {name!r} lies at byte {offset} of a record, which is no multiple of {size}"
    for name, offset, size in leaves:
        if dtype.itemsize % size:
            return (
                f"field {name!r} lies at byte {offset} of a record of {dtype.itemsize} bytes, so in the next record it "
                f"lies at byte {offset + dtype.itemsize}, which is no multiple of {size}"
            )
    return None


def _leaves(dtype: np.dtype[Any], path: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Name, offset and alignment of everything that a handler may load at once."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        for i in range(min(2, math.prod(shape))):  # the second shows whether all that follow are aligned, too
            yield from _leaves(base, path, start + i * base.itemsize)
    elif dtype.fields is None:
        yield path, start, dtype.alignment
    else:
        for name in dtype.names or ():
            field, offset = dtype.fields[name][:2]
            yield from _leaves(field, f"{path}.{name}".lstrip("."), start + offset)


def _describe(dtype: np.dtype[Any]) -> str:
    return ", ".join(f"{name}: {dtype[name]}" for name in dtype.names or ())


def _struct_format(dtype: np.dtype[Any]) -> str | None:
    """The `struct` format of a flat record, or None if it has nested arrays or exotic fields."""
    text, position = "=", 0
    for name in dtype.names or ():
        assert dtype.fields is not None
        field, offset = dtype.fields[name][:2]
        character = _STRUCT_FORMATS.get((field.kind, field.itemsize))
        if character is None or field.subdtype is not None:
            return None
        text += "x" * (offset - position) + character
        position = offset + field.itemsize
    return text + "x" * (dtype.itemsize - position)
