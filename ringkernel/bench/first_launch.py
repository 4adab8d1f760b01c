"""A fresh process launches one kernel and prints what that took, as JSON. See the case `launch`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import ringkernel as rk


@rk.ring_kernel("half", input_type=float, output_type=float)
def half(msg: Any, out: Any) -> None:
    """A handler that nothing else launches."""
    out.value = msg.value / 2


async def _launch() -> dict[str, float]:
    start = time.perf_counter()
    async with rk.RingKernelRuntime() as runtime:
        await runtime.launch("half")
        await runtime.activate("half")
        elapsed_s = time.perf_counter() - start
        await runtime.send("half", 42.0)
        return {"launch_s": elapsed_s, "reply": await runtime.receive("half")}


if __name__ == "__main__":
    began = time.perf_counter()
    import numba  # noqa: F401 (what it costs is measured apart)

    import_s = time.perf_counter() - began
    from .compiling import Compilations

    compilations = Compilations()
    launched = asyncio.run(_launch())
    answer = {**launched, "import_s": import_s, "compilations": compilations.count}
    sys.stdout.write(json.dumps(answer) + "\n")
