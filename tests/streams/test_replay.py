"""A replay: recorded messages through kernels that run, as they would have come live, to their end."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers import check_books, drain, eventually, start, turns, within

import ringkernel as rk
from ringkernel import (
    ConfigurationError,
    KernelContext,
    KernelFailedError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    Session,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

TICK = np.dtype([("time", "i8"), ("x", "f8")], align=True)
STAMPED = np.dtype([("time", "M8[ms]"), ("x", "f8")], align=True)


def ticks(times: Any, values: Any = 0.0) -> np.ndarray[Any, Any]:
    made = np.zeros(len(times), TICK)
    made["time"], made["x"] = times, values
    return made


@rk.ring_kernel("joined", input_type=TICK, output_type=TICK, state=np.zeros(1), order_by="time")
def joined(msg, out, state):  # type: ignore[no-untyped-def]
    if msg.x == 13:
        raise ValueError("unlucky")
    out.time, out.x = msg.time, state[0]


@rk.on_input("joined", "quotes", TICK)
def quote(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] = msg.x
    return False


@rk.ring_kernel("even", input_type=TICK, output_type=TICK, order_by="time")
def even(msg, out):  # type: ignore[no-untyped-def]
    if msg.x == 13:
        raise ValueError("unlucky")
    if msg.x == 77:
        raise StopIteration
    out.time, out.x = msg.time, msg.x
    return msg.time % 2 == 0


@rk.ring_kernel("copied", input_type=TICK, output_type=TICK, order_by="time")
def copied(msg, out):  # type: ignore[no-untyped-def]
    out.time, out.x = msg.time, msg.x


@rk.ring_kernel("sums", input_type=TICK, output_type=TICK, state=np.zeros(1), order_by="time")
def sums(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] += msg.x
    return False


@rk.on_timer("sums", every=10)
def sum_of_ten(time, out, state):  # type: ignore[no-untyped-def]
    out.time, out.x = time, state[0]
    state[0] = 0.0


@rk.on_end("sums")
def last_sum(out, state):  # type: ignore[no-untyped-def]
    out.time, out.x = -1, state[0]


@rk.ring_kernel("stamped", input_type=STAMPED, output_type=STAMPED, order_by="time")
def stamped(msg, out):  # type: ignore[no-untyped-def]
    out.time, out.x = msg.time, msg.x


@rk.on_input("stamped", "other", STAMPED)
def stamped_other(msg, out):  # type: ignore[no-untyped-def]
    out.time, out.x = msg.time, -msg.x


@rk.ring_kernel("doubled", input_type=float, output_type=float)
def doubled(msg, out):  # type: ignore[no-untyped-def]
    out.value = 2 * msg.value


@asynccontextmanager
async def started(*kernels: Any, connect: Sequence[Any] = (), **options: Any) -> AsyncIterator[RingKernelRuntime]:
    async with RingKernelRuntime() as runtime:
        for kernel in kernels:
            await runtime.launch(kernel, **options)
        for source, target, *name in connect:
            runtime.connect(source, target, **({"input": name[0]} if name else {}))
        for kernel in kernels:
            await runtime.activate(kernel)
        yield runtime


RNG = np.random.default_rng(5)
TRADES = ticks(np.sort(RNG.integers(0, 3_000, 5_000)), RNG.integers(20, 70, 5_000))
QUOTES = ticks(np.sort(RNG.integers(0, 3_000, 4_000)), RNG.integers(1, 9, 4_000))


def as_of(trades: Any, quotes: Any) -> np.ndarray[Any, Any]:
    """At equal times the trade goes first."""
    at = np.searchsorted(quotes["time"], trades["time"], side="left")
    return ticks(trades["time"], np.concatenate([[0.0], quotes["x"]])[at])


def cut(values: Any) -> Iterator[Any]:
    yield from (values[:7], values[7:7], values[7:3_000], values[3_000:])


async def cut_later(values: Any) -> AsyncIterator[Any]:
    for batch in cut(values):
        await asyncio.sleep(0.001)
        yield batch


FORMS: dict[str, Any] = {
    "array": lambda one: one,
    "list": lambda one: one.tolist(),
    "pandas": lambda one: pd.DataFrame({name: one[name] for name in one.dtype.names}),
    "polars": lambda one: pl.DataFrame({name: one[name] for name in one.dtype.names}),
    "arrow": lambda one: pl.DataFrame({name: one[name] for name in one.dtype.names}).to_arrow(),
    "iterator": cut,
    "async iterator": cut_later,
}


@pytest.mark.parametrize("queue_size", [4, 4096])
@pytest.mark.parametrize("form", FORMS)
async def test_whatever_holds_the_values(form: str, queue_size: int) -> None:
    async with started(joined, queue_size=queue_size) as runtime:
        given = {joined: FORMS[form](TRADES), ("joined", "quotes"): FORMS[form](QUOTES)}
        got = await within(runtime.replay(given, until=joined), 20)
        assert got.dtype == TICK
        assert (got == as_of(TRADES, QUOTES)).all()
        assert runtime.get_state(joined) is KernelState.TERMINATED
        assert runtime.kernels["joined"].error is None
        counts = check_books(runtime, "joined")
        assert (counts.accepted, counts.processed, counts.emitted) == (9_000, 9_000, 5_000)


async def test_what_timers_and_the_end_emit_is_in_the_result() -> None:
    async with started(joined, sums, connect=[(joined, sums)]) as runtime:
        given = {joined: TRADES, (joined, "quotes"): cut(QUOTES)}
        got = await within(runtime.replay(given, until=sums))
        inputs = as_of(TRADES, QUOTES)
        expected = np.bincount(inputs["time"] // 10, inputs["x"])
        assert got["x"].tolist() == expected.tolist()
        assert got["time"][-1] == -1
        assert got["time"][:-1].tolist() == list(range(10, 10 * len(expected), 10))
        check_books(runtime, "sums")


async def test_more_outputs_than_messages() -> None:
    """So many that the array in which they are written has no room for them."""
    async with started(sums, queue_size=16) as runtime:
        got = await within(runtime.replay({sums: ticks([1, 50_001], [1.0, 2.0])}, until=sums))
        assert len(got) == 5_001
        assert got["x"][[0, 1, -1]].tolist() == [1.0, 0.0, 2.0]
        assert check_books(runtime, "sums").emitted == 5_001


async def test_queues_that_fill_up_one_after_the_other() -> None:
    """All of one input is before the other's first message, and the outputs have no room either."""
    async with started(even, joined, connect=[(even, joined, "quotes")], queue_size=2) as runtime:
        late = ticks(TRADES["time"] + 10_000)
        got = await within(runtime.replay({joined: cut(late), even: cut(QUOTES)}, until=joined), 20)
        assert (got == as_of(late, QUOTES[QUOTES["time"] % 2 == 0])).all()


