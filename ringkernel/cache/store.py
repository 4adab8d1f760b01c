"""A directory of checked files: one per key, the least recently used evicted first.

Processes share it without locks: a file appears whole, by a rename, and a reader believes only what its checksum and
its owner vouch for, since what is in it will be executed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".rkc"
TEMPORARY_SUFFIX = SUFFIX + ".tmp"
_MAGIC = b"ringkernel code 1\n"
_ABANDONED_S = 3600.0
"""A temporary file as old as this belongs to a process that died while writing it."""


_NO_FILE = frozenset({errno.ELOOP, errno.ENXIO})
"""The errors of opening a link, and a socket."""


class Usage(NamedTuple):
    """The size of a store."""

    entries: int
    nbytes: int


class Store:
    """Payloads by key (hex digits). Methods raise `OSError` when the directory cannot be used."""

    def __init__(self, directory: Path, limit: int) -> None:
        self.directory = directory
        self.limit = limit

    def read(self, key: str) -> bytes | None:
        """Return the payload, or None: nothing there, or nothing that can be trusted (corrupt, another's, writable by
        others, or no file at all)."""
        path = self._path(key)
        content = _content(path)
        payload = content[len(_MAGIC) + 32 :]
        if content[: len(_MAGIC) + 32] != _MAGIC + _checksum(key, payload):
            return None
        with contextlib.suppress(OSError):  # evicted meanwhile, or a read-only file system
            os.utime(path)  # used just now
        return payload

    def write(self, key: str, payload: bytes) -> None:
        """Keep a payload, and evict what has not been used for longest. One larger than the limit is not kept."""
        content = _MAGIC + _checksum(key, payload) + payload
        if len(content) > self.limit:
            return
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(TEMPORARY_SUFFIX, key[:8], self.directory)  # private to the user
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            with contextlib.suppress(FileNotFoundError):  # the cache was cleared meanwhile
                os.replace(temporary, self._path(key))  # noqa: PTH105 (mkstemp gives a string)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108 (likewise)
            raise
        self._evict()

    def usage(self) -> Usage:
        """Return the number of entries, and their size."""
        found = self._listing(SUFFIX)
        return Usage(len(found), sum(status.st_size for _, status in found))

    def clear(self) -> Usage:
        """Remove all entries, and what writers have begun; nothing else that is in the directory."""
        removed = [status.st_size for path, status in self._listing(SUFFIX) if _remove(path)]
        for path, _ in self._listing(TEMPORARY_SUFFIX):
            _remove(path)
        return Usage(len(removed), sum(removed))

    def _evict(self) -> None:
        oldest_first = sorted(self._listing(SUFFIX), key=lambda entry: entry[1].st_mtime_ns)
        excess = sum(status.st_size for _, status in oldest_first) - self.limit
        for path, status in oldest_first:
            if excess <= 0:
                break
            with contextlib.suppress(PermissionError):  # another user's, in a directory of everybody's
                _remove(path)
                excess -= status.st_size
        for path, status in self._listing(TEMPORARY_SUFFIX):
            if time.time() - status.st_mtime > _ABANDONED_S:
                with contextlib.suppress(PermissionError):
                    _remove(path)

    def _listing(self, suffix: str) -> list[tuple[Path, os.stat_result]]:
        found = []
        try:
            paths = list(self.directory.iterdir())
        except FileNotFoundError:
            return []
        for path in paths:
            if path.name.endswith(suffix):
                with contextlib.suppress(FileNotFoundError):  # another process evicts, too
                    status = path.lstat()
                    if stat.S_ISREG(status.st_mode):
                        found.append((path, status))
        return found

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}{SUFFIX}"


def _content(path: Path) -> bytes:
    """Return the content of a file of this user's, or nothing if there is none. Does not follow links or wait for
    pipes, which other users may have put there."""
    flags = [getattr(os, name, 0) for name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK")]
    try:
        descriptor = os.open(path, os.O_RDONLY | sum(flags))
    except (FileNotFoundError, PermissionError):
        return b""
    except OSError as error:
        if error.errno in _NO_FILE:
            return b""
        raise
    try:
        if not _is_private(os.fstat(descriptor)):
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def _checksum(key: str, payload: bytes) -> bytes:
    """Return the hash of a payload under its key, which detects renamed files as well as damaged ones."""
    return hashlib.sha256(key.encode() + b"\n" + payload).digest()


def _is_private(status: os.stat_result) -> bool:
    """Return whether this is a regular file of this user's that nobody else may write to."""
    if not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):
        return True  # Windows: the directory is in the user's profile, whose access list guards it
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True
