"""A fork beside threads that import and compile: it waits for them, so that the child can import and compile, too.

Whatever another thread has locked stays locked in a child, and what it was changing stays half changed there: LLVM's
own memory, a module that is being imported. So a fork takes numba's lock of all compilers, llvmlite's, and Python's
lock of imports, meanwhile. It is the package's own first import: whatever comes after it may be in a thread.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PACKAGES = sys.stdlib_module_names | {"llvmlite", "numba", "numpy", "ringkernel"}
"""Nobody's program runs while these are imported, so that is over soon."""
_PATIENCE_S = 60.0
"""How long a fork waits for who compiles. A compilation takes seconds at most; but a fork must not hang."""

_releases: list[Callable[[], None]] = []
"""What is to be released after the fork."""
_is_broken = False


def why_broken() -> str | None:
    """Why nothing can be compiled in a child of a fork that could not wait for a compilation; None elsewhere."""
    if not _is_broken:
        return None
    return (
        f"this process was forked while its parent compiled for more than {_PATIENCE_S:g} s: it cannot compile; fork "
        f"before, or use multiprocessing's method 'spawn'"
    )


def _before() -> None:
    """Hold the compilers' locks, and that of imports, while nobody imports."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        releases = _take_locks(deadline)
        importing = _importing_now()
        if not importing or time.monotonic() > deadline:
            _releases[:] = releases
            return
        _release(releases)
        for lock in importing:
            with suppress(RuntimeError):  # it waits for a module that this thread imports
                lock.acquire()
                lock.release()
        del importing, lock  # or they seem to be in use


def _take_locks(deadline: float) -> list[Callable[[], None]]:
    """Take all of them; what releases each. That of imports last: who compiles may import."""
    global _is_broken  # noqa: PLW0603
    releases: list[Callable[[], None]] = []
    for lock in _compilers_locks():
        if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _is_broken = True
            break
        releases.append(lock.release)
    _imports("_imp").acquire_lock()
    releases.append(_imports("_imp").release_lock)
    return releases


def _after_in_parent() -> None:
    global _is_broken  # noqa: PLW0603
    _is_broken = False
    _after_in_child()


def _after_in_child() -> None:
    _release(_releases)


def _release(releases: list[Callable[[], None]]) -> None:
    while releases:
        releases.pop()()


def _compilers_locks() -> list[Any]:
    """Those of numba and llvmlite, as far as they are imported, in the order in which numba takes them."""
    found = [
        _attribute("numba.core.compiler_lock", "global_compiler_lock", "_lock"),
        _attribute("llvmlite.binding.ffi", "lib", "_lock", "_lock"),
    ]
    return [lock for lock in found if hasattr(lock, "acquire")]


def _attribute(module: str, *names: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in names:
        found = getattr(found, name, None)
    return found


def _imports(name: str) -> Any:
    """A part of Python's machinery of imports."""
    return getattr(importlib._bootstrap, name)  # type: ignore[attr-defined]


def _importing_now() -> list[Any]:
    """The locks of modules that other threads import, or are about to. The lock of imports is this thread's."""
    found = [(name, reference()) for name, reference in _imports("_module_locks").items()]
    me = threading.get_ident()
    return [
        lock
        for name, lock in found
        if lock is not None and lock.owner != me and name.partition(".")[0] in _PACKAGES
    ]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
