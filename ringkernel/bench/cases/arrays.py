"""Whole arrays: through one kernel and through chains, lent by `map` or copied into queues and out of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.floors import copied, plain_loop
from ringkernel.bench.kernels import Array, is_scaled_array, running, scale, start, start_chain, tick_array
from ringkernel.bench.method import timed
from ringkernel.bench.model import Row, at_least
from ringkernel.bench.traffic import through_queues

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

RECORDS = 3_000_000  # 48 MB: above 32 MiB malloc maps fresh pages each time, below it hands out warm ones again
AT_ONCE = 1 << 16  # what one receive_batch asks for
CHAIN_RECORDS, CHAINS = 1_000_000, (1, 2, 4, 8, 16)
CHAIN_TARGETS = {4: at_least(0.4), 8: at_least(0.5)}
FAN_IN_RECORDS, SOURCES = 400_000, (1, 2, 4, 8)
SIZES = (8, 64, 512, 4096, 65_536)
TOTAL_BYTES, MOST_MESSAGES = 16_000_000, 200_000
RING_BYTES = 1 << 18


def _mapped(
    runtime: rk.RingKernelRuntime, path: str | tuple[str, str], records: Array, factor: float
) -> Measure[float]:
    """Millions of records/s through `map`."""
    is_right = partial(is_scaled_array, records, factor=factor)
    return timed(len(records) / 1e6, lambda: runtime.map(path, records), is_right, f"map({path!r})")


def _looped(records: Array) -> Measure[float]:
    """Millions of records/s of the plain compiled loop."""
    is_right = partial(is_scaled_array, records)
    return timed(len(records) / 1e6, lambda: plain_loop(records), is_right, "the plain loop")


def _queued(
    runtime: rk.RingKernelRuntime,
    parts: Mapping[str, Array],
    target: str,
    amount: float,
    is_right: Callable[[Array], bool],
    most: int | None = None,
) -> Measure[float]:
    """`amount` per second, in arrays that go into some kernels and come out of one."""
    results = np.zeros_like(np.concatenate(list(parts.values())))

    def are_right(_: object) -> bool:
        verdict = is_right(results)
        results.view(np.uint8)[...] = 0  # of which nothing must be taken for the next round's
        return verdict

    return timed(amount, lambda: through_queues(runtime, parts, target, results, most=most), are_right, target)


async def map(bench: Bench) -> list[Row]:  # noqa: A001 (a case is called what it is about)
    """An array through one compiled kernel by `map`, in place.

        ringkernel           array =(lent as a ring)=> kernel =(lent as a ring)=> result array
        plain loop (floor)   the same work as one compiled loop in this thread, into a fresh array
        memcpy               the same bytes, copied onto warm memory

    `map` may beat the plain loop: its result arrays are reused once they have been let go of, and the loop pays for
    page faults.
    """
    records = tick_array(bench.count(RECORDS, least=1024))
    async with running("bench.scale") as runtime:
        contenders = {
            "ringkernel": _mapped(runtime, "bench.scale", records, 2.0),
            "plain loop": _looped(records),
            "memcpy": copied(records, len(records) / 1e6),
        }
        found = await bench.race_numbers("M/s", contenders)
    size = f"map of {len(records):,} records of 16 B"
    return [
        Row.of("loop", size, found["ringkernel"], found["plain loop"], target=at_least(0.9)),
        Row.of("memcpy", size, found["ringkernel"], found["memcpy"], note="memcpy writes onto warm memory"),
    ]


async def batch(bench: Bench) -> list[Row]:
    """Arrays through a compiled kernel's queues: `send_batch` and `receive_batch` at the same time.

        ringkernel           send_batch --(copy)--> ring --> kernel --> ring --(copy)--> receive_batch
        plain loop (floor)   the same work as one compiled loop in this thread, into a fresh array

    One task sends while another one receives.
    """
    records = tick_array(bench.count(RECORDS, least=1024))
    async with running("bench.scale") as runtime:
        is_right = partial(is_scaled_array, records)
        ours = _queued(runtime, {"bench.scale": records}, "bench.scale", len(records) / 1e6, is_right, AT_ONCE)
        found = await bench.race_numbers("M/s", {"ringkernel": ours, "plain loop": _looped(records)})
    figure, target = "batches of 16 B records, sent and received", at_least(30, "M/s")
    return [Row.of("rate", figure, found["ringkernel"], found["plain loop"], target=target)]


async def chain(bench: Bench) -> list[Row]:
    """`map` through 1, 2, 4, 8 and 16 connected kernels on one worker.

        array =(lent)=> k0 --ring--> k1 --ring--> ... --ring--> kN =(lent)=> result array

    Per hop: N times the records that come out in a second. Beside it the single kernel, which reads and writes memory
    at every hop, while between two kernels a message is in cache.
    """
    records = tick_array(bench.count(CHAIN_RECORDS, least=1024))
    async with running(workers=1) as runtime:
        contenders = {}
        for n in CHAINS:
            ids = [f"k{n}-{i}" for i in range(n)]
            await start_chain(runtime, dict.fromkeys(ids, scale))
            contenders["ringkernel", n] = _mapped(runtime, (ids[0], ids[-1]), records, 2.0**n)
        found = await bench.race_numbers("M/s", contenders)
    single = found["ringkernel", 1].named("one kernel")
    return [
        Row.of(
            f"hops-{n}",
            f"chain of {n}, per hop",
            found["ringkernel", n].times(n),
            single if n > 1 else None,
            target=CHAIN_TARGETS.get(n),
            params={"kernels": n},
        )
        for n in CHAINS
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
        for n in SOURCES:
            target = f"target{n}"
            parts = {f"source{n}-{i}": part for i, part in enumerate(np.array_split(records, n))}
            for name in (*parts, target):
                await runtime.launch(name, scale)
            for source in parts:
                runtime.connect(source, target)
            for name in (target, *parts):
                await runtime.activate(name)
            is_right = partial(_is_complete, list(parts.values()))
            contenders["ringkernel", n] = _queued(runtime, parts, target, len(records) / 1e6, is_right)
        found = await bench.race_numbers("M/s", contenders)
    single = found["ringkernel", 1].named("one source")
    return [
        Row.of(
            f"sources-{n}",
            f"fan-in from {n} source{'s' if n > 1 else ''}",
            found["ringkernel", n],
            single if n > 1 else None,
            params={"sources": n},
        )
        for n in SOURCES
    ]


def _forwarder(words: int) -> tuple[np.dtype[Any], Callable[..., None]]:
    """A message type of so many words, and a handler that copies one."""
    dtype = np.dtype([("words", np.int64, (words,))])

    def forward(msg: Any, out: Any) -> None:
        source, target = msg.words, out.words
        for i in range(words):
            target[i] = source[i]

    return dtype, rk.ring_kernel(f"bench.forward{8 * words}", input_type=dtype, output_type=dtype, check=False)(forward)


async def message_size(bench: Bench) -> list[Row]:
    """Messages of 8 B to 64 KiB through a compiled kernel's queues.

        send_batch --(copy)--> ring --> kernel copies the payload --> ring --(copy)--> receive_batch

    Beside it `memcpy` of the same bytes, once: a message on this way is copied three times. GB/s of payload.
    """
    contenders, counts = {}, {}
    async with running() as runtime:
        for size in SIZES:
            dtype, handler = _forwarder(size // 8)
            counts[size] = bench.count(min(MOST_MESSAGES, TOTAL_BYTES // size), least=8)
            words = np.arange(counts[size] * size // 8)
            messages, name = words.view(dtype), f"forward{size}"
            await start(runtime, name, handler, queue_size=min(4096, max(4, RING_BYTES // size)))
            is_right = partial(np.array_equal, messages)
            gigabytes = messages.nbytes / 1e9
            contenders["ringkernel", size] = _queued(runtime, {name: messages}, name, gigabytes, is_right)
            contenders["memcpy", size] = copied(messages, gigabytes)
        found = await bench.race_numbers("GB/s", contenders)
    return [
        Row.of(
            f"bytes-{size}",
            f"messages of {size:,} B",
            found["ringkernel", size],
            found["memcpy", size],
            params={"bytes": size, "messages": counts[size]},
        )
        for size in SIZES
    ]
