"""A source that costs nothing: a ring whose few slots hold their messages already and are published over and over.

    slots: b0 b1 b2 b3        sequences 0..total-1 are all published at once; slot = sequence & (slots - 1)

It takes the place of a kernel's input as `map` attaches an array, and so the kernel finds its messages in cache, and
nobody has to write them. For measurements only: the producer does not wait for the consumer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ringkernel as rk
    from ringkernel.devices.compiled.engine import CompiledEngine

    from .kernels import Array


def engine_of(runtime: rk.RingKernelRuntime, kernel_id: str) -> CompiledEngine:
    """A compiled kernel's engine."""
    engine: Any = runtime.kernels[kernel_id].engine
    return engine  # type: ignore[no-any-return]


async def feed_endlessly(runtime: rk.RingKernelRuntime, kernel_id: str, messages: Array, total: int) -> None:
    """Give a kernel `total` messages, of which those in `messages` (a power of two of them) recur.

    Nothing else may wait in the kernel's input. The source stays in place until the next one.
    """
    from ringkernel.ring.host.record_ring import RecordRing

    kernel, engine = runtime.kernels[kernel_id], engine_of(runtime, kernel_id)
    assert engine.declaration.input_type is not None
    ring = RecordRing(engine.arena, engine.declaration.input_type, len(messages), lent=messages)
    ring.add_edge()
    engine.arena.chunks.append(messages.view("u1").reshape(-1))  # a worker may reach it for as long as it lives
    async with kernel.lock, engine.token():
        engine.attach({0: ring}, None, alone=True)
        ring.api.publish(ring.address, total, 0)
    _sources[id(engine)] = ring


async def consumed(runtime: rk.RingKernelRuntime, kernel_id: str, total: int) -> None:
    """Wait until a kernel has taken `total` messages in all from the kernel before it."""
    engine = engine_of(runtime, kernel_id)
    await engine.processed_up_to(engine.edges[-1], total)  # the first one is the host's


_sources: dict[int, Any] = {}
"""Rings that kernels read from, which nobody else holds."""
