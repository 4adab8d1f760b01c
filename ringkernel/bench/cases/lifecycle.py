"""What kernels cost apart from their messages: idle, paused and resumed, launched."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkernel.bench.context import series_of
from ringkernel.bench.floors import EventfdPair
from ringkernel.bench.kernels import is_scaled, is_scaled_array, running, scale, start, tick_array, ticks
from ringkernel.bench.method import WrongResultError, check, repeated
from ringkernel.bench.model import Row, Series, at_most
from ringkernel.bench.process import Child, ChildError
from ringkernel.bench.traffic import closed_loop_ns, p50_us, queue_echo, receive_all, round_trips_async
from ringkernel.lifecycle import KernelState

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import ringkernel as rk
    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

IDLE_KERNELS = 8
WATCH_S, WATCHES = 2.0, 2  # how long and, in a quick run, how often
IDLE_S = 0.02  # before each first message
FIRST_MESSAGES = 12
SHORT_S, SHORT_MESSAGES = 0.001, 50

TIMES = 20  # pauses, resumes and launches of a round
MISSES = 300  # pauses of a round that may come too late: this thread may be kept waiting for longer than the work takes
BACKLOG = 4096  # messages of some microseconds each, of which most are left when the pause comes
WAITING = 256  # messages that wait for a resumption
PAUSED_S = 0.001  # in which a kernel at work would have taken many of them
ROUND_TRIPS = 200

LAUNCH_ROUNDS = 2
LAUNCH_DEADLINE_S = 60


async def _cpu_of_idleness(rounds: int, watch_s: float) -> Series:
    """CPU time of this process in percent of a core, once per round, each after half a second of idleness."""
    shares = []
    for _ in range(rounds):
        await asyncio.sleep(watch_s / 4)
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        await asyncio.sleep(watch_s)
        shares.append(100 * (time.process_time() - cpu_s) / (time.perf_counter() - wall_s))
    return Series("ringkernel", "%", tuple(shares))


async def idle(bench: Bench) -> list[Row]:
    """Eight idle kernels: their CPU time, and the first message after idleness.

        ringkernel           (20 ms of nothing)  await send --> parked worker wakes --> idle event loop wakes
        eventfd (floor)      (20 ms of nothing)  main --eventfd--> blocked thread --eventfd--> blocked main
        ringkernel           (1 ms of nothing)   await send --> kernel --> await receive
        asyncio.Queue        (1 ms of nothing)   the same through two queues and a task between them, in this process

    CPU time is that of the whole process, watched for two seconds.
    """
    messages = itertools.cycle(ticks(FIRST_MESSAGES))
    with EventfdPair() if hasattr(os, "eventfd") else contextlib.nullcontext() as floor:
        async with running() as runtime, queue_echo() as (put, get):
            for i in range(IDLE_KERNELS):
                await start(runtime, f"idle{i}", scale)
            await closed_loop_ns(runtime, "idle0", ticks(FIRST_MESSAGES), is_scaled)
            watches = bench.budget.rounds if bench.budget.is_full else bench.rounds(WATCHES)
            shares = await _cpu_of_idleness(watches, WATCH_S * min(1.0, bench.budget.scale))

            async def first_message(idle_s: float) -> float:
                await asyncio.sleep(idle_s)
                return await p50_us(runtime, "idle0", [next(messages)], is_scaled)

            async def first_in_queue() -> float:
                await asyncio.sleep(SHORT_S)
                (ns,) = await round_trips_async(put, get, [next(messages)])
                return ns / 1e3

            async def first_wake() -> float:
                assert floor is not None
                time.sleep(IDLE_S)  # noqa: ASYNC251 (the loop has to be as idle as the threads)
                return floor.round_trip_ns(next(messages).id + 1) / 1e3

            contenders: dict[str, Measure[float]] = {"ringkernel": partial(first_message, IDLE_S)}
            contenders |= {"eventfd ping-pong": first_wake} if floor else {}
            times, more = bench.count(FIRST_MESSAGES, least=2), bench.count(SHORT_MESSAGES, least=2)
            found = await bench.race_numbers("us", {name: repeated(times, once) for name, once in contenders.items()})
            contenders = {"ringkernel": partial(first_message, SHORT_S), "asyncio.Queue here": first_in_queue}
            short = await bench.race_numbers("us", {name: repeated(more, once) for name, once in contenders.items()})
    return [
        Row.of("cpu", f"CPU of {IDLE_KERNELS} idle kernels", shares, target=at_most(1.0, "%")),
        Row.of(
            "first",
            "first message after idleness",
            found["ringkernel"],
            found.get("eventfd ping-pong"),
            target=at_most(3.0),
            missing="this system has no eventfd",
        ),
        Row.of("first-1ms", "first message after 1 ms of idleness", *short.values(), target=at_most(1.5)),
    ]


async def _us_of(step: Awaitable[object]) -> float:
    began = time.perf_counter_ns()
    await step
    return (time.perf_counter_ns() - began) / 1e3


class Paused:
    """A kernel that is paused and resumed; `waiting` holds how many messages were left at each pause."""

    def __init__(self, runtime: rk.RingKernelRuntime, kernel_id: str, messages: int) -> None:
        self.runtime, self.kernel_id = runtime, kernel_id
        self.backlog = tick_array(messages)
        self.results = np.empty_like(self.backlog)
        self.waiting: list[int] = []

    @property
    def statistics(self) -> rk.KernelStatistics:
        """The kernel's counts, which are exact while it is paused."""
        return self.runtime.statistics(self.kernel_id)

    async def pause_us(self) -> float:
        """Time of a pause of the kernel at work: it has begun; what was left when it stopped is in `waiting`."""
        before = self.statistics.processed
        await self.runtime.send_batch(self.kernel_id, self.backlog)
        while self.statistics.processed == before:  # noqa: ASYNC110 (compiled code sets no event)
            await asyncio.sleep(0)
        taken_us = await _us_of(self.runtime.deactivate(self.kernel_id))
        self.waiting.append(await self._left())
        await self.runtime.reactivate(self.kernel_id)
        await self._receive()
        return taken_us

    async def pauses_us(self, times: int) -> float:
        """The median of so many pauses that came while messages were waiting; no other counts."""
        counted: list[float] = []
        for _ in range(times + MISSES):
            taken_us = await self.pause_us()
            counted += [taken_us] if self.waiting[-1] else []
            if len(counted) == times:
                break
        check(counted, "no pause came while the kernel was at work")
        return statistics.median(counted)

    def account(self) -> str:
        """Which of the pauses counted."""
        counted = [waiting for waiting in self.waiting if waiting]
        return (
            f"{len(counted)} of {len(self.waiting)} pauses came while the kernel was at work, with "
            f"{min(counted, default=0):,} to {max(counted, default=0):,} of {len(self.backlog):,} messages waiting"
        )

    async def resume_us(self) -> float:
        """Time of a resumption with all messages waiting."""
        await self.runtime.deactivate(self.kernel_id)
        await self.runtime.send_batch(self.kernel_id, self.backlog)
        check(await self._left() == len(self.backlog), "a paused kernel took messages")
        taken_us = await _us_of(self.runtime.reactivate(self.kernel_id))
        await self._receive()
        return taken_us

    async def _left(self) -> int:
        """How many messages wait while the kernel is paused: as many some time later."""
        check(self.runtime.get_state(self.kernel_id) is KernelState.DEACTIVATED, "the kernel is not DEACTIVATED")
        left = self.statistics.unprocessed
        await asyncio.sleep(PAUSED_S)
        check(self.statistics.unprocessed == left, "a paused kernel went on")
        return left

    async def _receive(self) -> None:
        self.results.view(np.uint8)[...] = 0
        await receive_all(self.runtime, self.kernel_id, self.results)
        check(is_scaled_array(self.backlog, self.results), "a pause lost or changed messages")
        check(self.statistics.unprocessed == 0, "a pause left messages behind")


