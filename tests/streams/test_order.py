"""Kernels that go by time: the next message is the one with the smallest time over all inputs."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, eventually, start_pair, within
from kinds import usleep

import ringkernel as rk
from ringkernel import (
    ConfigurationError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
)

TICK = np.dtype([("time", "i8"), ("x", "f8")], align=True)


def ticks(*pairs: tuple[Any, float]) -> np.ndarray[Any, Any]:
    return np.array(list(pairs), TICK)


@rk.ring_kernel("priced by time", input_type=TICK, output_type=TICK, state=np.zeros(1), order_by="time")
def priced(msg, out, state):  # type: ignore[no-untyped-def]
    out.time = msg.time
    out.x = state[0]


@rk.on_input("priced by time", "quotes", TICK)
def quote(msg, out, state):  # type: ignore[no-untyped-def]
    state[0] = msg.x
    return False


@rk.ring_kernel("passing", input_type=TICK, output_type=TICK, order_by="time")
def passing(msg, out):  # type: ignore[no-untyped-def]
    out.time, out.x = msg.time, msg.x
    return msg.x >= 0


async def test_inputs_are_merged_by_time_and_ties_go_to_the_first() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, priced):
        await runtime.send_batch(priced, ticks((1, 0), (3, 0), (5, 0), (7, 0)))
        await runtime.send_batch(priced, ticks((0, 10), (2, 20), (5, 50), (6, 60)), input="quotes")
        got = [await within(runtime.receive(priced)) for _ in range(3)]
        assert [(one.time, one.x) for one in got] == [(1, 10.0), (3, 20.0), (5, 20.0)]
        with pytest.raises(TimeoutError, match="waits for input 'quotes': send to it, advance\\(\\) it"):
            await runtime.receive(priced, timeout=0.01)
        await runtime.advance(priced, 6, input="quotes")
        with pytest.raises(TimeoutError):
            await runtime.receive(priced, timeout=0.01)
        await runtime.advance(priced, 7, input="quotes")
        last = await within(runtime.receive(priced))
        assert (last.time, last.x) == (7, 60.0)
        check_books(runtime, "priced by time")


async def test_a_later_input_goes_after_the_first_at_equal_times() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, priced):
        await runtime.send(priced, (5, 1.0), input="quotes")
        await runtime.advance(priced, 5)
        await asyncio.sleep(0.02)
        assert runtime.statistics(priced).processed == 0  # a trade at 5 may come, and goes first
        await runtime.send(priced, (5, 0.0))
        await runtime.advance(priced, 6)
        first = await within(runtime.receive(priced))
        assert (first.time, first.x) == (5, 0.0)
        await eventually(lambda: runtime.statistics(priced).processed == 2)


async def test_termination_with_a_drain_brings_out_what_was_held_in_order() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(priced)
        await runtime.activate(priced)
        await runtime.send_batch(priced, ticks((1, 0), (4, 0), (9, 0)))
        await runtime.send_batch(priced, ticks((0, 10), (3, 30)), input="quotes")
        await within(runtime.terminate(priced))
        got = [await runtime.receive(priced) for _ in range(3)]
        assert [(one.time, one.x) for one in got] == [(1, 10.0), (4, 30.0), (9, 30.0)]


async def test_a_paused_kernel_holds() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, priced):
        await runtime.deactivate(priced)
        await runtime.send(priced, (1, 0.0))
        await runtime.advance(priced, 10, input="quotes")
        await asyncio.sleep(0.01)
        assert runtime.statistics(priced).processed == 0
        await runtime.reactivate(priced)
        assert (await within(runtime.receive(priced))).time == 1


async def test_progress_passes_through_a_kernel_that_drops_everything() -> None:
    async with RingKernelRuntime() as runtime:
        await start_pair(runtime, passing, priced, input="quotes")
        await runtime.send(priced, (5, 0.0))
        await runtime.send(passing, (4, -1.0))
        await asyncio.sleep(0.02)
        assert runtime.statistics(priced).processed == 0
        await runtime.send(passing, (6, -1.0))
        assert (await within(runtime.receive(priced))).time == 5
        await runtime.send(priced, (8, 0.0))
        await runtime.advance(passing, 9)
        assert (await within(runtime.receive(priced))).time == 8


async def test_the_end_of_what_feeds_an_input_lets_the_others_go_on() -> None:
    async with RingKernelRuntime() as runtime:
        await start_pair(runtime, passing, priced, input="quotes")
        await runtime.send(passing, (1, 7.0))
        await runtime.send_batch(priced, ticks((5, 0), (6, 0)))
        await within(runtime.terminate(passing))
        got = [await within(runtime.receive(priced)) for _ in range(2)]
        assert [(one.time, one.x) for one in got] == [(5, 7.0), (6, 7.0)]


def late_kernel(late: Any, name: str) -> Any:
    @rk.ring_kernel(name, input_type=TICK, output_type=TICK, order_by="time", late=late)
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.x = msg.time, msg.x

    @rk.on_input(name, "other", TICK)
    def other(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.x = msg.time, -msg.x

    return kernel


async def _one_late(runtime: RingKernelRuntime, kernel: Any) -> None:
    await runtime.launch(kernel)
    await runtime.activate(kernel)
    await runtime.advance(kernel, 10, input="other")
    await runtime.send(kernel, (8, 1.0))
    assert (await within(runtime.receive(kernel))).time == 8
    await runtime.send_batch(kernel, ticks((5, 2.0), (12, 3.0)), input="other")
    await runtime.advance(kernel, 13)


async def test_a_late_message_fails_the_kernel_by_default() -> None:
    kernel = late_kernel("fail", "late fails")
    async with RingKernelRuntime() as runtime:
        await _one_late(runtime, kernel)
        with pytest.raises(KernelFailedError, match=r"input 'other' has time=5, and 8 has passed"):
            await within(runtime.receive(kernel))
        assert runtime.unprocessed(kernel, input="other").tolist() == [(12, 3.0)]
        check_books(runtime, "late fails")
        assert runtime.statistics(kernel).failed == 1


async def test_a_late_message_is_dropped_and_counted_if_so_declared() -> None:
    kernel = late_kernel("drop", "late drops")
    async with RingKernelRuntime() as runtime:
        await _one_late(runtime, kernel)
        assert (await within(runtime.receive(kernel))).time == 12
        counts = check_books(runtime, "late drops")
        assert (counts.late, counts.dropped, counts.processed) == (1, 1, 3)


async def test_a_late_message_is_taken_if_so_declared() -> None:
    kernel = late_kernel("take", "late is taken")
    async with RingKernelRuntime() as runtime:
        await _one_late(runtime, kernel)
        assert [(await within(runtime.receive(kernel))).time for _ in range(2)] == [5, 12]
        assert runtime.statistics(kernel).late == 1


async def test_times_that_go_back_fail_with_both_times() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(passing)
        await runtime.activate(passing)
        await runtime.send_batch(passing, ticks((1, 1.0), (5, 1.0), (4, 1.0), (6, 1.0)))
        await within(runtime.wait(passing))
        assert "in its input time=4 follows 5" in str(runtime.kernels["passing"].error)
        assert len([await runtime.receive(passing) for _ in range(2)]) == 2
        assert runtime.unprocessed(passing).tolist() == [(6, 1.0)]
        check_books(runtime, "passing")


@pytest.mark.parametrize("kind", ["f8", "f4", "M8[ns]"])
async def test_what_is_no_time_fails_the_kernel(kind: str) -> None:
    dtype = np.dtype([("at", kind), ("x", "f8")], align=True)

    @rk.ring_kernel(f"none {kind}", input_type=dtype, output_type=float, order_by="at")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.value = msg.x

    none = np.array(["NaT"], kind)[0] if kind.startswith("M") else np.array(["nan"], kind)[0]
    messages = np.zeros(3, dtype)
    messages["at"] = np.array([1, 2, 3]).astype(kind)
    messages["at"][1] = none
    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, messages)
        await within(runtime.wait(kernel))
        assert "which is no time" in str(runtime.kernels[f"none {kind}"].error)


TIMES: dict[str, list[Any]] = {
    "u1": [0, 1, 128, 255],
    "i1": [-128, -1, 0, 127],
    "u8": [0, 0, 2**64 - 1, 2**64 - 1],
    "i8": [-(2**63), -1, 2**63 - 1, 2**63 - 1],
    "i4": [-(2**31), -1, 0, 2**31 - 1],
    "f4": [-np.inf, -1.5, -0.0, 1e-30],
    "f8": [-np.inf, -1e-300, 0.0, np.inf],
    "M8[ms]": [np.datetime64(each, "ms") for each in (-(2**63) + 1, 0, 2**63 - 1, 2**63 - 1)],
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("kind", TIMES)
async def test_times_of_all_types_are_in_order(kind: str) -> None:
    dtype = np.dtype([("x", "f8"), ("at", kind)], align=True)

    @rk.ring_kernel(f"times {kind}", input_type=dtype, output_type=dtype, order_by="at")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.at, out.x = msg.at, 1.0

    @rk.on_input(f"times {kind}", "other", dtype)
    def other(msg, out):  # type: ignore[no-untyped-def]
        out.at, out.x = msg.at, 2.0

    values = np.array(TIMES[kind], kind)
    first, second = np.zeros(2, dtype), np.zeros(2, dtype)
    first["at"], second["at"] = values[[0, 2]], values[[1, 3]]
    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, second, input="other")
        await runtime.send_batch(kernel, first)
        await within(runtime.terminate(kernel))
        got = np.array([tuple(await runtime.receive(kernel)) for _ in range(4)], dtype)
        assert (got["at"] == values).all()
        assert got["x"].tolist() == [1.0, 2.0, 1.0, 2.0]
        await runtime.launch("again", kernel)
        await runtime.activate("again")
        again = await within(runtime.replay({"again": first, ("again", "other"): second}, until="again"))
        assert (again == got).all()


async def test_the_least_and_the_greatest_time_wait_for_an_input_that_may_have_them_too() -> None:
    dtype = np.dtype([("at", "u8"), ("x", "f8")])

    @rk.ring_kernel("limits", input_type=dtype, output_type=dtype, order_by="at")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.at, out.x = msg.at, 1.0

    @rk.on_input("limits", "other", dtype)
    def other(msg, out):  # type: ignore[no-untyped-def]
        out.at, out.x = msg.at, 2.0

    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, kernel):
        for time in (0, 2**64 - 1):
            await runtime.send(kernel, (time, 0.0), input="other")
            await runtime.advance(kernel, time)
            for _ in range(2):
                await runtime.send(kernel, (time, 0.0))
                one = await within(runtime.receive(kernel))
                assert (one.at, one.x) == (time, 1.0)
            if time == 0:
                await runtime.advance(kernel, 1)
            else:
                await runtime.close_input(kernel)
            one = await within(runtime.receive(kernel))
            assert (one.at, one.x) == (time, 2.0)


async def test_an_input_has_one_feed() -> None:
    async with RingKernelRuntime() as runtime:
        for each in (passing, priced):
            await runtime.launch(each)
        await runtime.launch("passing too", passing)
        runtime.connect(passing, priced, input="quotes")
        with pytest.raises(KernelStateError, match="has one feed, and that is 'passing'; 'passing too' needs"):
            runtime.connect("passing too", priced, input="quotes")
        with pytest.raises(KernelStateError, match="has one feed, and that is 'passing'; nobody else"):
            await runtime.send(priced, (1, 1.0), input="quotes")
        with pytest.raises(KernelStateError, match="has one feed"):
            await runtime.advance(priced, 3, input="quotes")
        await runtime.send(priced, (1, 1.0))
        with pytest.raises(KernelStateError, match="and that is the host, which has sent to it"):
            runtime.connect("passing too", priced)


async def test_a_thread_may_be_the_feed() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(priced)
        with runtime.open_input(priced, "quotes") as handle:
            with pytest.raises(KernelStateError, match=r"that is a thread, by open_input\(\); this one needs"):
                runtime.open_input(priced, "quotes")
            with pytest.raises(KernelStateError, match="that is a thread"):
                await runtime.send(priced, (1, 1.0), input="quotes")
            with pytest.raises(KernelStateError, match="that is a thread"):
                await runtime.close_input(priced, input="quotes")
            await runtime.activate(priced)
            with pytest.raises(KernelStateError, match="cannot become another while the kernel is ACTIVE"):
                runtime.open_input(priced)
            await runtime.send_batch(priced, ticks((5, 0), (7, 0), (9, 0)))
            await asyncio.to_thread(handle.push_batch, ticks((4, 40), (6, 60)))
            assert (await within(runtime.receive(priced))).x == 40.0
            await asyncio.to_thread(handle.advance, 8)
            assert (await within(runtime.receive(priced))).x == 60.0
            await asyncio.sleep(0.01)
            assert runtime.statistics(priced).emitted == 2
        assert (await within(runtime.receive(priced))).time == 9
        await runtime.close_input(priced)
        assert await within(runtime.wait(priced)) is KernelState.TERMINATED


async def test_it_ends_when_all_its_inputs_are_closed_and_consumed() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(priced)
        await runtime.activate(priced)
        await runtime.send_batch(priced, ticks((5, 0), (7, 0)))
        await runtime.close_input(priced)
        await runtime.send(priced, (6, 60.0), input="quotes")
        assert (await within(runtime.receive(priced))).x == 0.0
        await asyncio.sleep(0.01)
        assert runtime.get_state(priced) is KernelState.ACTIVE
        await runtime.close_input(priced, input="quotes")
        assert (await within(runtime.receive(priced))).x == 60.0
        assert await within(runtime.wait(priced)) is KernelState.TERMINATED
        assert runtime.kernels["priced by time"].error is None


async def test_a_circle_by_time_is_refused() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch("circle a", passing)
        await runtime.launch("circle b", passing)
        runtime.connect("circle a", "circle b")
        with pytest.raises(ConfigurationError, match="in a circle each would wait"):
            runtime.connect("circle b", "circle a")


async def test_patience_lets_a_silent_input_pass() -> None:
    @rk.ring_kernel("patient", input_type=TICK, output_type=TICK, order_by="time", patience=0.02, late="drop")
    def patient(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.x = msg.time, msg.x

    @rk.on_input("patient", "other", TICK)
    def other(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.x = msg.time, -msg.x

    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, patient):
        await runtime.send_batch(patient, ticks((1, 1.0), (5, 1.0)))
        assert [(await within(runtime.receive(patient))).time for _ in range(2)] == [1, 5]
        await runtime.send_batch(patient, ticks((3, 1.0), (7, 2.0)), input="other")
        await runtime.send(patient, (9, 1.0))
        got = [await within(runtime.receive(patient)) for _ in range(2)]
        assert [(one.time, one.x) for one in got] == [(7, -2.0), (9, 1.0)]
        assert runtime.statistics(patient).late == 1


async def test_advance_refuses_what_it_cannot_do() -> None:
    async with RingKernelRuntime() as runtime:
        await runtime.launch(passing)
        await runtime.launch("timeless by time", rk.ring_kernel("timeless by time", input_type=float)(_plain))
        with pytest.raises(ConfigurationError, match="does not go by time"):
            await runtime.advance("timeless by time", 3)
        for time in (1.5, "now", None, np.datetime64("NaT", "ns"), True):
            with pytest.raises(MessageTypeError, match="the times of kernel 'passing' are int64"):
                await runtime.advance(passing, time)
        with pytest.raises(ConfigurationError, match="no input 'x'"):
            await runtime.advance(passing, 3, input="x")
        await runtime.terminate(passing)
        with pytest.raises(KernelStateError, match="is TERMINATED"):
            await runtime.advance(passing, 3)


def _plain(msg):  # type: ignore[no-untyped-def]
    pass


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"order_by": "x", "late": "never"}, "late is 'never'"),
        ({"order_by": 3}, "must be the name of a field"),
        ({"late": "drop"}, "late='drop' needs order_by"),
        ({"patience": 1.0}, "needs order_by"),
        ({"order_by": "x", "patience": -1}, "patience is -1"),
        ({"order_by": "x", "patience": float("nan")}, "patience is nan"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        rk.ring_kernel("odd order", input_type=TICK, **options)


async def test_inputs_whose_times_differ_are_refused() -> None:
    other_type = np.dtype([("time", "i4")])

    @rk.ring_kernel("differing", input_type=TICK, order_by="time")
    def kernel(msg):  # type: ignore[no-untyped-def]
        pass

    @rk.on_input("differing", "other", other_type)
    def other(msg):  # type: ignore[no-untyped-def]
        pass

    async with RingKernelRuntime() as runtime:
        with pytest.raises(MessageTypeError, match="is int64 in its first input and int32 in input 'other'"):
            await runtime.launch(kernel)


async def test_a_failing_handler_counts_its_message_in_its_input() -> None:
    @rk.ring_kernel("failing merge", input_type=TICK, output_type=TICK, order_by="time")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.time = msg.time

    @rk.on_input("failing merge", "other", TICK)
    def other(msg, out):  # type: ignore[no-untyped-def]
        if msg.x < 0:
            raise ValueError("below zero")
        out.time = msg.time

    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, ticks((1, 1), (3, 1), (5, 1)))
        await runtime.send_batch(kernel, ticks((2, 1), (4, -1), (6, 1)), input="other")
        assert [(await within(runtime.receive(kernel))).time for _ in range(3)] == [1, 2, 3]
        assert await within(runtime.wait(kernel)) is KernelState.TERMINATED
        error = runtime.kernels["failing merge"].error
        assert isinstance(error, ValueError)
        assert "Record(time=4, x=-1.0)" in error.__notes__[0]
        assert runtime.unprocessed(kernel).tolist() == [(5, 1.0)]
        assert runtime.unprocessed(kernel, input="other").tolist() == [(6, 1.0)]
        check_books(runtime, "failing merge")


async def test_maps_and_calls_are_refused_where_outputs_belong_to_no_one_input() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, priced):
        for attempt in (runtime.map(priced, ticks((1, 1))), runtime.call(priced, (1, 1.0))):
            with pytest.raises(ConfigurationError, match="waits for the time of its other inputs"):
                await attempt


async def test_a_map_over_one_input_by_time_is_a_map() -> None:
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, passing):
        messages = np.zeros(50_000, TICK)
        messages["time"], messages["x"] = np.arange(50_000), np.arange(50_000) % 3 - 1
        result = await within(runtime.map(passing, messages))
        assert (result == messages[messages["x"] >= 0]).all()
        with pytest.raises(KernelFailedError):
            await within(runtime.map(passing, messages))  # times within an input never go back
        check_books(runtime, "passing")


async def test_an_edited_handler_of_a_kernel_by_time_takes_over() -> None:
    def declare(factor: float) -> Any:
        @rk.ring_kernel("edited by time", input_type=TICK, output_type=TICK, order_by="time")
        def kernel(msg, out):  # type: ignore[no-untyped-def]
            out.time, out.x = msg.time, msg.x

        @rk.on_input("edited by time", "other", TICK)
        def other(msg, out):  # type: ignore[no-untyped-def]
            out.time, out.x = msg.time, factor * msg.x

        return kernel

    kernel = declare(2.0)
    async with RingKernelRuntime() as runtime, rk.managed_kernel(runtime, kernel):
        await runtime.send(kernel, (1, 1.0), input="other")
        await runtime.advance(kernel, 2)
        assert (await within(runtime.receive("edited by time"))).x == 2.0
        declare(3.0)
        await within(runtime.replace("edited by time"))
        await runtime.send("edited by time", (3, 1.0), input="other")
        await runtime.advance("edited by time", 4)
        assert (await within(runtime.receive("edited by time"))).x == 3.0


async def test_a_handler_that_does_not_return_keeps_what_its_span_may_have_taken() -> None:
    @rk.ring_kernel("stuck by time", input_type=TICK, output_type=TICK, order_by="time")
    def kernel(msg, out):  # type: ignore[no-untyped-def]
        out.time, out.x = msg.time, msg.x

    @rk.on_input("stuck by time", "other", TICK)
    def other(msg, out):  # type: ignore[no-untyped-def]
        for _ in range(200):  # 2 s: longer than anybody waits here
            usleep(10_000)
        out.time, out.x = msg.time, msg.x

    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel)
        await runtime.activate(kernel)
        await runtime.send_batch(kernel, ticks((1, 1), (2, 1)))
        await runtime.send_batch(kernel, ticks((3, 1), (4, 1)), input="other")
        await runtime.advance(kernel, 10)
        await eventually(lambda: runtime.statistics(kernel).in_flight > 0)
        await within(runtime.terminate(kernel, timeout=0.1))
        counts = check_books(runtime, "stuck by time")
        assert counts.in_flight > 0
        left = len(runtime.unprocessed(kernel)) + len(runtime.unprocessed(kernel, input="other"))
        assert left == counts.unprocessed
