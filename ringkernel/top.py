"""`ringkernel top`: how the kernels of another process of this user are, as they work."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

from .errors import ConfigurationError
from .views.socket_place import pid_of, sockets
from .views.view import RuntimeView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def show_top(pid: int | None, *, once: bool) -> int:
    """Draw the runtime of a process, or of the only one that can be asked, until it ends or Ctrl-C. With `once`, its
    second view, which has rates, is printed, and no more."""
    from rich.console import Console
    from rich.live import Live

    from .views.table import table_of

    views = _views_of(_choose(pid))
    console = Console()
    if once:
        next(views, None)
        view = next(views, None)
        if view is not None:
            console.print(table_of(view))
        return 0
    with Live(console=console, auto_refresh=False) as live:
        for view in views:
            live.update(table_of(view), refresh=True)
    console.print("the runtime was closed")
    return 0


def _choose(pid: int | None) -> socket.socket:
    """A connection to the runtime that is meant. Raises `ConfigurationError` if it is not clear which, or none is."""
    found = {path: connection for path in sockets() if (connection := _connected(path)) is not None}
    chosen = [path for path in found if pid is None or pid_of(path) == pid]
    if len(chosen) != 1:
        for connection in found.values():
            connection.close()
        if chosen or not found:
            which = ", ".join(str(pid_of(path)) for path in chosen)
            raise ConfigurationError(
                f"several runtimes can be asked; say which: ringkernel top PID, of {which}"
                if chosen
                else "no runtime can be asked; one that is to be calls `await runtime.serve_stats()`"
            )
        which = ", ".join(str(pid_of(path)) for path in found)
        raise ConfigurationError(f"process {pid} has no runtime that can be asked; these have: {which}")
    for path, connection in found.items():
        if path is not chosen[0]:
            connection.close()
    return found[chosen[0]]


def _connected(path: Path) -> socket.socket | None:
    """None, and the socket is removed, if nobody listens there any more."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except ConnectionRefusedError:
        connection.close()
        path.unlink(missing_ok=True)
        return None
    return connection


def _views_of(connection: socket.socket) -> Iterator[RuntimeView]:
    with connection, connection.makefile(encoding="utf-8") as lines:
        for line in lines:
            yield RuntimeView.from_json(json.loads(line))
