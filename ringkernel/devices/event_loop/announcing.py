"""A compilation that takes long says so: to the logger at level info, and to a terminal that somebody looks at."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger("ringkernel")

PATIENCE_S = 1.0
"""How long nothing is said."""


@contextmanager
def announced(what: str) -> Iterator[None]:
    """Say what is being compiled after a second, and how long it took when it is there."""
    timer = threading.Timer(PATIENCE_S, _say, (f"compiling {what} ...",))
    timer.daemon = True
    began = time.monotonic()
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
    elapsed = time.monotonic() - began
    if elapsed > PATIENCE_S:
        _say(f"compiled {what} in {elapsed:.1f} s; with a compile cache that is once")


def _say(text: str) -> None:
    """Log it; where the log is not shown, a line for a terminal, and for nothing else: not for a pipe."""
    logger.info("%s", text)
    if not logger.isEnabledFor(logging.INFO) and _is_terminal(sys.stderr):
        print(f"ringkernel: {text}", file=sys.stderr)  # noqa: T201 (a person waits)


def _is_terminal(stream: object) -> bool:
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False