async def test_an_input_with_nothing_and_one_that_was_closed_before() -> None:
    async with started(joined) as runtime:
        got = await within(runtime.replay({joined: TRADES, (joined, "quotes"): []}, until=joined))
        assert (got == as_of(TRADES, QUOTES[:0])).all()
    async with started(joined) as runtime:
        await runtime.send_batch(joined, QUOTES[:100], input="quotes")
        await runtime.close_input(joined, input="quotes")
        got = await within(runtime.replay({joined: TRADES}, until=joined))
        assert (got == as_of(TRADES, QUOTES[:100])).all()


async def test_what_was_sent_before_comes_first() -> None:
    async with started(joined) as runtime:
        await runtime.send_batch(joined, TRADES[:10])
        await runtime.send_batch(joined, QUOTES[:2_000], input="quotes")
        given = {joined: TRADES[10:], (joined, "quotes"): QUOTES[2_000:]}
        got = await within(runtime.replay(given, until=joined))
        assert (got == as_of(TRADES, QUOTES)).all()


async def test_kernels_that_do_not_go_by_time_and_coroutines() -> None:
    @rk.ring_kernel("pairs")
    async def pairs(ctx: KernelContext[Any, Any]) -> None:
        while True:
            first = await ctx.receive()
            await ctx.send((first, await ctx.receive()))

    async with started(doubled, pairs, connect=[(doubled, pairs)]) as runtime:
        assert await within(runtime.replay({doubled: np.arange(4.0)}, until=pairs)) == [(0.0, 2.0), (4.0, 6.0)]


async def test_a_sink_has_no_result() -> None:
    @rk.ring_kernel("sink by time", input_type=TICK, state=np.zeros(1), order_by="time")
    def sink(msg, state):  # type: ignore[no-untyped-def]
        state[0] += msg.x

    async with started(even, sink, connect=[(even, sink)]) as runtime:
        assert await within(runtime.replay({even: TRADES}, until=sink)) is None
        assert (await runtime.read_state(sink))[0] == TRADES["x"][TRADES["time"] % 2 == 0].sum()


def test_in_a_session_as_a_frame_with_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Session() as session, session.run(joined):
        given = {joined: TRADES, (joined, "quotes"): QUOTES}
        got = session.replay(given, until=joined, to="pandas", progress=True)
        assert got["x"].tolist() == as_of(TRADES, QUOTES)["x"].tolist()


