"""The place and size of the compile cache: `RINGKERNEL_CACHE_DIR` and `RINGKERNEL_CACHE_SIZE`."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

from ringkernel.errors import ConfigurationError

DIRECTORY_VARIABLE = "RINGKERNEL_CACHE_DIR"
SIZE_VARIABLE = "RINGKERNEL_CACHE_SIZE"
DEFAULT_SIZE = "256M"

_SIZE = re.compile(r"(\d{1,18})\s*([KMG]?)", re.IGNORECASE | re.ASCII)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def directory() -> Path:
    """Return the cache's directory, which need not exist: the variable's, or the user's cache directory on this
    platform.

    Where that is another user's, each user has a directory in it: files are believed by their owner only, and users
    would replace each other's. Raises `ConfigurationError` if the variable holds no absolute path, and `OSError`
    without a home where one is needed.
    """
    asked = os.environ.get(DIRECTORY_VARIABLE, "")
    if not asked:
        return _own(_user_cache() / "ringkernel" / ("Cache" if sys.platform == "win32" else ""))
    path = Path(os.path.expanduser(asked))  # noqa: PTH111 (Path's raises where a home is unknown)
    if asked.startswith("~") and str(path).startswith("~"):
        raise OSError(f"no home directory for {DIRECTORY_VARIABLE}={asked!r}")
    if not path.is_absolute() or "\0" in asked:
        raise ConfigurationError(
            f"{DIRECTORY_VARIABLE} is {asked!r}; it must be an absolute path (or begin with ~), since a relative "
            f"one would be another cache in every working directory"
        )
    return _own(path)


def _own(path: Path) -> Path:
    if not hasattr(os, "geteuid"):
        return path
    with contextlib.suppress(OSError):  # it is not there yet, or whoever uses it will hear why it cannot be used
        if path.stat().st_uid != os.geteuid():
            return path / f"user-{os.geteuid()}"
    return path


def _user_cache() -> Path:
    variable = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    given = os.environ.get(variable, "") if sys.platform != "darwin" else ""
    if given and Path(given).is_absolute():  # the XDG specification says to ignore a relative one
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise OSError(f"no home directory: {error}") from None
    if not home.is_absolute():
        raise OSError(f"no home directory: {str(home)!r} is a relative path")
    if sys.platform == "win32":
        return home / "AppData" / "Local"
    return home / "Library" / "Caches" if sys.platform == "darwin" else home / ".cache"


def limit() -> int:
    """Return the bytes that the cache may hold; 0 turns it off. Raises `ConfigurationError` for a value that is no
    size."""
    asked = os.environ.get(SIZE_VARIABLE, "").strip() or DEFAULT_SIZE
    match = _SIZE.fullmatch(asked)
    if match is None:
        raise ConfigurationError(
            f"{SIZE_VARIABLE} is {asked!r}; it must be a number of bytes, or of K, M or G, as in {DEFAULT_SIZE}; "
            f"0 turns the cache off"
        )
    return int(match[1]) * _UNITS[match[2].upper()]
