"""The number of cores that there are, and that workers take."""

from __future__ import annotations

import math
import os
from pathlib import Path


def allowed_cores() -> int:
    """Cores that this process may keep busy: those it may run on, or fewer if its control group, as a container's, has
    a quota of CPU time; at least one."""
    return max(1, int(min(_affinity(), cpu_quota())))


def default_workers() -> int:
    """One worker for each of these cores but one, which is for the event loop; at least one."""
    return max(1, allowed_cores() - 1)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota(root: Path = Path("/")) -> float:
    """Cores' worth of CPU time that Linux lets this process have: the smallest quota of its control group and those
    around it (`cpu.max` of version 2, `cpu.cfs_quota_us` of version 1). Infinite where there is none."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        mount = root / "sys/fs/cgroup"
        if controllers and "cpu" not in names:
            continue
        if controllers:
            mount = next((mount / name for name in (controllers, "cpu") if (mount / name).is_dir()), mount)
        parts = [part for part in path.split("/") if part not in ("", "..")]
        quotas += [_quota_in(mount.joinpath(*parts[:n])) for n in range(len(parts) + 1)]
    return min(quotas)


def _quota_in(group: Path) -> float:
    """The quota of one control group, in cores."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
