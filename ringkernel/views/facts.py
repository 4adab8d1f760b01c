"""A few facts about one thing, as HTML: a kernel, a queue, a kernel's counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .view import QueueView

if TYPE_CHECKING:
    from collections.abc import Mapping


def facts_html(title: str, facts: Mapping[str, object]) -> str | None:
    """Return a table of names and values, queues as bars. None without rich: then a notebook shows the text."""
    try:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        from .table import bar_of, html_of_table
    except ImportError:
        return None
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_header=False)
    table.title = Text(title, style="bold")
    table.title_justify = "left"
    for name, value in facts.items():
        table.add_row(name, bar_of(value) if isinstance(value, QueueView) else Text(str(value)))
    return html_of_table(table)
