"""Where output goes: to a notebook, to a terminal, or to neither."""

from __future__ import annotations

import html
import importlib
import sys
from typing import Any


def is_terminal(stream: object) -> bool:
    """Return whether a stream is a terminal."""
    try:
        return bool(stream.isatty())  # type: ignore[attr-defined]
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def shell() -> Any:
    """IPython's shell, in a notebook or a terminal; else None. Imports nothing that is not there."""
    module = sys.modules.get("IPython")
    return None if module is None or not hasattr(module, "get_ipython") else module.get_ipython()


def place(filename: str, line: int) -> str:
    """Return a line of code, as tracebacks name it: in a file, or in a cell of IPython's."""
    named: Any = getattr(getattr(shell(), "compile", None), "format_code_name", None)
    cell = None if named is None else named(filename)
    return f'File "{filename}", line {line}' if cell is None else f"{cell[0]} {cell[1]}, line {line}"


def notebook() -> Any:
    """IPython's module of displays, where a notebook shows them; else None. Imports nothing that is not there."""
    if getattr(shell(), "kernel", None) is None:
        return None
    return importlib.import_module("IPython.display")


CLEARED = {"text/plain": "", "text/html": ""}
"""Clears a display that shall leave nothing behind."""


def progress_bar(text: str, limits: str = "") -> dict[str, str]:
    """Return what a notebook displays of something in progress: an element of HTML, without widgets or extensions.
    `limits` are its attributes if the total is known."""
    return {"text/plain": text, "text/html": f"<label>{html.escape(text)} <progress{limits}></progress></label>"}