# --- by the clock -----------------------------------------------------------------------------------------------------


async def test_each_message_comes_when_its_time_has_come() -> None:
    loop = asyncio.get_running_loop()
    start = np.datetime64("2026-01-01T00:00:00", "ms")
    first, other = np.zeros(3, STAMPED), np.zeros(2, STAMPED)
    first["time"], first["x"] = start + np.array([0, 100, 300]), [1, 2, 3]
    other["time"], other["x"] = start + np.array([0, 250]), [1, 2]
    seen: list[tuple[float, float]] = []

    @rk.ring_kernel("watching")
    async def watching(ctx: KernelContext[Any, Any]) -> None:
        while True:
            seen.append(((await ctx.receive()).x, loop.time() - began))

    async with started(stamped, watching, connect=[(stamped, watching)]) as runtime:
        began = loop.time()
        await within(runtime.replay({stamped: first, (stamped, "other"): other}, until=watching, speed=2.0))
        assert [x for x, _ in seen] == [1, -1, 2, -2, 3]
        for (_, at), due in zip(seen, [0.0, 0.0, 0.05, 0.125, 0.15], strict=True):
            assert due - 0.002 <= at < due + 1.0


async def test_numbers_with_a_unit_and_what_is_no_time() -> None:
    async with started(even) as runtime:
        began = asyncio.get_running_loop().time()
        got = await within(runtime.replay({even: cut(ticks([0, 20, 40], 1.0))}, until=even, speed=1, unit="ms"))
        assert got["time"].tolist() == [0, 20, 40]
        assert asyncio.get_running_loop().time() - began >= 0.038
    async with started(stamped) as runtime:
        bad = np.zeros(3, STAMPED)
        bad["time"][1] = np.datetime64("NaT", "ns")
        with pytest.raises(KernelFailedError, match="which is no time") as caught:
            await within(runtime.replay({stamped: bad, (stamped, "other"): []}, until=stamped, speed=1.0))
        assert len(caught.value.partial) == 1


@pytest.mark.parametrize(
    ("kernel", "options", "reason"),
    [
        (even, {"speed": 0, "unit": "s"}, "above zero"),
        (even, {"speed": -1.0, "unit": "s"}, "above zero"),
        (even, {"speed": float("nan"), "unit": "s"}, "above zero"),
        (even, {"speed": True, "unit": "s"}, "above zero"),
        (even, {"speed": "fast", "unit": "s"}, "above zero"),
        (even, {"speed": 1.0}, "times of kernel 'even' are int64, so speed needs their unit, one of 'D'"),
        (even, {"speed": 1.0, "unit": "year"}, "speed needs their unit"),
        (even, {"unit": "s"}, "is for speed"),
        (stamped, {"speed": 1.0, "unit": "s"}, "datetime64\\[ms\\], which say theirs"),
        (doubled, {"speed": 1.0, "unit": "s"}, "'doubled' does not go by time; order_by"),
    ],
)
async def test_speeds_that_cannot_be(kernel: Any, options: dict[str, Any], reason: str) -> None:
    async with started(kernel) as runtime:
        with pytest.raises(ConfigurationError, match=reason):
            await runtime.replay({kernel: []}, until=kernel, **options)
        assert runtime.get_state(kernel) is KernelState.ACTIVE


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.workers
async def test_what_cannot_be_replayed_changes_nothing() -> None:
    async with started(even, joined, sums, doubled, connect=[(even, joined, "quotes")]) as runtime:

        async def refused(error: type[Exception], reason: str, given: Any, until: Any = joined) -> None:
            with pytest.raises(error, match=reason):
                await within(runtime.replay(given, until=until))

        both = {joined: TRADES, even: QUOTES}
        await refused(ConfigurationError, "takes a dict", TRADES)
        await refused(ConfigurationError, "takes a dict", {})
        await refused(ConfigurationError, "the input of kernel 'joined' is given twice", {joined: [], "joined": []})
        await refused(KernelNotFoundError, "unknown", {**both, "nobody": []})
        await refused(KernelNotFoundError, "unknown", both, "nobody")
        await refused(ConfigurationError, "has no input 'trades'", {**both, (joined, "trades"): []})
        await refused(MessageTypeError, "expected", {**both, even: [1.0, "x"]})
        await refused(KernelStateError, "'quotes' of kernel 'joined' is fed by kernel 'even'", {(joined, "quotes"): []})
        await refused(KernelStateError, "no connection leads from kernel 'sums' to 'joined'", {**both, sums: []})
        await refused(KernelStateError, "outputs of kernel 'even' go to 'joined'", {even: []}, even)
        await refused(
            KernelStateError, r"nothing is given for the first input of kernel 'even'.*\{'even': \[\]\}", {joined: []}
        )
        with runtime.open_input(doubled):
            await refused(KernelStateError, "open to another thread", {doubled: []}, doubled)
        await runtime.deactivate(even)
        await refused(KernelStateError, "'even' is DEACTIVATED; it must be ACTIVE", both)
        await runtime.reactivate(even)
        await runtime.send(doubled, 1.0)
        async with runtime.peek(doubled):
            await refused(KernelStateError, "looks at outputs", {doubled: []}, doubled)
        got = await within(runtime.replay(both, until=joined))
        assert (got == as_of(TRADES, QUOTES[QUOTES["time"] % 2 == 0])).all()
        await refused(KernelStateError, "is TERMINATED; it must be ACTIVE", both)


