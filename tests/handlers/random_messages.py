"""Random message types, and values for them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
REALS = ("f4", "f8")


@dataclass
class Scope:
    """What an expression may read: text to type, by what it is."""

    numbers: dict[str, str] = field(default_factory=dict)
    arrays: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)

    def of(self, kinds: str) -> list[str]:
        return [text for text, kind in self.numbers.items() if kind[0] in kinds]

    def extended(self, **names: str) -> Scope:
        return Scope({**self.numbers, **names}, self.arrays)


def _plain(draw: Any, kinds: tuple[str, ...]) -> str:
    return str(draw(st.sampled_from(kinds)))


@st.composite
def records(draw: Any, prefix: str) -> np.dtype[Any]:
    """A record type: numbers of any width, packed or padded, perhaps with an array, a record, a time in it."""
    kinds = INTEGERS + REALS * 3 + ("b1", "c8", "c16")
    fields: list[Any] = [(f"{prefix}{i}", _plain(draw, kinds)) for i in range(draw(st.integers(1, 4)))]
    if draw(st.booleans()):
        shape = draw(st.sampled_from([(1,), (3,), (9,), (2, 3)]))
        fields.append((f"{prefix}s", _plain(draw, INTEGERS + REALS), shape))
    if draw(st.integers(0, 3)) == 0:
        fields.append((f"{prefix}r", [("p", _plain(draw, INTEGERS + REALS)), ("q", _plain(draw, kinds))]))
    if draw(st.integers(0, 5)) == 0:
        fields.append((f"{prefix}t", "M8[us]"))
    made: np.dtype[Any] = np.dtype(draw(st.permutations(fields)), align=draw(st.booleans()))
    return made


def readable(name: str, dtype: np.dtype[Any]) -> Scope:
    """The fields of a record of this name."""
    scope = Scope()
    for key in dtype.names or ():
        kind = dtype[key]
        if kind.subdtype is not None:
            scope.arrays[f"{name}.{key}"] = (kind.base.str[1:], kind.shape)
        elif kind.names:
            scope.numbers |= readable(f"{name}.{key}", kind).numbers
        elif kind.kind != "M":
            scope.numbers[f"{name}.{key}"] = kind.str[1:]
    return scope


# --- values -------------------------------------------------------------------------------------------------------

_FLOATS = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -0.5,
    1e-310,
    5e-324,
    1e308,
    -1e308,
    np.inf,
    -np.inf,
    np.nan,
    3.4e38,
    1e-45,
]
_FLOATS += [2.0**53, 2.0**63, -(2.0**63), 1e9, 0.1]
_INTEGERS = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    63,
    64,
    127,
    128,
    -128,
    255,
    2**15,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32,
    2**62,
    2**63 - 1,
]
_INTEGERS += [-(2**63), 2**63, 2**64 - 1]


def fill(array: np.ndarray[Any, Any], random: np.random.Generator) -> None:
    """Random values in every field: half of them small, the others the ends of what there is."""
    if array.dtype.names:
        for name in array.dtype.names:
            fill(array[name], random)
        return
    kind, shape = array.dtype.kind, array.shape
    if kind == "c":
        fill(array.real, random)
        fill(array.imag, random)
    elif kind == "f":
        with np.errstate(all="ignore"):
            ends = random.choice(_FLOATS, shape).astype(array.dtype)
        array[...] = np.where(random.random(shape) < 0.6, random.normal(0, 3, shape), ends)
    elif kind == "M":
        array[...] = random.integers(-(2**40), 2**40, shape).astype("M8[us]")
    else:
        ends = np.array([value % 2**64 for value in _INTEGERS], np.uint64).astype(array.dtype)
        small = random.integers(0, 8, shape) - (0 if kind in "ub" else 4)
        array[...] = np.where(random.random(shape) < 0.6, small.astype(array.dtype), random.choice(ends, shape))
