"""Arrays through kernels beside the loops that a user would compile instead: by size, on every core, fused, placed."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench import loops
from ringkernel.bench.kernels import Array, running, start_chain
from ringkernel.bench.method import per_call, timed
from ringkernel.bench.model import Row, Series, at_least, at_most
from ringkernel.bench.traffic import QUEUE_SIZE, receive_all, through_queues

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure
    from ringkernel.bench.model import Target

SIZES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
OPTIONS = 500_000
MAPS, LOOPS = 20, 1_000  # most calls of a measurement
RECORDS_AT_ONCE = 1_000_000  # and about how many records they take
SAME = 1.05  # what counts as level
LEVEL = 1.1  # and of calls of some microseconds
MAP, MAP_INTO = "map", "map(out=)"
WAYS = {"fresh": "njit, fresh array", "reused": "njit, reused array", "batch": "batch"}
SMALL = 1_000  # records of a map that must take next to no time
CORES_TARGET = at_least(0.95)
SAMPLES, STAGES = 4_000_000, 8
SAMPLES_QUEUED = 1 << 16  # 256 KiB: at the default, 16 KiB, the calls take ten times as long as the work
FUSED_S, PLACED_S = 4.0, 2.0  # of traffic before it counts
PLACED, PLACED_STAGES, STEPS = 300_000, 4, 100  # long enough for a balancer to act
DIFFERENT = 1_000  # messages, which recur


@rk.ring_kernel("bench.linear", input_type=float, output_type=float, zeroed=False)
def linear(msg: Any, out: Any) -> None:
    """Cheap: the memory takes the time."""
    out.value = 2.0 * msg.value + 1.0


@rk.ring_kernel("bench.prices", input_type=loops.OPTION, output_type=float, zeroed=False)
def prices(msg: Any, out: Any) -> None:
    """Dear: the arithmetic takes the time."""
    out.value = loops.price(msg.spot, msg.strike, msg.years)


@rk.ring_kernel("bench.saxpy", input_type=np.float32, output_type=np.float32, zeroed=False, queue_size=SAMPLES_QUEUED)
def saxpy(msg: Any, out: Any) -> None:
    """One stage of a chain."""
    out.value = loops.SAXPY_A * msg.value + loops.SAXPY_B


@rk.ring_kernel("bench.steps", input_type=np.int64, output_type=np.int64, zeroed=False)
def steps(msg: Any, out: Any) -> None:
    """Some tens of nanoseconds of work that no compiler can leave out."""
    x = msg.value
    for _ in range(STEPS):
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 7
    out.value = x


@dataclass(frozen=True)
class Job:
    """A kernel, the loops that do the same, what goes in and what has to come out."""

    kernel_id: str
    figure: str
    values: Array
    expected: Array
    loop: Callable[[Array, Array], None]
    prange: Callable[[Array, Array], None]

    @property
    def name(self) -> str:
        """What its rows are called by."""
        return self.kernel_id.removeprefix("bench.")

    @classmethod
    def linear(cls, count: int) -> Job:
        """Memory-bound."""
        values = np.arange(float(count))
        return cls("bench.linear", "2x + 1", values, 2 * values + 1, loops.linear, loops.linear_prange)

    @classmethod
    def prices(cls, count: int) -> Job:
        """Compute-bound."""
        values = loops.options(count)
        expected = loops.prices_by_numpy(values)
        return cls("bench.prices", "Black-Scholes", values, expected, loops.prices, loops.prices_prange)

    def first(self, count: int) -> Job:
        """The same for the first records."""
        return replace(self, values=self.values[:count], expected=self.expected[:count])

    def is_right(self, found: Array) -> bool:
        """Whether results are what they have to be, but for rounding. Wipes them: the next round must not find them."""
        verdict = len(found) == len(self.expected) and np.allclose(found, self.expected, rtol=1e-5)
        found[...] = 0
        return verdict

    def into(self, results: Array, loop: Callable[[Array, Array], None]) -> Callable[[], Array]:
        """Call a loop with this array for the results."""

        def call() -> Array:
            loop(self.values, results)
            return results

        return call

    def into_fresh(self, loop: Callable[[Array, Array], None]) -> Callable[[], Array]:
        """Call a loop with a new array for the results."""

        def call() -> Array:
            results = np.empty_like(self.expected)
            loop(self.values, results)
            return results

        return call

    def by_batch(self, runtime: rk.RingKernelRuntime, results: Array) -> Callable[[], Any]:
        """Send a batch that fits the queue, then receive it."""

        async def call() -> Array:
            await runtime.send_batch(self.kernel_id, self.values)
            await receive_all(runtime, self.kernel_id, results)
            return results

        return call


def _streamed(
    runtime: rk.RingKernelRuntime, ids: Sequence[str], values: Array, results: Array
) -> Callable[[], Awaitable[Array]]:
    """Send all of it as a batch to the first kernel, and receive what comes out of the last meanwhile."""

    async def call() -> Array:
        await through_queues(runtime, {ids[0]: values}, ids[-1], results)
        return results

    return call


async def _settle(bench: Bench, call: Callable[[], Any], seconds: float) -> None:
    """Keep a chain busy until it is where it stays: it is cut into pieces for the workers, and what becomes one loop is
    compiled in the background meanwhile."""
    end = time.perf_counter() + seconds * min(1.0, bench.budget.scale)
    while time.perf_counter() < end:
        await call()


async def map_sizes(bench: Bench) -> list[Row]:
    """`map` of 1 to 10 million records, cheap ones and dear ones, beside a call of the same loop under `njit`.

        map         array =(lent as a ring)=> kernel =(lent as a ring)=> result array, fresh or reused (`out=`)
        njit call   the same work as one compiled loop in this thread, into a fresh array, and into a reused one
        batch       send_batch --(copy)--> ring --> kernel --> ring --(copy)--> receive_batch(out=)

    Microseconds of a call. From the break-even on, `map` takes as long as the loop, both into a reused array, or less.
    """
    jobs = [Job.linear(bench.count(SIZES[-1], least=SIZES[2])), Job.prices(bench.count(OPTIONS, least=SIZES[2]))]
    contenders: dict[tuple[str, str, int], Measure[float]] = {}
    async with running("bench.linear", "bench.prices") as runtime:
        for whole in jobs:
            results = np.zeros_like(whole.expected)
            for size in _sizes(whole):
                job, maps, calls = whole.first(size), *(max(1, min(n, RECORDS_AT_ONCE // size)) for n in (MAPS, LOOPS))
                ways: dict[str, tuple[Callable[[], Any], int]] = {
                    MAP_INTO: (partial(runtime.map, job.kernel_id, job.values, out=results[:size]), maps),
                    WAYS["reused"]: (job.into(results[:size], job.loop), calls),
                }
                if job.kernel_id == "bench.linear":
                    ways[MAP] = partial(runtime.map, job.kernel_id, job.values), maps
                    ways[WAYS["fresh"]] = job.into_fresh(job.loop), calls
                    if size <= QUEUE_SIZE:
                        ways[WAYS["batch"]] = job.by_batch(runtime, results[:size]), maps
                for name, (call, repeats) in ways.items():
                    contenders[name, job.kernel_id, size] = per_call(call, job.is_right, name, repeats=repeats)
        found = await bench.race_numbers("us", contenders)
    return [row for job in jobs for row in _size_rows(bench, job, found)]


def _sizes(job: Job) -> list[int]:
    return [size for size in SIZES if size <= len(job.values)]


def _size_rows(bench: Bench, job: Job, found: Mapping[tuple[str, str, int], Series]) -> Iterator[Row]:
    """Each size beside each other way, and from where on it is worth it."""
    losing: list[int] = []
    sizes = _sizes(job)
    for size in sizes:
        what, params = f"of {size:,} record{'s' * (size > 1)}, {job.figure}", {"records": size}
        sides = {way: found.get((name, job.kernel_id, size)) for way, name in WAYS.items()}
        for way, beside in sides.items():
            ours = found.get((MAP_INTO if way == "reused" else MAP, job.kernel_id, size))
            if ours is not None and beside is not None:
                key, figure = f"{job.name}-{way}-{size}", f"{ours.name} {what}"
                yield Row.of(
                    key, figure, ours.named("ringkernel"), beside, target=_size_target(way, size), params=params
                )
        if (batch := sides["batch"]) is not None:
            target, figure = at_most(4.0, "us") if size == 1 else None, f"send_batch and receive_batch {what}"
            yield Row.of(
                f"queues-{size}", figure, batch.named("ringkernel"), sides["reused"], target=target, params=params
            )
        into, reused = found[MAP_INTO, job.kernel_id, size], found[WAYS["reused"], job.kernel_id, size]
        if into.values and reused.values and into.median > SAME * reused.median:
            losing.append(size)
    winning = [size for size in sizes if size > max(losing, default=0)]
    if winning:
        figure = f"map(out=) is as fast as an njit call, {job.figure}, from so many records on"
        yield Row.of(f"{job.name}-break-even", figure, Series("ringkernel", "records", (float(winning[0]),)))
    where = f"below {winning[0]:,} records" if winning else "at every size measured"
    bench.notes.append(f"{job.figure}: an njit call is faster than map {where}")


def _size_target(way: str, size: int) -> Target | None:
    if way == "batch":
        return at_most(LEVEL)
    if way == "reused" and size <= SMALL:
        return at_most(10.0, "us")
    return at_most(SAME) if way == "reused" and size == SIZES[-1] else None


async def cores(bench: Bench) -> list[Row]:
    """Compute-bound and memory-bound arrays on every core, by `map` and through the queues, beside `prange`.

        map       array =(lent)=> kernel, its span split over the cores =(lent)=> result array, reused (`out=`)
        batches   send_batch --(copy)--> ring --> kernel, likewise --> ring --(copy)--> receive_batch
        prange    one compiled loop on all cores, into a reused array
        njit      the same on one core

    Millions of records/s.
    """
    jobs = [Job.prices(bench.count(OPTIONS, least=256)), Job.linear(bench.count(SIZES[-1], least=256))]
    ways = ("map", "batches", "prange", "njit")
    contenders: dict[tuple[str, str], Measure[float]] = {}
    async with running("bench.linear", "bench.prices") as runtime:
        for job in jobs:
            results = np.zeros_like(job.expected)
            calls: tuple[Callable[[], Any], ...] = (
                partial(runtime.map, job.kernel_id, job.values, out=results),
                _streamed(runtime, [job.kernel_id], job.values, results),
                job.into(results, job.prange),
                job.into(results, job.loop),
            )
            for name, call in zip(ways, calls, strict=True):
                contenders[name, job.kernel_id] = timed(len(job.values) / 1e6, call, job.is_right, name)
        found = await bench.race_numbers("M/s", contenders)
    return [
        Row.of(
            f"{job.name}-{way}-{beside}",
            f"{job.figure} of {len(job.values):,} records by {way}",
            found[way, job.kernel_id].named("ringkernel"),
            found[beside, job.kernel_id],
            target=CORES_TARGET if beside == "prange" else None,
        )
        for job in jobs
        for way in ("map", "batches")
        for beside in ("prange", "njit")
    ]


async def fused(bench: Bench) -> list[Row]:
    """Eight saxpy stages on float32, by `map` and streamed, beside the loop that does all eight, written by hand.

        map        array =(lent)=> k0 --> k1 --> ... --> k7 =(lent)=> result array, reused (`out=`)
        streamed   send_batch --(copy)--> k0 --> k1 --> ... --> k7 --(copy)--> receive_batch, queues of 65,536
        fused      for each sample: eight times a x + b, in registers; into a reused array

    Billions of samples/s that come out, after some seconds in which ringkernel may have made one loop of the chain.
    """
    samples = np.random.default_rng(1).random(bench.count(SAMPLES, least=1024), np.float32)
    expected = samples.astype(np.float64)
    for _ in range(STAGES):
        expected = loops.SAXPY_A * expected + loops.SAXPY_B
    job = Job("k0", "", samples, expected.astype(np.float32), loops.fused_saxpy, loops.fused_saxpy)
    ids = [f"k{i}" for i in range(STAGES)]
    results = np.zeros_like(job.expected)

    async with running() as runtime:
        await start_chain(runtime, dict.fromkeys(ids, saxpy))
        calls: dict[str, Callable[[], Any]] = {
            "map": partial(runtime.map, (ids[0], ids[-1]), samples, out=results),
            "streamed": _streamed(runtime, ids, samples, results),
            "fused njit loop": job.into(results, job.loop),
        }
        await _settle(bench, calls["map"], FUSED_S)
        contenders = {name: timed(len(samples) / 1e9, call, job.is_right, name) for name, call in calls.items()}
        found = await bench.race_numbers("GS/s", contenders)
    figure, loop = f"{STAGES} saxpy stages", found["fused njit loop"]
    return [
        Row.of("map", f"{figure} by map", found["map"].named("ringkernel"), loop, target=at_least(0.9)),
        Row.of("streamed", f"{figure}, streamed", found["streamed"].named("ringkernel"), loop, target=at_least(0.7)),
    ]


async def placement(bench: Bench) -> list[Row]:
    """A streamed chain of four busy kernels on one worker and on two.

        send_batch --> k0 --> k1 --> k2 --> k3 --> receive_batch     the event loop's thread copies in and out

    A chain that is cut at the wrong place runs slower on two workers than on one.
    """
    values = np.arange(bench.count(PLACED, least=256)) % DIFFERENT
    distinct = np.arange(DIFFERENT)
    for _ in range(PLACED_STAGES * STEPS):
        distinct ^= (distinct << 13) & 0xFFFFFFFF
        distinct ^= distinct >> 7
    ids = [f"k{i}" for i in range(PLACED_STAGES)]
    job = Job(ids[0], "", values, distinct[values], loops.linear, loops.linear)
    results = np.zeros_like(values)
    async with running(workers=1) as one, running(workers=2) as two:
        contenders = {}
        for name, runtime in {"one worker": one, "two workers": two}.items():
            await start_chain(runtime, dict.fromkeys(ids, steps))
            call = _streamed(runtime, ids, values, results)
            await _settle(bench, call, PLACED_S)
            contenders[name] = timed(len(values) / 1e6, call, job.is_right, name)
        found = await bench.race_numbers("M/s", contenders)
    ours = found["two workers"].named("ringkernel")
    figure = f"streamed chain of {PLACED_STAGES}, two workers"
    return [Row.of("two", figure, ours, found["one worker"], target=at_least(0.95))]
