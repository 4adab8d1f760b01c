"""What a kernel does at its end: when it runs, how often, what it may emit, and how it fails."""

from __future__ import annotations

import asyncio
import time
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, receive_all, start, start_chain, within
from inside import fuse, leave_turns_to_workers, take_turns_in_loop
from kinds import same, usleep

from ringkernel import (
    ConfigurationError,
    KernelCompileError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    on_end,
    on_timer,
    ring_kernel,
)

COUNTS = np.zeros((), [("seen", "i8"), ("left", "i8"), ("total", "i8")])


def keeper(msg: Any, out: Any, state: Any) -> bool:
    """Takes messages, emits none, and stops at 13."""
    if msg.value == 13:
        raise StopIteration
    state.seen += 1
    state.left += 1
    state.total += msg.value
    return False


def one_by_one(out: Any, state: Any) -> bool:
    """As many outputs as there were messages."""
    if state.left == 0:
        return False
    out.value = 1000 + state.seen - state.left
    state.left -= 1
    return True


def the_total(out: Any, state: Any) -> None:
    out.value = state.total


def forward(msg: Any, out: Any, state: Any) -> None:
    """Passes messages on, counts them, and stops at 13."""
    if msg.value == 13:
        raise StopIteration
    state.total += 1
    out.value = msg.value


def declare(kernel_id: str, end: Any, handler: Any = keeper, **options: Any) -> Any:
    """A kernel with an end. A function is of one kernel, so this one is copied."""
    handler = FunctionType(handler.__code__, handler.__globals__, handler.__name__, closure=handler.__closure__)
    given: dict[str, Any] = {"input_type": int, "output_type": int, "state": COUNTS} | options
    declared = ring_kernel(kernel_id, **given)(handler)
    on_end(kernel_id)(end)
    return declared


