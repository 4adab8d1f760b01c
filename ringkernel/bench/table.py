"""A report as text: a table that rich draws, one line per row. Importing this imports rich."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from .words import failures, figure_of, footnotes, quartiles, ratio, summary, target_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from .model import Report, Row

WIDE = 120
"""Columns from which on the whole table fits."""
_COLOURS = {"met": "green", "missed": "yellow", "unknown": "dim", "": "dim"}


def print_report(report: Report, console: Console) -> None:
    """The header, one table, footnotes, and what was not there."""
    print_header(report, console)
    notes = footnotes(report)
    console.print(table_of(report, notes, is_wide=console.width >= WIDE))
    for text, mark in notes.items():
        console.print(f"  {mark} {text}", style="dim", highlight=False, markup=False)
    for case in report.cases:
        for note in case.notes:
            console.print(f"  {case.name}: {note}", style="dim", highlight=False, markup=False)
    if report.rivals:
        console.print("Rivals: " + "; ".join(report.rivals.values()) + ".", highlight=False, markup=False)
    for name, reason in report.missing.items():
        console.print(f"  without {name}: {reason}", style="dim", highlight=False, markup=False)
    for warning in report.warnings:
        console.print(f"[yellow]Warning:[/] {escape(warning)}", highlight=False)
    for line in failures(report):
        console.print(f"[bold red]WRONG:[/] {escape(line)}", highlight=False)
    console.print(summary(report), highlight=False, markup=False)


def print_header(report: Report, console: Console) -> None:
    """Where the numbers come from."""
    width = max(map(len, report.machine), default=0)
    for name, value in report.machine.items():
        console.print(f"[dim]{escape(f'{name:{width}}')}[/]  {escape(value)}", highlight=False)
    console.print()


def table_of(report: Report, notes: dict[str, str], *, is_wide: bool) -> Table:
    """All rows, one section per case. A narrow table leaves out the quartiles, and the target of what has met it."""
    from rich import box
    from rich.table import Column, Table

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


def print_cases(titles: dict[str, str], console: Console) -> None:
    """`--list`."""
    width = max(map(len, titles))
    for name, title in titles.items():
        console.print(f"{name:{width}}  {title}", highlight=False, markup=False, soft_wrap=True)
