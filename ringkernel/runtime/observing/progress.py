"""A progress bar that reads a cursor: drawn by IPython's displays in a notebook, by rich in a terminal."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ringkernel.audience import CLEARED, notebook, progress_bar
from ringkernel.errors import ConfigurationError
from ringkernel.extras import installing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REFRESH_S = 0.1


@contextmanager
def follow(wanted: bool, label: str, total: int | None, position: Callable[[], int]) -> Iterator[None]:
    """Show how far `position` has got, of `total` messages if that is known, while the event loop runs. In the end
    nothing of it is left."""
    if not wanted:
        yield
        return
    display = notebook()
    with _in_terminal(label, total) if display is None else _in_notebook(display, label, total) as show:

        async def refresh() -> None:
            while True:
                show(position())
                await asyncio.sleep(_REFRESH_S)

        task = asyncio.ensure_future(refresh())
        try:
            yield
        finally:
            task.cancel()
            show(position())


@contextmanager
def _in_terminal(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    try:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress
    except ImportError:
        raise ConfigurationError(f"progress=True draws with rich: {installing('progress')}") from None
    columns = *Progress.get_default_columns(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task_id = bar.add_task(label, total=total)
        yield lambda done: bar.update(task_id, completed=done)


@contextmanager
def _in_notebook(display: Any, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    def drawn(done: int) -> dict[str, str]:
        of = "" if total is None else f" of {total:,}"
        limits = "" if total is None else f' max="{max(total, 1)}" value="{done}"'
        return progress_bar(f"{label}: {done:,}{of}", limits)

    handle = display.display(drawn(0), raw=True, display_id=True)
    try:
        yield lambda done: handle.update(drawn(done), raw=True)
    finally:
        handle.update(CLEARED, raw=True)
