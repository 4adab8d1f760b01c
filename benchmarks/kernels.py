"""The kernels and messages that the cases share."""

import contextlib

import numpy as np

import ringkernel as rk


@rk.message
class Tick:
    id: int
    value: float


@rk.message
class Total:
    count: int = 0
    ids: int = 0


@rk.ring_kernel(kernel_id="scale", input_type=Tick, output_type=Tick)
def scale(msg, out):
    out.id = msg.id
    out.value = 2.0 * msg.value


@rk.ring_kernel(kernel_id="sink", input_type=Tick, state=Total())
def sink(msg, state):
    state.count += 1
    state.ids += msg.id


@rk.ring_kernel(kernel_id="echo")
async def echo(ctx):
    async for msg in ctx:
        await ctx.send(msg)


def ticks(count):
    """`count` messages for `send`."""
    return [Tick(i, 0.5 * i) for i in range(count)]


def tick_array(count):
    """`count` records of 16 bytes for `map` and `send_batch`."""
    records = np.zeros(count, Tick.dtype)
    records["id"] = np.arange(count)
    records["value"] = 0.5 * records["id"]
    return records


def is_scaled(message, reply):
    """Whether `reply` is what `scale` makes of `message`."""
    return reply.id == message.id and reply.value == 2.0 * message.value


def is_scaled_array(records, results, factor=2.0):
    return (
        len(results) == len(records)
        and np.array_equal(results["id"], records["id"])
        and np.array_equal(results["value"], factor * records["value"])
    )


async def start(runtime, kernel_id, kernel_func=None, queue_size=None):
    await runtime.launch(kernel_id, kernel_func, queue_size=queue_size)
    await runtime.activate(kernel_id)


@contextlib.asynccontextmanager
async def running(*kernels, **options):
    """A runtime in which the named kernels are ACTIVE."""
    async with rk.RingKernelRuntime(**options) as runtime:
        for kernel_id in kernels:
            await start(runtime, kernel_id)
        yield runtime
