"""Move NumPy's records into slots as bytes: records with the same fields at other offsets need no conversion."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np


class Repacking(NamedTuple):
    """`unpack` makes pieces of bytes of a record, and `pack(buffer, offset, *pieces)` puts them into place."""

    unpack: Callable[[Any], tuple[bytes, ...]]
    pack: Callable[..., None]


def repacking(given: np.dtype[Any], dtype: np.dtype[Any]) -> Repacking | None:
    """Return how to move records of one dtype to the places of another; None if more differs than the places of
    fields."""
    sources, targets = list(_leaves(given)), list(_leaves(dtype))
    if [leaf[:2] for leaf in sources] != [leaf[:2] for leaf in targets]:
        return None
    runs: list[list[int]] = []  # source, target, size
    for (_, part, source), (_, _, target) in zip(sources, targets, strict=True):
        if runs and source - runs[-1][0] == target - runs[-1][1] >= runs[-1][2]:
            runs[-1][2] = source - runs[-1][0] + part.itemsize
        else:
            runs.append([source, target, part.itemsize])
    unpacks = _format([(source, size) for source, _, size in runs], given.itemsize)
    packs = _format([(target, size) for _, target, size in runs], dtype.itemsize)
    return (
        None
        if unpacks is None or packs is None
        else Repacking(struct.Struct(unpacks).unpack, struct.Struct(packs).pack_into)
    )


def _leaves(
    dtype: np.dtype[Any], path: tuple[str, ...] = (), start: int = 0
) -> Iterator[tuple[Any, np.dtype[Any], int]]:
    """Path, dtype and offset of every field that is no record itself."""
    for name in dtype.names or ():
        assert dtype.fields is not None
        part, offset = dtype.fields[name][:2]
        if part.names is None:
            yield (*path, name), part, start + offset
        else:
            yield from _leaves(part, (*path, name), start + offset)


def _format(pieces: list[tuple[int, int]], size: int) -> str | None:
    """Return the `struct` format of pieces at these offsets, with these sizes; None if they are not in order."""
    text, end = "=", 0
    for offset, nbytes in pieces:
        if offset < end:
            return None
        text += f"{offset - end}x{nbytes}s"
        end = offset + nbytes
    return f"{text}{size - end}x"