async def pause(bench: Bench) -> list[Row]:
    """Pausing a kernel at work and resuming it; launching one whose handler is compiled already.

        await deactivate   command --> worker, at the end of its span --> answer   some messages handled, others waiting
        await reactivate   command --> worker --> answer                           messages waiting
        launch again       allocate rings and block, hand over to a worker         nothing is compiled

    A pause counts only if it came while the kernel had handled some of its messages and had others left; these stay
    until it is resumed, and every one is handled then. A note says how many pauses there were. Beside each a round trip
    through a kernel, the least that asking it something takes.
    """
    times = bench.count(TIMES, least=1)
    messages = ticks(bench.count(ROUND_TRIPS, least=5))
    async with running("bench.scale", "bench.toil") as runtime:
        busy, idle = Paused(runtime, "bench.toil", BACKLOG), Paused(runtime, "bench.scale", WAITING)

        async def launch_us() -> float:
            taken_us = await _us_of(start(runtime, "again", scale))
            await closed_loop_ns(runtime, "again", messages[:1], is_scaled)
            await runtime.terminate("again")
            runtime.remove("again")
            return taken_us

        contenders: dict[str, Measure[float]] = {
            "pause": partial(busy.pauses_us, times),
            "resume": repeated(times, idle.resume_us),
            "launch": repeated(times, launch_us),
            "round trip": partial(p50_us, runtime, "bench.scale", messages, is_scaled),
        }
        found = await bench.race_numbers("us", contenders)
    bench.notes.append(busy.account())
    figures = {
        "pause": "pause of a kernel at work",
        "resume": f"resume with {WAITING} messages waiting",
        "launch": "launch and activate, compiled before",
    }
    return [Row.of(key, figure, found[key].named("ringkernel"), found["round trip"]) for key, figure in figures.items()]


