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

from . import measuring
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


def _notes(count: int) -> list[Any]:
    return [new_note(id=i, value=0.5 * i) for i in range(count)]


class Runtime:
    """Its runtime with both actors active, on an event loop that runs while a job does."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._runtime = pydotcompute.RingKernelRuntime(enable_telemetry=False, use_eager_tasks=False)
        self.about = f"PyDotCompute {version('pydotcompute')} on {runner.run(self._start())}"

    async def _start(self) -> str:
        await self._runtime.start()
        for kernel_id in ("echo", "counter"):
            await self._runtime.launch(kernel_id)
            await self._runtime.activate(kernel_id)
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    def close(self) -> None:
        """Shut the runtime down."""
        self._runner.run(self._runtime.shutdown(timeout=0.1))

    def _ends(self, kernel_id: str) -> tuple[Any, Any]:
        return functools.partial(self._runtime.send, kernel_id), functools.partial(self._runtime.receive, kernel_id)

    def round_trip(self, count: int) -> Any:
        """One message under way."""
        return self._runner.run(measuring.round_trip_async(*self._ends("echo"), _notes(count)))

    def flood(self, count: int) -> Any:
        """One task sends, another one receives."""
        return self._runner.run(measuring.flood_async(*self._ends("echo"), _notes(count)))

    def send(self, count: int) -> Any:
        """Single sends to the counting actor."""
        send, receive = self._ends("counter")

        async def total() -> Any:
            await send(new_note(id=STOP))
            return await receive()

        return self._runner.run(measuring.send_async(send, total, _notes(count)))


if __name__ == "__main__":
    with asyncio.Runner() as runner:
        runtime = Runtime(runner)
        serve(runtime.about, {"round_trip": runtime.round_trip, "flood": runtime.flood, "send": runtime.send})
        runtime.close()
