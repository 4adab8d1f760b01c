"""`ringkernel doctor`: whether this machine is as it should be, and what to do where it is not."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from .devices.cpu.cores import allowed_cores, default_workers
from .errors import RingKernelError
from .extras import EXTRAS, installing
from .machine import CacheAccessError, cache_usage, cuda_report


class Finding(NamedTuple):
    """The result of one check, and what to do about it."""

    subject: str
    is_well: bool
    text: str


def examine() -> list[Finding]:
    """Look at everything. Compiles one small kernel."""
    return [_python(), _cores(), _cache(), _kernel(), _gpu(), *map(_extra, EXTRAS)]


def _python() -> Finding:
    return Finding("Python", sys.version_info >= (3, 11), sys.version.split()[0])


def _cores() -> Finding:
    allowed, there = allowed_cores(), os.cpu_count() or 1
    text = f"{allowed} of {there}, so up to {default_workers()} worker(s) by default"
    if allowed == 1:
        return Finding("cores", False, f"{text}; the event loop and the workers take turns on it, which is slow")
    return Finding("cores", True, text)


def _cache() -> Finding:
    try:
        place = Path(str(cache_usage()["cache_directory"]))
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            return Finding("compile cache", True, str(place))
    except (CacheAccessError, OSError) as error:
        remedy = "each process compiles anew; set RINGKERNEL_CACHE_DIR to a directory that you may write to"
        return Finding("compile cache", False, f"{error}: {remedy}")


def _kernel() -> Finding:
    import numpy as np

    from .runtime.session import Session

    def twice(msg: float, out: float) -> None:
        out.value = 2 * msg.value  # type: ignore[attr-defined]

    try:
        with Session(workers=1) as session:
            is_right = session.map(twice, np.arange(3.0)).tolist() == [0, 2, 4]
    except RingKernelError as error:
        return Finding("a kernel", False, str(error))
    return Finding("a kernel", is_right, "compiled, launched and run" if is_right else "computes something else")


def _gpu() -> Finding:
    said = cuda_report()
    return Finding("GPU", True, str(said["cuda"] if said["cuda"] != "yes" else said["gpus"]))


def _extra(extra: str) -> Finding:
    missing = [package for package in EXTRAS[extra] if importlib.util.find_spec(package) is None]
    if missing:
        return Finding(f"extra {extra}", True, f"not there ({', '.join(missing)}); to install it: {installing(extra)}")
    return Finding(f"extra {extra}", True, "installed")
