"""PyDotCompute's side, as a process of its own: importing it changes the process's event-loop policy.

Started by `rival.py`. Reads one JSON request a line, {"job": ..., "count": n}, answers with one line. Between
requests it is blocked in a read and takes no CPU.

It runs in its best documented setting: uvloop, FastMessageQueue without serialisation (tier 1, the default),
`ctx.receive()` without a timeout (with one, a round trip takes half as long again), telemetry off, messages
built beforehand. Its threaded tier is slower by its own README (about 100 us), and its wheel brings its
Cython tier as source only.
"""

import asyncio
import json
import sys
from importlib.metadata import version

import pydotcompute
from echo import flood, round_trip_p50_ns


@pydotcompute.message
class Note:
    id: int = 0
    value: float = 0.0


@pydotcompute.ring_kernel(kernel_id="echo")
async def echo(ctx):
    while not ctx.should_terminate:
        await ctx.send(await ctx.receive())


def notes(count):
    return [Note(id=i, value=0.5 * i) for i in range(count)]


async def about(runtime, _count):
    return f"PyDotCompute {version('pydotcompute')} on {runtime.get_loop_info()['loop_class']}"


async def round_trip(runtime, count):
    return await round_trip_p50_ns(runtime, "echo", notes(count))


async def one_way(runtime, count):
    return await flood(runtime, "echo", notes(count))


JOBS = {"about": about, "round_trip": round_trip, "flood": one_way}


def main():
    runtime = pydotcompute.RingKernelRuntime(enable_telemetry=False)
    with asyncio.Runner() as runner:
        runner.run(runtime.start())
        runner.run(runtime.launch("echo"))
        runner.run(runtime.activate("echo"))
        for line in sys.stdin:
            request = json.loads(line)
            answer = runner.run(JOBS[request["job"]](runtime, request["count"]))
            print(json.dumps(answer), flush=True)
        runner.run(runtime.shutdown(timeout=0.1))


if __name__ == "__main__":
    main()
