"""A cached kernel is launched without compiling, and does the same: one process after the other, or at once."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringkernel.cache import settings
from ringkernel.cache.store import TEMPORARY_SUFFIX

pytestmark = pytest.mark.compiles

KERNELS = """
import numpy as np
import ringkernel as rk

TICK = np.dtype([("price", "f8"), ("volume", "i8")])
FACTOR = 2.0

def scaled(x):
    return FACTOR * x

@rk.ring_kernel("scalar", input_type=TICK, output_type=float, state=np.zeros(2))
def scalar(msg, out, state):
    state[0] += scaled(msg.price)
    out.value = state[0]

@rk.ring_kernel("filter", input_type=TICK, output_type=TICK)
def some(msg, out):
    out.price, out.volume = np.sqrt(msg.price), msg.volume
    return msg.volume > 0

@rk.ring_kernel("batch", input_type=float, output_type=float, batch=True, max_outputs=2)
def batch(msgs, outs):
    count = 0
    for i in range(len(msgs)):
        outs[count].value = msgs[i].value
        outs[count + 1].value = -msgs[i].value
        count += 2
    return count

@rk.ring_kernel("pick", input_type=int, output_type=float, state=np.arange(3.0))
def pick(msg, out, state):
    if msg.value < 0:
        raise ValueError("below zero", 7)
    out.value = state[msg.value]

@rk.ring_kernel("allocates", input_type=int, output_type=float)
def allocates(msg, out):
    values = np.ones(msg.value)
    values[-1] = 0.5
    out.value = values.sum()
"""

DRIVER = """
import asyncio, json, sys, traceback
import numba.core.event as event

async def outputs(runtime, kernel_id, messages):
    async with rk.managed_kernel(runtime, kernel_id):
        return [repr(value) for value in await runtime.map(kernel_id, messages)]

async def fault(runtime, kernel_id, messages):
    await runtime.launch(kernel_id)
    await runtime.activate(kernel_id)
    await runtime.send_batch(kernel_id, messages)
    await runtime.wait(kernel_id)
    error = runtime.kernels[kernel_id].error
    counts = runtime.statistics(kernel_id)
    said = ["".join(traceback.format_exception(error)), counts.processed, counts.failed, counts.unprocessed]
    runtime.remove(kernel_id)
    return said

async def main():
    ticks = [(4.0, 1), (9.0, 0), (16.0, 2)]
    async with rk.RingKernelRuntime(workers=1) as runtime:
        return {
            "scalar": await outputs(runtime, "scalar", np.array(ticks, kernels.TICK)),
            "filter": await outputs(runtime, "filter", np.array(ticks, kernels.TICK)),
            "batch": await outputs(runtime, "batch", np.array([1.0, 2.0])),
            "allocates": await outputs(runtime, "allocates", np.array([3, 5])),
            "index": await fault(runtime, "pick", [2, 7, 1]),
            "raised": await fault(runtime, "pick", [0, 1, -5, 2]),
        }

with event.install_recorder("numba:compile") as compiled, event.install_recorder("ringkernel:compile") as tables:
    import numpy as np
    import ringkernel as rk
    sys.path.insert(0, sys.argv[1])
    import kernels
    results = asyncio.run(main())
names = {one.data["dispatcher"].py_func.__name__ for _, one in compiled.buffer}
names = sorted(names | {function.__name__ for _, one in tables.buffer for function in one.data["functions"]})
print(json.dumps({"compiled": names, "results": results}))
"""


def start(folder: Path, source: str, cache: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    (folder / "kernels.py").write_text(source)
    return subprocess.Popen(
        [sys.executable, "-B", "-c", DRIVER, str(folder)],
        env={**os.environ, settings.DIRECTORY_VARIABLE: str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "cache" not in err  # kernels that fail are in the log, a cache that cannot be used would be, too
    return dict(json.loads(out))


class Warm:
    """A cache that one process has filled, and what that process said."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder / "kernels", folder / "cache"
        self.first = finish(start(self.folder, KERNELS, self.cache))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Warm:
    return Warm(tmp_path_factory.mktemp("warm"))


def test_a_second_process_compiles_nothing_and_says_the_same(warm: Warm) -> None:
    assert {"run_worker", "publish", "take_turns", "scalar", "batch"} <= set(warm.first["compiled"])
    second = finish(start(warm.folder, KERNELS, warm.cache))
    assert second["compiled"] == []
    assert second["results"] == warm.first["results"]
    assert second["results"]["scalar"] == ["np.float64(8.0)", "np.float64(26.0)", "np.float64(58.0)"]
    text, processed, failed, unprocessed = second["results"]["index"]
    assert "IndexError" in text
    assert "out.value = state[msg.value]" in text  # the traceback of the Python function
    assert (processed, failed, unprocessed) == (1, 1, 1)
    assert "ValueError: ('below zero', 7)" in second["results"]["raised"][0]


def test_only_what_reads_a_changed_global_is_compiled_again(warm: Warm, tmp_path: Path) -> None:
    moved = "# a line more: neither lines nor files are in the key\n" + KERNELS
    shutil.copytree(warm.cache, tmp_path / "cache")
    changed = finish(start(tmp_path / "kernels", moved.replace("FACTOR = 2.0", "FACTOR = 3.0"), tmp_path / "cache"))
    assert {"scalar", "scaled"} <= set(changed["compiled"])
    assert not {"publish", "run_worker", "some", "pick"} & set(changed["compiled"])
    assert changed["results"]["scalar"] == ["np.float64(12.0)", "np.float64(39.0)", "np.float64(87.0)"]
    assert changed["results"]["filter"] == warm.first["results"]["filter"]


def test_two_processes_may_fill_the_same_cache(warm: Warm, tmp_path: Path) -> None:
    source = KERNELS.replace("FACTOR = 2.0", "FACTOR = 4.0").replace("np.sqrt(msg.price)", "1.0 + msg.price")
    shutil.copytree(warm.cache, tmp_path / "cache")
    racing = [start(tmp_path / "kernels", source, tmp_path / "cache") for _ in range(2)]
    one, other = [finish(process) for process in racing]
    assert one["results"] == other["results"] != warm.first["results"]
    after = finish(start(tmp_path / "kernels", source, tmp_path / "cache"))
    assert (after["compiled"], after["results"]) == ([], one["results"])
    assert not list((tmp_path / "cache").glob(f"*{TEMPORARY_SUFFIX}"))
