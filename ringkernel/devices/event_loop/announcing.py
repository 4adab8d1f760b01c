"""A compilation that takes long says so: to the logger at level info, and to a terminal or a notebook that somebody
looks at. In a notebook the line goes when what is compiled is there."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ringkernel.audience import CLEARED, is_terminal, notebook, progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("ringkernel")

PATIENCE_S = 1.0
"""A compilation within this time is not announced."""
GAP_S = 0.2
"""Compilations less than this apart count as one wait."""


class _Waiting:
    """The time since when somebody waits, or was last told something; and until when."""

    since, until = float("-inf"), float("-inf")


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Say what is being compiled after a second, and how long it took when it is there."""
    began = time.monotonic()
    if began - _Waiting.until > GAP_S:
        _Waiting.since = began
    has_spoken = threading.Event()
    shown: list[Any] = []

    def speak() -> None:
        has_spoken.set()
        _Waiting.since = time.monotonic()
        shown.extend(_say(f"compiling {what} ..."))

    timer = threading.Timer(max(0.0, _Waiting.since + PATIENCE_S - began), speak)
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # no thread can be had, or the interpreter ends: then nothing is said
        yield
        return
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        _Waiting.until = time.monotonic()
        for display in shown:
            display.update(CLEARED, raw=True)
    elapsed = _Waiting.until - began
    if not shown and (has_spoken.is_set() or elapsed > PATIENCE_S):
        _say(f"compiled {what} in {elapsed:.1f} s; with a compile cache that is once")


def _say(text: str) -> list[Any]:
    """Log it; where the log is not shown, a line for a terminal or a notebook, and for nothing else: not for a pipe.
    What a notebook shows, to be taken away again."""
    logger.info("%s", text)
    if logger.isEnabledFor(logging.INFO):
        return []
    display = notebook()
    if display is not None:
        return [display.display(progress_bar(text), raw=True, display_id=True)]
    if is_terminal(sys.stderr):
        print(f"ringkernel: {text}", file=sys.stderr)  # noqa: T201 (a person waits)
    return []
