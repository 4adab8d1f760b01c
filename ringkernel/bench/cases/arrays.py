"""Whole arrays: through one kernel and through chains, lent by `map` or copied into queues and out of them."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.floors.loops import copy_gb_s, plain_loop
from ringkernel.bench.kernels import Array, is_scaled_array, running, scale, start, start_chain, tick_array
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_least
from ringkernel.bench.traffic import batches_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

RECORDS = 3_000_000  # 48 MB: above 32 MiB malloc maps fresh pages each time, below it hands out warm ones again
AT_ONCE = 1 << 16  # what one receive_batch asks for

CHAIN_RECORDS = 1_000_000
CHAINS = (1, 2, 4, 8, 16)
CHAIN_TARGETS = {4: at_least(0.4), 8: at_least(0.5)}

FAN_IN_RECORDS = 400_000
SOURCES = (1, 2, 4, 8)

SIZES = (8, 64, 512, 4096, 65_536)
TOTAL_BYTES = 16_000_000
MOST_MESSAGES = 200_000
RING_BYTES = 1 << 18


def _mapped(
    runtime: rk.RingKernelRuntime, where: str | tuple[str, str], records: Array, factor: float = 2.0
) -> Measure[float]:
    """Millions of records/s through `map`."""

    async def millions_per_s() -> float:
        start = time.perf_counter()
        results = await runtime.map(where, records)
        elapsed_s = time.perf_counter() - start
        check(is_scaled_array(records, results, factor), f"map({where!r}) returned something else")
        return len(records) / elapsed_s / 1e6

    return millions_per_s


def _looped(records: Array) -> Measure[float]:
    """Millions of records/s of the plain compiled loop."""

    async def millions_per_s() -> float:
        results, elapsed_s = plain_loop(records)
        check(is_scaled_array(records, results), "the plain loop returned something else")
        return len(records) / elapsed_s / 1e6

    return millions_per_s


def _copied(array: Array, scale: float = 1.0) -> Measure[float]:
    """GB/s of copying an array, times `scale`."""
    source = array.view(np.uint8)
    target = np.empty_like(source)

    async def gb_s() -> float:
        rate = copy_gb_s(source, target, 1)
        check(np.array_equal(source, target), "the copy is something else")
        return scale * rate

    return gb_s


def _queued(
    runtime: rk.RingKernelRuntime,
    parts: dict[str, Array],
    target: str,
    amount: float,
    is_right: Callable[[Array], Any],
    **options: Any,
) -> Measure[float]:
    """`amount` per second, in arrays that go into some kernels and come out of one."""
    results = np.concatenate(list(parts.values()))

    async def rate() -> float:
        elapsed_s = await batches_s(runtime, parts, target, results, **options)
        check(is_right(results), f"{target} brought something else")
        return amount / elapsed_s

    return rate


async def map(bench: Bench) -> list[Row]:  # noqa: A001 (a case is called what it is about)
    """An array through one compiled kernel by `map`, in place.

        ringkernel           array =(lent as a ring)=> kernel =(lent as a ring)=> result array
        plain loop (floor)   the same work as one compiled loop in this thread, into a fresh array
        memcpy               the same bytes, copied onto warm memory

    `map` may beat the plain loop: its result arrays are reused once they have been let go of, and the loop pays for
    page faults.
    """
    records = tick_array(bench.count(RECORDS, least=1024))
    async with running("scale") as runtime:
        contenders = {
            "ringkernel": _mapped(runtime, "scale", records),
            "plain loop": _looped(records),
            "memcpy": _copied(records, 1e3 / records.itemsize),
        }
        found = await bench.race_numbers("M/s", contenders)
    size = f"map of {len(records):,} records of 16 B"
    return [
        Row("loop", size, found["ringkernel"], found["plain loop"], target=at_least(0.9)),
        Row("memcpy", size, found["ringkernel"], found["memcpy"], note="memcpy writes onto warm memory"),
    ]


async def batch(bench: Bench) -> list[Row]:
    """Arrays through a compiled kernel's queues: `send_batch` and `receive_batch` at the same time.

        ringkernel           send_batch --(copy)--> ring --> kernel --> ring --(copy)--> receive_batch
        plain loop (floor)   the same work as one compiled loop in this thread, into a fresh array

    One task sends while another one receives.
    """
    records = tick_array(bench.count(RECORDS, least=1024))
    async with running("scale") as runtime:
        ours = _queued(
            runtime,
            {"scale": records},
            "scale",
            len(records) / 1e6,
            lambda results: is_scaled_array(records, results),
            most=AT_ONCE,
        )
        found = await bench.race_numbers("M/s", {"ringkernel": ours, "plain loop": _looped(records)})
    figure, target = "batches of 16 B records, sent and received", at_least(30, "M/s")
    return [Row("rate", figure, found["ringkernel"], found["plain loop"], target=target)]


async def chain(bench: Bench) -> list[Row]:
    """`map` through 1, 2, 4, 8 and 16 connected kernels on one worker.

        array =(lent)=> k0 --ring--> k1 --ring--> ... --ring--> kN =(lent)=> result array

    Per hop: N times the records that come out in a second. Beside it the single kernel, which reads and writes memory
    at every hop, while between two kernels a message is in cache.
    """
    records = tick_array(bench.count(CHAIN_RECORDS, least=1024))
    async with running(workers=1) as runtime:
        contenders = {}
        for length in CHAINS:
            ids = [f"k{length}-{i}" for i in range(length)]
            await start_chain(runtime, dict.fromkeys(ids, scale))
            contenders["ringkernel", length] = _mapped(runtime, (ids[0], ids[-1]), records, 2.0**length)
        found = await bench.race_numbers("M/s", contenders)
    single = found["ringkernel", 1].named("one kernel")
    return [
        Row(
            f"hops-{length}",
            f"chain of {length}, per hop",
            found["ringkernel", length].times(length),
            single if length > 1 else None,
            target=CHAIN_TARGETS.get(length),
            params={"kernels": length},
        )
        for length in CHAINS
    ]


def _is_complete(parts: list[Array], results: Array) -> bool:
    """Whether every source's records are there, in order, twice doubled."""
    source_of = np.searchsorted([part["id"][0] for part in parts], results["id"], side="right") - 1
    return all(is_scaled_array(part, results[source_of == i], 4.0) for i, part in enumerate(parts))


