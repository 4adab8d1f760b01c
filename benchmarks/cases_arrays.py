"""Cases about throughput of compiled kernels: ring, map, batch, chain."""

import asyncio
import itertools
import statistics
import time

import numpy as np
from floors import flag_ping_pong_ns, plain_loop
from harness import Side, at_least, at_most, check, interleave, ratio_row, value_row
from kernels import is_scaled_array, running, scale, tick_array
from ring_pair import ring_ping_pong_ns

RECORDS = 3_000_000
ROUND_TRIPS = 20_000
PLACEMENTS = 9  # places in memory whose median is one sample: see `atomics.fresh_words`
BATCH = 1 << 16  # what one receive_batch asks for
HOPS = 4


async def ring(rounds):
    """Round trip of a 16-byte record between two compiled threads, over our rings and over two flags."""

    async def over_rings():
        return statistics.median(ring_ping_pong_ns(ROUND_TRIPS) for _ in range(PLACEMENTS))

    async def over_flags():
        return statistics.median(flag_ping_pong_ns(ROUND_TRIPS) for _ in range(PLACEMENTS))

    times = await interleave(rounds, {"rings": over_rings, "two flags": over_flags})
    ours, floor = Side("rings", "ns", times["rings"]), Side("two flags", "ns", times["two flags"])
    return [ratio_row("round trip / two flags", at_most(1.2), ours, floor)]


def _mapper(runtime, where, records, factor=2.0):
    """A side of `interleave`: millions of records/s through `map`."""

    async def measure():
        start = time.perf_counter()
        results = await runtime.map(where, records)
        elapsed_s = time.perf_counter() - start
        check(is_scaled_array(records, results, factor), f"map({where!r}) returned something else")
        return len(records) / elapsed_s / 1e6

    return measure


def _loop(records):
    """A side of `interleave`: millions of records/s of the plain compiled loop."""

    async def measure():
        results, elapsed_s = plain_loop(records)
        check(is_scaled_array(records, results), "the plain loop returned something else")
        return len(records) / elapsed_s / 1e6

    return measure


async def map(rounds):  # noqa: A001 - a case is named after the call that it measures
    """3 million 16-byte records through one kernel by `map`, and the same work as a plain compiled loop."""
    records = tick_array(RECORDS)
    async with running("scale") as runtime:
        sides = {"map": _mapper(runtime, "scale", records), "plain loop": _loop(records)}
        rates = await interleave(rounds, sides)
    ours, floor = Side("map", "M/s", rates["map"]), Side("plain loop", "M/s", rates["plain loop"])
    return [ratio_row("speed / plain loop", at_least(0.7), ours, floor)]


async def batch(rounds):
    """3 million records by `send_batch`, drained meanwhile by `receive_batch`."""
    records = tick_array(RECORDS)
    results = np.empty_like(records)

    async with running("scale") as runtime:

        async def drain():
            done = 0
            while done < len(results):
                part = await runtime.receive_batch("scale", BATCH)
                results[done : done + len(part)] = part
                done += len(part)

        async def through_queues():
            results[:] = 0
            start = time.perf_counter()
            await asyncio.gather(runtime.send_batch("scale", records), drain())
            elapsed_s = time.perf_counter() - start
            check(is_scaled_array(records, results), "the batches brought something else")
            return len(records) / elapsed_s / 1e6

        rates = await interleave(rounds, {"batch": through_queues, "plain loop": _loop(records)})
    ours, floor = Side("batch", "M/s", rates["batch"]), Side("plain loop", "M/s", rates["plain loop"])
    return [
        value_row("messages", at_least(30, "M/s"), ours.values),
        ratio_row("speed / plain loop", None, ours, floor),
    ]


async def chain(rounds):
    """`map` through four connected kernels on one worker, per hop, and `map` through one of them."""
    records = tick_array(RECORDS)
    ids = [f"k{i}" for i in range(HOPS)]
    async with running("scale", workers=1) as runtime:
        for kernel_id in ids:
            await runtime.launch(kernel_id, scale)
        for source, target in itertools.pairwise(ids):
            runtime.connect(source, target)
        for kernel_id in ids:
            await runtime.activate(kernel_id)
        sides = {
            "chain": _mapper(runtime, (ids[0], ids[-1]), records, 2.0**HOPS),
            "one kernel": _mapper(runtime, "scale", records),
        }
        rates = await interleave(rounds, sides)
    per_hop = Side("per hop", "M/s", [HOPS * rate for rate in rates["chain"]])
    floor = Side("one kernel", "M/s", rates["one kernel"])
    return [ratio_row("speed per hop / one kernel", at_least(0.4), per_hop, floor)]
