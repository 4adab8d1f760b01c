"""What cases measure with: paced messages, bare queues, a busy neighbour, the job of the streaming rivals."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ringkernel.bench.cases.keyed import READING
from ringkernel.bench.cases.keyed import averages as averages_by_key
from ringkernel.bench.method import WrongResultError, per_call, timed
from ringkernel.bench.neighbour import Neighbour
from ringkernel.bench.rivals.market import check_joined, joined, market
from ringkernel.bench.rivals.smoothing import averages, check_averages, numbers
from ringkernel.bench.traffic import open_loop, queue_echo, round_trips_async


async def test_an_open_loop_times_each_message_from_when_it_was_due() -> None:
    async with queue_echo() as (put, get):
        paced = await open_loop(put, get, range(20), 2_000)
    assert len(paced.ns) == 20
    assert min(paced.ns) > 0
    assert 0 < paced.cores < 2


async def test_a_stall_shows_in_every_message_that_was_due_during_it() -> None:
    async with queue_echo() as (put, get):

        async def put_late(message: int) -> None:
            if message == 5:
                time.sleep(0.02)  # noqa: ASYNC251 (a stall of the loop)
            await put(message)

        paced = await open_loop(put_late, get, range(20), 1_000)
    late = [ns for ns in paced.ns if ns > 2e6]
    assert len(late) > 10


async def test_an_open_loop_checks_what_comes_back() -> None:
    async with queue_echo() as (put, get):

        async def get_other() -> int:
            return int(await get()) + 1

        with pytest.raises(WrongResultError, match="message 0 was 0 and came back as 1"):
            await open_loop(put, get_other, range(3), 10_000)


async def test_the_echo_ends_with_its_context() -> None:
    before = asyncio.all_tasks()
    async with queue_echo() as (put, get):
        assert len(await round_trips_async(put, get, ["a", "b"])) == 2
    assert asyncio.all_tasks() == before


async def test_calls_are_counted_and_their_last_result_is_checked() -> None:
    calls: list[int] = []

    async def work() -> int:
        calls.append(0)
        return len(calls)

    assert await per_call(work, [3].__contains__, repeats=3)() > 0
    assert await timed(1.0, lambda: calls.append(1), lambda result: result is None, repeats=2)() > 0
    assert calls == [0, 0, 0, 1, 1]
    with pytest.raises(WrongResultError, match="it brought something else"):
        await per_call(work, [3].__contains__, "it")()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at the CPU time of a process")
async def test_the_neighbour_is_busy_while_something_is_measured_beside_it() -> None:
    with Neighbour() as neighbour:
        pid = neighbour._child._process.pid

        async def measure() -> float:
            before = cpu_s_of(pid)
            deadline = time.monotonic() + 20
            while cpu_s_of(pid) < before + 0.05:
                assert time.monotonic() < deadline, "it does not work"
                await asyncio.sleep(0.01)
            return 1.0

        assert await neighbour.beside(measure)() == 1.0
    assert neighbour._child.is_closed


def cpu_s_of(pid: int) -> float:
    """User time of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11]) / os.sysconf("SC_CLK_TCK")


def test_averages_are_checked() -> None:
    values = numbers(5)
    assert averages([1.0, 3.0]) == [1.0, 0.05 * 3.0 + 0.95 * 1.0]
    check_averages(values, averages(values))
    with pytest.raises(AssertionError, match="5 numbers went in and 4 averages came out"):
        check_averages(values, averages(values)[:-1])
    with pytest.raises(AssertionError, match="the averages are wrong"):
        check_averages(values, values)


def test_trades_are_joined_with_the_last_quote_at_their_time_or_before() -> None:
    quotes, trades = market(500)
    trades["time"][::3] = quotes["time"][::3]  # at the same time
    trades.sort(order="time")
    expected = joined(quotes, trades)
    for trade, found in zip(trades, expected, strict=True):
        last = [quote for quote in quotes if quote["time"] <= trade["time"]][-1]
        assert found.tolist() == (*trade.tolist(), last["bid"], last["ask"])


def test_joins_are_checked() -> None:
    expected = joined(*market(5))
    check_joined(pd.DataFrame(expected), expected)
    wrong = expected.copy()
    wrong["bid"][3] += 1
    with pytest.raises(AssertionError, match="the column 'bid' is wrong"):
        check_joined(pd.DataFrame(wrong), expected)
    with pytest.raises(AssertionError, match="the column 'time' is wrong"):
        check_joined(pd.DataFrame(expected[:-1]), expected)


def test_each_key_has_an_average_of_its_own() -> None:
    readings = np.array([(0, 1.0), (7, 3.0), (0, 2.0)], READING)
    assert averages_by_key(readings).tolist() == pytest.approx([0.05, 0.15, 0.05 * 2 + 0.95 * 0.05])