async def fan_in(bench: Bench) -> list[Row]:
    """Several compiled sources feed one compiled target.

        send_batch --> source 0 --ring--+
        send_batch --> source 1 --ring--+--> target --ring--> receive_batch
        ...                             |
        send_batch --> source n --ring--+

    Beside it one source with all the records. Each source's records have to arrive complete and in their order.
    """
    records = tick_array(bench.count(FAN_IN_RECORDS, least=1024))
    async with running() as runtime:
        contenders = {}
        for number in SOURCES:
            target = f"target{number}"
            sources = [f"source{number}-{i}" for i in range(number)]
            for name in (*sources, target):
                await runtime.launch(name, scale)
            for source in sources:
                runtime.connect(source, target)
            for name in (target, *sources):
                await runtime.activate(name)
            parts = dict(zip(sources, np.array_split(records, number), strict=True))
            contenders["ringkernel", number] = _queued(
                runtime,
                parts,
                target,
                len(records) / 1e6,
                functools.partial(_is_complete, list(parts.values())),
            )
        found = await bench.race_numbers("M/s", contenders)
    single = found["ringkernel", 1].named("one source")
    return [
        Row(
            f"sources-{number}",
            f"fan-in from {number} source{'s' if number > 1 else ''}",
            found["ringkernel", number],
            single if number > 1 else None,
            params={"sources": number},
        )
        for number in SOURCES
    ]


def _forwarder(words: int) -> tuple[np.dtype[Any], Callable[..., None]]:
    """A message type of so many words, and a handler that copies one."""
    dtype = np.dtype([("words", np.int64, (words,))])

    def forward(msg: Any, out: Any) -> None:
        source, target = msg.words, out.words
        for i in range(words):
            target[i] = source[i]

    return dtype, rk.ring_kernel(f"forward{8 * words}", input_type=dtype, output_type=dtype, check=False)(forward)


def _is_same(messages: Array, results: Array) -> bool:
    return np.array_equal(messages["words"], results["words"])


async def message_size(bench: Bench) -> list[Row]:
    """Messages of 8 B to 64 KiB through a compiled kernel's queues.

        send_batch --(copy)--> ring --> kernel copies the payload --> ring --(copy)--> receive_batch

    Beside it `memcpy` of the same bytes, once: a message on this way is copied three times. GB/s of payload.
    """
    contenders: dict[tuple[str, int], Measure[float]] = {}
    counts = {}
    async with running() as runtime:
        for size in SIZES:
            dtype, handler = _forwarder(size // 8)
            counts[size] = count = bench.count(min(MOST_MESSAGES, TOTAL_BYTES // size), least=8)
            messages = np.zeros(count, dtype)
            messages["words"] = np.arange(count * size // 8).reshape(messages["words"].shape)
            kernel_id = f"forward{size}"
            await start(runtime, kernel_id, handler, queue_size=min(4096, max(4, RING_BYTES // size)))
            contenders["ringkernel", size] = _queued(
                runtime,
                {kernel_id: messages},
                kernel_id,
                messages.nbytes / 1e9,
                functools.partial(_is_same, messages),
            )
            contenders["memcpy", size] = _copied(messages)
        found = await bench.race_numbers("GB/s", contenders)
    return [
        Row(
            f"bytes-{size}",
            f"messages of {size:,} B",
            found["ringkernel", size],
            found["memcpy", size],
            params={"bytes": size, "messages": counts[size]},
        )
        for size in SIZES
    ]