@pytest.mark.workers
async def test_a_failure_midway_has_what_came_before_it() -> None:
    trades = TRADES.copy()
    trades["x"][3_000] = 13
    async with started(joined) as runtime:
        with pytest.raises(KernelFailedError, match="'joined' has failed: ValueError: unlucky") as caught:
            await within(runtime.replay({joined: trades, (joined, "quotes"): QUOTES}, until=joined))
        assert (caught.value.partial == as_of(TRADES, QUOTES)[:3_000]).all()
        error: Any = caught.value
        assert error.sent[joined] == 3_001  # the one that it failed on is the last
        assert isinstance(caught.value.__cause__, ValueError)
        check_books(runtime, "joined")


@pytest.mark.workers
@pytest.mark.parametrize("form", ["array", "iterator"])
async def test_a_failure_before_the_last_kernel(form: str) -> None:
    quotes = QUOTES.copy()
    quotes["x"][2_000] = 13
    async with started(even, joined, connect=[(even, joined, "quotes")], queue_size=64) as runtime:
        with pytest.raises(KernelFailedError, match="'even' has failed: ValueError: unlucky") as caught:
            await within(runtime.replay({joined: FORMS[form](TRADES), even: FORMS[form](quotes)}, until=joined))
        before = TRADES["time"] < quotes["time"][2_000] - 1
        expected = as_of(TRADES, quotes[:2_000][quotes["time"][:2_000] % 2 == 0])
        assert (caught.value.partial[: before.sum()] == expected[before]).all()
        check_books(runtime, "even")
        check_books(runtime, "joined")
        if runtime.get_state(joined) is KernelState.ACTIVE:  # not if it had consumed all of its own input
            await within(runtime.send(joined, (10_000, 1.0)))


async def test_a_kernel_that_is_ended_meanwhile() -> None:
    async with started(even, joined, connect=[(even, joined, "quotes")]) as runtime:

        async def never() -> AsyncIterator[Any]:
            yield QUOTES[:10]
            await runtime.terminate(even)
            await asyncio.Event().wait()

        with pytest.raises(KernelFailedError, match="'even' ended during a replay"):
            await within(runtime.replay({joined: TRADES, even: never()}, until=joined))


async def test_a_handler_that_stops_its_kernel_ends_the_replay_well() -> None:
    trades = TRADES.copy()
    trades["x"][3_000] = 77
    for form in ("array", "iterator"):
        async with started(even, sums, connect=[(even, sums)], queue_size=64) as runtime:
            got = await within(runtime.replay({even: FORMS[form](trades)}, until=sums))
            taken = trades[:3_000][trades["time"][:3_000] % 2 == 0]
            assert got["x"].sum() == taken["x"].sum()


async def test_values_that_fail_midway() -> None:
    def broken() -> Iterator[Any]:
        yield TRADES[:100]
        raise OSError("the file is gone")

    async with started(even) as runtime:
        with pytest.raises(OSError, match="the file is gone") as caught:
            await within(runtime.replay({even: broken()}, until=even))
        assert caught.value.sent == {even: 100}  # type: ignore[attr-defined]
        assert (caught.value.partial == TRADES[:100][TRADES["time"][:100] % 2 == 0]).all()  # type: ignore[attr-defined]
        assert (await within(runtime.replay({even: TRADES[100:]}, until=even)))["x"].sum() > 0


@pytest.mark.parametrize("form", ["array", "iterator"])
async def test_a_cancelled_replay_can_go_on(form: str) -> None:
    """Inputs stay open, and nothing is lost or taken twice."""
    for _ in range(50):  # it may be through before it is cancelled
        if await is_cancelled_midway(form):
            return
    raise AssertionError("it was never cancelled midway")


