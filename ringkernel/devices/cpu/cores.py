"""How many cores there are, and how many of them workers take."""

from __future__ import annotations

import os


def allowed_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_workers() -> int:
    """One worker for each of these cores but one, which is for the event loop; at least one."""
    return max(1, allowed_cores() - 1)