def _fresh(what: str, directory: str) -> dict[str, Any]:
    """What a fresh process says about its first use of a kernel or of an njit function, with `seconds` from its start
    to its answer."""
    environment = {"RINGKERNEL_CACHE_DIR": directory, "NUMBA_CACHE_DIR": directory}
    began = time.perf_counter()
    try:
        with Child([sys.executable, "-m", "ringkernel.bench.first_use", what], environment=environment) as child:
            found = child.answer(LAUNCH_DEADLINE_S)
            seconds = time.perf_counter() - began
    except ChildError as error:
        raise WrongResultError(f"the fresh process {error}") from error
    check(found["reply"] == 21.0, "the fresh process received something else")
    return {**found, "seconds": seconds}


async def launch(bench: Bench) -> list[Row]:
    """The first launch in a fresh process, with an empty and with a filled compile cache.

        fresh process: import numba | clock on | launch, activate, one message | clock off
        from its start:               clock on | import numba, launch, activate, one message | clock off
        njit function:                clock on | import numba, call a function that numba has cached | clock off

    All write to cache directories of their own. Beside the cached launch stands the cold one; importing numba, which
    nothing can avoid, is reported apart.
    """
    with tempfile.TemporaryDirectory() as parent:
        filled: dict[str, str] = {}

        async def cold(what: str) -> dict[str, Any]:
            filled[what] = tempfile.mkdtemp(dir=parent)
            return _fresh(what, filled[what])

        async def cached(what: str) -> dict[str, Any]:
            return _fresh(what, filled[what])

        # the first round is not rotated: the cold ones come first, and fill the caches
        contenders = {
            (name, what): partial(use, what)
            for name, use in {"cold": cold, "cached": cached}.items()
            for what in ("kernel", "njit")
        }
        found = await bench.race(contenders, rounds=bench.rounds(LAUNCH_ROUNDS), warm_up=False)

    def ms(name: str, key: str, shown: str = "ringkernel", what: str = "kernel") -> Series:
        return series_of(shown, "ms", found[name, what], lambda answer: 1e3 * answer[key])

    compiled = max((answer["compilations"] for answer in found["cached", "kernel"].values), default=0)
    if compiled:
        bench.notes.append(f"the cached launch compiled {compiled} functions: there is no compile cache at work here")
    cold_use = ms("cold", "use_s")
    whole = {name: (ms(name, "seconds"), ms(name, "seconds", "njit function", "njit")) for name in ("cached", "cold")}
    figure = "from the start of a process to its first answer"
    return [
        Row.of(
            "cached", "first launch, cached", ms("cached", "use_s"), cold_use.named("cold"), target=at_most(50.0, "ms")
        ),
        Row.of("cold", "first launch, cold", cold_use, target=at_most(3_000.0, "ms")),
        Row.of("numba", "importing numba", ms("cached", "import_s", "import numba")),
        *(Row.of(f"whole-{name}", f"{figure}, {name}", *sides) for name, sides in whole.items()),
    ]
