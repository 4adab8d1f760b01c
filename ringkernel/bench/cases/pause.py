"""Pausing and resuming a busy kernel; launching one whose handler is compiled already.

    await deactivate   command --> worker, at the next span's edge --> answer     while messages queue up for it
    await reactivate   command --> worker --> answer
    launch again       allocate rings and block, hand over to a worker            nothing is compiled

Beside it a round trip through the same kernel, the least that asking it something takes.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from ringkernel.bench.kernels import is_scaled, running, scale, start, ticks
from ringkernel.bench.method import check
from ringkernel.bench.model import Row
from ringkernel.bench.traffic import closed_loop_ns
from ringkernel.lifecycle import KernelState

if TYPE_CHECKING:
    from ringkernel.bench.context import Bench

TIMES = 200
BACKLOG = 256  # messages that wait when the pause comes


async def run(bench: Bench) -> list[Row]:
    """Three rows."""
    times = bench.count(TIMES, least=5)
    backlog, messages = ticks(BACKLOG), ticks(times)
    now = time.perf_counter_ns
    async with running("scale") as runtime:

        async def received() -> None:
            replies = [await runtime.receive("scale") for _ in backlog]
            check(all(map(is_scaled, backlog, replies)), "a pause lost or changed messages")

        async def pause_us() -> float:
            taken_ns = []
            for _ in range(max(1, times // 10)):
                await runtime.send_batch("scale", backlog)
                began = now()
                await runtime.deactivate("scale")
                taken_ns.append(now() - began)
                before = runtime.statistics("scale").processed
                check(runtime.get_state("scale") is KernelState.DEACTIVATED, "the kernel is not DEACTIVATED")
                check(runtime.statistics("scale").processed == before, "a paused kernel went on")
                await runtime.reactivate("scale")
                await received()
            return statistics.median(taken_ns) / 1e3

        async def resume_us() -> float:
            taken_ns = []
            for _ in range(max(1, times // 10)):
                await runtime.deactivate("scale")
                await runtime.send_batch("scale", backlog)
                began = now()
                await runtime.reactivate("scale")
                taken_ns.append(now() - began)
                await received()
            return statistics.median(taken_ns) / 1e3

        async def launch_us() -> float:
            taken_ns = []
            for _ in range(max(1, times // 10)):
                began = now()
                await start(runtime, "again", scale)
                taken_ns.append(now() - began)
                await closed_loop_ns(runtime, "again", messages[:1], is_scaled)
                await runtime.terminate("again")
                runtime.remove("again")
            return statistics.median(taken_ns) / 1e3

        async def round_trip_us() -> float:
            return statistics.median(await closed_loop_ns(runtime, "scale", messages, is_scaled)) / 1e3

        contenders = {"pause": pause_us, "resume": resume_us, "launch": launch_us, "round trip": round_trip_us}
        found = await bench.race_numbers("us", contenders)
    figures = {
        "pause": f"pause with {BACKLOG} messages waiting",
        "resume": "resume",
        "launch": "launch and activate, compiled before",
    }
    return [
        Row(key, figure, found[key].times(1.0, "us", "ringkernel"), found["round trip"], higher_is_better=False)
        for key, figure in figures.items()
    ]
