"""A report as text: a table that rich draws, with what it says in one line per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .words import figure_of, footnotes, judged, mark_of, ratio, spread, target_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from .model import Report, Row

_COLOURS = {"met": "green", "missed": "yellow", "unknown": "dim", "": "dim"}


def print_report(report: Report, console: Console) -> None:
    """The header, one table, footnotes, and what was not there."""
    print_header(report, console)
    notes = footnotes(report)
    console.print(table_of(report, notes))
    for text, mark in notes.items():
        console.print(f"  {mark} {text}", style="dim", highlight=False)
    for case in report.cases:
        for note in case.notes:
            console.print(f"  {case.name}: {note}", style="dim", highlight=False)
    if report.rivals:
        console.print("Rivals: " + "; ".join(report.rivals.values()) + ".", highlight=False, markup=False)
    for name, reason in report.missing.items():
        console.print(f"  without {name}: {reason}", style="dim", highlight=False, markup=False)
    for warning in report.warnings:
        console.print(f"[yellow]Warning:[/] {warning}", highlight=False)
    for line in failures(report):
        console.print(f"[bold red]WRONG:[/] {line}", highlight=False)
    console.print(summary(report), highlight=False)


def print_header(report: Report, console: Console) -> None:
    """Where the numbers come from."""
    width = max(map(len, report.machine))
    for name, value in report.machine.items():
        console.print(f"[dim]{name:{width}}[/]  {value}", highlight=False)
    console.print()


def failures(report: Report) -> list[str]:
    """Every result that did not hold."""
    lines = [f"{case.name}: {case.error}" for case in report.cases if case.error]
    lines += [f"{case.name}: {row.figure}: {row.wrong}" for case in report.cases for row in case.rows if row.wrong]
    return lines


def summary(report: Report) -> str:
    """How it went, in a line."""
    verdicts = [row.verdict for case in report.cases for row in case.rows if row.target is not None]
    counts = {word: verdicts.count(word) for word in ("met", "missed", "unknown")}
    targets = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    compile_s = sum(case.compile_s for case in report.cases)
    return (
        f"{len(report.cases)} cases in {report.seconds:.0f} s, of which {compile_s:.0f} s compiling"
        + (f"; targets: {targets}" if targets else "")
        + ("." if report.holds else "; NOT every result held.")
    )


def table_of(report: Report, notes: dict[str, str]) -> Table:
    """All rows, one section per case."""
    from rich import box
    from rich.table import Column, Table

    table = Table(
        Column("figure", overflow="fold", ratio=3),
        Column("ringkernel", justify="right", no_wrap=True),
        Column("beside it", overflow="fold", ratio=2),
        Column("ratio", justify="right", no_wrap=True),
        Column("quartiles", justify="right", no_wrap=True),
        Column("target", justify="right", no_wrap=True),
        Column("", no_wrap=True),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        expand=False,
    )
    for case in report.cases:
        table.add_row(f"[bold]{case.name}[/]", "", f"[dim]{case.seconds:.1f} s[/]")
        for row in case.rows:
            table.add_row(*cells(row, notes))
        if case.error:
            table.add_row(f"  [red]{case.error}[/]")
        table.add_section()
    return table


def cells(row: Row, notes: dict[str, str]) -> tuple[str, ...]:
    """One line of the table."""
    if row.wrong:
        return f"  {row.figure}", "[red]wrong[/]", f"[red]{row.wrong}[/]", "", "", target_of(row), ""
    beside = f"[dim]{row.missing}[/]"
    if row.beside is not None:
        beside = f"{figure_of(row.beside)} {row.beside.name}{mark_of(row, notes)}"
    verdict = row.verdict
    shown = f"[{_COLOURS[verdict]}]{verdict}[/]" if verdict else ""
    noisy = "[yellow]~[/]" if row.is_noisy else ""
    return (
        f"  {row.figure}",
        figure_of(row.ours),
        beside,
        noisy + ratio(row),
        spread(judged(row)),
        target_of(row),
        shown,
    )


def print_cases(titles: dict[str, str], console: Console) -> None:
    """`--list`."""
    width = max(map(len, titles))
    for name, title in titles.items():
        console.print(f"{name:{width}}  {title}", highlight=False, markup=False, soft_wrap=True)
