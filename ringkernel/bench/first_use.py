"""A fresh process launches one kernel, or calls one njit function, and prints what that took, as JSON: see `launch`.

python -m ringkernel.bench.first_use kernel|njit
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import ringkernel as rk


@rk.ring_kernel("bench.half", input_type=float, output_type=float)
def half(msg: Any, out: Any) -> None:
    """A handler that nothing else launches."""
    out.value = msg.value / 2


async def _launch() -> dict[str, float]:
    start = time.perf_counter()
    async with rk.RingKernelRuntime() as runtime:
        await runtime.launch("bench.half")
        await runtime.activate("bench.half")
        elapsed_s = time.perf_counter() - start
        await runtime.send("bench.half", 42.0)
        return {"use_s": elapsed_s, "reply": await runtime.receive("bench.half")}


def _call() -> dict[str, float]:
    from numba import njit

    start = time.perf_counter()
    reply = njit(cache=True)(halved)(42.0)
    return {"use_s": time.perf_counter() - start, "reply": reply}


def halved(value: float) -> float:
    """What a user would write instead."""
    return value / 2


if __name__ == "__main__":
    began = time.perf_counter()
    import numba  # noqa: F401 (what it costs is measured apart)

    import_s = time.perf_counter() - began
    from .compiling import Compilations

    compilations = Compilations()
    used = asyncio.run(_launch()) if sys.argv[1] == "kernel" else _call()
    answer = {**used, "import_s": import_s, "compilations": compilations.count}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()  # now, not when the interpreter is done
