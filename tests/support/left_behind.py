"""Fail a test that leaves a thread or an open descriptor behind, and a module whose tests leave a file mapped.

A look before each test and one after it take less than 0.1 ms. Only what seems to be left is waited for: it may be on
its way out. What the process keeps for good is none of it: the session of `rk.map` is ended after each test
(`conftest.no_shared_session`), what packages open once is opened before the first look (`open_pools`). Memory that
arenas keep is counted in `behaviour/test_coming_and_going.py`: of a process that compiles, anonymous memory grows
anyhow.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from helpers import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Collection

DESCRIPTORS = Path("/proc/self/fd")
MAPPINGS = Path("/proc/self/maps")
IS_LINUX = MAPPINGS.exists()
INSTALLED = tuple({"/usr/", "/lib", *(f"{Path(prefix).resolve()}/" for prefix in (sys.prefix, sys.base_prefix))})
"""What lies there stays mapped, or open, once something has been imported: libraries, fonts."""

BEFORE = pytest.StashKey["Sight"]()


class Sight(NamedTuple):
    """What there is at a time."""

    threads: frozenset[threading.Thread]
    descriptors: frozenset[int]

    def left_since(self, before: Sight) -> list[str]:
        """What is there and was not before, in words."""
        left = [f"thread {thread.name}" for thread in self.threads - before.threads]
        for number in self.descriptors - before.descriptors:
            with contextlib.suppress(FileNotFoundError):  # closed just now
                target = os.fspath((DESCRIPTORS / str(number)).readlink())
                left += [f"descriptor {number}, {target}"] * (not target.startswith(INSTALLED))
        return left


POOLS: dict[str, Callable[[Any], object]] = {
    "polars": lambda polars: polars.DataFrame({"a": [1.0]}).select(polars.col("a") + 1),
    "uvloop": lambda uvloop: uvloop.new_event_loop().close(),
}
"""What has each of these packages open what it keeps for the process."""


def open_pools() -> None:
    """Open what packages that are imported would open in some test, and keep."""
    for name in POOLS.keys() & sys.modules.keys():
        POOLS.pop(name)(sys.modules[name])


def look() -> Sight:
    """What there is now. Wakers that wait for their next user are none of it: they are kept for good."""
    from inside import idle_wakers

    descriptors: frozenset[int] = frozenset()
    if IS_LINUX:
        listed = list(DESCRIPTORS.iterdir())  # has the descriptor of the listing, too
        descriptors = frozenset(int(path.name) for path in listed if os.path.lexists(path)) - idle_wakers()
    return Sight(frozenset(threading.enumerate()), descriptors)


def mapped_files() -> set[str]:
    """Files that are mapped now, but for what is installed, and for libraries, which Python keeps once it has them."""
    if not IS_LINUX:
        return set()
    lines = (line.split(maxsplit=5) for line in MAPPINGS.read_text().splitlines())
    files = {line[5] for line in lines if len(line) == 6 and line[5][0] == "/" and not line[5].startswith(INSTALLED)}
    return {file for file in files if not file.endswith(".so")}


def wait_until_gone(left: Callable[[], Collection[str]]) -> list[str]:
    """What `left()` still names once all that is on its way out is gone."""
    if not left():
        return []
    gc.collect()
    ends = time.monotonic() + PATIENCE_S
    while left() and time.monotonic() < ends:
        time.sleep(0.001)
    return sorted(left())


def check_test(item: pytest.Item) -> None:
    """Fail a test that has left something behind, now that all its own fixtures are gone."""
    before = item.stash.get(BEFORE, None)
    if before is not None and (left := wait_until_gone(lambda: look().left_since(before))):
        pytest.fail(f"left behind: {', '.join(left)}", pytrace=False)


def check_module(before: set[str]) -> None:
    """Fail the last test of a module that has left files mapped."""
    left = wait_until_gone(lambda: mapped_files() - before)
    assert not left, f"the module's tests have left mapped: {left}"
