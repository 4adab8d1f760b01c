"""The first launch in a fresh process, with an empty and with a filled compile cache.

    fresh process: import numba | clock on | launch, activate, one message | clock off

Both write to a cache directory of their own. Beside the cached launch stands the cold one; importing numba, which
nothing can avoid, is reported apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from ringkernel.bench.context import series_of
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_most

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench

ROUNDS = 2
DEADLINE_S = 60


def _launch(cache_dir: str) -> dict[str, Any]:
    """What a fresh process says about its first launch."""
    done = subprocess.run(
        [sys.executable, "-m", "ringkernel.bench.first_launch"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "RINGKERNEL_CACHE_DIR": cache_dir},
    )
    check(done.returncode == 0, f"the fresh process failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    check(found["reply"] == 21.0, "the fresh process received something else")
    return found


async def run(bench: Bench) -> list[Row]:
    """Cached against cold, and what importing numba takes."""
    with tempfile.TemporaryDirectory() as parent:
        filled = ""

        async def launch_cold() -> dict[str, Any]:
            nonlocal filled
            filled = tempfile.mkdtemp(dir=parent)
            return _launch(filled)

        async def launch_cached() -> dict[str, Any]:
            return _launch(filled)

        # the first round is not rotated: cold comes first, and fills the cache
        found = await bench.race(
            {"cold": launch_cold, "cached": launch_cached}, rounds=bench.rounds(ROUNDS), warm_up=False
        )
    cached = series_of("cached", "ms", found["cached"], lambda answer: 1e3 * answer["launch_s"])
    cold = series_of("cold", "ms", found["cold"], lambda answer: 1e3 * answer["launch_s"])
    numba = series_of("import numba", "ms", found["cached"], lambda answer: 1e3 * answer["import_s"])
    compiled = max((answer["compilations"] for answer in found["cached"].values), default=0)
    if compiled:
        bench.notes.append(f"the cached launch compiled {compiled} functions: there is no compile cache at work here")
    return [
        Row("cached", "first launch, cached", cached, cold, higher_is_better=False, target=at_most(50.0, "ms")),
        Row("cold", "first launch, cold", cold, higher_is_better=False),
        Row("numba", "importing numba", numba, higher_is_better=False),
    ]
