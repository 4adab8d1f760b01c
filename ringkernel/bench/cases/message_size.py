"""Messages of 8 B to 64 KiB through a compiled kernel's queues.

    send_batch --(copy)--> ring --> kernel copies the payload --> ring --(copy)--> receive_batch

Beside it `memcpy` of the same bytes, once: a message on this way is copied three times. GB/s of payload.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.floors.loops import copy_gb_s
from ringkernel.bench.kernels import Array, start
from ringkernel.bench.method import check
from ringkernel.bench.model import Row
from ringkernel.bench.traffic import receive_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench

SIZES = (8, 64, 512, 4096, 65_536)
TOTAL_BYTES = 16_000_000
MOST_MESSAGES = 200_000
RING_BYTES = 1 << 18


def forwarder(words: int) -> tuple[np.dtype[Any], Callable[..., None]]:
    """A message type of so many words, and a handler that copies one."""
    dtype = np.dtype([("words", np.int64, (words,))])

    def forward(msg: Any, out: Any) -> None:
        source, target = msg.words, out.words
        for i in range(words):
            target[i] = source[i]

    return dtype, rk.ring_kernel(f"forward{8 * words}", input_type=dtype, output_type=dtype, check=False)(forward)


def _through(runtime: rk.RingKernelRuntime, kernel_id: str, messages: Array) -> Callable[[], Awaitable[float]]:
    results = np.empty_like(messages)

    async def gb_s() -> float:
        results.view(np.uint8)[...] = 0
        begin = time.perf_counter()
        await asyncio.gather(runtime.send_batch(kernel_id, messages), receive_all(runtime, kernel_id, results))
        elapsed_s = time.perf_counter() - begin
        check(np.array_equal(messages["words"], results["words"]), f"{kernel_id} brought something else")
        return messages.nbytes / elapsed_s / 1e9

    return gb_s


def _copied(messages: Array) -> Callable[[], Awaitable[float]]:
    source = messages.view(np.uint8)
    target = np.empty_like(source)

    async def gb_s() -> float:
        rate = copy_gb_s(source, target, 1)
        check(np.array_equal(source, target), "the copy is something else")
        return rate

    return gb_s


async def run(bench: Bench) -> list[Row]:
    """One row per size."""
    contenders: dict[str, Callable[[], Awaitable[float]]] = {}
    counts = {}
    async with rk.RingKernelRuntime() as runtime:
        for size in SIZES:
            dtype, handler = forwarder(size // 8)
            count = bench.count(min(MOST_MESSAGES, TOTAL_BYTES // size), least=8)
            messages = np.zeros(count, dtype)
            messages["words"] = np.arange(count * size // 8).reshape(messages["words"].shape)
            kernel_id = f"forward{size}"
            await start(runtime, kernel_id, handler, queue_size=min(4096, max(4, RING_BYTES // size)))
            contenders[f"ringkernel {size}"] = _through(runtime, kernel_id, messages)
            contenders[f"memcpy {size}"] = _copied(messages)
            counts[size] = count
        found = await bench.race_numbers("GB/s", contenders)
    return [
        Row(
            f"bytes-{size}",
            f"messages of {size:,} B",
            found[f"ringkernel {size}"].times(1.0, "GB/s", "ringkernel"),
            found[f"memcpy {size}"].times(1.0, "GB/s", "memcpy"),
            params={"bytes": size, "messages": counts[size]},
        )
        for size in SIZES
    ]
