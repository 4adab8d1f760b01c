"""Two inputs in the order of their times: merged message by message, and joined as of the time of each trade."""

from __future__ import annotations

import asyncio
import heapq
import operator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import ringkernel as rk
from ringkernel.bench.kernels import Array, afresh, running
from ringkernel.bench.loops import as_of, merged
from ringkernel.bench.method import timed
from ringkernel.bench.model import Row, at_least
from ringkernel.bench.rivals.market import PRICED, QUOTE, TRADE, joined, market
from ringkernel.bench.traffic import millions_per_s, receive_all, through_queues

if TYPE_CHECKING:
    from collections.abc import Callable

    from ringkernel.bench.context import Bench
    from ringkernel.bench.method import Measure

EVENT = np.dtype([("time", np.int64), ("value", np.float64)])
NAMES = ("", "second")
EVENTS, BATCH = 500_000, 256
ONE_IN = 10  # a part of them is enough for a loop in Python
QUOTES = 2_500_000


@rk.ring_kernel("bench.plain", input_type=EVENT, output_type=EVENT)
def plain(msg: Any, out: Any) -> None:
    """What `merging` does, for each record as it comes."""
    out.time, out.value = msg.time, 2.0 * msg.value


@rk.ring_kernel("bench.merge", input_type=EVENT, output_type=EVENT, order_by="time")
def merging(msg: Any, out: Any) -> None:
    """For each record of the first input, when its time has come."""
    out.time, out.value = msg.time, 2.0 * msg.value


@rk.on_input("bench.merge", "second", EVENT)
def merging_second(msg: Any, out: Any) -> None:
    """For each record of the second one."""
    out.time, out.value = msg.time, 2.0 * msg.value


@rk.ring_kernel("bench.as-of", input_type=QUOTE, output_type=PRICED, state=np.zeros(2), order_by="time")
def quoted(msg: Any, out: Any, state: Any) -> bool:  # noqa: ARG001 (a handler has its output)
    """Keeps the last quote. Of equal times quotes come first, as for pandas and Polars."""
    state[0], state[1] = msg.bid, msg.ask
    return False


@rk.on_input("bench.as-of", "trades", TRADE)
def traded(msg: Any, out: Any, state: Any) -> None:
    """A trade with the last quote."""
    out.time, out.price, out.bid, out.ask = msg.time, msg.price, state[0], state[1]


class Merging:
    """Two inputs, in the order of their times, and the same records for one plain input."""

    def __init__(self, runtime: rk.RingKernelRuntime, count: int) -> None:
        random = np.random.default_rng(1)
        self.runtime = runtime
        self.inputs = [np.zeros(count, EVENT) for _ in NAMES]
        for i, events in enumerate(self.inputs):
            events["time"] = 2 * np.cumsum(random.integers(1, 10, count)) + i  # no two are equal
            events["value"] = random.random(count)
        together = np.concatenate(self.inputs)
        self.events = together[np.argsort(together["time"])]
        self.expected = self.events.copy()
        self.expected["value"] *= 2.0
        self.results = np.zeros_like(self.expected)

    def contender(self, work: Callable[[], Any], name: str, repeats: int = 1) -> Measure[float]:
        """Millions of records/s of what fills `results`."""

        def is_right(_: object) -> bool:
            verdict = np.array_equal(self.results, self.expected)
            self.results[...] = 0  # of which nothing must be taken for the next round's
            return verdict

        return timed(len(self.events) / 1e6, work, is_right, name, repeats=repeats)

    async def plainly(self, batch: int) -> None:
        """A batch, and what comes of it, before the next one."""
        for first in range(0, len(self.events), batch):
            await self.runtime.send_batch("bench.plain", self.events[first : first + batch])
            await receive_all(self.runtime, "bench.plain", self.results[first : first + batch])

    async def by_time(self, batch: int) -> None:
        """A batch into each input, and what comes of them, before the next ones; in the end what was held back."""
        done, count = 0, len(self.inputs[0])
        for first in range(0, count, batch):
            for name, events in zip(NAMES, self.inputs, strict=True):
                await self.runtime.send_batch("bench.merge", events[first : first + batch], input=name)
            done += len(await self.runtime.receive_batch("bench.merge", out=self.results[done:]))
        for name in NAMES:
            await self.runtime.close_input("bench.merge", input=name)
        await receive_all(self.runtime, "bench.merge", self.results[done:])

    async def plainly_at_once(self) -> None:
        """One task sends while another one receives."""
        await through_queues(self.runtime, {"bench.plain": self.events}, "bench.plain", self.results)

    async def by_time_at_once(self) -> None:
        """The same, with a task that sends into each input."""
        await asyncio.gather(
            *(self._send(name, events) for name, events in zip(NAMES, self.inputs, strict=True)),
            receive_all(self.runtime, "bench.merge", self.results),
        )

    async def _send(self, name: str, events: Array) -> None:
        await self.runtime.send_batch("bench.merge", events, input=name)
        await self.runtime.close_input("bench.merge", input=name)


