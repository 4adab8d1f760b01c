"""`ringkernel top`: how the kernels of another process of this user are, as they work."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING

from .errors import ConfigurationError
from .views.socket_place import pid_of, sockets
from .views.view import RuntimeView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SILENCE_S = 10.0
"""The longest wait for a runtime's first view, which comes at once, and for each that follows."""
MAX_BYTES = 1 << 24
"""The longest line: some 20,000 kernels."""


class _SilenceError(ConfigurationError):
    """A socket accepts connections, and sends nothing."""


def show_top(pid: int | None, *, once: bool) -> int:
    """Draw the runtime of a process, or of the only one that can be asked, until it ends or Ctrl-C. With `once`, its
    second view, which has rates, is printed, and no more; the first one if no other comes in time."""
    from rich.console import Console
    from rich.live import Live

    from .views.table import table_of

    path, connection = _choose(pid)
    views = _views_of(path, connection)
    console = Console()
    if once:
        view = next(views, None)
        if view is None:
            raise ConfigurationError(f"{path} was closed before it had said anything")
        with contextlib.suppress(_SilenceError):
            view = next(views, view)
        console.print(table_of(view))
        return 0
    with Live(console=console, auto_refresh=False) as live:
        for view in views:
            connection.settimeout(None)  # it lives, and may speak as seldom as it wants to
            live.update(table_of(view), refresh=True)
    console.print("the runtime was closed")
    return 0


def _choose(pid: int | None) -> tuple[Path, socket.socket]:
    """Return the socket of the runtime that is meant, and a connection. Raises `ConfigurationError` if it is not clear
    which that is, or there is none."""
    found = {path: connection for path in sockets() if (connection := _connected(path)) is not None}
    chosen = [path for path in found if pid is None or pid_of(path) == pid]
    for path, connection in found.items():
        if [path] != chosen:
            connection.close()
    if len(chosen) == 1:
        return chosen[0], found[chosen[0]]
    if not found:
        raise ConfigurationError("no runtime can be asked; one that is to be calls `await runtime.serve_stats()`")
    which = ", ".join(str(pid_of(path)) for path in chosen or found)
    raise ConfigurationError(
        f"several runtimes can be asked; say which: ringkernel top PID, of {which}"
        if chosen
        else f"process {pid} has no runtime that can be asked; these have: {which}"
    )


def _connected(path: Path) -> socket.socket | None:
    """Return a connection, or None if nothing listens there. Remove the socket of a process that has ended."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(SILENCE_S)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        if isinstance(error, ConnectionRefusedError):
            with contextlib.suppress(OSError):
                path.unlink()
        return None
    return connection


def _views_of(path: Path, connection: socket.socket) -> Iterator[RuntimeView]:
    """Yield the views until the connection ends. Raises `ConfigurationError` if what listens is silent, or no runtime
    of this version."""
    with connection, connection.makefile("rb") as lines:
        while True:
            try:
                line = lines.readline(MAX_BYTES)
            except TimeoutError:
                raise _SilenceError(f"{path} has said nothing for {SILENCE_S:g} s: its event loop is blocked") from None
            except ConnectionError:
                return
            if not line:
                return
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("a line without an end")  # noqa: TRY301
                view = RuntimeView.from_json(json.loads(line))
            except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
                raise ConfigurationError(
                    f"{path} does not say what a runtime of this version of ringkernel would say"
                ) from None
            yield view
