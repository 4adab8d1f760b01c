"""Which of the user's numba functions may hold values that have changed since numba compiled them.

numba freezes what a function reads when it compiles it. That was before now if the function has been called, was given
its signatures, or comes from numba's own cache, which does not look at what is read. So a kernel that calls it may be
compiled with other values than those in its key, and must not be kept under it.
"""

from __future__ import annotations

import builtins
import contextlib
import types
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .fingerprint import UnkeyableError, fingerprint_of, instructions, is_library

if TYPE_CHECKING:
    from collections.abc import Iterable

_seen: WeakKeyDictionary[Any, tuple[str, frozenset[Any]]] = WeakKeyDictionary()
"""What a function read when all of its code so far was compiled, and for which types that is."""


def outdated(dispatchers: Iterable[Any]) -> list[str]:
    """The names of those that may hold other values than they would read now."""
    return [one.py_func.__name__ for one in dispatchers if _is_compiled(one) and _reads_more(one) and not _is_seen(one)]


def saw(dispatchers: Iterable[Any]) -> None:
    """They were all compiled just now, or still hold what they read."""
    for one in dispatchers:
        with contextlib.suppress(UnkeyableError):  # what it reads has changed since
            _seen[one] = _describe(one)


def _is_seen(dispatcher: Any) -> bool:
    try:
        return _seen.get(dispatcher) == _describe(dispatcher)
    except UnkeyableError:
        return False


def _describe(dispatcher: Any) -> tuple[str, frozenset[Any]]:
    return fingerprint_of(dispatcher).hexdigest(), frozenset(dispatcher.overloads)


def _is_compiled(dispatcher: Any) -> bool:
    from numba.core.caching import NullCache

    return bool(dispatcher.overloads) or not isinstance(dispatcher._cache, NullCache)


def _reads_more(dispatcher: Any) -> bool:
    """Whether the function reads anything besides its arguments, built-in functions and modules of libraries."""
    function = dispatcher.py_func
    names = {one.argval for one in instructions(function.__code__) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    values = [function.__globals__.get(name, vars(builtins).get(name)) for name in names if isinstance(name, str)]
    return bool(function.__closure__) or not all(map(_is_constant, values))


def _is_constant(value: Any) -> bool:
    if isinstance(value, types.ModuleType):
        return is_library(value.__name__)
    return isinstance(value, types.BuiltinFunctionType | type) and value.__module__ == "builtins"