async def merge(bench: Bench) -> list[Row]:
    """Two inputs merged in the order of time, beside one plain input, a compiled merge and heapq.

        batches    send_batch of 256 --> input "" ------+
                   send_batch of 256 --> input "second" +--> kernel with order_by --> receive_batch
        at once    the same with whole arrays, sent and received at the same time
        plain      send_batch --> kernel --> receive_batch, of the records in order
        njit       a loop that merges the two arrays into a reused one
        heapq      heapq.merge of lists of tuples

    Millions of records/s, of both inputs together. All handlers do the same.
    """
    async with running("bench.plain") as runtime:
        job = Merging(runtime, bench.count(EVENTS, least=2 * BATCH))
        lists = [events[: len(events) // ONE_IN].tolist() for events in job.inputs]
        in_order = sorted(lists[0] + lists[1])
        contenders: dict[str, Measure[float]] = {
            "plain input": job.contender(partial(job.plainly, BATCH), "plain input"),
            "merged": afresh(runtime, "bench.merge", job.contender(partial(job.by_time, BATCH), "merged")),
            "plain input, at once": job.contender(job.plainly_at_once, "plain input, at once"),
            "merged, at once": afresh(runtime, "bench.merge", job.contender(job.by_time_at_once, "merged, at once")),
            "njit loop": job.contender(lambda: merged(*job.inputs, job.results), "njit loop"),
            "heapq.merge": timed(
                len(in_order) / 1e6, lambda: list(heapq.merge(*lists)), partial(operator.eq, in_order), "heapq.merge"
            ),
        }
        found = await bench.race_numbers("M/s", contenders)
    figure, batches, at_once = "two inputs merged by time", found["merged"], found["merged, at once"]
    return [
        Row.of(key, f"{figure}, {way}", ours.named("ringkernel"), found[name], target=target)
        for key, way, ours, name, target in (
            ("batches", f"batches of {BATCH}", batches, "plain input", at_least(0.5)),
            ("at-once", "whole arrays", at_once, "plain input, at once", at_least(0.5)),
            ("njit", "whole arrays", at_once, "njit loop", None),
            ("heapq", f"batches of {BATCH}", batches, "heapq.merge", None),
        )
    ]


async def replay(bench: Bench) -> list[Row]:
    """Millions of quotes and trades, replayed through an as-of join, beside pandas, Polars and a compiled loop.

        replay    quotes =(lent)=> input "" ------+
                  trades =(lent)=> input "trades" +--> kernel with order_by and a state =(lent)=> trades with quotes
        njit      a loop over both arrays, into a fresh one
        rivals    a process each; merge_asof and join_asof of frames that are there

    Millions of records/s, of both inputs together.
    """
    count = bench.count(QUOTES, least=1000)
    quotes, trades = market(count)
    expected = joined(quotes, trades)

    def loop() -> Array:
        found = np.empty(count, PRICED)
        as_of(quotes, trades, found)
        return found

    is_right = partial(np.array_equal, expected)
    with bench.opponents("as_of") as rivals:
        async with running() as runtime:
            both = {quoted: quotes, (quoted, "trades"): trades}
            ours = timed(2 * count / 1e6, partial(runtime.replay, both, until=quoted), is_right, "replay")
            contenders: dict[str, Measure[float]] = {
                "ringkernel": afresh(runtime, "bench.as-of", ours),
                "njit loop": timed(2 * count / 1e6, loop, is_right, "njit loop"),
                **{rival.name: rival.contender("as_of", millions_per_s, count=count) for rival in rivals},
            }
            found = await bench.race_numbers("M/s", contenders)
    figure = f"as-of join of {count:,} quotes and {count:,} trades, replayed"
    rows = [Row.of("njit", figure, found["ringkernel"], found["njit loop"])]
    return rows + [
        Row.of(rival.name, figure, found["ringkernel"], found[rival.name], target=at_least(1), note=rival.spec.note)
        for rival in rivals
    ]
