"""Look up machine code in the cache, and keep it there. A cache that cannot be used is a warning, never a failure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ringkernel.errors import ConfigurationError

from . import settings
from .machine_code import CannotMoveError, MachineCode, link
from .store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from .machine_code import LoadedCode

logger = logging.getLogger("ringkernel")

_warned = False
_said: set[str] = set()


def look_up(key: str) -> LoadedCode | None:
    """Return the machine code of this key, loaded; None if it has to be compiled. Raises `ConfigurationError`."""
    limit = settings.limit()
    if limit == 0:
        return None
    try:
        payload = Store(settings.directory(), limit).read(key)
        found = None if payload is None else MachineCode.decode(payload)
        return None if found is None else link(found)
    except ConfigurationError:
        raise
    except Exception as error:  # noqa: BLE001 (a file system, or LLVM: compiling works without either)
        _warn(error)
        return None


def keep(key: str, emit: Callable[[], MachineCode], what: str) -> None:
    """Keep machine code for other processes, if it can live in them; otherwise say so of `what`. Raises
    `ConfigurationError`."""
    limit = settings.limit()
    if limit == 0:
        return
    try:
        directory = settings.directory()
        Store(directory, limit).write(key, emit().encode())
    except ConfigurationError:
        raise
    except CannotMoveError as reason:
        say_not_cached(what, reason)
    except Exception as error:  # noqa: BLE001 (likewise)
        _warn(error)


def say_not_cached(what: str, reason: Exception) -> None:
    """Say once that something is compiled in every process, and why."""
    text = f"{what} is not cached, so every process compiles it anew: {reason}"
    if text not in _said and settings.limit() > 0:
        _said.add(text)
        logger.info("%s", text)


def _warn(error: Exception) -> None:
    global _warned  # noqa: PLW0603 (once per process, whichever thread comes first)
    if not _warned:
        _warned = True
        logger.warning(
            "the compile cache cannot be used, so every process compiles its kernels anew: %s; set %s to a directory "
            "that can be written, or %s to 0",
            error,
            settings.DIRECTORY_VARIABLE,
            settings.SIZE_VARIABLE,
        )
