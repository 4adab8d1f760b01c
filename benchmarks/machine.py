"""Where and with what the numbers were measured."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

PACKAGES = ("numba-ringkernel", "numba", "llvmlite", "numpy", "uvloop", "pydotcompute")


def _cpu_model():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores():
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments):
    try:
        return subprocess.run(
            ["git", "--no-optional-locks", *arguments],  # noqa: S607 - the git of this machine
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _commit():
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return "none"
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return commit + (" with uncommitted changes" if changes else "")


def describe(loop):
    """What the header of the table shows, as a flat dict of strings."""
    return {
        "machine": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": str(_cores()),
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "event loop": loop,
        "packages": ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
        "commit": _commit(),
    }
