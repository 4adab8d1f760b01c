"""The form in which shared words are declared: each once, with its name, its writer and its meaning.

    RING_DTYPE, RING = record("Ring", line("producer", tail="next sequence to publish", wanted="..."), ...)

A record is a sequence of 128-byte lines. Every line has one writer, so that no two writers share a cache line (128
rather than 64: adjacent-line prefetch; about 18 % faster on the CPUs that we measured). All words are int64. From the
declaration follow the offsets, which compiled code reads as `RING.tail`, the dtype, through which Python sees the same
record, and the page `docs/words.md`. Code relies on the place of a word relative to another one only where both are of
a group: words declared once, and put into several records.
"""

from __future__ import annotations

from collections import namedtuple
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

LINE = 128

WRITERS = {
    "host": "the event loop's thread; some words only while it holds the kernel's token",
    "producer": "who publishes to the ring",
    "consumer": "who takes messages from the edge",
    "poller": "who runs the kernel's turns: a worker, the event loop's thread or a grid",
    "worker": "a CPU worker's thread, or the event loop's while it takes the kernel's turns",
    "loop": "the event loop's thread, in compiled code",
    "leader": "the worker that holds the token of a kernel whose span it shares",
    "leaders": "every worker that leads a shared span",
    "who takes a part": "the leader of a shared span or a helper",
    "who pushes": "the thread that has set `busy`",
    "watcher": "the CPU thread that rings for grids",
    "grid": "the threads of a grid",
    "who runs the span": "the thread that has called it",
    "shared": "several threads; compare-and-swap or exchange settles who",
    "anyone": "all threads, by compare-and-swap or exchange",
}
"""Who writes words."""


class Array(NamedTuple):
    """Consecutive words under one name."""

    length: int
    meaning: str


class Line(NamedTuple):
    """Words of one writer, from the beginning of a 128-byte line on."""

    writer: str
    words: tuple[tuple[str, str | Array], ...]


class Word(NamedTuple):
    """One declared word, or an array of `length` words; `offset` in bytes from the beginning of its record."""

    name: str
    length: int | None
    writer: str
    meaning: str
    offset: int


RECORDS: dict[str, tuple[Word, ...]] = {}
"""All that was declared, by the name of the record."""


def array(length: int, meaning: str, of: np.dtype[Any] | None = None) -> Array:
    """Declare `length` words under one name, or `length` records of the dtype `of`."""
    return Array(length * (1 if of is None else of.itemsize // 8), meaning)


def line(writer: str, *groups: Mapping[str, str | Array], **words: str | Array) -> Line:
    """Declare the words of one writer, each with its meaning: those of groups first. They may run over several lines.

    Raises `ValueError` if nobody is called `writer`.
    """
    if writer not in WRITERS:
        raise ValueError(f"{writer!r} writes no words; a line is written by one of {', '.join(WRITERS)}")
    return Line(writer, tuple(item for group in (*groups, words) for item in group.items()))


def record(name: str, *lines: Line, nbytes: int | None = None) -> tuple[np.dtype[Any], Any]:
    """Declare a record: its dtype, and a named tuple of the byte offset of each word.

    `nbytes`: the size of one that lies within a line of another record. Raises `ValueError` for what is declared twice.
    """
    words, position = [], 0
    for writer, declared in lines:
        for label, meaning in declared:
            length, text = meaning if isinstance(meaning, Array) else (None, meaning)
            words.append(Word(label, length, writer, text, position))
            position += 8 * (length or 1)
        position = -(-position // LINE) * LINE
    names = [word.name for word in words]
    twice = sorted({label for label in names if names.count(label) > 1})
    if name in RECORDS:
        raise ValueError(f"there is a record {name} already; give this one another name")
    if twice:
        raise ValueError(f"{name} has more than one word called {' or '.join(twice)}; give each a name of its own")
    formats = ["i8" if word.length is None else ("i8", (word.length,)) for word in words]
    offsets = [word.offset for word in words]
    dtype = np.dtype({"names": names, "offsets": offsets, "formats": formats, "itemsize": nbytes or position})
    offset_of: Any = namedtuple(name, names)  # type: ignore[misc]  # noqa: PYI024 (the fields are data)
    RECORDS[name] = tuple(words)
    return dtype, offset_of(*offsets)


def group(name: str, writer: str, words: Mapping[str, str | Array]) -> tuple[np.dtype[Any], Any]:
    """Declare words that several records have side by side, as a record of their length. Raises what `record` does."""
    return record(name, line(writer, words), nbytes=8 * len(words))


def within(outer: Any, inner: Any) -> int:
    """Return where the words of the record `inner` lie in the record `outer`.

    Raises `TypeError` unless `outer` has all of them, in the same order and as far apart.
    """
    places = outer._asdict()
    starts = {places.get(name, -1) - offset for name, offset in inner._asdict().items()}
    if len(starts) != 1 or min(starts) < 0:
        raise TypeError(f"{type(outer).__name__} does not have the words of {type(inner).__name__} side by side")
    return int(starts.pop())
