"""PyDotCompute's ring kernels: an echo actor and a counting one.

Its best documented setting: uvloop, FastMessageQueue without serialisation (tier 1, the default), `ctx.receive()`
without a timeout (with one, a round trip takes half as long again), telemetry off. No eager tasks, which speed up
the start of a task and nothing that is timed here, and which uvloop refuses on Python 3.13.0. Its threaded tier is
slower by its own README (about 100 us), and its wheel brings its Cython tier as source only. Importing it changes
the event loop policy of the process.
"""

import asyncio
import functools
from importlib.metadata import version
from typing import Any

import pydotcompute

from ringkernel.bench import traffic

from .registry import MESSAGES
from .serving import serve

STOP = -1  # as an id: the counting actor answers with its total


@pydotcompute.message
class Note:
    """A message, as its documentation declares them."""

    id: int = 0
    value: float = 0.0


new_note: Any = Note  # the decorator gives it its constructor, which type checkers do not see


@pydotcompute.ring_kernel(kernel_id="echo")
async def echo(ctx: Any) -> None:
    """Send everything back."""
    while not ctx.should_terminate:
        await ctx.send(await ctx.receive())


@pydotcompute.ring_kernel(kernel_id="counter")
async def counter(ctx: Any) -> None:
    """Count messages and sum their ids; at `STOP` send both and start again."""
    count = ids = 0
    while not ctx.should_terminate:
        message = await ctx.receive()
        if message.id == STOP:
            await ctx.send((count, ids))
            count = ids = 0
        else:
            count += 1
            ids += message.id


async def _start(runtime: Any) -> str:
    await runtime.start()
    for kernel_id in ("echo", "counter"):
        await runtime.launch(kernel_id)
        await runtime.activate(kernel_id)
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


async def _run(runtime: Any, job: str, count: int) -> Any:
    messages = [new_note(id=i, value=0.5 * i) for i in range(count)]

    async def total() -> Any:
        await runtime.send("counter", new_note(id=STOP))
        return await runtime.receive("counter")

    if job == "send":
        return await traffic.sends_async(traffic.send_all(runtime, "counter", messages), total, messages)
    if job == "flood":
        receive = functools.partial(runtime.receive, "echo")
        return await traffic.flood_async(traffic.send_all(runtime, "echo", messages), receive, messages)
    return {"ns": await traffic.closed_loop_ns(runtime, "echo", messages)}


def main() -> None:
    """Serve with both actors active, on an event loop that runs while a job does."""
    runtime = pydotcompute.RingKernelRuntime(enable_telemetry=False, use_eager_tasks=False)
    with asyncio.Runner() as runner:
        about = f"PyDotCompute {version('pydotcompute')} on {runner.run(_start(runtime))}"
        serve(about, {job: lambda count, job=job: runner.run(_run(runtime, job, count)) for job in MESSAGES})
        runner.run(runtime.shutdown(timeout=0.1))


if __name__ == "__main__":
    main()
