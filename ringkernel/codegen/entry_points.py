"""Tables of compiled functions that Python calls: from the compile cache, or compiled and left there.

A table is one file in the cache, so that a warm start reads and links one for all of it. Nothing of numba's compiler is
imported or started then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringkernel.cache import code_cache, fingerprint, machine_code
from ringkernel.cache.hashing import UnkeyableError
from ringkernel.memory.wait_handle import WAKE_MECHANISM
from ringkernel.words.builtin import ByAddress, EntryPoint, builtin

if TYPE_CHECKING:
    from collections.abc import Mapping


def entries(table: Mapping[str, EntryPoint | ByAddress]) -> dict[str, Any]:
    """The compiled functions of a table of this package's functions, and the addresses of those that go by them.

    The key need not hold what they read: the sources of the package are in every key, and how threads sleep is the one
    thing in them that is found out at run time.
    """
    described = [f"{label} {point[1:]}" for label, point in table.items()]
    functions = [f"{point.function.__module__}.{point.function.__qualname__}" for point in table.values()]
    try:
        key = fingerprint.key_of("entries", f"sleeps by {WAKE_MECHANISM}", *described, *functions)
    except UnkeyableError:
        key = None
    loaded = None if key is None else code_cache.look_up(key)
    return _of(table, _compiled(table, key) if loaded is None else loaded)


def _of(table: Mapping[str, EntryPoint | ByAddress], code: machine_code.LoadedCode) -> dict[str, Any]:
    return {
        label: code.address(label) if isinstance(point, ByAddress) else builtin(label, code.address(label), code)
        for label, point in table.items()
    }


def _compiled(table: Mapping[str, EntryPoint | ByAddress], key: str | None) -> machine_code.LoadedCode:
    """The functions compiled, and loaded as from the cache, where they are left."""
    from .targets.cpu import compile_words

    code = compile_words(table)
    if key is not None:
        code_cache.keep(key, lambda: code, "ringkernel's own functions")
    loaded = machine_code.link(code)
    assert loaded is not None  # what it needs was there a moment ago
    return loaded
