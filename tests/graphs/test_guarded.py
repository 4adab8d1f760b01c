"""The guards themselves: an access one element too far ends the process, and so does a write to what is read only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import guarded
import pytest

if guarded.WHY_NOT is not None:
    pytest.skip(guarded.WHY_NOT, allow_module_level=True)

CHILD = """
import asyncio, ctypes, gc, json, os
import numpy as np, pytest
from graph_kernels import usleep
import guarded
from ringkernel import RingKernelRuntime, ring_kernel

guarded.install(pytest.MonkeyPatch())
RECORD = np.dtype([("a", "i8"), ("b", "i4")], align=True)

@ring_kernel("k", input_type=RECORD, output_type=RECORD, state=np.zeros(4, np.int32), queue_size=4)
def k(msg, out, state):
    while state[0] == 0:
        usleep(100)
    out.a = msg.a

def write(address):
    # in a fork, which the guard may end
    child = os.fork()
    if child == 0:
        ctypes.memset(address, 1, 1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def last_and_beyond(array):
    end = array.ctypes.data + array.nbytes
    return write(end - array.itemsize), write(end)

async def main():
    async with RingKernelRuntime(workers=1) as runtime:
        kernel = await runtime.launch("k")
        await runtime.activate("k")
        state = kernel.engine.block.state
        mapping = asyncio.ensure_future(runtime.map("k", np.zeros(5, RECORD)))
        while kernel.engine.rings.reading[0] is kernel.engine.edges[0]:
            await asyncio.sleep(0)
        given = kernel.engine.rings.reading[0].ring.slots
        outcomes = {"given": write(given.ctypes.data)}
        state[0] = 1
        outcomes["result"] = last_and_beyond(await mapping)
        outcomes["ring"] = last_and_beyond(kernel.engine.output.slots)
        outcomes["input ring"] = last_and_beyond(kernel.engine.outlet.ring.slots)
        outcomes["state"] = last_and_beyond(state)
        region = kernel.engine.arena.allocate(64)
        address = region.address
        before = write(address)
        del region
        gc.collect()
        outcomes["given back"] = before, write(address)
    print(json.dumps(outcomes))

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, int | list[int]]:
    """How the processes ended that wrote somewhere: to the last element, and to the one beyond."""
    here, root = Path(__file__).parent, Path(__file__).parents[2]
    folders = [str(folder) for folder in (here, here.parent / "support", root)]
    code = f"import sys; sys.path[:0] = {folders!r}\n{CHILD}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    found: dict[str, int | list[int]] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("where", ["result", "ring", "input ring", "state", "given back"])
def test_one_element_too_far_ends_the_process(outcomes: dict[str, int | list[int]], where: str) -> None:
    assert outcomes[where] == [0, -signal.SIGSEGV]


def test_a_write_to_what_a_runtime_was_given_ends_the_process(outcomes: dict[str, int | list[int]]) -> None:
    assert outcomes["given"] == -signal.SIGSEGV
