"""Where in the user's code numba was when it gave up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numba
from numba.core import ir

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_TEXT = re.compile(
    r'File "(?P<file>[^"\n]+)", line (?P<line>\d+)'
    r"|(?: at |Raised from |defined at )(?P<other>[^\n()]+?) \((?P<number>\d+)\)"
)
_THEIRS = (str(Path(numba.__file__).parent), str(Path(__file__).parent))


def place_in(error: BaseException) -> tuple[str, int] | None:
    """The file and the line that numba's error is about: the innermost of the user's code."""
    return next(_in_text(str(error)), None) or _by_frames(error)


def _in_text(text: str) -> Iterator[tuple[str, int]]:
    for found in _IN_TEXT.finditer(text):
        file = found["file"] or found["other"]
        file = file if file.startswith("<") else str(Path(file).absolute().resolve())  # it says where it is from here
        if not file.startswith(_THEIRS):
            yield file, int(found["line"] or found["number"])


def _by_frames(error: BaseException) -> tuple[str, int] | None:
    """Return what numba's own frames are busy with: it does not say that in all of its errors."""
    trace, found = error.__traceback__, None
    while trace is not None:
        for name in ("self", "inst", "expr"):
            place = getattr(trace.tb_frame.f_locals.get(name), "loc", None)
            if isinstance(place, ir.Loc) and not place.filename.startswith(_THEIRS):
                found = place.filename, place.line
        trace = trace.tb_next
    return found
