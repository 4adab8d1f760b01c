"""Tables of compiled functions that Python calls: from the compile cache, or compiled and left there.

A table is one file in the cache, so that a warm start reads and links one for all of it. Nothing of numba's compiler is
imported or started then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ringkernel.cache import code_cache, fingerprint, machine_code
from ringkernel.cache.hashing import UnkeyableError
from ringkernel.memory.wait_handle import WAKE_MECHANISM

Entry = Callable[..., int]


class EntryPoint(NamedTuple):
    """A function of int64 arguments that returns an int64. `nogil`: it runs without the GIL."""

    function: Callable[..., Any]
    n_arguments: int
    nogil: bool = False


class ByAddress(NamedTuple):
    """A function of one word that compiled code calls by its address, so that it is compiled once for all of it."""

    function: Callable[..., Any]


def entries(table: Mapping[str, EntryPoint | ByAddress]) -> dict[str, Any]:
    """The compiled functions of a table of this package's functions, and the addresses of those that go by them.

    The key need not hold what they read: the sources of the package are in every key, and whether sleeps are timed is
    the one thing in them that is found out at run time.
    """
    described = [f"{label} {point[1:]}" for label, point in table.items()]
    functions = [f"{point.function.__module__}.{point.function.__qualname__}" for point in table.values()]
    try:
        key = fingerprint.key_of("entries", f"timed {WAKE_MECHANISM == 'timed'}", *described, *functions)
    except UnkeyableError:
        key = None
    loaded = None if key is None else code_cache.look_up(key)
    if loaded is not None:
        return _loaded(table, loaded)
    return _compiled(table, key)


def _loaded(table: Mapping[str, EntryPoint | ByAddress], code: Any) -> dict[str, Any]:
    return {
        label: code.address(label) if isinstance(point, ByAddress) else code.builtin(label)
        for label, point in table.items()
    }


def _compiled(table: Mapping[str, EntryPoint | ByAddress], key: str | None) -> dict[str, Any]:
    """The functions compiled, and loaded as from the cache, where they are left."""
    from .targets.cpu import compile_address, compile_overload

    try:
        code = _machine_code(table)
        loaded = machine_code.link(code)
    except machine_code.CannotMoveError:
        loaded = None
    if loaded is None:  # a numba that is built differently
        return {
            label: int(compile_address(point.function).address)
            if isinstance(point, ByAddress)
            else compile_overload(point.function, point.n_arguments, nogil=point.nogil).entry_point
            for label, point in table.items()
        }
    if key is not None:
        code_cache.keep(key, lambda: code, "ringkernel's own functions")
    return _loaded(table, loaded)


def _machine_code(table: Mapping[str, EntryPoint | ByAddress]) -> machine_code.MachineCode:
    from numba.core.compiler_lock import global_compiler_lock

    from .targets.cpu import compile_part, compile_part_with_address
    from .targets.cpu_linking import linked

    names, libraries = {}, []
    with global_compiler_lock:
        for label, point in table.items():
            if isinstance(point, ByAddress):
                with_address = compile_part_with_address(point.function)
                names[label] = with_address._wrapper_name
                libraries.append(with_address._library)
            else:
                part = compile_part(point.function, point.n_arguments, nogil=point.nogil)
                names[f"{label}:wrapper"] = part.fndesc.llvm_cpython_wrapper_name
                names[f"{label}:environment"] = part.target_context.get_env_name(part.fndesc)
                libraries.append(part.library)
        with machine_code.of_this_numba():
            return machine_code.emit([linked(libraries, set(names.values()))], names)
