"""Drawings that follow a runtime while it works, in a notebook's cell or a terminal: its kernels, or a progress bar."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ringkernel.audience import CLEARED, notebook, progress_bar
from ringkernel.errors import ConfigurationError
from ringkernel.extras import installing

from .looks import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ringkernel.runtime.kernels.kernel import RingKernel
    from ringkernel.views.view import RuntimeView

_REFRESH_S = 0.1


class Watch:
    """A drawing that follows a runtime until `stop` is called, or the runtime is closed."""

    def __init__(self, kernels: Mapping[str, RingKernel], interval_s: float) -> None:
        self._observer, self._interval_s = Observer(kernels), interval_s
        _check_rich("watch()", "notebook")
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._draw())

    def stop(self) -> None:
        """Draw no more; the last drawing stays. From any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _draw(self) -> None:
        display = notebook()
        with _kernels_in_terminal() if display is None else _kernels_in_notebook(display) as show:
            await _refresh(show, self._observer.look, self._interval_s)


@contextmanager
def follow(wanted: bool, label: str, total: int | None, position: Callable[[], int]) -> Iterator[None]:
    """Show how far `position` has got, of `total` messages if that is known, while the event loop runs. In the end
    nothing of it is left."""
    if not wanted:
        yield
        return
    display = notebook()
    with _bar_in_terminal(label, total) if display is None else _bar_in_notebook(display, label, total) as show:
        task = asyncio.ensure_future(_refresh(show, position, _REFRESH_S))
        try:
            yield
        finally:
            task.cancel()
            show(position())


async def _refresh(show: Callable[[Any], None], look: Callable[[], Any], interval_s: float) -> None:
    while True:
        show(look())
        await asyncio.sleep(interval_s)


def _check_rich(what: str, extra: str) -> None:
    """Raise `ConfigurationError` if rich is not installed."""
    try:
        import rich.progress  # noqa: F401 (to know if it is there)
    except ImportError:
        raise ConfigurationError(f"{what} draws with rich: {installing(extra)}") from None


@contextmanager
def _kernels_in_terminal() -> Iterator[Callable[[RuntimeView], None]]:
    from rich.console import Console
    from rich.live import Live

    from ringkernel.views.table import table_of

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda view: live.update(table_of(view), refresh=True)


@contextmanager
def _kernels_in_notebook(display: Any) -> Iterator[Callable[[RuntimeView], None]]:
    from ringkernel.views.table import page_of, text_of

    handle = display.display({"text/plain": ""}, raw=True, display_id=True)
    yield lambda view: handle.update({"text/plain": text_of(view), "text/html": page_of(view)}, raw=True)


@contextmanager
def _bar_in_terminal(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    _check_rich("progress=True", "progress")
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    columns = *Progress.get_default_columns(), MofNCompleteColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task_id = bar.add_task(label, total=total)
        yield lambda done: bar.update(task_id, completed=done)


@contextmanager
def _bar_in_notebook(display: Any, label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    def drawn(done: int) -> dict[str, str]:
        of = "" if total is None else f" of {total:,}"
        limits = "" if total is None else f' max="{max(total, 1)}" value="{done}"'
        return progress_bar(f"{label}: {done:,}{of}", limits)

    handle = display.display(drawn(0), raw=True, display_id=True)
    try:
        yield lambda done: handle.update(drawn(done), raw=True)
    finally:
        handle.update(CLEARED, raw=True)
