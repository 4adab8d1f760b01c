"""Values that code reads, added to a hash by what is in them: numbers, texts, tuples, arrays, dtypes, enums."""

from __future__ import annotations

import enum
import struct
from typing import Any

import numpy as np

from .hashing import Fingerprint, Kind, UnkeyableError, exactly

MAX_ARRAY_BYTES = 1_000_000
"""numba embeds the address of a larger array, and such code stays in its process anyway."""


def _text(into: Fingerprint, value: str) -> None:
    into.put("str", repr(value))
    into.texts.add(value)


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
    """Add the bytes of an array or a record, without those between the fields, which may be anything."""
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


VALUES: tuple[Kind, ...] = (
    (exactly(type(None), bool, int, bytes, type(Ellipsis)), lambda into, one: into.put(type(one).__name__, repr(one))),
    (exactly(str), _text),
    (exactly(float), lambda into, one: into.put("float", struct.pack("<d", one))),
    (exactly(complex), lambda into, one: into.put("complex", struct.pack("<dd", one.real, one.imag))),
    (exactly(tuple), lambda into, one: into.add_all("tuple", one)),
    (exactly(frozenset), _frozenset),
    (exactly(slice), lambda into, one: into.add_all("slice", (one.start, one.stop, one.step))),
    (exactly(np.ndarray), _array),
    (
        lambda one: type(one) is np.ufunc and getattr(np, one.__name__, None) is one,
        lambda into, one: into.put("ufunc", one.__name__),
    ),
    (lambda one: isinstance(one, np.dtype), _dtype),
    (lambda one: isinstance(one, np.generic), _scalar),
    (lambda one: isinstance(one, enum.Enum), _member),
    (lambda one: isinstance(one, enum.EnumMeta), _enum),
    (lambda one: isinstance(one, tuple) and hasattr(type(one), "_fields"), _named_tuple),
)
