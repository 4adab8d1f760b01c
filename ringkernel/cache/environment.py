"""Everything besides a handler that machine code depends on: versions, our own sources, the CPU, numba's settings."""

from __future__ import annotations

import functools
import hashlib
import sys
from pathlib import Path
from typing import Any

FORMAT = 1
"""Of keys and programs: raise it when either changes in a way that the sources below do not show."""

_SOURCES = ("cache", "ring", "devices")

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


def describe() -> str:
    """All of it as text, for a key. Imports numba."""
    parts = {"format": FORMAT, "versions": versions(), "sources": sources(), "cpu": cpu(), "numba": numba_settings()}
    return repr(parts)


@functools.cache
def versions() -> tuple[str, ...]:
    """Of the interpreter and the packages whose code becomes machine code."""
    import llvmlite
    import numba
    import numpy as np

    packages = (numba.__version__, llvmlite.__version__, np.__version__)
    return (sys.version, sys.implementation.cache_tag or "", sys.platform, str(sys.flags.optimize), *packages)


@functools.cache
def sources() -> str:
    """A hash of the modules of this package that are compiled, or that say how."""
    package, digest = Path(__file__).parent.parent, hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((package / folder).glob("*.py")):
            content = path.read_bytes()
            digest.update(f"{folder}/{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@functools.cache
def cpu() -> tuple[str, ...]:
    """What numba compiles for: the machine's CPU, unless its settings say otherwise (and those are in the key)."""
    from llvmlite import binding as llvm

    return llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def numba_settings() -> list[tuple[str, str]]:
    """Numba's settings as they are now, without those that change no code."""
    from numba.core import config

    return sorted(
        (name, repr(value))
        for name, value in vars(config).items()
        if name.isupper() and not name.startswith(_WITHOUT_EFFECT) and _is_plain(value)
    )


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def is_numba_extended() -> bool:
    """Whether somebody has taught numba to compile something (`@overload`, `lower_builtin`).

    What that does cannot be seen in the handlers that use it.
    """
    from numba.core.imputils import builtin_registry as lowerings
    from numba.core.typing.templates import builtin_registry as templates

    taught = [getattr(template, "_overload_func", None) for template in (*templates.functions, *templates.attributes)]
    lowered = [entry[0] for table in (lowerings.functions, lowerings.getattrs, lowerings.casts) for entry in table]
    return any(one is not None and not _is_known(one) for one in (*taught, *lowered))


def _is_known(function: Any) -> bool:
    module = getattr(function, "__module__", None)  # None: numba itself has made it from text
    return module is None or module.partition(".")[0] in ("numba", "ringkernel")
