"""A runtime as a table: in a terminal, and as HTML, below its graph. rich draws it."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from .graph import svg_of
from .numbers import amount, duration, share

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from .view import KernelView, QueueView, RuntimeView, WaitView

_COLOURS = {
    "CREATED": "dim",
    "LAUNCHED": "cyan",
    "ACTIVE": "green",
    "DEACTIVATED": "yellow",
    "TERMINATING": "magenta",
    "TERMINATED": "dim",
}
_BAR = 4
_WIDTH = 200  # it takes as much of that as it needs
_COLUMNS: dict[str, Callable[[KernelView], RenderableType]] = {
    "device": lambda kernel: kernel.device,
    "dropped": lambda kernel: amount(kernel.dropped) if kernel.dropped else "",
    "failed": lambda kernel: Text(amount(kernel.failed), style="red") if kernel.failed else "",
    "waits for": lambda kernel: Text(_short(kernel.waits_for)),
}
"""Columns that are shown only where kernels differ."""


def table_of(view: RuntimeView) -> Table:
    """Return a table with one row per kernel, in 80 columns. Colours only repeat the words."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    table.add_column("kernel", no_wrap=True, min_width=6, max_width=18)
    table.add_column("state", no_wrap=True)
    table.add_column("input", no_wrap=True)
    for name in "per s", "done", "p50", "p99", "busy", "blocked", "starved":
        table.add_column(name, justify="right", no_wrap=True)
    more = [name for name, cell in _COLUMNS.items() if len({str(cell(kernel)) for kernel in view.kernels}) > 1]
    for name in more:
        table.add_column(name, justify="right", no_wrap=True)
    for kernel in view.kernels:
        table.add_row(*_cells(kernel), *(_COLUMNS[name](kernel) for name in more))
    slow = view.bottleneck
    if slow is not None:
        table.caption = f"{escape(slow)} holds the others up"
    return table


def _cells(kernel: KernelView) -> list[RenderableType]:
    state = Text(kernel.state, style=_COLOURS.get(kernel.state, ""))
    if kernel.error is not None:
        state = Text("FAILED", style="bold red")
    return [
        Text(kernel.kernel_id, style="bold"),
        state,
        bar_of(kernel.waiting),
        "" if kernel.rate is None else amount(kernel.rate),
        amount(kernel.processed),
        duration(kernel.p50_ns) if kernel.processed else "",
        duration(kernel.p99_ns) if kernel.processed else "",
        share(kernel.busy),
        share(kernel.blocked),
        share(kernel.starved),
    ]


def _short(wait: WaitView | None) -> str:
    """Return the id of what a kernel waits for."""
    return "" if wait is None else wait.kernel_id if len(wait.kernel_id) <= 12 else wait.kernel_id[:11] + "…"


def bar_of(queue: QueueView) -> RenderableType:
    """Return the fill of a queue, as a bar and in numbers."""
    full = min(_BAR, math.ceil(queue.fill * _BAR))
    filled, empty = ("█" * full, "red" if queue.fill >= 1 else "yellow"), ("░" * (_BAR - full), "dim")
    return Text.assemble(filled, empty, f" {amount(queue.depth)}/{amount(queue.capacity)}")


def text_of(view: RuntimeView) -> str:
    """Return the table as plain text."""
    console = Console(file=io.StringIO(), width=_WIDTH, no_color=True, force_jupyter=False)
    with console.capture() as captured:
        console.print(table_of(view))
    return captured.get()


def html_of(view: RuntimeView) -> str:
    """Return the table as an element of HTML."""
    return html_of_table(table_of(view))


def page_of(view: RuntimeView) -> str:
    """Return the graph, and the table below, as an element of HTML for a notebook."""
    if not view.kernels:
        return "<p>a runtime without kernels</p>"
    return f"<div>{svg_of(view)}{html_of(view)}</div>"


def html_of_table(table: Table) -> str:
    """Any table as an element of HTML. It takes the page's own colours for text and background."""
    console = Console(file=io.StringIO(), width=_WIDTH, record=True, force_terminal=True, force_jupyter=False)
    console.print(table)
    return console.export_html(inline_styles=True, code_format=_HTML, theme=_THEME)


_GREY, _RED, _GREEN = (128, 128, 128), (217, 65, 61), (35, 134, 74)
_YELLOW, _BLUE, _MAGENTA, _CYAN = (160, 111, 0), (70, 110, 220), (168, 85, 192), (31, 127, 168)
_COLOURS_8 = [_GREY, _RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN, _GREY]
_THEME = TerminalTheme((255, 255, 255), (0, 0, 0), _COLOURS_8, _COLOURS_8)
"""Colours that can be read on white and on black."""
_HTML = (
    "<pre style=\"font-family:ui-monospace,Menlo,'DejaVu Sans Mono',monospace;font-size:90%;line-height:1.2;"
    'white-space:pre;overflow-x:auto">{code}</pre>'
)
