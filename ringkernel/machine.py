"""The facts about this machine that `ringkernel info` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .cache.store import Store


class CacheAccessError(Exception):
    """The compile cache cannot be shown or cleared; the message says why."""


def machine() -> dict[str, object]:
    """Collect what a bug report should say about this machine; nothing is compiled or started."""
    import platform

    from .devices.cpu.cores import allowed_cores, default_workers
    from .memory.wait_handle import WAKE_MECHANISM

    return {
        "ringkernel": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": allowed_cores(),
        "default_workers": default_workers(),
        "wake_mechanism": WAKE_MECHANISM,
        "versions": {package: installed_version(package) for package in ("numba", "numpy", "llvmlite")},
        "devices": {"cpu": "yes", **cuda_report()},
        "cache": cache_usage(),
    }


def cuda_report() -> dict[str, object]:
    """Collect what is there of CUDA, and what "auto" would choose."""
    from .devices.grid.cuda_probe import cuda_facts, driver_version
    from .devices.selection import automatic

    facts = cuda_facts()
    device, reason = automatic(None)
    gpus: object = [
        f"{gpu.name} ({gpu.cc[0]}.{gpu.cc[1]}, {gpu.multiprocessors} multiprocessors): {gpu.problem or 'usable'}"
        for gpu in facts.gpus
    ]
    if not facts.was_asked:
        gpus = "not looked for"
    return {
        "cuda": facts.problem or ("the simulator" if facts.simulator else "yes"),
        "cuda_driver": driver_version() or "none",
        "cuda_simulator": "on" if facts.simulator else "off",
        "gpus": gpus or "none",
        "auto": f"{device}: {reason}",
        **facts.packages,
    }


def cache_usage() -> dict[str, object]:
    """Return the place of the compile cache, its content and its limit. Raises `CacheAccessError` for wrong
    settings."""
    store = open_cache()
    facts: dict[str, object] = {"cache_directory": str(store.directory), "cache_limit": store.limit}
    try:
        entries, nbytes = store.usage()
    except OSError as error:
        return {**facts, "cache_error": str(error)}
    return {**facts, "cache_entries": entries, "cache_bytes": nbytes}


def open_cache() -> Store:
    """Return the compile cache that the environment variables name."""
    from .cache import settings
    from .cache.store import Store
    from .errors import ConfigurationError

    try:
        return Store(settings.directory(), settings.limit())
    except (ConfigurationError, OSError) as error:
        raise CacheAccessError(str(error)) from error


def installed_version(package: str) -> str:
    """Read a package's version without importing it."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
