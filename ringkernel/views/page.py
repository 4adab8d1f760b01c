"""A runtime in a notebook: its graph, and a table below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph import svg_of
from .table import html_of

if TYPE_CHECKING:
    from .view import RuntimeView


def page_of(view: RuntimeView) -> str:
    """Return an element of HTML."""
    if not view.kernels:
        return "<p>a runtime without kernels</p>"
    return f"<div>{svg_of(view)}{html_of(view)}</div>"
