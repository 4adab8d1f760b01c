"""Draws a runtime anew while it works: in a notebook's cell, or in a terminal."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ringkernel.audience import notebook
from ringkernel.errors import ConfigurationError
from ringkernel.extras import installing

from .looks import Observer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ringkernel.runtime.kernels.kernel import RingKernel
    from ringkernel.views.view import RuntimeView


class Watch:
    """A drawing that follows a runtime until `stop` is called, or the runtime is closed."""

    def __init__(self, kernels: Mapping[str, RingKernel], interval_s: float) -> None:
        self._observer, self._interval_s = Observer(kernels), interval_s
        _check_rich()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._draw())

    def stop(self) -> None:
        """Draw no more; what was drawn last stays. From any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def _draw(self) -> None:
        display = notebook()
        with _in_terminal() if display is None else _in_notebook(display) as show:
            while True:
                show(self._observer.look())
                await asyncio.sleep(self._interval_s)


def _check_rich() -> None:
    try:
        import rich  # noqa: F401 (whether it is there)
    except ImportError:
        raise ConfigurationError(f"watch() draws with rich: {installing('notebook')}") from None


@contextmanager
def _in_terminal() -> Iterator[Callable[[RuntimeView], None]]:
    from rich.console import Console
    from rich.live import Live

    from ringkernel.views.table import table_of

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda view: live.update(table_of(view), refresh=True)


@contextmanager
def _in_notebook(display: Any) -> Iterator[Callable[[RuntimeView], None]]:
    from ringkernel.views.page import page_of
    from ringkernel.views.table import text_of

    handle = display.display({"text/plain": ""}, raw=True, display_id=True)
    yield lambda view: handle.update({"text/plain": text_of(view), "text/html": page_of(view)}, raw=True)
