"""Values that code reads, added to a hash by what is in them: numbers, texts, tuples, arrays, dtypes, enums."""

from __future__ import annotations

import enum
import struct
from typing import Any

import numpy as np

from .hashing import Fingerprint, Kind, UnkeyableError, exactly

MAX_ARRAY_BYTES = 1_000_000
"""numba embeds the address of a larger array, and such code stays in its process anyway."""


def _plain(into: Fingerprint, value: Any) -> None:
    into.put(type(value).__name__, repr(value))


def _text(into: Fingerprint, value: str) -> None:
    into.put("str", repr(value))
    into.texts.add(value)


def _float(into: Fingerprint, value: float) -> None:
    into.put("float", struct.pack("<d", value))


def _complex(into: Fingerprint, value: complex) -> None:
    into.put("complex", struct.pack("<dd", value.real, value.imag))


def _tuple(into: Fingerprint, value: Any) -> None:
    into.add_all("tuple", value)


def _slice(into: Fingerprint, value: slice) -> None:
    into.add_all("slice", (value.start, value.stop, value.step))


def _named_tuple(into: Fingerprint, value: Any) -> None:
    into.put("namedtuple", f"{type(value).__module__} {type(value).__qualname__} {value._fields}")
    into.add_all("fields", tuple(value))


def _frozenset(into: Fingerprint, value: frozenset[Any]) -> None:
    members = sorted(into.of_its_own(member) for member in value)
    into.put("frozenset", " ".join(members))


def _dtype(into: Fingerprint, value: np.dtype[Any]) -> None:
    if value.hasobject:
        raise UnkeyableError(f"{value} holds Python objects")
    kind = f"{value.str} {value.itemsize} {value.alignment} {value.isalignedstruct} {value.type.__name__}"
    into.put("dtype", kind)
    if value.subdtype is not None:
        into.add_all("subarray", value.subdtype)
    if value.fields is not None:
        into.put("fields", str(len(value.fields)))
        for name, field in value.fields.items():
            into.put("field", f"{name!r} {field[1]}")
            into.add(field[0])


def _scalar(into: Fingerprint, value: np.generic) -> None:
    into.add(value.dtype)
    _content(into, "scalar", value)


def _array(into: Fingerprint, value: np.ndarray[Any, Any]) -> None:
    if value.nbytes > MAX_ARRAY_BYTES:
        raise UnkeyableError(f"an array of {value.nbytes} bytes is read where it is, not copied into the code")
    into.add(value.dtype)
    flags = value.flags
    layout = (flags.c_contiguous, flags.f_contiguous, flags.aligned, flags.writeable)
    into.put("array", f"{value.shape} {value.strides} {layout}")
    _content(into, "content", value)


def _content(into: Fingerprint, tag: str, value: Any) -> None:
    """The bytes of an array or a record, without those between the fields, which may be anything."""
    if value.dtype.names is None:
        into.put(tag, value.tobytes())
    else:
        for name in value.dtype.names:
            _content(into, tag, value[name])


def _enum(into: Fingerprint, value: Any) -> None:
    if into.is_new(value):
        bases = [base.__qualname__ for base in value.__mro__]
        into.put("enum", f"{value.__module__} {bases}")
        for name, member in value.__members__.items():
            into.put("member", name)
            into.add(member.value)


def _member(into: Fingerprint, value: enum.Enum) -> None:
    into.add(type(value))
    into.add(value.value)


def _ufunc(into: Fingerprint, value: np.ufunc) -> None:
    into.put("ufunc", value.__name__)


def _is_numpy_ufunc(value: Any) -> bool:
    return type(value) is np.ufunc and getattr(np, value.__name__, None) is value


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


VALUES: tuple[Kind, ...] = (
    (exactly(type(None), bool, int, bytes, type(Ellipsis)), _plain),
    (exactly(str), _text),
    (exactly(float), _float),
    (exactly(complex), _complex),
    (exactly(tuple), _tuple),
    (exactly(frozenset), _frozenset),
    (exactly(slice), _slice),
    (exactly(np.ndarray), _array),
    (_is_numpy_ufunc, _ufunc),
    (lambda value: isinstance(value, np.dtype), _dtype),
    (lambda value: isinstance(value, np.generic), _scalar),
    (lambda value: isinstance(value, enum.Enum), _member),
    (lambda value: isinstance(value, enum.EnumMeta), _enum),
    (_is_named_tuple, _named_tuple),
)
