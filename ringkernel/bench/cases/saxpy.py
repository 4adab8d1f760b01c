"""The saxpy chain of software radio, on blocks of float32 in cache."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.endless import consumed, engine_of, feed_endlessly
from ringkernel.bench.floors import bare_saxpy
from ringkernel.bench.kernels import start, start_chain
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_least
from ringkernel.devices.cpu.cores import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure
    from ringkernel.bench.model import Target

BLOCK = 8192  # samples, 32 KiB: what GNU Radio's buffers hold by default
SMALL_BLOCK = 1024  # where the cost of a turn shows
SOURCE_BLOCKS = 2
QUEUE_SIZE = 2  # small rings stay in cache
SAMPLES = 80_000_000
STAGES = (1, 2, 4, 8)
MOST = STAGES[-1]
TARGETS = {1: at_least(0.8), 8: at_least(0.6)}
A, B = np.float32(0.999), np.float32(0.001)
SEEN_DTYPE = np.dtype([("count", np.int64), ("first", np.float64), ("last", np.float64)])


class Radio:
    """The kernels for blocks of one size. The output is not zeroed first: every sample of it is written."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.dtype = np.dtype([("x", np.float32, (block,))])
        options: dict[str, Any] = {"input_type": self.dtype, "check": False, "queue_size": QUEUE_SIZE}

        @rk.ring_kernel(f"bench.saxpy {block}", output_type=self.dtype, zeroed=False, **options)
        def saxpy(msg: Any, out: Any) -> None:
            x, y = msg.x, out.x
            for i in range(block):
                y[i] = A * x[i] + B

        @rk.ring_kernel(f"bench.saxpy sink {block}", state=np.zeros(1, SEEN_DTYPE), **options)
        def free_sink(msg: Any, state: Any) -> None:
            """Looks at the first and the last sample of each block."""
            seen, x = state[0], msg.x
            seen.count += 1
            seen.first += x[0]
            seen.last += x[block - 1]

        self.saxpy, self.sink = saxpy, free_sink
        self.blocks = np.zeros(SOURCE_BLOCKS, self.dtype)
        self.blocks["x"] = np.random.default_rng(1).random((SOURCE_BLOCKS, block), np.float32)

    def expected(self, stages: int) -> Any:
        """What comes out of a chain, by NumPy."""
        x = self.blocks["x"].astype(np.float64)
        for _ in range(stages):
            x = A * x + B
        return x

    def count(self, samples: int, stages: int) -> int:
        """Blocks through a chain, so that each chain handles as many samples in all; a multiple of the source's."""
        return max(1, samples // self.block // stages // SOURCE_BLOCKS) * SOURCE_BLOCKS


async def _chain(
    runtime: rk.RingKernelRuntime, stages: int, radio: Radio, samples: int, clock: Callable[[], float]
) -> Measure[float]:
    """Start a chain of so many stages. Billions of samples/s that pass one, by this clock; the sums are checked."""
    ids, sink = [f"saxpy{stages}-{radio.block}-{i}" for i in range(stages)], f"sink{stages}-{radio.block}"
    await start_chain(runtime, {**dict.fromkeys(ids, radio.saxpy), sink: radio.sink})
    count, right, done = radio.count(samples, stages), radio.expected(stages), 0

    async def gs_per_s() -> float:
        nonlocal done
        done += count
        before = (await runtime.read_state(sink)).copy()[0]
        start = clock()
        await feed_endlessly(runtime, ids[0], radio.blocks, count)
        await consumed(runtime, sink, done)
        elapsed_s = clock() - start
        after, each = (await runtime.read_state(sink))[0], count / SOURCE_BLOCKS
        is_right = (
            after["count"] - before["count"] == count
            and np.isclose(after["first"] - before["first"], each * right[:, 0].sum(), rtol=1e-4)
            and np.isclose(after["last"] - before["last"], each * right[:, -1].sum(), rtol=1e-4)
        )
        check(is_right, f"a chain of {stages} brought something else")
        return count * stages * radio.block / elapsed_s / 1e9

    return gs_per_s


def _per_stage(stages: int, answer: Any) -> float:
    return float(answer["samples"] * stages / answer["seconds"] / 1e9)


async def _check_whole_blocks(runtime: rk.RingKernelRuntime, radio: Radio) -> None:
    """Every sample of a few blocks, once."""
    await start(runtime, "whole", radio.saxpy)
    found = await runtime.map("whole", radio.blocks)
    check(np.allclose(found["x"], radio.expected(1), rtol=1e-5), "saxpy brought something else")
    await runtime.terminate("whole")


async def saxpy(bench: Bench) -> list[Row]:
    """The saxpy chain of software radio: free source, 1 to 8 stages of y = a*x + b, free sink.

        a few blocks, published over and over --> saxpy --ring--> ... --> saxpy --ring--> sink (looks at two samples)

        bare loop (floor)   y = a*x + b over one block of the same size, again and again in this thread, in cache
        GNU Radio           null_source -> n flow-graph blocks -> null_sink

    A message is a block of float32. The figure is samples/s per stage and core: n times what comes out in a second; on
    several workers divided by the CPU time that the process took instead of the time that passed.
    """
    samples = bench.count(SAMPLES, least=16 * BLOCK)
    radio, small = Radio(BLOCK), Radio(SMALL_BLOCK)
    several = max(2, allowed_cores() - 1)
    contenders: dict[Hashable, Measure[float]] = {}
    with bench.opponents("saxpy") as rivals:
        async with rk.RingKernelRuntime(workers=1) as one, rk.RingKernelRuntime(workers=several) as many:
            await _check_whole_blocks(one, radio)
            for n in STAGES:
                contenders["ringkernel", n] = await _chain(one, n, radio, samples, time.perf_counter)
            contenders["ringkernel", "several"] = await _chain(many, MOST, radio, samples, time.process_time)
            contenders["ringkernel", "small"] = await _chain(one, 1, small, samples, time.perf_counter)
            contenders["bare loop"] = bare_saxpy(A, radio.blocks["x"][0], B, radio.count(samples, 1))
            contenders["bare loop", "small"] = bare_saxpy(A, small.blocks["x"][0], B, small.count(samples, 1))
            for rival in rivals:
                for n in STAGES:
                    job = {"stages": n, "blocks": max(1, samples // BLOCK // n), "block_size": BLOCK}
                    contenders[rival.name, n] = rival.contender("saxpy", partial(_per_stage, n), **job)
            found = await bench.race_numbers("GS/s", contenders)
            executors: list[Any] = [engine_of(many, kernel_id).executor for kernel_id in list(many.kernels)[:MOST]]
            used = len({executor.worker for executor in executors})

    def row(
        name: str, key: Hashable, figure: str, beside: Hashable, target: Target | None = None, **params: int
    ) -> Row:
        series = found["ringkernel", key], found[beside]
        return Row.of(name, f"saxpy chain of {figure}", *series, target=target, params=params)

    on_several = f"{MOST}, per stage and core, {used} of {several} workers used"
    on_small = f"1, blocks of {SMALL_BLOCK:,} samples"
    bare = "bare loop"
    return [
        *(row(f"stages-{n}", n, f"{n}, per stage, one worker", bare, TARGETS.get(n), stages=n) for n in STAGES),
        row(f"stages-{MOST}-several", "several", on_several, bare, stages=MOST, workers=several),
        row("small-blocks", "small", on_small, (bare, "small"), stages=1, block=SMALL_BLOCK),
        *(
            replace(row(f"stages-{n}-{r.name}", n, f"{n}, per stage", (r.name, n), stages=n), note=r.spec.note)
            for r in rivals
            for n in STAGES
        ),
    ]
