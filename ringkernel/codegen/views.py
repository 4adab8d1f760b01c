"""Parts of an output as typed code names them: a record, its fields, nested arrays, elements of those.

A set of bytes of a record is an int, a bit for each. What is known to be written is `Facts`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numba import types
from numba.np.numpy_support import as_dtype

EVERY = -1
"""The length of an array of outputs: as many as come of a batch."""
_WHOLE = (types.Number, types.Boolean, types.NPDatetime, types.NPTimedelta)
"""Values of which an assignment writes every byte."""


@dataclass(frozen=True)
class Axis:
    """One dimension of an array: how many items, how many bytes apart. Masks are of one output: `EVERY` of them have
    the same, and are 0 apart."""

    length: int
    stride: int


@dataclass(frozen=True)
class Chosen:
    """An index into an axis that is not known: the variable of the loop with this header, or anything (None)."""

    loop: int | None
    axis: Axis


@dataclass(frozen=True)
class View:
    """Where a variable points to: from `offset` on an item of this numba type for each index of the `free` axes."""

    offset: int
    kind: Any
    chosen: frozenset[Chosen] = frozenset()
    free: tuple[Axis, ...] = ()

    def field(self, name: Any) -> View | None:
        """The field of the record, or of every record, that this is; None if there is none."""
        if not isinstance(self.kind, types.Record) or name not in self.kind.fields:
            return None
        field = self.kind.fields[name]
        axes, kind = _axes(field.type)
        return View(self.offset + field.offset, kind, self.chosen, (*self.free, *axes))

    def element(self, indices: tuple[Any, ...]) -> View | None:
        """With indices into its first axes: numbers, slices of all, headers of loops, None for any; None if it has
        fewer axes, or not that many items."""
        if len(indices) > len(self.free):
            return None
        offset, chosen, free = self.offset, set(self.chosen), []
        for index, axis in zip(indices, self.free, strict=False):
            if isinstance(index, slice):
                free.append(axis)
            elif isinstance(index, Loop) or index is None or axis.length == EVERY:
                one = Chosen(index.header if isinstance(index, Loop) else None, axis)
                if one in chosen:  # of two axes alike the same: the diagonal
                    one = Chosen(None, axis)
                chosen.add(one)
            elif -axis.length <= index < axis.length:
                offset += index % axis.length * axis.stride
            else:
                return None
        return View(offset, self.kind, frozenset(chosen), (*free, *self.free[len(indices) :]))

    def mask(self) -> int:
        """Its bytes, where all chosen indices are 0."""
        mask = (1 << size_of(self.kind)) - 1 << self.offset
        for axis in self.free:
            mask = repeated(mask, axis)
        return mask

    def alone(self) -> View:
        """The same part as if it were all there is."""
        return replace(self, offset=0, chosen=frozenset())

    def is_written_by(self, value: Any) -> bool:
        """Whether assigning a value of this numba type writes all of it."""
        value = value.dtype if isinstance(value, types.Array) else value
        if isinstance(self.kind, types.Record):
            return self.kind in (value, getattr(value, "writable", None))
        return isinstance(self.kind, _WHOLE)


@dataclass(frozen=True)
class Loop:
    """A loop over all of 0 to `length` - 1, its blocks by their labels, and where it goes on when it is through."""

    header: int
    blocks: frozenset[int]
    after: int
    length: int


Facts = dict[frozenset[Chosen], int]
"""What is written whatever the indices are (the empty key), and what is where they are those of the loops."""


def root(kind: Any) -> View:
    """An output, or an array of outputs."""
    if isinstance(kind, types.Array):
        return View(0, kind.dtype, free=(Axis(EVERY, 0),))
    return View(0, kind)


def size_of(kind: Any) -> int:
    """Bytes of an item."""
    return int(kind.size if isinstance(kind, types.Record) else as_dtype(kind).itemsize)


def repeated(mask: int, axis: Axis) -> int:
    """The bytes of every item along an axis, from those of the first."""
    if axis.length == EVERY:
        return mask
    result, shift, length, width = 0, 0, axis.length, axis.stride
    while length:  # by doubling: `mask` is of so many items that lie in `width` bytes
        if length & 1:
            result |= mask << shift
            shift += width
        mask |= mask << width
        length, width = length >> 1, 2 * width
    return result


def anywhere(view: View, mask: int) -> int:
    """The bytes of a view, or some of them, wherever its chosen indices are."""
    for one in view.chosen:
        mask = repeated(mask, one.axis)
    return mask


def both(one: Facts | None, other: Facts | None) -> Facts | None:
    """What holds whichever way it came; None stands for a way that has not been seen yet."""
    if one is None or other is None:
        return other if one is None else one
    return {key: met for key in one.keys() & other.keys() if (met := one[key] & other[key])}


def with_written(facts: Facts, key: frozenset[Chosen], mask: int) -> Facts:
    """And these bytes."""
    if any(one.loop is None for one in key) or not mask:
        return facts
    return {**facts, key: facts.get(key, 0) | mask}


def after_all(facts: Facts, loop: Loop) -> Facts:
    """What is written after a loop if this is at the end of each of its iterations."""
    found: Facts = {}
    for key, mask in facts.items():
        own = [one for one in key if one.loop == loop.header]
        if len(own) == 1 and own[0].axis.length == loop.length:
            rest = key - {own[0]}
            found[rest] = found.get(rest, 0) | repeated(mask, own[0].axis)
    return found


def _axes(kind: Any) -> tuple[tuple[Axis, ...], Any]:
    """The axes of a nested array, and its items' type."""
    if not isinstance(kind, types.NestedArray):
        return (), kind
    axes: list[Axis] = []
    stride = size_of(kind.dtype)
    for length in reversed(kind.shape):
        axes.insert(0, Axis(length, stride))
        stride *= length
    return tuple(axes), kind.dtype
