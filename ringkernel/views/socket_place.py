"""The directory of the Unix sockets through which runtimes of this user are asked; no other user may enter it."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from ringkernel.errors import ConfigurationError


def directory() -> Path:
    """Return the directory, made if there is none. Raises `ConfigurationError` if it is not this user's alone."""
    if not hasattr(os, "getuid"):
        raise ConfigurationError("runtimes are asked through Unix sockets, which this system does not have")
    parent = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    place = Path(parent) / f"ringkernel-{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        status = place.lstat()
    except OSError as error:
        raise cannot_be_asked(error) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigurationError(f"{place} is not a directory that only you may enter; remove it, or chmod 700 it")
    return place


def cannot_be_asked(error: OSError) -> ConfigurationError:
    """Return the error for a system that refuses the directory, or a socket in it."""
    return ConfigurationError(
        f"runtimes cannot be asked here: {error}; set XDG_RUNTIME_DIR to a directory of yours with a short name"
    )


def sockets() -> list[Path]:
    """Return the sockets that are there; a process that was killed leaves its own behind."""
    return sorted(path for path in directory().glob("*.sock") if path.stem.partition("-")[0].isdecimal())


def pid_of(socket: Path) -> int:
    """Return the id of the process that made a socket."""
    return int(socket.stem.partition("-")[0])
