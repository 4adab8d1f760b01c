"""Where and with what the numbers were measured, and why they may be worth less than they seem."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

from ringkernel.devices.cpu.cores import allowed_cores

PACKAGES = ("numba-ringkernel", "numba", "llvmlite", "numpy", "uvloop")
FEW_CORES = 4


def describe(loop: str) -> dict[str, str]:
    """What the header of the table shows, by name."""
    return {
        "machine": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": str(allowed_cores()),
        "load": f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "event loop": loop,
        "packages": ", ".join(f"{package} {_version(package)}" for package in PACKAGES),
        "commit": _commit(),
    }


def warnings() -> list[str]:
    """What is wrong with this machine as a place to measure on."""
    found = []
    if allowed_cores() < FEW_CORES:
        found.append(
            f"{allowed_cores()} cores: cases with two compiled threads share them with Python and with everything else "
            f"here, and what several workers gain cannot show"
        )
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > allowed_cores() / 2:
        found.append(f"the machine is busy: load {load:.2f} on {allowed_cores()} cores when the run began")
    return found


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(  # noqa: S603 (fixed arguments)
            ["git", "--no-optional-locks", *arguments],  # noqa: S607 (the git of this machine)
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _commit() -> str:
    """The commit of the checkout that this package is in, if it is in one of its own."""
    if not _git("ls-files", "--error-unmatch", Path(__file__).name):
        return "none"
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return _git("rev-parse", "--short=12", "HEAD") + (" with uncommitted changes" if changes else "")
