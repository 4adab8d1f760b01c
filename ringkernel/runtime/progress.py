"""A progress bar that reads a cursor. rich draws it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ringkernel.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_REFRESH_S = 0.1


@contextmanager
def follow(wanted: bool, title: str, total: int, position: Callable[[], int]) -> Iterator[None]:
    """Show how far `position` has got while the event loop runs."""
    if not wanted:
        yield
        return
    try:
        from rich.progress import Progress
    except ImportError:
        raise ConfigurationError("progress=True draws with rich: pip install 'numba-ringkernel[progress]'") from None
    with Progress(transient=True) as bar:
        task_id = bar.add_task(title, total=total)

        async def refresh() -> None:
            while True:
                bar.update(task_id, completed=position())
                await asyncio.sleep(_REFRESH_S)

        task = asyncio.ensure_future(refresh())
        try:
            yield
        finally:
            task.cancel()
            bar.update(task_id, completed=position())
