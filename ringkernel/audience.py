"""Who reads what is printed: a notebook, a terminal, or nobody."""

from __future__ import annotations

import importlib
import sys
from typing import Any


def is_terminal(stream: object) -> bool:
    """Whether a person may look at this stream."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def notebook() -> Any:
    """IPython's module of displays, where a notebook shows them; else None. Imports nothing that is not there."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    return importlib.import_module("IPython.display")
