"""A fresh process launches one kernel and prints what that took, as JSON. See `cases/launch.py`."""

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


async def _launch() -> tuple[float, float]:
    start = time.perf_counter()
    async with rk.RingKernelRuntime() as runtime:
        await runtime.launch("half")
        await runtime.activate("half")
        elapsed_s = time.perf_counter() - start
        await runtime.send("half", 42.0)
        return elapsed_s, await runtime.receive("half")


def main() -> None:
    """Import numba, then launch."""
    start = time.perf_counter()
    import numba  # noqa: F401 (what it costs is measured apart)
    from numba.core import event

    import_s = time.perf_counter() - start
    with event.install_recorder("numba:compile") as recorder:
        launch_s, reply = asyncio.run(_launch())
    compilations = sum(entry.is_start for _, entry in recorder.buffer)
    answer = {"import_s": import_s, "launch_s": launch_s, "reply": reply, "compilations": compilations}
    sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
