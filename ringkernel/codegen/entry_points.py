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
        return {
            label: loaded.address(label) if isinstance(point, ByAddress) else loaded.builtin(label)
            for label, point in table.items()
        }
    from .targets.cpu import compile_address, compile_overload

    compiled, addresses = {}, {}
    for label, point in table.items():
        if isinstance(point, ByAddress):
            addresses[label] = compile_address(point.function)
        else:
            compiled[label] = compile_overload(point.function, point.n_arguments, nogil=point.nogil)
    if key is not None:
        code_cache.keep(key, lambda: _machine_code(compiled, addresses))
    return {label: overload.entry_point for label, overload in compiled.items()} | {
        label: int(function.address) for label, function in addresses.items()
    }


def _machine_code(compiled: Mapping[str, Any], addresses: Mapping[str, Any]) -> machine_code.MachineCode:
    names = {label: function._wrapper_name for label, function in addresses.items()}
    for label, overload in compiled.items():
        names[f"{label}:wrapper"] = overload.fndesc.llvm_cpython_wrapper_name
        names[f"{label}:environment"] = overload.target_context.get_env_name(overload.fndesc)
    libraries = [one.library for one in compiled.values()] + [one._library for one in addresses.values()]
    return machine_code.emit(libraries, names)
