"""How far a run has got, drawn by rich, on stderr and only where somebody sees it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Heard = Callable[[str, int, int], None]
"""Is told a case, steps done, and steps in all."""


@contextmanager
def shown(cases: int) -> Iterator[Heard]:
    """A bar per run: yields what is told."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.fields[place]:>6}"),
        TextColumn("[bold]{task.description:<16}"),
        BarColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("", total=None, place="")
        seen: list[str] = []

        def heard(case: str, done: int, total: int) -> None:
            if case not in seen:
                seen.append(case)
                bars.reset(task, description=case, total=None, place=f"{len(seen)}/{cases}")
            bars.update(task, completed=done, total=total or None)

        yield heard