async def is_cancelled_midway(form: str) -> bool:
    trades = ticks(np.arange(2_000_000) // 3, 1.0)
    quotes = ticks(np.arange(10, 600_000, 7), np.arange(10, 600_000, 7))

    async with started(joined) as runtime:

        def given(start: dict[Any, int]) -> dict[Any, Any]:
            rest = {
                joined: trades[start.get(joined, 0) :],
                (joined, "quotes"): quotes[start.get((joined, "quotes"), 0) :],
            }
            if form == "array":
                return rest
            return {key: iter(np.array_split(one, 50)) for key, one in rest.items()}

        task = asyncio.ensure_future(runtime.replay(given({}), until=joined))
        await eventually(lambda: runtime.statistics(joined).processed > 1_000)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            assert (task.result() == as_of(trades, quotes)).all()
            return False
        with pytest.raises(asyncio.CancelledError, match="were sent.*to input 'quotes'") as caught:
            await task
        error: Any = caught.value
        assert runtime.get_state(joined) is KernelState.ACTIVE
        assert error.sent[joined] > 0
        rest = await within(runtime.replay(given(error.sent), until=joined))
        assert (np.concatenate([error.partial, rest]) == as_of(trades, quotes)).all()
        check_books(runtime, "joined")
        return True


@pytest.mark.parametrize("types", [{}, {"input_type": TICK, "output_type": TICK}])
async def test_what_a_coroutine_feeds_cannot_be_replayed(types: dict[str, Any]) -> None:
    @rk.ring_kernel("first", **types)
    async def first(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()

    @rk.ring_kernel("second", **types)
    async def second(ctx: KernelContext[Any, Any]) -> None:
        await ctx.receive()

    async with started(first, second, connect=[(first, second)]) as runtime:
        with pytest.raises(KernelStateError, match="of kernel 'second' is fed by kernel 'first'; replay to that one"):
            await within(runtime.replay({second: TRADES}, until=second))
        assert runtime.statistics(second).accepted == 0


@pytest.mark.parametrize("times", [1, 2])
async def test_a_replay_that_is_cancelled_at_its_end_keeps_what_came_out(times: int) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        for count in range(20):
            kernel = await start(runtime, "even", even)
            task = asyncio.ensure_future(runtime.replay({even: TRADES}, until=even))
            while not kernel.engine.has_ended:
                await asyncio.sleep(0)
            await turns(count)
            for _ in range(times):
                task.cancel()
                await turns(1)
            try:
                outputs = await within(task)
            except asyncio.CancelledError as error:
                outputs = error.partial  # type: ignore[attr-defined]
            assert len(outputs) + len(drain(runtime, "even")) == check_books(runtime, "even").emitted > 0
            runtime.remove("even")


@pytest.mark.workers
async def test_others_wait_in_line_meanwhile() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def held() -> AsyncIterator[Any]:
        yield TRADES[:10]
        begun.set()
        await go_on.wait()
        yield TRADES[10:]

    async with started(even) as runtime:
        task = asyncio.ensure_future(runtime.replay({even: held()}, until=even))
        await within(begun.wait())
        receiving = asyncio.ensure_future(runtime.receive(even))
        sending = asyncio.ensure_future(runtime.send(even, (1, 1.0)))
        await asyncio.sleep(0.01)
        with pytest.raises(KernelStateError, match="in a map or a replay"):
            runtime.open_input(even)
        assert not receiving.done()
        assert not sending.done()
        go_on.set()
        assert len(await within(task)) == (TRADES["time"] % 2 == 0).sum()
        for waiting in (receiving, sending):
            with pytest.raises(KernelStateError):
                await within(waiting)
        assert drain(runtime, "even") == []


@pytest.mark.workers
@pytest.mark.parametrize(("kernel_id", "part"), [("even", 2), ("copied", 1)])
async def test_the_memory_of_a_result_serves_again_at_once(kernel_id: str, part: int) -> None:
    """Nobody but the caller keeps it, and it is not enlarged for outputs that never come."""
    messages = ticks(np.arange(200_000), 1.0)
    async with started(kernel_id) as runtime:
        pool: Any = runtime.kernels[kernel_id].engine.results  # type: ignore[attr-defined]
        gc.collect()
        gc.disable()
        try:
            result = await within(runtime.replay({kernel_id: messages}, until=kernel_id))
            assert len(result) == len(messages) // part
            assert pool._spares == []
            del result
            assert [one.nbytes for one in pool._spares] == [messages.nbytes]
        finally:
            gc.enable()
