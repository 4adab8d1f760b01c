"""The saxpy chain of software radio: free source, 1 to 8 stages of y = a*x + b, free sink.

    a few blocks, published over and over --> saxpy --ring--> saxpy --ring--> ... --ring--> sink (looks at two samples)

    bare loop (floor)   y = a*x + b over one block of the same size, again and again in this thread, in cache
    GNU Radio           null_source -> n flow-graph blocks -> null_sink

A message is a block of float32. The figure is samples/s per stage and core: n times what comes out in a second; on
several workers divided by the CPU time that the process took instead of the time that passed.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.endless import consumed, engine_of, feed_endlessly
from ringkernel.bench.floors.loops import bare_saxpy
from ringkernel.bench.method import check
from ringkernel.bench.model import Row, at_least
from ringkernel.devices.services import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ringkernel.bench.context import Bench, Opponent
    from ringkernel.bench.kernels import Array

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

        @rk.ring_kernel(
            f"saxpy {block}",
            input_type=self.dtype,
            output_type=self.dtype,
            check=False,
            zeroed=False,
            queue_size=QUEUE_SIZE,
        )
        def saxpy(msg: Any, out: Any) -> None:
            x, y = msg.x, out.x
            for i in range(block):
                y[i] = A * x[i] + B

        @rk.ring_kernel(
            f"saxpy sink {block}",
            input_type=self.dtype,
            state=np.zeros(1, SEEN_DTYPE),
            check=False,
            queue_size=QUEUE_SIZE,
        )
        def free_sink(msg: Any, state: Any) -> None:
            """Looks at the first and the last sample of each block."""
            seen, x = state[0], msg.x
            seen.count += 1
            seen.first += x[0]
            seen.last += x[block - 1]

        self.saxpy, self.sink = saxpy, free_sink
        self.blocks = np.zeros(SOURCE_BLOCKS, self.dtype)
        self.blocks["x"] = np.random.default_rng(1).random((SOURCE_BLOCKS, block), np.float32)


def expected(blocks: Array, stages: int) -> Array:
    """What comes out of the chain, by NumPy."""
    x = blocks["x"].astype(np.float64)
    for _ in range(stages):
        x = A * x + B
    return np.asarray(x)


class Chain:
    """A running chain and how much has gone through it."""

    def __init__(self, runtime: rk.RingKernelRuntime, stages: int, radio: Radio) -> None:
        self.runtime, self.stages, self.radio = runtime, stages, radio
        self.ids = [f"saxpy{stages}-{radio.block}-{i}" for i in range(stages)]
        self.sink = f"sink{stages}-{radio.block}"
        self.done = 0

    async def start(self) -> None:
        """Launch, connect, activate."""
        ids = [*self.ids, self.sink]
        for name in ids:
            await self.runtime.launch(name, self.radio.sink if name == self.sink else self.radio.saxpy)
        for source, target in itertools.pairwise(ids):
            self.runtime.connect(source, target)
        for name in ids:
            await self.runtime.activate(name)

    async def run(self, count: int) -> float:
        """Seconds for `count` blocks; the sink's sums are checked."""
        before = (await self.runtime.read_state(self.sink)).copy()[0]
        start = time.perf_counter()
        await feed_endlessly(self.runtime, self.ids[0], self.radio.blocks, count)
        self.done += count
        await consumed(self.runtime, self.sink, self.done)
        elapsed_s = time.perf_counter() - start
        after = (await self.runtime.read_state(self.sink))[0]
        right = expected(self.radio.blocks, self.stages)
        each = count / SOURCE_BLOCKS
        is_right = (
            after["count"] - before["count"] == count
            and np.isclose(after["first"] - before["first"], each * right[:, 0].sum(), rtol=1e-4)
            and np.isclose(after["last"] - before["last"], each * right[:, -1].sum(), rtol=1e-4)
        )
        check(is_right, f"a chain of {self.stages} brought something else")
        return elapsed_s


