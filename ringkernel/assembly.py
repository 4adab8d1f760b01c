"""Assembly with the lines of source that it comes of beside it, for `ringkernel inspect`."""

from __future__ import annotations

import linecache
import re
from dataclasses import dataclass
from pathlib import Path

WIDE = 100
"""Columns from which on the lines stand at the right; in fewer they stand above."""
_CODE_COLUMNS = 52
_FILE = re.compile(r'\s*\.file\s+(\d+)\s+"([^"]*)"(?:\s+"([^"]*)")?')
_PLACE = re.compile(r"\s*\.loc\s+(\d+)\s+(\d+)")
_DEBUG = re.compile(r"\s*\.(loc|cfi_\w+|file\s+\d+)\s|\.L(tmp|func_begin)\d+:|\s*\.cfi_\w+$")
_SYMBOL = re.compile(r"(?<![\w.])(?:[._][\w.$]+|ringkernel\.loop\.\d+)")


@dataclass(frozen=True)
class Place:
    """A line of a file. Line 0 is none: the loop around the handler, or what several lines share."""

    file: str
    line: int


def beside(assembly: str, width: int, first: str) -> str:
    """Return the assembly, of which `.loc` says where each instruction comes from, with these lines as comments, and
    without what is for debuggers. `first`: the file whose lines are not named by their file."""
    shown: list[str] = []
    last = Place("", -1)
    for text, place in _placed(assembly):
        if not _is_instruction(text):
            shown.append(text.expandtabs(4))
            continue
        name, _, operands = text.strip().partition("\t")
        code = f"    {name:<7} {operands}"
        if place == last:
            shown.append(code)
            continue
        last = place
        note = f"# {_source(place, first)}"
        shown += [f"{code:{_CODE_COLUMNS}} {note}"] if width >= WIDE else [_cut(note, width), code]
    return "\n".join(shown) + "\n"


def is_alike(one: str, other: str) -> bool:
    """Return whether two assemblies have the same instructions, whatever their symbols and labels are called."""
    return _instructions(one) == _instructions(other)


def _placed(assembly: str) -> list[tuple[str, Place]]:
    """Return the lines of an assembly that are not for debuggers, and where they come from."""
    files: dict[str, str] = {}
    place, found = Place("", 0), []
    for text in assembly.splitlines():
        if (said := _FILE.match(text)) is not None:
            files[said[1]] = str(Path(said[2], said[3] or ""))
        elif (said := _PLACE.match(text)) is not None:
            place = Place(files.get(said[1], ""), int(said[2])) if int(said[2]) else Place("", 0)
        elif not _DEBUG.match(text):
            found.append((text, place))
    return found


def _is_instruction(text: str) -> bool:
    return text.startswith("\t") and not text.startswith("\t.")


def _source(place: Place, first: str) -> str:
    if not place.line:
        return "-"
    code = linecache.getline(place.file, place.line).rstrip()
    where = "" if place.file == first else f"{Path(place.file).name}:"
    return f"{where}{place.line:<4} {code}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _instructions(assembly: str) -> list[str]:
    """Return the instructions, with symbols and labels numbered as they come."""
    numbers: dict[str, int] = {}
    lines = [text for text, _ in _placed(assembly) if _is_instruction(text)]
    return [_SYMBOL.sub(lambda name: f"@{numbers.setdefault(name[0], len(numbers))}", text) for text in lines]
