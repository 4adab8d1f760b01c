"""A fork beside threads that import and compile: it waits for them, so that the child can import and compile, too.

Whatever another thread has locked stays locked in a child, and what it was changing stays half changed there: LLVM's
own memory, a module that is being imported. So a fork takes numba's lock of all compilers, llvmlite's, and Python's
lock of imports, meanwhile. It is the package's own first import: whatever comes after it may be in a thread.

What is registered last is called first before a fork. `logging` takes a lock there that who imports and compiles may
need; so it is imported before.
"""

from __future__ import annotations

import importlib
import logging  # noqa: F401 (see above)
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_PACKAGES = sys.stdlib_module_names | {"llvmlite", "numba", "numpy", "ringkernel"}
"""Importing these runs no user's code, so it is over soon."""
_PATIENCE_S = 60.0
"""The longest time that a fork waits for a compilation, which takes seconds at most; a fork must not hang."""
_LOOK_S = 0.001

_held: dict[int, list[Callable[[], None]]] = {}
"""The functions that release the locks which a thread holds for a fork, by thread: several may fork at once."""
_is_broken = False


def why_broken() -> str | None:
    """Return why nothing can be compiled in the child of a fork that could not wait for all others; None elsewhere."""
    if not _is_broken:
        return None
    return (
        f"this process was forked while its parent imported or compiled for more than {_PATIENCE_S:g} s: it cannot "
        f"compile; fork before, or use multiprocessing's method 'spawn'"
    )


def _before() -> None:
    """Hold the compilers' locks, and that of imports, at a time when no thread imports."""
    global _is_broken  # noqa: PLW0603
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        releases = _held[threading.get_ident()] = []
        for lock in _compilers_locks():
            if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                releases += [lock.release]
        _imports("_imp").acquire_lock()  # last: who compiles may import
        releases.append(_imports("_imp").release_lock)
        _is_broken = time.monotonic() > deadline
        if _is_broken or not _is_importing():
            return
        _release()
        time.sleep(_LOOK_S)


def _release() -> None:
    for release in reversed(_held.pop(threading.get_ident(), [])):
        release()


def _after_in_parent() -> None:
    global _is_broken  # noqa: PLW0603
    _is_broken = False
    _release()


def _after_in_child() -> None:
    _release()
    _held.clear()  # of threads that are not here


def _compilers_locks() -> list[Any]:
    """Return the locks of numba and llvmlite, as far as they are imported, in the order in which numba takes them."""
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
    """Return a part of Python's machinery of imports."""
    return getattr(importlib._bootstrap, name)  # noqa: SLF001


def _is_importing() -> bool:
    """Return whether another thread imports a module, or is about to. This thread holds the lock of imports."""
    locks = [(name, reference()) for name, reference in _imports("_module_locks").items()]
    others = {name for name, lock in locks if lock is not None and lock.owner != threading.get_ident()}
    return any(name.partition(".")[0] in _PACKAGES for name in others)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
