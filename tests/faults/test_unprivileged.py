"""A user that is not root, has no home, and may write almost nowhere, can do everything."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ringkernel.cache import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.compiles

NOBODY = 65534
AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search",
]  # fmt: skip
"""How root becomes nobody, who may still read an interpreter in root's home, and write nothing of root's."""

if not hasattr(os, "geteuid") or (os.geteuid() == 0 and shutil.which("setpriv") is None):
    pytest.skip("root cannot become another user", allow_module_level=True)

SCRIPT = """
import asyncio, json, logging, os, subprocess, sys
logging.basicConfig(level=logging.WARNING)
import numpy as np
import ringkernel as rk
from ringkernel.doctor import examine

FACTOR = float(sys.argv[1])

@rk.ring_kernel("times", input_type=float, output_type=float)
def times(msg, out):
    out.value = FACTOR * msg.value

async def main():
    async with rk.RingKernelRuntime(workers=1) as runtime:
        async with rk.managed_kernel(runtime, "times"):
            path = await runtime.serve_stats(0.01)
            command = [sys.executable, "-m", "ringkernel.cli", "top", "--once"]
            top = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
            out, _ = await top.communicate()
            mapped = (await runtime.map("times", np.arange(3.0))).tolist()
            return {"map": mapped, "top": "times" in out.decode(), "socket": str(path)}

said = asyncio.run(main())
with rk.Session(workers=1) as session:
    said["session"] = session.map(times, [1.0]).tolist()
said["rk.map"] = rk.map(times, [1.0]).tolist()
said["ill"] = [finding.subject for finding in examine() if not finding.is_well and finding.subject != "cores"]
said["user"] = os.geteuid()
print(json.dumps(said))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may write to, and in it a cache that its owner, nobody, may only read."""
    with tempfile.TemporaryDirectory() as made:  # those of pytest are the user's alone
        place, cache = Path(made), Path(made, "cache")
        shutil.copytree(os.environ[settings.DIRECTORY_VARIABLE], cache)
        for path in (cache, *cache.iterdir()):
            if os.geteuid() == 0:
                os.chown(path, NOBODY, NOBODY)
        cache.chmod(0o500)
        place.chmod(0o1777)
        yield place
        cache.chmod(0o700)


@pytest.mark.timeout(120)
def test_everything_works_also_with_a_cache_that_cannot_be_written_to(place: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    kept |= {"XDG_RUNTIME_DIR": str(place), settings.DIRECTORY_VARIABLE: str(place / "cache")}
    command = [*(AS_NOBODY if os.geteuid() == 0 else []), sys.executable, "-W", "error", "-c", SCRIPT]
    factor = float(1 + secrets.randbelow(1 << 40))  # code that no run before this one has compiled and kept
    command.append(str(factor))
    before = sorted((place / "cache").iterdir())
    done = subprocess.run(command, env=kept, cwd=place, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said.pop("user") != 0
    assert Path(said.pop("socket")).parent.parent == place
    assert said == {
        "map": [0.0, factor, 2 * factor], "session": [factor], "rk.map": [factor], "top": True,
        "ill": ["compile cache"],
    }  # fmt: skip
    assert done.stderr.count("the compile cache cannot be used") == 1
    assert "Permission denied" in done.stderr
    assert sorted((place / "cache").iterdir()) == before