@pytest.fixture(params=[leave_turns_to_workers, take_turns_in_loop])
def who_runs_it(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, or the event loop's thread where it can."""
    request.param(monkeypatch)


async def end_by_closing(runtime: RingKernelRuntime, kernel_id: str) -> None:
    await runtime.close_input(kernel_id)


async def end_by_draining(runtime: RingKernelRuntime, kernel_id: str) -> None:
    await runtime.terminate(kernel_id)


async def end_by_stopping(runtime: RingKernelRuntime, kernel_id: str) -> None:
    await runtime.send(kernel_id, 13)


EACH_END = pytest.mark.parametrize("end", [end_by_closing, end_by_draining, end_by_stopping])


@EACH_END
@pytest.mark.usefixtures("who_runs_it")
async def test_it_runs_once_after_the_last_message(runtime: RingKernelRuntime, end: Any) -> None:
    """It is about no message: neither processed nor dropped."""
    kernel = await start(runtime, "k", declare("totals", the_total))
    await runtime.send_batch("k", range(10))
    await end(runtime, "k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert kernel.error is None
    assert drain(runtime, "k") == [45]
    counts = check_books(runtime, "k")
    n_stops = int(end is end_by_stopping)
    assert (counts.processed, counts.dropped, counts.emitted, counts.failed) == (10 + n_stops, 10 + n_stops, 1, 0)


@EACH_END
@pytest.mark.usefixtures("who_runs_it")
async def test_it_emits_as_much_as_it_likes_through_a_small_queue(runtime: RingKernelRuntime, end: Any) -> None:
    kernel = await start(runtime, "k", declare("one_by_one", one_by_one), queue_size=4)
    for value in range(100, 300):
        await runtime.send("k", value)
    ending = asyncio.create_task(end(runtime, "k"))
    assert await receive_all(runtime, "k", 200) == list(range(1000, 1200))
    await within(runtime.wait("k"))
    await ending
    assert kernel.error is None
    assert check_books(runtime, "k").emitted == 200


async def test_it_waits_for_room_as_long_as_it_takes_and_may_be_paused(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", declare("one_by_one", one_by_one), queue_size=2)
    await runtime.send_batch("k", range(9))
    await runtime.close_input("k")
    await eventually(lambda: runtime.statistics("k").emitted == 2)
    await asyncio.sleep(0.15)  # longer than a drain may wait for room
    assert runtime.get_state("k") is KernelState.ACTIVE
    await runtime.deactivate("k")
    assert drain(runtime, "k") == [1000, 1001]
    with pytest.raises(TimeoutError):
        await runtime.receive("k", timeout=0.02)
    assert (await runtime.read_state("k")).left == 7
    await runtime.reactivate("k")
    assert await receive_all(runtime, "k", 7) == list(range(1002, 1009))
    await within(runtime.wait("k"))
    assert runtime.kernels["k"].error is None


async def test_it_does_not_run_where_nothing_is_drained(runtime: RingKernelRuntime) -> None:
    handler = declare("totals", the_total)
    for name in ("launched", "paused"):
        await runtime.launch(name, handler)
        await runtime.send(name, 1)
    await runtime.activate("paused")
    await runtime.deactivate("paused")
    for name in ("launched", "paused"):
        await runtime.terminate(name)
        assert runtime.kernels[name].error is None
        assert drain(runtime, name) == []


async def test_it_does_not_run_after_a_failure(runtime: RingKernelRuntime) -> None:
    def fails_at_2(msg: Any, out: Any, state: Any) -> bool:
        if msg.value == 2:
            raise ValueError("two")
        return False

    kernel = await start(runtime, "k", declare("fails_before", the_total, fails_at_2))
    await runtime.send_batch("k", [1, 2, 3])
    await within(runtime.wait("k"))
    assert isinstance(kernel.error, ValueError)
    assert drain(runtime, "k") == []


async def test_its_outputs_go_to_what_the_kernel_feeds_before_the_end_does(runtime: RingKernelRuntime) -> None:
    await start_chain(runtime, a=declare("a_end", one_by_one), b=declare("b_end", the_total))
    await runtime.send_batch("a", range(100, 200))
    await runtime.close_input("a")
    await within(runtime.wait("b"))
    assert drain(runtime, "b") == [sum(range(1000, 1100))]


@pytest.mark.workers
@EACH_END
async def test_a_stage_of_a_fused_chain_has_its_end(runtime: RingKernelRuntime, end: Any) -> None:
    for name in "abc":
        await runtime.launch(name, declare(f"passes_{name}", the_total, forward))
    runtime.connect("a", "b")
    runtime.connect("b", "c")
    for name in "abc":
        await runtime.activate(name)
    await runtime.send_batch("a", range(100, 200))
    assert len(await receive_all(runtime, "c", 100)) == 100
    assert await fuse(runtime, "a", "b", "c")
    await runtime.send_batch("a", range(100, 150))
    await receive_all(runtime, "c", 50)
    await end(runtime, "a")
    for name in "abc":
        if end is not end_by_draining or name == "a":
            await within(runtime.wait(name))
        else:
            await runtime.terminate(name)
        assert runtime.kernels[name].error is None
    assert drain(runtime, "c") == [150, 151, 152]


async def test_a_batch_kernel_and_a_sink_have_one(runtime: RingKernelRuntime) -> None:
    def sums(msgs: Any, outs: Any, state: Any) -> int:
        for i in range(len(msgs)):
            state.total += msgs[i].value
        return 0

    def counts(msg: Any, state: Any) -> None:
        state.seen += 1

    def doubles(state: Any) -> bool:
        state.left += 1
        return bool(state.left < 5)

    await start(runtime, "batch", declare("oe_sums", the_total, sums, batch=True, max_outputs=2))
    await start(runtime, "sink", declare("counts", doubles, counts, output_type=None))
    for name in ("batch", "sink"):
        await runtime.send_batch(name, range(10))
        await runtime.close_input(name)
        await within(runtime.wait(name))
        assert runtime.kernels[name].error is None
        check_books(runtime, name)
    assert drain(runtime, "batch") == [45]
    state = await runtime.read_state("sink")
    assert (state.seen, state.left) == (10, 5)


async def test_stop_iteration_in_it_is_its_end(runtime: RingKernelRuntime) -> None:
    def stops(out: Any, state: Any) -> bool:
        state.left -= 1
        if state.left == 0:
            raise StopIteration
        out.value = state.left
        return True

    kernel = await start(runtime, "k", declare("stops", stops))
    await runtime.send_batch("k", range(4))
    await runtime.close_input("k")
    await within(runtime.wait("k"))
    assert kernel.error is None
    assert drain(runtime, "k") == [3, 2, 1]


# --- how it fails -----------------------------------------------------------------------------------------------------


@EACH_END
async def test_a_failure_in_it_fails_the_kernel_and_says_where(runtime: RingKernelRuntime, end: Any) -> None:
    def fails(out: Any, state: Any) -> bool:
        state.left -= 1
        if state.left == 2:
            raise ValueError("two are left")
        out.value = state.left
        return True

    kernel = await start(runtime, "k", declare("fails_in_end", fails))
    await runtime.send_batch("k", range(5))
    await end(runtime, "k")
    await within(runtime.wait("k"))
    assert isinstance(kernel.error, ValueError)
    assert str(kernel.error) == "two are left"
    assert "kernel 'k' failed in its on_end" in kernel.error.__notes__
    assert await receive_all(runtime, "k", 2) == [4, 3]
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")
    assert check_books(runtime, "k").failed == 0


async def test_one_that_is_never_through_is_stopped_in_time_and_said_so(runtime: RingKernelRuntime) -> None:
    def for_ever(out: Any, state: Any) -> bool:
        out.value = 1
        return True

    kernel = await start(runtime, "k", declare("for_ever", for_ever), queue_size=1024)

    async def receive_all_of_it() -> None:
        async for _ in runtime.stream("k"):
            pass

    receiving = asyncio.create_task(receive_all_of_it())
    began = time.monotonic()
    await runtime.terminate("k", timeout=0.2)
    assert time.monotonic() - began < 2
    assert isinstance(kernel.error, KernelStateError)
    assert "'k' was stopped in its on_end" in str(kernel.error)
    with pytest.raises(KernelFailedError):
        await within(receiving)


async def test_one_for_which_there_is_no_room_ends_a_drain_early_and_is_said_so(runtime: RingKernelRuntime) -> None:
    kernel = await start(runtime, "k", declare("one_by_one", one_by_one), queue_size=2)
    await runtime.send_batch("k", range(5))
    await eventually(lambda: runtime.statistics("k").processed == 5)
    await within(runtime.terminate("k", timeout=60))
    assert "'k' was stopped in its on_end" in str(kernel.error)
    assert drain(runtime, "k")[:2] == [1000, 1001]


async def test_one_that_does_not_return_is_given_up(runtime: RingKernelRuntime) -> None:
    def hangs(out: Any, state: Any) -> None:
        out.value = 1
        for _ in range(2_000):  # 2 s: longer than anybody waits here
            usleep(1000)

    await start(runtime, "other", same.handler)
    kernel = await start(runtime, "k", declare("hangs", hangs))
    await runtime.send("k", 1)
    await within(runtime.terminate("k", timeout=0.1))
    assert "was abandoned" in str(kernel.error)
    await runtime.send("other", 5)
    assert await within(runtime.receive("other")) == 5


async def test_calls_and_maps_go_round_it(runtime: RingKernelRuntime) -> None:
    """A call could not tell its output from an answer; a map does not end the kernel."""

    def running(msg: Any, out: Any, state: Any) -> None:
        if msg.value == 13:
            raise StopIteration
        state.total += msg.value
        out.value = state.total

    await start(runtime, "k", declare("running", the_total, running))
    with pytest.raises(ConfigurationError, match="on_end"):
        await runtime.call("k", 1)
    assert list(await runtime.map("k", [1, 2, 3])) == [1, 3, 6]
    with pytest.raises(KernelStateError) as caught:
        await within(runtime.map("k", [4, 13, 5]))
    assert list(caught.value.partial) == [10]
    await within(runtime.wait("k"))
    assert drain(runtime, "k") == [10]
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.failed) == (5, 5, 0)


async def test_one_with_other_parameters_or_a_mistake_is_refused_at_launch(runtime: RingKernelRuntime) -> None:
    def with_message(msg: Any, out: Any, state: Any) -> None:
        out.value = 1

    def misspelt(out: Any, state: Any) -> None:
        out.valu = state.total

    def assigns(out: Any, state: Any) -> None:
        out = state.total  # noqa: F841

    with pytest.raises(ConfigurationError, match=r"should take \(out, state\)"):
        await runtime.launch("a", declare("with_message", with_message))
    with pytest.raises(KernelCompileError, match="handler misspelt"):
        await runtime.launch("b", declare("misspelt", misspelt))
    with pytest.raises(ConfigurationError, match="assigns to the name `out`"):
        await runtime.launch("c", declare("assigns", assigns))


async def test_an_edited_one_takes_over(runtime: RingKernelRuntime) -> None:
    await start(runtime, "edited", declare("edited", the_total))
    await runtime.send("edited", 1)

    def other(out: Any, state: Any) -> None:
        out.value = -state.total

    declare("edited", other)
    await runtime.replace("edited")
    await runtime.close_input("edited")
    await within(runtime.wait("edited"))
    assert drain(runtime, "edited") == [-1]


async def test_the_end_of_a_keyed_kernel_is_handled_for_each_key() -> None:
    trade = np.dtype([("symbol", "S4"), ("n", "i8")], align=True)

    @ring_kernel("keyed end", input_type=trade, output_type=trade, state=np.zeros(1, "i8"), key="symbol", keys=4)
    def kernel(msg, out, state):  # type: ignore[no-untyped-def]
        state[0] += msg.n
        return False

    @on_end("keyed end")
    def last(out, state):  # type: ignore[no-untyped-def]
        out.n = state[0]
        state[0] -= 1
        return state[0] > 0

    messages = np.array([(b"b", 2), (b"a", 1), (b"c", 0), (b"b", 1)], trade)
    async with RingKernelRuntime() as runtime:
        await runtime.launch(kernel, queue_size=2)
        await runtime.activate(kernel)
        sending = asyncio.ensure_future(runtime.send_batch(kernel, messages))
        await within(sending)
        await runtime.close_input(kernel)
        # a handler that says False emits nothing: of 3, 2, 1 the last, so each key counts down to 2
        got = [(await within(runtime.receive(kernel))).n for _ in range(2)]
        assert got == [3, 2]
        assert await within(runtime.wait(kernel)) is KernelState.TERMINATED
        assert runtime.statistics(kernel).emitted == 2


TICK = np.dtype([("time", "i8"), ("value", "i8")])


def seen_since(time: Any, out: Any, state: Any) -> None:
    out.value = state.left
    state.left = 0


@pytest.mark.parametrize("end", [end_by_closing, end_by_draining])
async def test_a_kernel_that_goes_by_time_comes_to_its_end(
    runtime: RingKernelRuntime, end: Any, who_runs_it: None
) -> None:
    declared = declare("oe_timed", one_by_one, input_type=TICK, order_by="time")
    on_timer("oe_timed", every=10)(seen_since)
    await start(runtime, "oe_timed", declared, queue_size=4)
    await runtime.send_batch("oe_timed", np.array([(1, 3), (12, 4), (14, 5)], TICK))
    await within(end(runtime, "oe_timed"))
    assert await within(runtime.wait("oe_timed")) is KernelState.TERMINATED
    assert drain(runtime, "oe_timed") == [1, 1001, 1002]
    check_books(runtime, "oe_timed")
