"""How many cores a process may keep busy: by its affinity, and by the quota of its control group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from ringkernel.devices.cpu import cores

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


CGROUP, PROC = "sys/fs/cgroup", "proc/self/cgroup"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({PROC: "0::/"}, math.inf),
        ({PROC: "0::/", f"{CGROUP}/cpu.max": "max 100000"}, math.inf),
        ({PROC: "0::/", f"{CGROUP}/cpu.max": "150000 100000"}, 1.5),
        ({PROC: "0::/a/b", f"{CGROUP}/a/cpu.max": "200000 100000", f"{CGROUP}/a/b/cpu.max": "max 100000"}, 2.0),
        ({PROC: "0::/a/b", f"{CGROUP}/a/cpu.max": "400000 100000", f"{CGROUP}/a/b/cpu.max": "50000 100000"}, 0.5),
        ({PROC: "0::/../../x", f"{CGROUP}/cpu.max": "300000 100000"}, 3.0),
        ({PROC: "0::/", f"{CGROUP}/cpu.max": "nonsense"}, math.inf),
        (
            {
                PROC: "4:memory:/m\n3:cpu,cpuacct:/docker/abc\n0::/",
                f"{CGROUP}/cpu,cpuacct/cpu.cfs_quota_us": "250000",
                f"{CGROUP}/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            2.5,
        ),
        (
            {
                PROC: "1:cpu:/x",
                f"{CGROUP}/cpu/x/cpu.cfs_quota_us": "-1",
                f"{CGROUP}/cpu/x/cpu.cfs_period_us": "100000",
            },
            math.inf,
        ),
    ],
)
def test_the_quota_is_the_smallest_of_the_groups_around_a_process(tmp_path: Path, files: Any, expected: float) -> None:
    write(tmp_path, files)
    assert cores.cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"), [(8, math.inf, 8), (8, 2.5, 2), (2, 4.0, 2), (4, 0.5, 1), (1, math.inf, 1)]
)
def test_the_smaller_of_affinity_and_quota_counts(
    monkeypatch: pytest.MonkeyPatch, affinity: int, quota: float, expected: int
) -> None:
    monkeypatch.setattr(cores, "_affinity", lambda: affinity)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.allowed_cores() == expected
    assert cores.default_workers() == max(1, expected - 1)
