"""`ringkernel cache fill`: compile the kernels of modules on all cores, and leave them in the cache.

In one process numba compiles one function at a time, whatever the number of threads. Here each core has a process
of its own, which imports the modules; that is why it is asked for, and never done on the side.
"""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from .declaration.decorator import find_declaration
from .declaration.registry import registry
from .devices.compiled import compiling
from .devices.cpu.cores import allowed_cores
from .errors import KernelCompileError
from .inspecting import load

OWN = ""
"""Stands for what every kernel needs of ringkernel itself."""


def fill(sources: tuple[str, ...], processes: int | None = None) -> dict[str, str | None]:
    """Compile every kernel that modules (or files) declare: its id, and why it cannot be compiled, or None.

    `processes`: as many as there are cores for this process, unless it is said. Raises `ModuleError`.
    """
    kernel_ids = _load_all(sources)
    n_processes = min(processes or allowed_cores(), 1 + len(kernel_ids))
    jobs = [OWN, *kernel_ids]  # the longest first
    with ProcessPoolExecutor(n_processes, multiprocessing.get_context("spawn")) as pool:
        reasons = pool.map(functools.partial(_compile, sources), jobs)
        return {job: reason for job, reason in zip(jobs, reasons, strict=True) if job != OWN}


@functools.cache
def _load_all(sources: tuple[str, ...]) -> tuple[str, ...]:
    """Import the modules, once per process, and return the ids of their compiled kernels."""
    for source in sources:
        load(source)
    return tuple(kernel_id for kernel_id, one in registry.by_id.items() if not one.is_coroutine)


def _compile(sources: tuple[str, ...], kernel_id: str) -> str | None:
    """Compile one kernel, in a process of the pool; return why it cannot be compiled, or None."""
    if kernel_id == OWN:
        from .devices.cpu.pool import compiled_loops
        from .ring.host_api import host_api

        host_api()
        compiled_loops()
        return None
    _load_all(sources)
    declaration = find_declaration(kernel_id, None)
    try:
        compiling.find_now(declaration)
    except KernelCompileError as error:
        return str(error)
    return None
