"""The inputs of machine code besides the handler: versions, our own sources, the CPU, numba's settings."""

from __future__ import annotations

import functools
import hashlib
import sys
import types
from pathlib import Path
from typing import Any

from ringkernel._version import IMPORTED_AT_S, __version__

FORMAT = 1
"""The version of keys and files. Raise it when either changes in a way that the sources below do not show."""

_NEVER_COMPILED = ("bench", "cli.py", "demos", "filling.py", "inspecting.py")
"""Parts of the package that neither become cached machine code nor decide how it is made. Everything else is in the
key, wherever it is stored: a part left out by mistake would run outdated code unnoticed."""

_WITHOUT_EFFECT = (
    "CACHE_",
    "CUDA_",
    "CUDASIM",
    "DUMP_",
    "COLOR_SCHEME",
    "HIGHLIGHT_",
    "TRACE",
    "NUM_THREADS",
    "NUMBA_DEFAULT_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "DEFAULT_NUM_THREADS",
    "THREADING_LAYER",
    "SHOW_HELP",
    "WARNINGS",
    "FULL_TRACEBACKS",
    "EXCEPTION_",
    "JIT_COVERAGE",
    "RUN_COVERAGE",
)
"""Beginnings of the names of numba's settings that do not change code; whatever is not listed is in the key."""


_KNOWN = frozenset({"numba", "ringkernel", "abc", "builtins"})
"""The packages of all that numba knows by itself; `abc` is the module of classes that are made without one."""


class SourcesUnknownError(Exception):
    """The version of this package that is running is unknown."""


def describe() -> str:
    """Return the environment as text, for a key. Imports numba."""
    parts = {
        "format": FORMAT,
        "versions": versions(),
        "sources": (__version__, sources()),
        "cpu": cpu(),
        "numba": numba_settings(),
    }
    return repr(parts)


@functools.cache
def versions() -> tuple[str, ...]:
    """Return the versions of the interpreter and of the packages whose code becomes machine code."""
    import llvmlite
    import numba
    import numpy as np

    packages = (numba.__version__, llvmlite.__version__, np.__version__)
    return (sys.version, sys.implementation.cache_tag or "", sys.platform, str(sys.flags.optimize), *packages)


@functools.cache
def sources() -> str:
    """Return a hash of the modules of this package that are compiled, or that say how.

    Raises `SourcesUnknownError` where it would not be the hash of what this process has imported.
    """
    return hash_of_sources(Path(__file__).parent.parent)


def hash_of_sources(package: Path) -> str:
    """See `sources`."""
    digest = hashlib.sha256()
    files = {path.relative_to(package).as_posix(): path for path in package.rglob("*.py")}
    names = sorted(name for name in files if name.partition("/")[0] not in _NEVER_COMPILED)
    if not names:
        raise SourcesUnknownError(f"the sources of ringkernel are not in {package}")
    for name in names:
        if _changed_at_s(files[name]) > IMPORTED_AT_S:  # an upgrade under a process that runs
            raise SourcesUnknownError(f"{files[name]} has changed since ringkernel was imported")
        content = files[name].read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _changed_at_s(path: Path) -> float:
    """Return the time at which a file was written or put there: installers may give it an older time of
    modification."""
    status = path.stat()
    return status.st_mtime if sys.platform == "win32" else status.st_ctime


@functools.cache
def cpu() -> tuple[str, ...]:
    """Return the CPU that numba compiles for, the machine's own. Numba's settings may name another; those are in the
    key."""
    from llvmlite import binding as llvm

    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def numba_settings() -> list[tuple[str, str]]:
    """Numba's settings as they are now, without those that change no code."""
    from numba.core import config

    plain = bool | int | float | str | None
    return sorted(
        (name, repr(value))
        for name, value in vars(config).items()
        if name.isupper() and not name.startswith(_WITHOUT_EFFECT) and isinstance(value, plain)
    )


def is_numba_extended() -> bool:
    """Return whether numba was extended in this process (`@overload`, `lower_builtin`, `infer_global`).

    What that does cannot be seen in the handlers that use it.
    """
    from numba.core.imputils import builtin_registry as lowerings
    from numba.core.typing.templates import builtin_registry as templates

    named = [one for _, kind in templates.globals for one in getattr(kind, "templates", ())]
    taught = {*templates.functions, *templates.attributes, *named}
    tables = (lowerings.functions, lowerings.casts, lowerings.constants, lowerings.getattrs, lowerings.setattrs)
    lowered = [entry[0] for table in tables for entry in table]
    return not (all(map(_is_known_lowering, lowered)) and all(map(_is_known_template, taught)))


@functools.cache
def _is_known_lowering(function: Any) -> bool:
    return all(map(_is_known, _parts(function)))


@functools.cache
def _is_known_template(template: type) -> bool:
    """Return whether a typing template and the functions in it are numba's own."""
    values = [value for name, value in vars(template).items() if name != "key"]  # which is what it types
    values.append(getattr(template, "_overload_func", None))
    functions = [part for value in values if isinstance(value, types.FunctionType) for part in _parts(value)]
    return all(map(_is_known, (*template.__mro__, *functions)))


def _parts(function: Any) -> list[Any]:
    """Return a function, and those that it stands around."""
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or ()]
    return [function, *(one for one in cells if isinstance(one, types.FunctionType))]


def _is_known(value: Any) -> bool:
    """Return whether a function or class is numba's or ours, by its module and by the module of its code: `wraps`
    copies the first, and code made from text lacks the second."""
    scope = getattr(value, "__globals__", {})
    modules = [value.__module__, scope.get("__name__")]
    return any(modules) and all(name is None or name.partition(".")[0] in _KNOWN for name in modules)
