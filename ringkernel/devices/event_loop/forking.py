"""A fork beside threads that import and compile: it waits for them, so that the child can import and compile, too.

Whatever another thread has locked stays locked in a child, and what it was changing stays half changed there: LLVM's
own memory, a module that is being imported. So a fork takes numba's lock of all compilers, and llvmlite's, meanwhile.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from typing import Any

from ringkernel.errors import KernelStateError

_PACKAGES = sys.stdlib_module_names | {"llvmlite", "numba", "numpy", "ringkernel"}
"""Nobody's program runs while these are imported, so that is over soon."""
_PATIENCE_S = 60.0
"""How long a fork waits for who compiles. A compilation takes seconds at most; but a fork must not hang."""

_held: list[Any] = []
_is_broken = False


def refuse_if_broken() -> None:
    """Raises `KernelStateError` in a child of a fork that could not wait for a compilation."""
    if _is_broken:
        raise KernelStateError(
            f"this process was forked while its parent compiled for more than {_PATIENCE_S:g} s: it cannot compile; "
            f"fork before, or use multiprocessing's method 'spawn'"
        )


def _before() -> None:
    """Hold the compilers' locks while nobody imports: imports first, since one may compile."""
    global _is_broken  # noqa: PLW0603
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        for name in _imported_now():
            with contextlib.suppress(Exception):  # it is raised where the import is
                importlib.import_module(name)  # waits
        taken = []
        for lock in _locks():
            if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                _is_broken = True
                break
            taken.append(lock)
        if _is_broken or not _imported_now() or time.monotonic() > deadline:
            _held[:] = taken
            return
        for lock in reversed(taken):
            lock.release()


def _after_in_parent() -> None:
    global _is_broken  # noqa: PLW0603
    _is_broken = False
    _after_in_child()


def _after_in_child() -> None:
    while _held:
        _held.pop().release()


def _locks() -> list[Any]:
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


def _imported_now() -> list[str]:
    """Modules that are being imported, by this thread or another."""
    return [
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in _PACKAGES and getattr(getattr(module, "__spec__", None), "_initializing", False)
    ]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