def _count(samples: int, radio: Radio, stages: int) -> int:
    """Blocks through a chain, so that each chain handles as many samples in all; a multiple of the source's."""
    return max(1, samples // radio.block // stages // SOURCE_BLOCKS) * SOURCE_BLOCKS


def _per_stage(chain: Chain, samples: int) -> Callable[[], Awaitable[float]]:
    """Billions of samples/s that pass a stage, on one worker."""
    count = _count(samples, chain.radio, chain.stages)

    async def rate() -> float:
        return count * chain.stages * chain.radio.block / await chain.run(count) / 1e9

    return rate


def _per_core(chain: Chain, samples: int) -> Callable[[], Awaitable[float]]:
    """The same per second of CPU time."""
    count = _count(samples, chain.radio, chain.stages)

    async def rate() -> float:
        before_s = time.process_time()
        await chain.run(count)
        return count * chain.stages * chain.radio.block / (time.process_time() - before_s) / 1e9

    return rate


def _bare(radio: Radio, samples: int) -> Callable[[], Awaitable[float]]:
    block, count = radio.blocks["x"][0].copy(), _count(samples, radio, 1)

    async def rate() -> float:
        y, elapsed_s = bare_saxpy(A, block, B, count)
        check(np.allclose(y, A * block + B, rtol=1e-5), "the bare loop brought something else")
        return count * radio.block / elapsed_s / 1e9

    return rate


def _radio(opponent: Opponent, stages: int, samples: int) -> Callable[[], Awaitable[float]]:
    measure = opponent.asked("saxpy", stages=stages, blocks=max(1, samples // BLOCK // stages), block_size=BLOCK)

    async def rate() -> float:
        answer = await measure()
        return float(answer["samples"] * stages / answer["seconds"] / 1e9)

    return rate


async def _check_whole_blocks(runtime: rk.RingKernelRuntime, radio: Radio) -> None:
    """Every sample of a few blocks, once."""
    await runtime.launch("whole", radio.saxpy)
    await runtime.activate("whole")
    found = await runtime.map("whole", radio.blocks)
    check(np.allclose(found["x"], expected(radio.blocks, 1), rtol=1e-5), "saxpy brought something else")
    await runtime.terminate("whole")


async def run(bench: Bench) -> list[Row]:
    """Per stage and core: each number of stages on one worker, eight on several; GNU Radio where there is one."""
    samples = bench.count(SAMPLES, least=16 * BLOCK)
    radio, small = Radio(BLOCK), Radio(SMALL_BLOCK)
    several = max(2, allowed_cores() - 1)
    with bench.opponents("saxpy") as opponents:
        async with rk.RingKernelRuntime(workers=1) as one, rk.RingKernelRuntime(workers=several) as many:
            await _check_whole_blocks(one, radio)
            chains = [Chain(one, stages, radio) for stages in STAGES]
            short, spread = Chain(one, 1, small), Chain(many, STAGES[-1], radio)
            for chain in (*chains, short, spread):
                await chain.start()
            contenders = {str(chain.stages): _per_stage(chain, samples) for chain in chains}
            contenders["several"] = _per_core(spread, samples)
            contenders["bare loop"] = _bare(radio, samples)
            contenders["small"] = _per_stage(short, samples)
            contenders["small bare loop"] = _bare(small, samples)
            for opponent in opponents:
                contenders |= {f"{opponent.name} {n}": _radio(opponent, n, samples) for n in STAGES}
            found = await bench.race_numbers("GS/s", contenders)
            workers = {engine_of(many, kernel_id).worker for kernel_id in spread.ids}
    bare = found["bare loop"]
    rows = [
        Row(
            f"stages-{n}",
            f"saxpy chain of {n}, per stage, one worker",
            found[str(n)].times(1.0, "GS/s", "ringkernel"),
            bare,
            target=TARGETS.get(n),
            params={"stages": n},
        )
        for n in STAGES
    ]
    rows.append(
        Row(
            f"stages-{STAGES[-1]}-several",
            f"saxpy chain of {STAGES[-1]}, per stage and core, {len(workers)} of {several} workers used",
            found["several"].times(1.0, "GS/s", "ringkernel"),
            bare,
            params={"stages": STAGES[-1], "workers": several},
        )
    )
    rows.append(
        Row(
            "small-blocks",
            f"saxpy chain of 1, blocks of {SMALL_BLOCK:,} samples",
            found["small"].times(1.0, "GS/s", "ringkernel"),
            found["small bare loop"].times(1.0, "GS/s", "bare loop"),
            params={"stages": 1, "block": SMALL_BLOCK},
        )
    )
    for opponent in opponents:
        rows += [
            Row(
                f"stages-{n}-{opponent.name}",
                f"saxpy chain of {n}, per stage",
                found[str(n)].times(1.0, "GS/s", "ringkernel"),
                found[f"{opponent.name} {n}"].times(1.0, "GS/s", opponent.name),
                note=opponent.spec.note,
                params={"stages": n},
            )
            for n in STAGES
        ]
    return rows
