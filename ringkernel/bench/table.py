"""A report as text and as HTML: a table that rich draws, one line per row. Importing this imports rich."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from .model import Report
from .words import failures, figure_of, footnotes, quartiles, ratio, summary, target_of
from .wrong_tool import wrong_tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .model import Row

WIDE = 120
"""Columns from which on the whole table fits."""
HTML_COLUMNS = 150
PAGE = '<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{code}</pre>'
"""Without the page that rich puts around it: the notebook has one, with its own colours."""
_COLOURS = {"met": "green", "missed": "yellow", "unknown": "dim", "": "dim"}


class NotebookReport(Report):
    """A report that notebooks draw."""

    def _repr_html_(self) -> str:
        console = Console(record=True, width=HTML_COLUMNS, file=io.StringIO(), force_jupyter=False)
        print_titles({case.name: case.title for case in self.cases}, console)
        print_report(self, console)
        return console.export_html(code_format=PAGE, inline_styles=True)


def print_report(report: Report, console: Console) -> None:
    """The header, one table, footnotes, and what was not there."""

    def say(text: str, style: str = "", label: str = "") -> None:
        console.print(f"{label}{escape(text)}", style=style, highlight=False)

    width = max(map(len, report.machine), default=0)
    for name, value in report.machine.items():
        say(value, label=f"[dim]{escape(f'{name:{width}}')}[/]  ")
    notes = footnotes(report)
    console.print()
    console.print(table_of(report, notes, is_wide=console.width >= WIDE))
    for text, mark in notes.items():
        say(f"  {mark} {text}", "dim")
    for remark in _remarks(report):
        say(*remark)


def _remarks(report: Report) -> Iterator[tuple[str, str, str]]:
    """What is said below the table: text, style, label."""
    for case in report.cases:
        yield from ((f"  {case.name}: {note}", "dim", "") for note in case.notes)
    if report.rivals:
        yield "Rivals: " + "; ".join(report.rivals.values()) + ".", "", ""
    yield from ((f"  without {name}: {reason}", "dim", "") for name, reason in report.missing.items())
    yield from ((warning, "", "[yellow]Warning:[/] ") for warning in report.warnings)
    yield from ((failure, "", "[bold red]WRONG:[/] ") for failure in failures(report))
    if lines := wrong_tool(report):
        yield "Where ringkernel is the wrong tool, by this run:", "bold", ""
        yield from ((f"  - {line}", "", "") for line in lines)
    yield summary(report), "", ""


def table_of(report: Report, notes: dict[str, str], *, is_wide: bool) -> Table:
    """All rows, one section per case. A narrow table leaves out the quartiles, and the target of what has met it."""
    columns = [
        Column("figure", overflow="fold", min_width=26),
        Column("ringkernel", justify="right", no_wrap=True),
        Column("beside it", overflow="fold", min_width=18),
        Column("ratio", justify="right", no_wrap=True),
        *([Column("quartiles", justify="right", no_wrap=True)] if is_wide else []),
        Column("target", justify="right", no_wrap=True),
    ]
    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for case in report.cases:
        table.add_row(f"[bold]{escape(case.name)}[/]", "", f"[dim]{case.seconds:.1f} s[/]")
        for row in case.rows:
            table.add_row(*_cells(row, notes, is_wide=is_wide))
        if case.error:
            table.add_row(f" [red]{escape(case.error)}[/]")
        table.add_section()
    return table


def _cells(row: Row, notes: dict[str, str], *, is_wide: bool) -> list[str]:
    """One line of the table."""
    if row.wrong:
        return [f" {escape(row.figure)}", "[red]wrong[/]", f"[red]{escape(row.wrong)}[/]"]
    beside = f"[dim]{escape(row.missing)}[/]"
    if row.beside is not None:
        beside = escape(f"{figure_of(row.beside)} {row.beside.name} {notes.get(row.note, '')}".rstrip())
    noisy = "[yellow]~[/]" if row.is_noisy else ""
    cells = [f" {escape(row.figure)}", escape(figure_of(row.ours)), beside, noisy + ratio(row)]
    if is_wide:
        cells.append(quartiles(row))
    target = f"{escape(target_of(row))} " if is_wide or row.verdict == "missed" else ""
    cells.append(f"{target}[{_COLOURS[row.verdict]}]{row.verdict}[/]" if row.verdict else "")
    return cells


def print_titles(titles: Mapping[str, str], console: Console) -> None:
    """A line for each case."""
    width = max(map(len, titles), default=0)
    for name, title in titles.items():
        console.print(f"{name:{width}}  {title}", highlight=False, markup=False, soft_wrap=True)
