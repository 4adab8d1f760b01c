"""The guards themselves: an access one element too far ends the process, and so does a write to what is read only."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import guarded
import pytest

if guarded.WHY_NOT is not None:
    pytest.skip(guarded.WHY_NOT, allow_module_level=True)

CHILD = """
import asyncio, ctypes, gc, sys
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
    print("writes", flush=True)
    ctypes.memset(address, 1, 1)

def end_of(array):
    return array.ctypes.data + array.nbytes

async def main(where, beyond):
    async with RingKernelRuntime(workers=1) as runtime:
        kernel = await runtime.launch("k")
        await runtime.activate("k")
        state = kernel.engine.block.state
        mapping = asyncio.ensure_future(runtime.map("k", np.zeros(5, RECORD)))
        while kernel.engine.rings.reading[0] is kernel.engine.edges[0]:
            await asyncio.sleep(0)
        given = kernel.engine.rings.reading[0].ring.slots
        if where == "input":
            write(given.ctypes.data)
        state[0] = 1
        result = await mapping
        places = {
            "result": result,
            "ring": kernel.engine.output.slots,
            "input ring": kernel.engine.outlet.ring.slots,
            "state": state,
        }
        if where in places:
            write(end_of(places[where]) + (beyond - 1) * places[where].itemsize)
        if where == "given back":
            region = kernel.engine.arena.allocate(64)
            address = region.address
            if beyond:
                del region
                gc.collect()
            write(address)
    print("lives", flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def child(where: str, beyond: int) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parent
    code = f"import sys; sys.path[:0] = [{str(tests)!r}, {str(tests.parent)!r}]\n{CHILD}"
    return subprocess.run(
        [sys.executable, "-c", code, where, str(beyond)], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("where", ["result", "ring", "input ring", "state", "given back"])
def test_one_element_too_far_ends_the_process(where: Any) -> None:
    inside = child(where, 0)
    assert (inside.returncode, inside.stdout.split()) == (0, ["writes", "lives"]), inside.stderr
    outside = child(where, 1)
    assert (outside.returncode, outside.stdout.split()) == (-signal.SIGSEGV, ["writes"]), outside.stderr


def test_a_write_to_what_a_runtime_was_given_ends_the_process() -> None:
    assert child("input", 0).returncode == -signal.SIGSEGV
