"""The saxpy chain of software radio, on blocks of float32 in cache."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.endless import consumed, engine_of, feed_endlessly
from ringkernel.bench.floors.loops import bare_saxpy
from ringkernel.bench.kernels import start, start_chain
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_least
from ringkernel.devices.cpu.cores import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from ringkernel.bench.context import Bench
    from ringkernel.bench.kernels import Array
    from ringkernel.bench.method import Measure

BLOCK = 8192  # samples, 32 KiB: what GNU Radio's buffers hold by default
SMALL_BLOCK = 1024  # where the cost of a turn shows
SOURCE_BLOCKS = 2
QUEUE_SIZE = 2  # small rings stay in cache
SAMPLES = 80_000_000
STAGES = (1, 2, 4, 8)
TARGETS = {1: at_least(0.8), 8: at_least(0.6)}
A, B = np.float32(0.999), np.float32(0.001)
SEEN_DTYPE = np.dtype([("count", np.int64), ("first", np.float64), ("last", np.float64)])


class Radio:
    """The kernels for blocks of one size. The output is not zeroed first: every sample of it is written."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.dtype = np.dtype([("x", np.float32, (block,))])
        options: dict[str, Any] = {"input_type": self.dtype, "check": False, "queue_size": QUEUE_SIZE}

        @rk.ring_kernel(f"saxpy {block}", output_type=self.dtype, zeroed=False, **options)
        def saxpy(msg: Any, out: Any) -> None:
            x, y = msg.x, out.x
            for i in range(block):
                y[i] = A * x[i] + B

        @rk.ring_kernel(f"saxpy sink {block}", state=np.zeros(1, SEEN_DTYPE), **options)
        def free_sink(msg: Any, state: Any) -> None:
            """Looks at the first and the last sample of each block."""
            seen, x = state[0], msg.x
            seen.count += 1
            seen.first += x[0]
            seen.last += x[block - 1]

        self.saxpy, self.sink = saxpy, free_sink
        self.blocks = np.zeros(SOURCE_BLOCKS, self.dtype)
        self.blocks["x"] = np.random.default_rng(1).random((SOURCE_BLOCKS, block), np.float32)

    def expected(self, stages: int) -> Array:
        """What comes out of a chain, by NumPy."""
        x = self.blocks["x"].astype(np.float64)
        for _ in range(stages):
            x = A * x + B
        return np.asarray(x)

    def count(self, samples: int, stages: int) -> int:
        """Blocks through a chain, so that each chain handles as many samples in all; a multiple of the source's."""
        return max(1, samples // self.block // stages // SOURCE_BLOCKS) * SOURCE_BLOCKS


class Chain:
    """A running chain and how much has gone through it."""

    def __init__(self, runtime: rk.RingKernelRuntime, stages: int, radio: Radio) -> None:
        self.runtime, self.stages, self.radio = runtime, stages, radio
        self.ids = [f"saxpy{stages}-{radio.block}-{i}" for i in range(stages)]
        self.sink = f"sink{stages}-{radio.block}"
        self.done = 0

    async def start(self) -> None:
        """Launch, connect, activate."""
        await start_chain(self.runtime, {**dict.fromkeys(self.ids, self.radio.saxpy), self.sink: self.radio.sink})

    async def run(self, count: int) -> float:
        """Seconds for `count` blocks; the sink's sums are checked."""
        before = (await self.runtime.read_state(self.sink)).copy()[0]
        start = time.perf_counter()
        await feed_endlessly(self.runtime, self.ids[0], self.radio.blocks, count)
        self.done += count
        await consumed(self.runtime, self.sink, self.done)
        elapsed_s = time.perf_counter() - start
        after = (await self.runtime.read_state(self.sink))[0]
        right = self.radio.expected(self.stages)
        each = count / SOURCE_BLOCKS
        is_right = (
            after["count"] - before["count"] == count
            and np.isclose(after["first"] - before["first"], each * right[:, 0].sum(), rtol=1e-4)
            and np.isclose(after["last"] - before["last"], each * right[:, -1].sum(), rtol=1e-4)
        )
        check(is_right, f"a chain of {self.stages} brought something else")
        return elapsed_s

    def rate(self, samples: int, clock: Callable[[], float] | None = None) -> Measure[float]:
        """Billions of samples/s that pass a stage; with a clock, per second on it instead of the time that passes."""
        count = self.radio.count(samples, self.stages)

        async def gs_per_s() -> float:
            before_s = clock() if clock else 0.0
            elapsed_s = await self.run(count)
            return count * self.stages * self.radio.block / (clock() - before_s if clock else elapsed_s) / 1e9

        return gs_per_s


def _bare(radio: Radio, samples: int) -> Measure[float]:
    block, count = radio.blocks["x"][0].copy(), radio.count(samples, 1)

    async def rate() -> float:
        y, elapsed_s = bare_saxpy(A, block, B, count)
        check(np.allclose(y, A * block + B, rtol=1e-5), "the bare loop brought something else")
        return count * radio.block / elapsed_s / 1e9

    return rate


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
    with bench.opponents("saxpy") as rivals:
        async with rk.RingKernelRuntime(workers=1) as one, rk.RingKernelRuntime(workers=several) as many:
            await _check_whole_blocks(one, radio)
            chains = {n: Chain(one, n, radio) for n in STAGES}
            short, shared = Chain(one, 1, small), Chain(many, STAGES[-1], radio)
            for chain in (*chains.values(), short, shared):
                await chain.start()
            contenders: dict[Hashable, Measure[float]] = {
                ("ringkernel", n): chain.rate(samples) for n, chain in chains.items()
            }
            contenders["ringkernel", "several"] = shared.rate(samples, time.process_time)
            contenders["bare loop"] = _bare(radio, samples)
            contenders["ringkernel", "small"] = short.rate(samples)
            contenders["bare loop", "small"] = _bare(small, samples)
            for rival in rivals:
                for n in STAGES:
                    contenders[rival.name, n] = rival.contender(
                        "saxpy",
                        functools.partial(_per_stage, n),
                        stages=n,
                        blocks=max(1, samples // BLOCK // n),
                        block_size=BLOCK,
                    )
            found = await bench.race_numbers("GS/s", contenders)
            executors: list[Any] = [engine_of(many, kernel_id).executor for kernel_id in shared.ids]
            workers = {executor.worker for executor in executors}

    def row(key: str, figure: str, ours: Hashable, beside: Hashable, **fields: Any) -> Row:
        return Row(key, f"saxpy chain of {figure}", found["ringkernel", ours], found[beside], **fields)

    last = STAGES[-1]
    used = f"{len(workers)} of {several} workers used"
    return [
        *(
            row(
                f"stages-{n}",
                f"{n}, per stage, one worker",
                n,
                "bare loop",
                target=TARGETS.get(n),
                params={"stages": n},
            )
            for n in STAGES
        ),
        row(
            f"stages-{last}-several",
            f"{last}, per stage and core, {used}",
            "several",
            "bare loop",
            params={"stages": last, "workers": several},
        ),
        row(
            "small-blocks",
            f"1, blocks of {SMALL_BLOCK:,} samples",
            "small",
            ("bare loop", "small"),
            params={"stages": 1, "block": SMALL_BLOCK},
        ),
        *(
            row(
                f"stages-{n}-{rival.name}",
                f"{n}, per stage",
                n,
                (rival.name, n),
                note=rival.spec.note,
                params={"stages": n},
            )
            for rival in rivals
            for n in STAGES
        ),
    ]
