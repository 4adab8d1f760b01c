"""A kernel's timer handles each multiple of a period that time passes."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import check_books, start_pair, within

import ringkernel as rk
from ringkernel import ConfigurationError, KernelState, MessageTypeError, RingKernelRuntime

TICK = np.dtype([("time", "i8"), ("x", "f8")], align=True)


def ticks(*pairs: tuple[Any, float]) -> np.ndarray[Any, Any]:
    return np.array(list(pairs), TICK)


@rk.ring_kernel("timed bars", input_type=TICK, output_type=TICK, state=np.zeros(2), order_by="time")
def bars(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] += msg.x
    return False


@rk.on_timer("timed bars", every=10)
def close(time, out, state):  # type: ignore[no-untyped-def]
    out.time, out.x = time, state[0]
    state[0] = 0.0


async def received(runtime: RingKernelRuntime, kernel_id: Any, count: int) -> list[tuple[Any, ...]]:
    return [tuple(await within(runtime.receive(kernel_id))) for _ in range(count)]


async def test_a_window_is_from_a_multiple_to_before_the_next() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, bars):
        await runtime.send_batch(bars, ticks((10, 1), (19, 2), (20, 4), (39, 8), (40, 16)))
        assert await received(runtime, bars, 3) == [(20, 3.0), (30, 4.0), (40, 8.0)]
        await runtime.advance(bars, 51)
        assert await received(runtime, bars, 1) == [(50, 16.0)]
        counts = check_books(runtime, "timed bars")
        assert (counts.processed, counts.dropped, counts.emitted) == (5, 5, 4)


async def test_time_that_passes_before_the_first_message_is_not_handled() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, bars):
        await runtime.advance(bars, 1_000)
        await runtime.send_batch(bars, ticks((1_005, 1), (1_012, 2)))
        assert await received(runtime, bars, 1) == [(1_010, 1.0)]


async def test_time_that_passes_while_the_kernel_goes_to_rest_is_seen() -> None:
    """Nothing waits in its input then, and yet there is something to do."""
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, bars):
        await runtime.send(bars, (0, 1.0))
        for i in range(1, 2_000):
            await runtime.advance(bars, 10 * i + 1)
            for _ in range(i % 5 * 500):  # a moment, each time another one
                pass
            assert (await received(runtime, bars, 1))[0][0] == 10 * i


async def test_more_multiples_than_there_is_room_for() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(bars, queue_size=8)
        await runtime.activate(bars)
        await runtime.send_batch(bars, ticks((1, 1), (10_001, 2)))
        got = await received(runtime, bars, 1_000)
        assert got == [(10 * (i + 1), 1.0 if i == 0 else 0.0) for i in range(1_000)]


async def test_windows_in_progress_are_not_closed_by_the_end() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(bars)
        await runtime.activate(bars)
        await runtime.send_batch(bars, ticks((5, 1), (15, 2)))
        await within(runtime.terminate(bars))
        assert await received(runtime, bars, 1) == [(10, 1.0)]
        assert runtime.statistics(bars).emitted == 1


async def test_multiples_below_zero() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, bars):
        await runtime.send_batch(bars, ticks((-25, 1), (-20, 2), (-1, 4), (0, 8), (11, 1)))
        assert await received(runtime, bars, 4) == [(-20, 1.0), (-10, 2.0), (0, 4.0), (10, 8.0)]


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "every"),
    [
        ("M8[ms]", "1s"),
        ("M8[ns]", np.timedelta64(1, "s")),
        ("M8[us]", dt.timedelta(seconds=1)),
        ("M8[ns]", pd.Timedelta("1s")),
        ("f8", 1000.0),
        ("f4", 1000),
        ("u8", 1000),
        ("u4", 1000),
        ("i2", 1000),
    ],
)
async def test_periods_in_the_unit_of_the_times(kind: str, every: Any) -> None:
    dtype = np.dtype([("x", "f4"), ("at", kind)], align=True)
    name = f"period {kind} {every}"

    @rk.ring_kernel(name, input_type=dtype, output_type=dtype, order_by="at")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.at, out.x = msg.at, msg.x

    @rk.on_timer(name, every=every)
    def timer(time, out):  # type: ignore[no-untyped-def]
        out.at, out.x = time, -1.0

    scale = 1
    if kind.startswith("M"):
        scale = int(np.timedelta64(1, "s") / np.timedelta64(1, np.datetime_data(kind)[0])) // 1000  # type: ignore[call-overload]
    messages = np.zeros(3, dtype)
    messages["at"] = (np.array([500, 1500, 3000]) * scale).astype(kind)
    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, messages)
        got = np.array([tuple(await within(runtime.receive(kernel))) for _ in range(6)], dtype)
        expected = (np.array([500, 1000, 1500, 2000, 3000, 3000]) * scale).astype(kind)
        assert (got["at"] == expected).all()
        assert got["x"].tolist() == [0, -1, 0, -1, -1, 0]


@pytest.mark.parametrize(
    ("kind", "every", "reason"),
    [
        ("i8", 0, "above zero"),
        ("i8", -1, "above zero"),
        ("i8", 1.5, "whole number"),
        ("i8", 2**63, "a period is at most 9223372036854775807"),
        ("u8", 2**64, "a period is at most 18446744073709551615"),
        ("i1", 128, "a period is at most 127"),
        pytest.param("f8", 10**400, "a period is at most 1.79", id="more than a float"),
        ("M8[s]", "99999999999999999999s", "longer than times can be apart"),
        ("i8", "1s", "numbers without a unit"),
        ("i8", np.timedelta64(1, "s"), "numbers without a unit"),
        ("f8", float("nan"), "above zero"),
        ("f8", True, "must be a number"),
        ("M8[s]", "0s", "above zero"),
        ("M8[s]", "500ms", "no whole number of the unit"),
        ("M8[s]", "often", "a duration is a number and a unit"),
        ("M8[s]", 5, "must be a timedelta64"),
        ("M8[s]", np.timedelta64("NaT", "s"), "must be a timedelta64"),
    ],
)
async def test_periods_that_cannot_be(kind: str, every: Any, reason: str) -> None:
    name = f"odd period {kind} {every}"
    dtype = np.dtype([("at", kind)])

    @rk.ring_kernel(name, input_type=dtype, order_by="at")
    def kernel(msg):  # type: ignore[no-untyped-def]
        pass

    @rk.on_timer(name, every=every)
    def timer(time):  # type: ignore[no-untyped-def]
        pass

    async with RingKernelRuntime() as runtime:
        with pytest.raises(ConfigurationError, match=reason):
            await runtime.launch(kernel)


AT_THE_LIMITS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "i8": (7 << 60, [-(2**63), 2**63 - 1], [-(2**63), -(7 << 60), 0, 7 << 60, 2**63 - 1]),
    "u8": (2**64 - 1, [0, 2**64 - 1], [0, 2**64 - 1, 2**64 - 1]),  # the last but one is a multiple
    "f8": (1e308, [-np.inf, -1e308, np.inf], [-np.inf, -1e308, 0, 1e308, np.inf]),
    "f4": (1.0, [-3e38, 1.5, 2.5], [-3e38, 1.5, 2, 2.5]),
    "f8 far": (1.0, [1e300, np.inf], [1e300, np.inf]),
}
"""By the type of the times: a period, the times of messages, and those of what comes out, multiples included."""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", AT_THE_LIMITS)
async def test_multiples_end_where_times_do(kind: str) -> None:
    """And where floats are too far apart to tell them."""
    every, times, expected = AT_THE_LIMITS[kind]
    dtype = np.dtype([("at", kind.split(maxsplit=1)[0])])
    name = f"limits {kind}"

    @rk.ring_kernel(name, input_type=dtype, output_type=dtype, order_by="at")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.at = msg.at

    @rk.on_timer(name, every=every)
    def timer(time, out):  # type: ignore[no-untyped-def]
        out.at = time

    messages = np.array(times, dtype["at"]).view(dtype)
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, kernel):
        got = await within(runtime.replay({name: messages}, until=name))
        assert got["at"].tolist() == np.array(expected, dtype["at"]).tolist()


async def test_a_timer_needs_a_time() -> None:
    @rk.ring_kernel("timeless", input_type=TICK)
    def kernel(msg):  # type: ignore[no-untyped-def]
        pass

    @rk.on_timer("timeless", every=1)
    def timer(time):  # type: ignore[no-untyped-def]
        pass

    async with RingKernelRuntime() as runtime:
        with pytest.raises(ConfigurationError, match="has a timer, but no time"):
            await runtime.launch(kernel)


async def test_a_timer_that_fails_is_named_with_its_time() -> None:
    @rk.ring_kernel("failing timer", input_type=TICK, output_type=TICK, state=np.zeros(1), order_by="time")
    def kernel(msg, out, state):  # type: ignore[no-untyped-def]
        out.time, out.x = msg.time, msg.x

    @rk.on_timer("failing timer", every=10)
    def timer(time, out, state):  # type: ignore[no-untyped-def]
        if time > 10:
            raise ValueError("too late")
        return False

    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, ticks((5, 1), (15, 2), (25, 3)))
        assert await within(runtime.wait(kernel)) is KernelState.TERMINATED
        error = runtime.kernels["failing timer"].error
        assert isinstance(error, ValueError)
        assert "failed in its timer, at 20" in error.__notes__[0]
        assert await received(runtime, kernel, 2) == [(5, 1.0), (15, 2.0)]
        assert runtime.unprocessed(kernel).tolist() == [(25, 3.0)]
        check_books(runtime, "failing timer")


async def test_a_chain_of_windows_passes_its_progress_on() -> None:
    @rk.ring_kernel("wider timed bars", input_type=TICK, output_type=TICK, state=np.zeros(1), order_by="time")
    def wider(msg, out, state):  # type: ignore[no-untyped-def]
        state[0] += msg.x
        return False

    @rk.on_timer("wider timed bars", every=20)
    def close_wider(time, out, state):  # type: ignore[no-untyped-def]
        out.time, out.x = time, state[0]
        state[0] = 0.0

    async with RingKernelRuntime() as runtime:
        await start_pair(runtime, bars, wider)
        await runtime.send_batch(bars, ticks(*((i, 1.0) for i in range(100))))
        # the bar of [10, 20) has the time 20, and so belongs to [20, 40)
        assert await received(runtime, wider, 4) == [(20, 10.0), (40, 20.0), (60, 20.0), (80, 20.0)]


def test_another_handler_beside_the_same_declaration_is_refused() -> None:
    def declare() -> None:
        rk.ring_kernel("twice", input_type=TICK, output_type=TICK, order_by="time")(lambda msg, out: False)

    def first(time, out):  # type: ignore[no-untyped-def]
        return False

    def second(time, out):  # type: ignore[no-untyped-def]
        return False

    declare()
    rk.on_timer("twice", every=10)(first)
    rk.on_timer("twice", every=20)(first)  # a cell that is run again
    with pytest.raises(ConfigurationError, match=r"'twice': its timer is handled by first, .* which second, .* so let"):
        rk.on_timer("twice", every=100)(second)
    rk.on_end("twice")(lambda out: False)
    with pytest.raises(ConfigurationError, match="its end is handled by <lambda>"):
        rk.on_end("twice")(lambda out: True)
    rk.on_input("twice", "more", TICK)(first)
    with pytest.raises(ConfigurationError, match="its input 'more' is handled by first, .* a name of its own"):
        rk.on_input("twice", "more", TICK)(second)
    declare()
    rk.on_timer("twice", every=100)(second)


def test_what_is_no_timer_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is no kernel"):
        rk.on_timer(None, every=1)  # type: ignore[arg-type]
    with pytest.raises((ConfigurationError, MessageTypeError)):
        rk.on_timer("timed bars", every=1)(3)  # type: ignore[type-var]


TRADE = np.dtype([("time", "i8"), ("symbol", "S4"), ("x", "f8")], align=True)


def keyed_bars(name: str) -> Any:
    @rk.ring_kernel(name, input_type=TRADE, output_type=TRADE, state=np.zeros(2), order_by="time", key="symbol", keys=4)
    def kernel(msg, out, state):  # type: ignore[no-untyped-def]
        state[0] += msg.x
        state[1] = msg.x
        return False

    @rk.on_timer(name, every=10)
    def timer(time, out, state):  # type: ignore[no-untyped-def]
        if state[1] < 0:
            raise ValueError("below zero")
        if state[0] == 0:
            return False
        out.time, out.x = time, state[0]
        state[0] = 0.0
        return True

    return kernel


async def test_a_keyed_kernels_timer_runs_for_each_key_in_the_order_in_which_they_came() -> None:
    kernel = keyed_bars("keyed bars")
    messages = np.array([(1, b"b", 1), (2, b"a", 2), (3, b"b", 4), (12, b"c", 8), (25, b"a", 16), (31, b"a", 1)], TRADE)
    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel, queue_size=2)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, messages[:2])
        await runtime.deactivate(kernel)  # the table may grow, and nothing is to be seen of that
        await runtime.reactivate(kernel)
        sending = asyncio.ensure_future(runtime.send_batch(kernel, messages[2:]))
        got = await received(runtime, kernel, 4)
        await within(sending)
        assert [(time, x) for time, _, x in got] == [(10, 5.0), (10, 2.0), (20, 8.0), (30, 16.0)]


async def test_a_keyed_timer_that_fails_shows_the_state_of_its_key() -> None:
    kernel = keyed_bars("keyed failing")
    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, np.array([(1, b"b", 1), (2, b"a", -2), (12, b"b", 4)], TRADE))
        await within(runtime.wait(kernel))
        error = runtime.kernels["keyed failing"].error
        assert isinstance(error, ValueError)
        assert not any("no Python traceback" in note for note in error.__notes__)
        assert (await received(runtime, kernel, 1))[0][2] == 1.0


async def test_time_that_has_passed_counts_however_soon_the_end_comes_after_it() -> None:
    @rk.ring_kernel("joined before bars", input_type=TICK, output_type=TICK, order_by="time")
    def joined(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.x = msg.time, msg.x

    @rk.on_input("joined before bars", "other", TICK)
    def other(msg, out):  # type: ignore[no-untyped-def]
        return False

    for _ in range(20):
        async with RingKernelRuntime() as runtime:
            await start_pair(runtime, joined, bars)
            for name in ("", "other"):
                await runtime.send_batch(joined, ticks((5, 1), (15, 2), (25, 3)), input=name)
                await runtime.advance(joined, 30, input=name)
                await runtime.close_input(joined, input=name)
            assert await received(runtime, bars, 3) == [(10, 1.0), (20, 2.0), (30, 3.0)]
            await within(runtime.wait(bars))
            assert runtime.statistics(bars).emitted == 3


async def test_multiples_at_the_end_wait_for_room() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(bars, queue_size=4)
        await runtime.activate(bars)
        await runtime.send(bars, (5, 1.0))
        await runtime.advance(bars, 1_000)
        await runtime.close_input(bars)
        assert len(await received(runtime, bars, 100)) == 100
        assert await within(runtime.wait(bars)) is KernelState.TERMINATED
        assert runtime.statistics(bars).emitted == 100


async def test_patience_lets_time_pass_where_nothing_waits() -> None:
    """The silent input is taken to have come as far as the other one."""

    @rk.ring_kernel("impatient", input_type=TICK, output_type=TICK, order_by="time", patience=0.02)
    def impatient(msg, out):  # type: ignore[no-untyped-def]
        return False

    rk.on_input("impatient", "other", TICK)(lambda msg, out: False)

    @rk.on_timer("impatient", every=10)
    def impatient_timer(time, out):  # type: ignore[no-untyped-def]
        out.time = time

    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, impatient):
        await runtime.send(impatient, (1, 0.0))
        await runtime.advance(impatient, 95)
        await runtime.send(impatient, (1, 0.0), input="other")
        assert [(await within(runtime.receive(impatient))).time for _ in range(9)] == list(range(10, 100, 10))
