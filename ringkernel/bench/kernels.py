"""The kernels and messages that the cases share. The ids of all that the benchmark declares begin with `bench.`: a
process may have kernels of its own."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

import ringkernel as rk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ringkernel.bench.method import Measure

Array = npt.NDArray[Any]
TOIL_STEPS = 1000


@rk.message
class Tick:
    """16 bytes."""

    id: int
    value: float


@rk.message
class Total:
    """What a sink has seen."""

    count: int = 0
    ids: int = 0


@rk.ring_kernel(kernel_id="bench.scale", input_type=Tick, output_type=Tick)
def scale(msg: Tick, out: Tick) -> None:
    """The cheapest kernel that shows whether it has run."""
    out.id = msg.id
    out.value = 2.0 * msg.value


@rk.ring_kernel(kernel_id="bench.toil", input_type=Tick, output_type=Tick)
def toil(msg: Tick, out: Tick) -> None:
    """The same, after some microseconds of work that no compiler can leave out."""
    x = msg.id + 1
    for _ in range(TOIL_STEPS):
        x ^= x >> 7
        x ^= x << 9
    out.id = msg.id
    out.value = 2.0 * msg.value if x != 0 else 0.0  # a number that is not 0 stays so


@rk.ring_kernel(kernel_id="bench.sink", input_type=Tick, state=Total())
def sink(msg: Tick, state: Total) -> None:
    """Counts and sums ids."""
    state.count += 1
    state.ids += msg.id


@rk.ring_kernel(kernel_id="bench.echo")
async def echo(ctx: rk.KernelContext[Tick, Tick]) -> None:
    """The actor loop, for messages of any kind."""
    async for msg in ctx:
        await ctx.send(msg)


def ticks(count: int) -> list[Tick]:
    """`count` messages for `send`."""
    return [Tick(i, 0.5 * i) for i in range(count)]


def tick_array(count: int) -> Array:
    """`count` records of 16 bytes for `map` and `send_batch`."""
    records: Array = np.zeros(count, Tick)
    records["id"] = np.arange(count)
    records["value"] = 0.5 * records["id"]
    return records


def is_scaled(message: Any, reply: Any) -> bool:
    """Whether `reply` is what `scale` makes of `message`."""
    return bool(reply.id == message.id and reply.value == 2.0 * message.value)


def is_scaled_array(records: Array, results: Array, factor: float = 2.0) -> bool:
    """Whether `results` are what `scale` makes of `records`, or several of it one after the other."""
    return (
        len(results) == len(records)
        and np.array_equal(results["id"], records["id"])
        and np.array_equal(results["value"], factor * records["value"])
    )


async def start(runtime: rk.RingKernelRuntime, kernel_id: str, handler: Any = None, **options: Any) -> None:
    """Launch and activate."""
    await runtime.launch(kernel_id, handler, **options)
    await runtime.activate(kernel_id)


async def anew(runtime: rk.RingKernelRuntime, kernel_id: str) -> None:
    """Active, in the state in which it was declared, and with nothing before: its times may begin again."""
    if kernel_id in runtime.kernels:
        if runtime.get_state(kernel_id) is not rk.KernelState.TERMINATED:
            await runtime.terminate(kernel_id)
        runtime.remove(kernel_id)
    await start(runtime, kernel_id)


def afresh(runtime: rk.RingKernelRuntime, kernel_id: str, rate: Measure[float]) -> Measure[float]:
    """The same contender, with such a kernel each time."""

    async def measure() -> float:
        await anew(runtime, kernel_id)
        return await rate()

    return measure


async def start_chain(runtime: rk.RingKernelRuntime, kernels: Mapping[str, Callable[..., Any]]) -> None:
    """Handlers by the ids of their kernels, each connected to the next, all ACTIVE."""
    for kernel_id, handler in kernels.items():
        await runtime.launch(kernel_id, handler)
    for source, target in itertools.pairwise(kernels):
        runtime.connect(source, target)
    for kernel_id in kernels:
        await runtime.activate(kernel_id)


@contextlib.asynccontextmanager
async def running(*kernels: str, workers: int | None = None) -> AsyncIterator[rk.RingKernelRuntime]:
    """A runtime in which the named kernels are ACTIVE."""
    async with rk.RingKernelRuntime(workers=workers) as runtime:
        for kernel_id in kernels:
            await start(runtime, kernel_id)
        yield runtime
