"""What goes wrong: handlers that fail, stall or never return, commands that cross, and use that is refused."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from typing import Annotated, Any

import inside
import numpy as np
import numpy.typing as npt
import pytest
from helpers import PATIENCE_S, check_books, drain, eventually, live_state, turns, within
from inside import has_poller, never_runs, notice_status, set_answer_timeout, set_hold, word_of_block

from ringkernel import (
    ConfigurationError,
    DeviceUnavailableError,
    KernelCompileError,
    KernelExistsError,
    KernelFailedError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    RingKernelError,
    RingKernelRuntime,
    message,
    ring_kernel,
)
from ringkernel.devices import compiling
from ringkernel.memory.layout import BLOCK, COMMAND_PAUSE, STATUS_DEACTIVATED, STATUS_FAILED

if os.name != "posix":
    pytest.skip("the handlers that take their time call usleep", allow_module_level=True)

usleep = ctypes.CDLL(None).usleep
usleep.argtypes, usleep.restype = [ctypes.c_uint], ctypes.c_int


@ring_kernel(kernel_id="ft_echo", input_type=int, output_type=int)
def echo(msg, out):
    out.value = msg.value


@ring_kernel(kernel_id="ft_slow", input_type=int, output_type=int)
def slow(msg, out):
    usleep(20_000)
    out.value = msg.value


GATE = np.dtype([("open", "i8"), ("entered", "i8")])


@ring_kernel(kernel_id="ft_gate", input_type=int, output_type=int, state=np.zeros((), GATE))
def gated(msg, out, state):
    """Does not return until the test opens it: to everybody else a handler that loops for ever."""
    state.entered += 1
    while state.open == 0:
        usleep(100)
    out.value = msg.value


async def start(runtime: RingKernelRuntime, kernel_id: str, func: Any, **options: Any) -> Any:
    kernel = await runtime.launch(kernel_id, func, **options)
    await runtime.activate(kernel_id)
    return kernel


async def enter_gate(runtime: RingKernelRuntime, kernel_id: str = "k", messages: int = 1) -> Any:
    """A gated kernel that stands in its first message. Its live state, which the test may write to."""
    await start(runtime, kernel_id, gated)
    gate = live_state(runtime, kernel_id)
    await runtime.send_batch(kernel_id, np.arange(messages))
    await eventually(lambda: gate["entered"] == 1)
    return gate


async def check_alive(runtime: RingKernelRuntime, kernel_id: str) -> None:
    await runtime.send(kernel_id, 424_242)
    assert await within(runtime.receive(kernel_id)) == 424_242


def worker_threads() -> int:
    return sum(thread.name.startswith("ringkernel-worker") for thread in threading.enumerate())


@pytest.fixture
async def runtime(loop_errors):
    """As the shared one, but a runtime that cannot be closed fails the test and not the whole run."""
    entered = RingKernelRuntime(workers=1)
    await entered.__aenter__()
    yield entered
    closing = asyncio.create_task(entered.close())
    await asyncio.wait({closing}, timeout=10)
    assert closing.done(), {name: kernel.state.name for name, kernel in entered.kernels.items()}
    await closing


# --- pausing under load ------------------------------------------------------------------------------------------


async def test_nothing_is_taken_after_a_pause_while_messages_pour_in(runtime):
    await start(runtime, "k", echo, queue_size=64)

    async def feed() -> None:
        for i in itertools.count(0, 16):
            await runtime.send_batch("k", np.arange(i, i + 16))

    async def collect() -> None:
        async for batch in runtime.stream("k"):
            got.extend(batch.tolist())

    got: list[int] = []
    tasks = [asyncio.create_task(feed()), asyncio.create_task(collect())]
    for _ in range(20):
        taken = runtime.statistics("k").processed
        await eventually(lambda taken=taken: runtime.statistics("k").processed > taken)
        await runtime.deactivate("k")
        before = runtime.statistics("k")
        await eventually(lambda: runtime.statistics("k").unprocessed == 64)
        after = runtime.statistics("k")
        assert (after.processed, after.emitted) == (before.processed, before.emitted)
        check_books(runtime, "k")
        await runtime.reactivate("k")
    tasks[0].cancel()
    await runtime.terminate("k")
    await within(asyncio.wait(tasks))
    assert got == list(range(len(got)))
    assert len(got) == check_books(runtime, "k").processed


async def test_many_pauses_under_traffic_lose_nothing(runtime):
    await start(runtime, "k", echo, queue_size=32)
    sending = asyncio.create_task(runtime.send_batch("k", np.arange(20_000)))
    got: list[int] = []

    async def collect() -> None:
        while len(got) < 20_000:
            got.extend((await runtime.receive_batch("k")).tolist())

    collecting = asyncio.create_task(collect())
    pauses = 0
    while not collecting.done():
        await within(runtime.deactivate("k"))
        await within(runtime.reactivate("k"))
        pauses += 1
    await within(sending)
    await collecting
    assert pauses > 10
    assert got == list(range(20_000))
    await eventually(lambda: runtime.statistics("k").processed == 20_000)
    check_books(runtime, "k")


async def test_a_pause_waits_for_the_handler_and_takes_nothing_more(runtime):
    gate = await enter_gate(runtime, messages=5)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns(50)
    assert not pausing.done()
    assert runtime.get_state("k") is KernelState.ACTIVE
    gate["open"] = 1
    await within(pausing)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed, counts.in_flight) == (1, 4, 0)
    assert gate["entered"] == 1
    await runtime.reactivate("k")
    await eventually(lambda: runtime.statistics("k").processed == 5)


async def test_a_sender_that_waits_is_let_in_when_a_pause_leaves_room(runtime):
    """Who waits for room is woken once per half ring; but a paused kernel will not free that half."""
    await runtime.launch("k", gated, queue_size=8)
    await runtime.send_batch("k", np.arange(8))
    await runtime.activate("k")
    gate = live_state(runtime, "k")
    await eventually(lambda: gate["entered"] == 1)
    sending = asyncio.create_task(runtime.send("k", 8))
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    gate["open"] = 1
    await within(pausing)
    assert runtime.statistics("k").processed == 1
    await within(sending)
    assert runtime.statistics("k").unprocessed == 8
    with pytest.raises(asyncio.TimeoutError):
        await runtime.send("k", 9, timeout=0.02)


async def test_a_pause_that_gets_no_answer_changes_nothing(runtime, monkeypatch):
    set_answer_timeout(monkeypatch, 0.05)
    gate = await enter_gate(runtime, messages=5)
    with pytest.raises(KernelStateError, match=r"'k'.*still in its handler"):
        await runtime.deactivate("k")
    assert runtime.get_state("k") is KernelState.ACTIVE
    gate["open"] = 1
    await eventually(lambda: runtime.statistics("k").processed == 5)
    monkeypatch.undo()
    await within(runtime.deactivate("k"))
    await within(runtime.reactivate("k"))
    drain(runtime, "k")
    await check_alive(runtime, "k")


async def test_a_cancelled_pause_lets_the_kernel_run_on(runtime):
    gate = await enter_gate(runtime, messages=5)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(pausing)
    assert runtime.get_state("k") is KernelState.ACTIVE
    gate["open"] = 1
    await eventually(lambda: runtime.statistics("k").processed == 5)
    drain(runtime, "k")
    await check_alive(runtime, "k")


async def test_an_answer_that_is_read_while_it_is_written_is_whole(runtime, monkeypatch):
    """A late ring has the host read status and echo just when the worker writes them."""
    kernel = await start(runtime, "k", fail_at_57)

    def command_and_ring(block: Any, given: int, *rest: Any) -> None:
        command(block, given, *rest)
        if given != COMMAND_PAUSE:
            return

        def read_slowly(block: Any, offset: int) -> int:
            word: int = read(block, offset)
            deadline = time.monotonic() + 1.0
            while read(block, BLOCK.echo) != rest[0] and time.monotonic() < deadline:
                pass
            return word

        with monkeypatch.context() as patch:
            read = inside.replace(patch, inside.READ_WORD, read_slowly)
            notice_status(kernel)

    command = inside.replace(monkeypatch, inside.COMMAND, command_and_ring)
    for _ in range(20):
        await within(runtime.deactivate("k"))
        await within(runtime.reactivate("k"))
        await runtime.send("k", 2)
        assert await within(runtime.receive("k")) == 2


async def test_an_end_that_is_told_twice_counts_once(runtime):
    """The ring for the start is answered when the kernel has failed already; then the doorbell rings for the end."""
    kernel = await start(runtime, "k", fail_at_57)
    await runtime.send_batch("k", [1, 57, 2])
    deadline = time.monotonic() + 5
    while word_of_block(kernel, "status") != STATUS_FAILED:  # the loop stands still
        assert time.monotonic() < deadline
    notice_status(kernel)
    notice_status(kernel)
    await within(runtime.wait("k"))
    await turns()
    counts = runtime.statistics("k")
    assert (counts.accepted, counts.processed, counts.failed, counts.unprocessed) == (3, 1, 1, 1)
    assert runtime.unprocessed("k").tolist() == [2]


async def test_a_pause_is_cancelled_when_it_has_been_obeyed_and_nobody_knows_yet(runtime):
    kernel = await start(runtime, "k", echo)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await asyncio.sleep(0)
    deadline = time.monotonic() + 5
    while word_of_block(kernel, "status") != STATUS_DEACTIVATED:  # the loop stands still, so it cannot see the answer
        assert time.monotonic() < deadline
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(pausing)
    assert runtime.get_state("k") is KernelState.ACTIVE
    await check_alive(runtime, "k")


async def test_a_pause_is_cancelled_at_every_early_moment(runtime):
    await start(runtime, "k", echo)
    for count in range(60):
        pausing = asyncio.create_task(runtime.deactivate("k"))
        await turns(count % 12)
        pausing.cancel()
        await asyncio.wait({pausing})
        if runtime.get_state("k") is KernelState.DEACTIVATED:
            assert not pausing.cancelled()
            await runtime.reactivate("k")
        await check_alive(runtime, "k")


async def test_a_cancelled_activation_leaves_a_state_that_is_true(runtime):
    """ACTIVE and running, or as before and stopped."""
    for count in range(12):
        await runtime.launch("k", echo)
        await runtime.send("k", 1)
        starting = asyncio.create_task(runtime.activate("k"))
        await turns(count)
        starting.cancel()
        await asyncio.wait({starting})
        if runtime.get_state("k") is KernelState.LAUNCHED:
            for _ in range(20):
                await asyncio.sleep(0.001)  # it must never happen, so there is nothing to wait for
                assert runtime.statistics("k").processed == 0, "a kernel that is LAUNCHED has taken a message"
            await runtime.activate("k")
        assert await within(runtime.receive("k")) == 1
        await within(runtime.terminate("k"))
        runtime.remove("k")


async def test_terminate_supersedes_a_pending_pause(runtime):
    gate = await enter_gate(runtime, messages=3)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    ending = asyncio.create_task(runtime.terminate("k", timeout=5))
    with pytest.raises(KernelStateError, match="'k'"):
        await within(pausing, 1.0)
    assert runtime.get_state("k") is KernelState.TERMINATING
    gate["open"] = 1
    await within(ending)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed, runtime.kernels["k"].error) == (3, 0, None)


async def test_looking_at_the_state_of_a_kernel_that_is_ending_does_not_keep_it_from_ending(runtime):
    """A reader finds no gap between long calls; it must not take the drain's place."""
    await start(runtime, "k", stateful_slow)
    await runtime.send_batch("k", np.arange(20))
    await eventually(lambda: runtime.statistics("k").processed >= 1)
    ending = asyncio.create_task(runtime.terminate("k", timeout=5))
    await turns()
    with contextlib.suppress(KernelStateError):  # it may be refused
        await within(runtime.read_state("k"))
    await within(ending, 2.5)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.unprocessed, runtime.kernels["k"].error) == (20, 0, None)
    assert (await runtime.read_state("k")).tolist() == [20]


@ring_kernel(kernel_id="ft_stateful", input_type=int, state=np.zeros(1, np.int64))
def stateful_slow(msg, state):
    usleep(10_000)
    state[0] += 1


COMMANDS: dict[str, Any] = {
    "activate": lambda rt: rt.activate("k"),
    "deactivate": lambda rt: rt.deactivate("k"),
    "terminate": lambda rt: rt.terminate("k", timeout=5),
    "read_state": lambda rt: rt.read_state("k"),
}


@pytest.mark.parametrize("order", list(itertools.permutations(["activate", "terminate", "read_state"])))
async def test_commands_that_cross_leave_a_kernel_that_can_be_ended(runtime, order):
    await runtime.launch("k", stateful_slow)
    await runtime.send_batch("k", np.arange(3))
    results = await within(asyncio.gather(*(COMMANDS[name](runtime) for name in order), return_exceptions=True), 2.5)
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, KernelStateError), result
    assert runtime.get_state("k") is KernelState.TERMINATED
    counts = check_books(runtime, "k")
    assert counts.processed + counts.unprocessed == 3
    assert runtime.kernels["k"].error is None


@pytest.mark.parametrize("order", list(itertools.permutations(["deactivate", "terminate", "read_state"])))
async def test_commands_that_cross_a_running_kernel_leave_it_ended(runtime, order):
    await start(runtime, "k", stateful_slow)
    await runtime.send_batch("k", np.arange(5))
    await eventually(lambda: runtime.statistics("k").processed >= 1)
    results = await within(asyncio.gather(*(COMMANDS[name](runtime) for name in order), return_exceptions=True), 2.5)
    for result in results:
        assert not isinstance(result, BaseException) or isinstance(result, KernelStateError), result
    if runtime.get_state("k") is not KernelState.TERMINATED:
        await within(runtime.terminate("k"))
    counts = check_books(runtime, "k")
    assert counts.processed + counts.unprocessed == 5
    assert runtime.kernels["k"].error is None


# --- slow and stuck handlers -------------------------------------------------------------------------------------


async def test_a_slow_kernel_does_not_hold_up_a_fast_one_on_the_same_worker(runtime):
    await start(runtime, "slow", slow)
    await start(runtime, "fast", echo)
    await runtime.send_batch("slow", np.arange(1000))
    await eventually(lambda: runtime.statistics("slow").processed >= 1)
    waits = []
    until = time.monotonic() + 0.6
    while time.monotonic() < until or len(waits) < 20:
        begin = time.perf_counter()
        await check_alive(runtime, "fast")
        waits.append(time.perf_counter() - begin)
    assert np.percentile(waits, 95) < 0.05
    assert runtime.statistics("slow").processed >= 2
    assert runtime.statistics("slow").unprocessed > 0
    await within(runtime.terminate("slow", timeout=0.0))
    assert runtime.kernels["slow"].error is None


@pytest.mark.workers
async def test_a_handler_that_never_returns_is_cut_off_and_its_neighbours_go_on(runtime, caplog):
    before = worker_threads()
    for name in ("left", "right"):
        await start(runtime, name, echo)
    gate = await enter_gate(runtime, messages=3)
    await check_alive(runtime, "left")
    begin = time.monotonic()
    await within(runtime.terminate("k", timeout=0.1))
    assert time.monotonic() - begin < 1.0
    assert runtime.get_state("k") is KernelState.TERMINATED
    error = runtime.kernels["k"].error
    assert isinstance(error, RingKernelError)
    assert "'k'" in str(error)
    assert "handler" in str(error)
    assert any("'k'" in record.getMessage() for record in caplog.records)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.in_flight, counts.unprocessed) == (0, 0, 1, 2)
    assert runtime.unprocessed("k").tolist() == [1, 2]
    with pytest.raises(KernelFailedError, match="'k'"):
        await runtime.receive("k")
    for name in ("left", "right"):
        await check_alive(runtime, name)
        assert runtime.kernels[name].error is None

    threads = worker_threads()
    assert threads > before
    gate["open"] = 1  # now it returns, late
    await eventually(lambda: worker_threads() < threads)
    assert gate["entered"] == 1
    assert runtime.statistics("k") == counts
    with pytest.raises(KernelFailedError, match="'k'"):
        await runtime.receive("k")
    for name in ("left", "right"):
        await check_alive(runtime, name)
    runtime.remove("k")
    await start(runtime, "k", echo)
    await check_alive(runtime, "k")


async def test_a_stuck_stage_is_cut_out_of_its_chain(runtime):
    for name, func in [("source", echo), ("stuck", gated), ("beside", echo)]:
        await runtime.launch(name, func, queue_size=8)
    runtime.connect("source", "stuck")
    runtime.connect("source", "beside")
    gate = live_state(runtime, "stuck")
    for name in ("source", "stuck", "beside"):
        await runtime.activate(name)
    sending = asyncio.create_task(runtime.send_batch("source", np.arange(40)))
    await eventually(lambda: gate["entered"] == 1)
    await eventually(lambda: runtime.statistics("beside").emitted == 8)
    await within(runtime.terminate("stuck", timeout=0.05))
    got: list[int] = []
    while len(got) < 40:
        got.extend((await within(runtime.receive_batch("beside"))).tolist())
    assert got == list(range(40))
    await within(sending)
    counts = check_books(runtime, "stuck")
    assert counts.in_flight == 1
    assert runtime.unprocessed("stuck").tolist() == list(range(1, counts.accepted))
    gate["open"] = 1
    await eventually(lambda: worker_threads() <= 2)
    await runtime.send("source", 99)
    assert await within(runtime.receive("beside")) == 99
    assert runtime.statistics("stuck") == counts


@pytest.mark.workers
async def test_who_only_waits_for_the_worker_is_not_called_the_culprit(runtime, monkeypatch):
    set_hold(monkeypatch, 1_000.0)  # the monitor does not come to the rescue
    await start(runtime, "innocent", echo)
    gate = await enter_gate(runtime, "stuck")
    await runtime.send("innocent", 5)
    await within(runtime.terminate("innocent", timeout=0.05))
    assert runtime.kernels["innocent"].error is None
    counts = check_books(runtime, "innocent")
    assert (counts.in_flight, counts.unprocessed) == (0, 1)
    gate["open"] = 1
    assert await within(runtime.receive("stuck")) == 0


@pytest.mark.workers
async def test_two_stuck_handlers_do_not_stop_a_third_kernel(runtime):
    gates = [await enter_gate(runtime, name) for name in ("one", "two")]
    await start(runtime, "third", echo)
    await check_alive(runtime, "third")
    for gate in gates:
        gate["open"] = 1
    for name in ("one", "two"):
        assert await within(runtime.receive(name)) == 0
        await within(runtime.deactivate(name))
        await within(runtime.reactivate(name))
    await check_alive(runtime, "third")


@pytest.mark.workers
async def test_threads_do_not_pile_up(runtime):
    """A worker that a slow kernel kept for itself ends with it."""
    await start(runtime, "other", echo)
    before = worker_threads()
    for _ in range(4):
        gate = await enter_gate(runtime)
        await check_alive(runtime, "other")
        gate["open"] = 1
        await within(runtime.terminate("k"))
        runtime.remove("k")
    await eventually(lambda: worker_threads() <= before + 1)


async def test_kernels_that_move_between_workers_lose_nothing(loop_errors):
    async with RingKernelRuntime(workers=2) as runtime:
        names = [f"k{i}" for i in range(6)]
        for name in names:
            await start(runtime, name, echo, queue_size=32)
        await start(runtime, "slow", slow)
        await runtime.send_batch("slow", np.arange(20))

        async def round_trip(name: str) -> list[int]:
            sending = asyncio.create_task(runtime.send_batch(name, np.arange(5000)))
            got: list[int] = []
            while len(got) < 5000:
                got.extend((await runtime.receive_batch(name)).tolist())
            await sending
            return got

        results = await within(asyncio.gather(*map(round_trip, names)), 20)
        assert all(result == list(range(5000)) for result in results)
        await eventually(lambda: runtime.statistics("slow").processed == 20)
        for name in (*names, "slow"):
            check_books(runtime, name)


# --- handlers that fail ------------------------------------------------------------------------------------------


class OwnError(Exception):
    pass


class PickyError(Exception):
    def __init__(self, number):
        super().__init__(number + 1)


@ring_kernel(kernel_id="ft_fails", input_type=int, output_type=int)
def fail_at_57(msg, out):
    if msg.value == 57:
        raise OwnError("fifty-seven")  # the line that the traceback shows
    out.value = msg.value
    return msg.value % 2 == 0


@ring_kernel(kernel_id="ft_index", input_type=int, output_type=int, state=np.arange(4))
def index_state(msg, out, state):
    out.value = state[msg.value]


@message
class Vector:
    index: int
    xs: Annotated[npt.NDArray[np.float64], 3]


@ring_kernel(kernel_id="ft_nested", input_type=Vector, output_type=float)
def index_nested(msg, out):
    out.value = msg.xs[msg.index]


def pick(values, index):
    return values[index]


@ring_kernel(kernel_id="ft_helper", input_type=int, output_type=int, state=np.arange(4))
def index_in_helper(msg, out, state):
    out.value = pick(state, msg.value)


@ring_kernel(kernel_id="ft_batch", input_type=int, output_type=int, batch=True)
def batch_fails(msgs, outs):
    for i in range(len(msgs)):
        outs[i].value = msgs[i].value
        if msgs[i].value == 57:
            raise OwnError("in a batch")


@ring_kernel(kernel_id="ft_beyond", input_type=int, output_type=int, batch=True)
def batch_beyond(msgs, outs):
    for i in range(len(msgs) + 1):
        outs[i].value = 1


@ring_kernel(kernel_id="ft_count", input_type=int, output_type=int, batch=True)
def batch_counts(msgs, outs):
    for i in range(len(msgs)):
        outs[i].value = msgs[i].value
        if msgs[i].value == 57:
            return len(outs) + 1
        if msgs[i].value == -57:
            return -1
    return len(msgs)


@message
class Ema:
    mean: float = 0.0
    max: float = 10.0


@ring_kernel(kernel_id="ft_ema", input_type=float, output_type=Ema, state=Ema())
def ema(msg, out, state):
    """Fields with names that NumPy's records use for methods, as in the first example anybody writes."""
    state.mean += 0.5 * (msg.value - state.mean)
    if state.mean > state.max:
        raise OwnError("too much")
    out.mean = state.mean


LIMIT = 5
SPIN = False


@ring_kernel(kernel_id="ft_limit", input_type=int, output_type=int)
def frozen_limit(msg, out):
    """Globals are constants once compiled: the test changes this one afterwards, so Python sees another."""
    if SPIN:
        while True:
            usleep(100)
    if msg.value == LIMIT:
        raise OwnError("only when compiled")
    out.value = msg.value


@ring_kernel(kernel_id="ft_total", input_type=int, output_type=int, state=np.zeros((), [("total", "i8")]))
def budget(msg, out, state):
    if state.total + msg.value > 100:
        raise OverflowError("over budget", state.total)
    state.total += msg.value
    out.value = state.total


async def failure(runtime: RingKernelRuntime, func: Any, messages: Any, **options: Any) -> BaseException:
    """Launch as "k", send, activate, and wait for the end. Its error."""
    await runtime.launch("k", func, **options)
    await runtime.send_batch("k", messages)
    await runtime.activate("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    error = runtime.kernels["k"].error
    assert error is not None
    return error


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


async def test_a_failure_in_the_middle_of_a_span_keeps_what_came_before_and_after(runtime):
    await start(runtime, "sibling", echo)
    error = await failure(runtime, fail_at_57, np.arange(100))
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.failed, counts.unprocessed) == (100, 57, 1, 42)
    assert (counts.emitted, counts.dropped, counts.in_flight) == (29, 28, 0)
    assert runtime.unprocessed("k").tolist() == list(range(58, 100))
    assert [await within(runtime.receive("k")) for _ in range(29)] == list(range(0, 57, 2))
    with pytest.raises(KernelFailedError) as caught:
        await within(runtime.receive("k"))
    assert caught.value.__cause__ is error
    await check_alive(runtime, "sibling")


async def test_a_failure_has_the_class_the_message_and_the_line_of_the_handler(runtime):
    error = await failure(runtime, fail_at_57, [57])
    assert type(error) is OwnError
    assert error.args == ("fifty-seven",)
    text = shown(error)
    assert "the line that the traceback shows" in text
    assert "in fail_at_57" in text
    assert "'k'" in text
    assert "57" in "".join(error.__notes__)
    with pytest.raises(KernelFailedError, match=r"'k'.*OwnError: fifty-seven"):
        await runtime.send("k", 1)
    with pytest.raises(KernelFailedError):
        await anext(runtime.stream("k"))


@pytest.mark.parametrize(
    ("func", "messages", "good"),
    [
        (index_state, [0, 3, 4, 1], 2),
        (index_state, [-1, -4, -5, 1], 2),
        (index_state, [2**40], 0),
        (index_in_helper, [3, 99, 1], 1),
        (index_nested, [Vector(0, [1, 2, 3]), Vector(3, [1, 2, 3])], 1),
    ],
    ids=["state", "negative", "far", "helper", "nested"],
)
async def test_an_index_out_of_range_is_an_index_error(runtime, func, messages, good):
    error = await failure(runtime, func, messages)
    assert isinstance(error, IndexError)
    assert f"in {func.__name__}" in shown(error)
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (good, 1, len(messages) - good - 1)


async def test_a_batch_fails_as_a_whole_span(runtime):
    error = await failure(runtime, batch_fails, np.arange(100))
    assert isinstance(error, OwnError)
    counts = check_books(runtime, "k")
    assert counts.failed >= 1
    assert counts.processed <= 57 < counts.processed + counts.failed
    assert counts.emitted == counts.processed
    assert drain(runtime, "k") == list(range(counts.processed))
    assert runtime.unprocessed("k").tolist() == list(range(counts.processed + counts.failed, 100))


async def test_a_batch_that_writes_beyond_its_outputs_is_an_index_error(runtime):
    error = await failure(runtime, batch_beyond, np.arange(10))
    assert isinstance(error, IndexError)
    assert check_books(runtime, "k").emitted == 0


@pytest.mark.parametrize("wrong", [57, -57])
async def test_a_count_out_of_range_is_a_fault(runtime, wrong):
    error = await failure(runtime, batch_counts, [1, 2, 3, wrong, 4, 5])
    assert isinstance(error, RingKernelError)
    assert re.search(r"count.*0 to \d+", str(error))
    counts = check_books(runtime, "k")
    assert counts.processed <= 3 < counts.processed + counts.failed
    assert drain(runtime, "k") == [1, 2, 3][: counts.processed]


async def test_a_failure_is_run_again_on_a_copy_of_the_state(runtime):
    error = await failure(runtime, budget, [50, 40, 20, 1])
    assert type(error) is OverflowError
    assert error.args == ("over budget", 90)
    assert (await runtime.read_state("k")).total == 90
    assert drain(runtime, "k") == [50, 90]
    assert runtime.unprocessed("k").tolist() == [1]


async def test_field_names_that_numpy_uses_itself_do_not_mislead_the_traceback(runtime):
    error = await failure(runtime, ema, [1.0, 100.0, 1.0])
    assert type(error) is OwnError, shown(error)
    assert error.args == ("too much",)
    assert "in ema" in shown(error)


NESTED = np.dtype([("r", [("i", "i8"), ("xs", "f8", 2)])])


@ring_kernel(kernel_id="ft_nested", input_type=NESTED, output_type=NESTED)
def nested(msg, out):
    out.r = msg.r
    out.r.xs[0] = msg.r.xs[msg.r.i]


async def test_the_traceback_reaches_into_records_within_records(runtime):
    messages = np.zeros(2, NESTED)
    messages["r"]["i"] = [1, 2]
    error = await failure(runtime, nested, messages)
    assert type(error) is IndexError, shown(error)
    assert "in nested" in shown(error)


async def failure_that_python_does_not_reproduce(runtime, monkeypatch, func):
    """What a kernel ends with whose compiled code alone still has the limit that its handler was compiled with."""
    await runtime.launch("k", func)
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 10**9)
    await runtime.send_batch("k", np.arange(10))
    await runtime.activate("k")
    await within(runtime.wait("k"))
    return runtime.kernels["k"].error


async def test_a_failure_that_python_does_not_reproduce_says_so(runtime, monkeypatch):
    error = await failure_that_python_does_not_reproduce(runtime, monkeypatch, frozen_limit)
    assert type(error) is OwnError
    assert error.args == ("only when compiled",)
    assert "did not fail" in shown(error)
    assert "failed on message 5" in shown(error)


@ring_kernel(kernel_id="ft_computed", input_type=int, output_type=int)
def frozen_computed(msg, out):
    if msg.value == LIMIT:
        raise OwnError("value", msg.value)
    out.value = msg.value


@ring_kernel(kernel_id="ft_picky", input_type=int, output_type=int)
def frozen_picky(msg, out):
    if msg.value == LIMIT:
        raise PickyError(msg.value)
    out.value = msg.value


@pytest.mark.parametrize(
    ("func", "kind", "arguments"),
    [
        (frozen_computed, OwnError, ("value", "(computed)")),
        (frozen_picky, RuntimeError, ("PickyError('(computed)',)",)),
    ],
    ids=["computed", "picky"],
)
async def test_an_exception_whose_arguments_only_the_compiled_code_knows_ends_the_kernel(
    runtime, monkeypatch, func, kind, arguments
):
    """The kernel ends with what is known, also where the exception's class cannot be called with it."""
    error = await failure_that_python_does_not_reproduce(runtime, monkeypatch, func)
    assert (type(error), error.args) == (kind, arguments)


async def test_a_run_again_that_never_ends_has_a_deadline(runtime, monkeypatch):
    await runtime.launch("k", frozen_limit)
    await start(runtime, "other", echo)
    monkeypatch.setattr(sys.modules[__name__], "SPIN", True)
    await runtime.send_batch("k", np.arange(10))
    threads = threading.active_count()
    await runtime.activate("k")
    await check_alive(runtime, "other")
    await within(runtime.wait("k"), 3)
    error = runtime.kernels["k"].error
    assert type(error) is OwnError
    assert "did not end within" in shown(error)
    await eventually(lambda: threading.active_count() <= threads)
    assert check_books(runtime, "k").failed == 1


@pytest.mark.parametrize("command", ["deactivate-reactivate", "terminate", "read_state", "map"])
async def test_commands_to_a_kernel_that_has_failed_and_is_being_looked_into(runtime, monkeypatch, command):
    """Between the failure and the end of the run again nobody runs the kernel; nothing may start it once more."""
    await runtime.launch("k", frozen_limit)
    monkeypatch.setattr(sys.modules[__name__], "SPIN", True)
    await runtime.send_batch("k", np.arange(10))
    await runtime.activate("k")
    await eventually(lambda: runtime.statistics("k").failed == 1)
    await eventually(lambda: not has_poller(runtime.kernels["k"]))
    try:
        if command == "deactivate-reactivate":
            await within(runtime.deactivate("k"))
            await within(runtime.reactivate("k"))
        elif command == "terminate":
            await within(runtime.terminate("k", timeout=2))
        elif command == "map":
            drain(runtime, "k")
            await within(runtime.map("k", np.arange(10)))
        else:
            with pytest.raises(MessageTypeError):
                await runtime.read_state("k")
    except KernelStateError:
        pass
    await within(runtime.wait("k"), 3)
    assert type(runtime.kernels["k"].error) is OwnError
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (5, 1, 4)
    assert runtime.unprocessed("k").tolist() == [6, 7, 8, 9]


async def test_all_who_wait_are_woken_by_a_failure(runtime):
    await start(runtime, "k", fail_at_57, queue_size=4)
    waiting = [
        asyncio.create_task(runtime.receive("k")),
        asyncio.create_task(runtime.receive_batch("k")),
        asyncio.create_task(anext(runtime.stream("k"))),
    ]
    await turns()
    await runtime.send("k", 57)
    for task in waiting:
        with pytest.raises(KernelFailedError):
            await within(task)
    assert await within(runtime.wait("k")) is KernelState.TERMINATED


async def test_a_sender_that_waits_for_room_is_told_of_the_failure(runtime):
    await runtime.launch("k", fail_at_57, queue_size=4)
    await runtime.send_batch("k", [1, 3, 57, 5])
    single = asyncio.create_task(runtime.send("k", 7))
    batch = asyncio.create_task(runtime.send_batch("k", [9] * 50))
    await turns()
    await runtime.activate("k")
    with pytest.raises(KernelFailedError):
        await within(batch)
    await within(asyncio.wait({single}))  # that one may have found room in time
    assert single.exception() is None or isinstance(single.exception(), KernelFailedError)
    counts = check_books(runtime, "k")
    left = runtime.unprocessed("k").tolist()
    assert (counts.processed, counts.failed, left[0]) == (2, 1, 5)
    assert left[1:2] in ([], [7]) if single.exception() is None else 7 not in left
    assert set(left) <= {5, 7, 9}


async def test_a_failed_kernel_is_removed_and_launched_anew(runtime):
    for _ in range(3):
        error = await failure(runtime, fail_at_57, [56, 57])
        assert isinstance(error, OwnError)
        with pytest.raises(KernelStateError, match="TERMINATED"):
            await runtime.launch("k", echo)
        runtime.remove("k")
    await start(runtime, "k", echo)
    await check_alive(runtime, "k")


# --- what does not compile ---------------------------------------------------------------------------------------

VECTOR = np.dtype([("n", "i8"), ("xs", "f8", 3)])


def unknown_input_field(msg, out):
    out.value = msg.prize


def unknown_output_field(msg, out):
    out.valeu = msg.value


def unknown_batch_field(msgs, outs):
    for i in range(len(msgs)):
        outs[i].value = msgs[i].prize


def float_into_integer(msg, out):
    out.value = 0.5 * msg.value


def float_added_to_integer(msg, out):
    out.value = 1
    out.value += 0.5 * msg.value


def float_into_integer_batch(msgs, outs):
    for i in range(len(msgs)):
        outs[i].value = 0.5 * msgs[i].value


def float_into_integer_state(msg, state):
    state[0] = 0.5 * msg.value


def float_into_integer_helper(msg, state):
    put_half(state)


def put_half(array):
    array[0] = 0.5


def opens_a_file(msg, out):
    out.value = len(open("x").read())  # noqa: PTH123, SIM115 (it must not compile)


def undefined_name(msg, out):
    out.value = msg.value + no_such_name  # noqa: F821


def text_method(msg, out):
    out.value = msg.value.upper()


def calculates_with_the_record(msg, out):
    out.value = msg * 2


def calculates_with_records(msgs, outs):
    outs[:] = msgs * 2


def imports_inside(msg, out):
    import math

    out.value = math.floor(msg.value)


def assigns_to_a_global(msg, out):
    global FACTORS  # noqa: PLW0603
    FACTORS = msg.value


FACTORS = {"a": 1}


def reads_a_dictionary(msg, out):
    out.value = FACTORS["a"] * msg.value


def returns_number(msg, out):
    out.value = msg.value
    return msg.value


def returns_text(msg, out):
    return "yes"


def returns_tuple(msg, out):
    return (True, False)


def batch_returns_float(msgs, outs):
    return 1.0


def batch_returns_bool(msgs, outs):
    return True


def assigns_to_message(msg, out):
    msg.value = 3


def adds_to_message(msg, out):
    msg.value += 3


def assigns_to_batch(msgs, outs):
    for i in range(len(msgs)):
        msgs[i].value = 3


def assigns_through_another_name(msg, out):
    alias = msg
    alias.value = 3


def assigns_in_a_loop_over_the_batch(msgs, outs):
    for msg in msgs:
        msg.value = 3


def write_to(record, value):
    record.value = value


def passed_on(record):
    return record


def assigns_in_a_helper(msg, out):
    write_to(msg, 3)


def assigns_in_a_helper_by_keyword(msg, out):
    write_to(value=3, record=msg)


def assigns_through_a_tuple(msg, out):
    both = (msg, out)
    both[0].value = 3


def assigns_to_what_a_helper_returns(msg, out):
    passed_on(msg).value = 3


def writes_output_in_a_helper(msg, out):
    write_to(passed_on(out), msg.value + 1)


def assigns_whole_nested_array(msg, out):
    out.xs = msg.xs * 2


DOES_NOT_COMPILE: list[tuple[Any, dict[str, Any], str]] = [
    (unknown_input_field, {}, r"msg\.prize.*no field 'prize'.*value"),
    (unknown_output_field, {}, r"out\.valeu.*no field 'valeu'.*value"),
    (unknown_batch_field, {"batch": True}, r"prize"),
    (float_into_integer, {}, r"value.*float64.*int64"),
    (float_added_to_integer, {}, r"value.*float64.*int64"),
    (float_into_integer_batch, {"batch": True}, r"float64.*int64"),
    (float_into_integer_state, {"output_type": None, "state": np.zeros(2, np.int64)}, r"state.*float64.*int64"),
    (float_into_integer_helper, {"output_type": None, "state": np.zeros(2, np.int64)}, r"array.*float64.*int64"),
    (opens_a_file, {}, r"open"),
    (undefined_name, {}, r"no_such_name"),
    (text_method, {}, r"upper"),
    (calculates_with_the_record, {}, r"mul\(record, .*msg\.value"),
    (calculates_with_records, {"batch": True}, r"mul\(.*array\(record.*msgs\.value"),
    (imports_inside, {}, r"import at the top"),
    (assigns_to_a_global, {}, r"global.*`state`"),
    (reads_a_dictionary, {}, r"'FACTORS'.*numbers, arrays"),
    (returns_number, {}, r"returns.*int64"),
    (returns_text, {}, r"returns.*(unicode|str)"),
    (returns_tuple, {}, r"returns.*[Tt]uple"),
    (batch_returns_float, {"batch": True}, r"returns.*float64"),
    (batch_returns_bool, {"batch": True}, r"returns.*bool"),
    (assigns_to_message, {}, r"msg\.value.*read only"),
    (adds_to_message, {}, r"msg\.value.*read only"),
    (assigns_to_batch, {"batch": True}, r"msgs\[i\].*read only"),
    (assigns_through_another_name, {}, r"alias.*read only"),
    (assigns_in_a_loop_over_the_batch, {"batch": True}, r"msg.*read only"),
    (assigns_in_a_helper, {}, r"record\.value = value.*read only"),
    (assigns_in_a_helper_by_keyword, {}, r"record\.value = value.*read only"),
    (assigns_through_a_tuple, {}, r"both.*read only"),
    (assigns_to_what_a_helper_returns, {}, r"passed_on.*read only"),
    (assigns_whole_nested_array, {"input_type": VECTOR, "output_type": VECTOR}, r"out\.xs.*loop|loop.*out\.xs"),
]


@pytest.mark.parametrize(
    ("func", "options", "reason"), DOES_NOT_COMPILE, ids=[case[0].__name__ for case in DOES_NOT_COMPILE]
)
async def test_what_does_not_compile_is_refused_with_the_reason_first(runtime, func, options, reason):
    declared = ring_kernel(kernel_id="ft_uncompilable", **{"input_type": int, "output_type": int, **options})(func)
    for _ in range(2):
        with pytest.raises(KernelCompileError) as caught:
            await runtime.launch("ft_uncompilable", declared)
        first_line, *rest = str(caught.value).splitlines()
        assert re.search(reason, first_line), caught.value
        assert "'ft_uncompilable'" in "\n".join(rest)
        assert func.__name__ in "\n".join(rest)
        assert runtime.get_state("ft_uncompilable") is KernelState.CREATED
        assert "ft_uncompilable" not in runtime.kernels
    await start(runtime, "ft_uncompilable", echo)
    await check_alive(runtime, "ft_uncompilable")


async def test_a_helper_may_write_to_the_output(runtime):
    declared = ring_kernel(kernel_id="ft_helped", input_type=int, output_type=int)(writes_output_in_a_helper)
    await start(runtime, "ft_helped", declared)
    assert await runtime.map("ft_helped", [1, 2]) == pytest.approx([2, 3])


# --- what is refused ---------------------------------------------------------------------------------------------


def signatures() -> list[tuple[str, Any, dict[str, Any]]]:
    async def two_parameters(ctx, more): ...

    async def no_parameter(): ...

    async def asynchronous_generator(ctx):
        yield 1

    def generator(msg):
        yield 1

    return [
        ("too few", lambda msg: None, {"output_type": int}),
        ("too many", lambda msg, out, more: None, {"output_type": int}),
        ("no state", lambda msg, state: None, {}),
        ("state missing", lambda msg, out: None, {"output_type": int, "state": np.zeros(2)}),
        ("star", lambda *args: None, {"output_type": int}),
        ("keywords", lambda msg, *, out: None, {"output_type": int}),
        ("none at all", lambda: None, {}),
        ("coroutine with two", two_parameters, {}),
        ("coroutine with none", no_parameter, {}),
        ("asynchronous generator", asynchronous_generator, {}),
        ("generator", generator, {}),
        ("builtin", print, {}),
        ("class", int, {}),
        ("not callable", 3, {}),
    ]


@pytest.mark.parametrize(
    ("func", "options"), [case[1:] for case in signatures()], ids=[case[0] for case in signatures()]
)
def test_a_signature_that_does_not_fit_is_refused_at_the_declaration(func, options):
    with pytest.raises(ConfigurationError, match="'ft_signature'") as caught:
        ring_kernel(kernel_id="ft_signature", input_type=int, **options)(func)
    assert isinstance(caught.value, ValueError)


def assigns_to_out(msg, out):
    out = msg.value * 2  # noqa: F841


def assigns_to_outs(msgs, outs):
    outs = msgs  # noqa: F841


def reads_out_first(msg, out):
    out = out.value


@pytest.mark.parametrize(
    ("func", "batch", "remedy"), [(assigns_to_out, False, "out.value = "), (assigns_to_outs, True, "outs[i].value = ")]
)
def test_a_handler_that_assigns_to_the_name_of_its_output_is_refused(func, batch, remedy):
    with pytest.raises(ConfigurationError, match=re.escape(remedy)):
        ring_kernel("ft_rebinds", input_type=int, output_type=int, batch=batch)(func)


@pytest.mark.parametrize("func", [reads_out_first, lambda msg, out: None])
def test_a_handler_that_reads_or_leaves_its_output_is_not_refused(func):
    ring_kernel("ft_reads", input_type=int, output_type=int)(func)


def test_a_decorator_without_an_id_says_how_to_write_it():
    with pytest.raises(ConfigurationError, match=re.escape('@ring_kernel("echo")')):
        ring_kernel(echo)


def test_a_generator_is_refused_for_what_it_is():
    _, generator, _ = next(case for case in signatures() if case[0] == "asynchronous generator")
    with pytest.raises(ConfigurationError, match=re.escape("async generator; a coroutine kernel emits with")):
        ring_kernel("ft_generator")(generator)


@pytest.mark.parametrize("option", ["input_type", "output_type"])
def test_a_type_that_is_none_is_refused_with_kernel_option_and_field(option):
    text = np.dtype([("id", "i8"), ("name", "U8")])
    with pytest.raises(MessageTypeError, match=f"'ft_type', {option}: .*its field 'name' is of <U8"):
        ring_kernel("ft_type", **{"input_type": int, "output_type": int, option: text})(lambda msg, out: None)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"queue_size": 0}, "power of two"),
        ({"queue_size": 3}, "2 or 4"),
        ({"queue_size": -4}, "power of two"),
        ({"queue_size": 4.0}, "power of two"),
        ({"queue_size": True}, "power of two"),
        ({"queue_size": 2**40}, "power of two"),
        ({"device": "gpu"}, "cuda"),
        ({"device": "cpu:1"}, "cuda"),
        ({"device": "cuda:x"}, "cuda"),
        ({"device": None}, "cuda"),
        ({"max_outputs": 2}, "batch"),
        ({"max_outputs": 0, "batch": True}, "max_outputs"),
        ({"max_outputs": 8, "batch": True, "queue_size": 4}, "queue_size"),
    ],
)
def test_an_option_out_of_range_is_refused_at_the_declaration(options, word):
    with pytest.raises(ConfigurationError, match=word):
        ring_kernel(kernel_id="ft_options", input_type=int, output_type=int, **options)(lambda msg, out: None)


@pytest.mark.parametrize("kernel_id", ["", None, 3, b"x"])
def test_an_id_that_is_none_is_refused(kernel_id):
    with pytest.raises(ConfigurationError, match="kernel_id"):
        ring_kernel(kernel_id=kernel_id, input_type=int)


async def test_a_plain_function_without_types_is_refused(runtime):
    def plain(msg):
        pass

    with pytest.raises(MessageTypeError, match=r"plain.*input_type"):
        ring_kernel(kernel_id="ft_plain")(plain)
    with pytest.raises(MessageTypeError, match=r"plain.*input_type"):
        await runtime.launch("ft_plain", plain)
    with pytest.raises(KernelNotFoundError):
        runtime.get_state("ft_plain")


@pytest.mark.workers
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
async def test_a_device_that_is_not_there_is_refused(runtime, device):
    with pytest.raises(DeviceUnavailableError, match=f"'k'.*{device}"):
        await runtime.launch("k", echo, device=device)
    declared = ring_kernel(kernel_id="ft_cuda", input_type=int, device=device)(lambda msg: None)
    with pytest.raises(DeviceUnavailableError, match="'ft_cuda'"):
        await runtime.launch("ft_cuda", declared)
    assert runtime.get_state("ft_cuda") is KernelState.CREATED
    assert (await runtime.launch("k", echo, device="cpu")).device == "cpu"
    assert (await runtime.launch("auto", echo, device="auto")).device == "cpu"


async def test_bad_launch_options_change_nothing(runtime):
    for options in ({"device": "gpu"}, {"queue_size": 100}, {"queue_size": "8"}):
        with pytest.raises(ConfigurationError):
            await runtime.launch("k", echo, **options)
    assert not runtime.kernels
    await start(runtime, "k", echo)
    await check_alive(runtime, "k")


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_a_number_of_workers_that_is_none_is_refused(workers):
    with pytest.raises(ConfigurationError, match="workers"):
        RingKernelRuntime(workers=workers)


async def test_an_id_that_is_alive_cannot_be_launched_again(runtime):
    await runtime.launch("k", echo)
    with pytest.raises(KernelExistsError, match=r"'k'.*LAUNCHED"):
        await runtime.launch("k", echo)
    await runtime.activate("k")
    with pytest.raises(KernelExistsError, match=r"'k'.*ACTIVE"):
        await runtime.launch("k", gated)
    await check_alive(runtime, "k")
    results = await asyncio.gather(*(runtime.launch("both", echo) for _ in range(3)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["KernelExistsError"] * 2 + ["RingKernel"]
    await runtime.activate("both")
    await check_alive(runtime, "both")


METHODS: dict[str, Any] = {
    "activate": lambda rt, k: rt.activate(k),
    "deactivate": lambda rt, k: rt.deactivate(k),
    "reactivate": lambda rt, k: rt.reactivate(k),
    "terminate": lambda rt, k: rt.terminate(k),
    "wait": lambda rt, k: rt.wait(k),
    "send": lambda rt, k: rt.send(k, 1),
    "send_batch": lambda rt, k: rt.send_batch(k, [1]),
    "receive": lambda rt, k: rt.receive(k),
    "receive_batch": lambda rt, k: rt.receive_batch(k),
    "map": lambda rt, k: rt.map(k, [1]),
    "read_state": lambda rt, k: rt.read_state(k),
    "write_state": lambda rt, k: rt.write_state(k, 1),
    "stream": lambda rt, k: anext(rt.stream(k)),
}
PLAIN_METHODS: dict[str, Any] = {
    "send_nowait": lambda rt, k: rt.send_nowait(k, 1),
    "receive_nowait": lambda rt, k: rt.receive_nowait(k),
    "remove": lambda rt, k: rt.remove(k),
    "unprocessed": lambda rt, k: rt.unprocessed(k),
    "statistics": lambda rt, k: rt.statistics(k),
    "get_state": lambda rt, k: rt.get_state(k),
    "connect": lambda rt, k: rt.connect(k, k),
}


async def call(runtime: RingKernelRuntime, name: str, kernel_id: Any) -> Any:
    if name in METHODS:
        return await within(METHODS[name](runtime, kernel_id))
    return PLAIN_METHODS[name](runtime, kernel_id)


@pytest.mark.parametrize("kernel_id", ["nobody", None])
@pytest.mark.parametrize("name", [*METHODS, *PLAIN_METHODS])
async def test_an_unknown_id_is_named(runtime, name, kernel_id):
    with pytest.raises(KernelNotFoundError, match=re.escape(repr(kernel_id))) as caught:
        await call(runtime, name, kernel_id)
    assert isinstance(caught.value, KeyError)


async def test_an_id_that_cannot_be_one_is_unknown(runtime):
    for name in (*METHODS, *PLAIN_METHODS):
        error = ConfigurationError if name == "map" else KernelNotFoundError  # `map` also takes a pair, and says so
        with pytest.raises(error, match=r"\['k'\]"):
            await call(runtime, name, ["k"])


async def test_launching_what_is_not_declared_names_what_is(runtime):
    with pytest.raises(KernelNotFoundError, match=r"'nobody'.*ft_echo"):
        await runtime.launch("nobody")


@pytest.mark.parametrize("name", [name for name in (*METHODS, *PLAIN_METHODS) if name != "get_state"])
async def test_a_kernel_that_is_only_declared_says_so(runtime, name):
    with pytest.raises(KernelStateError, match=r"'ft_echo'.*CREATED.*launch"):
        await call(runtime, name, "ft_echo")


# --- the wrong place to call from --------------------------------------------------------------------------------


async def test_use_after_close_is_refused_and_reading_goes_on(loop_errors):
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, "k", echo)
        await runtime.send_batch("k", np.arange(5))
    with pytest.raises(KernelStateError, match="closed"):
        await runtime.launch("other", echo)
    with pytest.raises(KernelStateError, match=r"'k'.*TERMINATED"):
        await runtime.send("k", 1)
    with pytest.raises(KernelStateError, match=r"'k'.*TERMINATED"):
        await runtime.activate("k")
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert drain(runtime, "k") == [0, 1, 2, 3, 4]
    with pytest.raises(KernelStateError, match="'k'"):
        await within(runtime.receive("k"))
    assert check_books(runtime, "k").processed == 5
    await runtime.close()


@pytest.fixture
def compiling_may_go_on(monkeypatch) -> Iterator[threading.Event]:
    """Compilers wait for this: a handler that the compile cache knows would be there at once."""
    may_go_on = threading.Event()
    find = compiling._find

    def find_later(declaration: Any, spec: Any) -> Any:
        may_go_on.wait(PATIENCE_S)
        return find(declaration, spec)

    monkeypatch.setattr(compiling, "_find", find_later)
    yield may_go_on
    may_go_on.set()


async def test_closing_while_a_kernel_is_being_launched(loop_errors, compiling_may_go_on):
    runtime = RingKernelRuntime(workers=1)

    @ring_kernel(kernel_id="ft_late", input_type=int)
    def late(msg):
        pass

    launching = asyncio.create_task(runtime.launch("ft_late"))
    await turns()
    await within(runtime.close())
    compiling_may_go_on.set()
    with pytest.raises(KernelStateError, match="closed"):
        await within(launching, 20)
    assert "ft_late" not in runtime.kernels


async def test_a_cancelled_launch_has_launched_nothing(runtime, compiling_may_go_on):
    @ring_kernel(kernel_id="ft_cancelled", input_type=int, output_type=int)
    def fresh(msg, out):
        out.value = msg.value

    launching = asyncio.create_task(runtime.launch("ft_cancelled"))
    await turns()
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    compiling_may_go_on.set()
    assert runtime.get_state("ft_cancelled") is KernelState.CREATED
    await start(runtime, "ft_cancelled", fresh)
    await check_alive(runtime, "ft_cancelled")


def in_a_thread(work: Any) -> Any:
    """What `work()` raises or returns when it is called in another thread."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 (it is looked at in the test)
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return outcome[0]


async def test_another_thread_is_refused(runtime):
    kernel = await start(runtime, "k", echo)
    for name, method in PLAIN_METHODS.items():
        if name in ("statistics", "get_state", "unprocessed"):
            continue
        error = in_a_thread(lambda method=method: method(runtime, "k"))
        assert isinstance(error, KernelStateError), (name, error)
        assert "event loop" in str(error)
    for queue in (kernel.input_queue, kernel.output_queue):
        assert isinstance(in_a_thread(queue.get_nowait), KernelStateError)
    assert in_a_thread(lambda: runtime.get_state("k")) is KernelState.ACTIVE
    assert in_a_thread(lambda: runtime.statistics("k")).processed == 0
    await check_alive(runtime, "k")


@pytest.mark.parametrize("name", list(METHODS))
async def test_another_event_loop_is_refused(runtime, name):
    await start(runtime, "k", echo)

    async def elsewhere() -> Any:
        return await METHODS[name](runtime, "k")

    error = in_a_thread(lambda: asyncio.run(elsewhere()))
    assert isinstance(error, KernelStateError), error
    assert "another event loop" in str(error)
    await check_alive(runtime, "k")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_fork_is_refused_and_the_parent_goes_on(runtime):
    await start(runtime, "k", echo)
    await check_alive(runtime, "k")
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: that is what is being tested
        pid = os.fork()
    if pid == 0:
        text = "nothing was raised"
        try:
            runtime.send_nowait("k", 1)
        except BaseException as error:  # noqa: BLE001 (the parent looks at it)
            text = f"{type(error).__name__}: {error}"
        os.write(write_end, text.encode())
        os._exit(0)
    os.close(write_end)
    os.set_blocking(read_end, False)

    def answer() -> bytes:
        try:
            return os.read(read_end, 10_000)
        except BlockingIOError:
            return b""

    text = (await eventually(answer)).decode()
    os.close(read_end)
    os.waitpid(pid, 0)  # noqa: ASYNC222 (it has already said its last word)
    assert text.startswith("KernelStateError")
    assert "fork" in text
    await check_alive(runtime, "k")
    assert check_books(runtime, "k").accepted == 2


FORKED = """
    import asyncio, os, sys, warnings
    import ringkernel as rk

    @rk.ring_kernel(kernel_id="echo", input_type=int, output_type=int)
    def echo(msg, out):
        out.value = msg.value

    async def echo_once(value):
        async with rk.RingKernelRuntime(workers=1) as runtime:
            async with rk.managed_kernel(runtime, "echo") as kernel_id:
                await runtime.send(kernel_id, value)
                assert await runtime.receive(kernel_id, timeout=10) == value

    def child():
        # a forked child may make a runtime of its own, and exit in the ordinary way
        asyncio.run(echo_once(5))
        sys.exit(7)

    async def main():
        async with rk.RingKernelRuntime(workers=1) as runtime:
            async with rk.managed_kernel(runtime, "echo") as kernel_id:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    pid = os.fork()
                if pid == 0:
                    asyncio._set_running_loop(None)
                    try:
                        child()
                    except SystemExit as leaving:
                        os._exit(leaving.code)
                    except BaseException as error:
                        print("child:", repr(error), file=sys.stderr, flush=True)
                        os._exit(1)
                for value in range(100):
                    await runtime.send(kernel_id, value)
                    assert await runtime.receive(kernel_id, timeout=10) == value
                _, status = await asyncio.to_thread(os.waitpid, pid, 0)
                assert os.waitstatus_to_exitcode(status) == 7, status
                await runtime.send(kernel_id, 1)
                assert await runtime.receive(kernel_id, timeout=10) == 1

    asyncio.run(main())
    pid = os.fork()  # and once more with the first runtime closed
    if pid == 0:
        child()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7, status
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_may_make_a_runtime_of_its_own(tmp_path):
    script = tmp_path / "forked.py"
    script.write_text(textwrap.dedent(FORKED))
    run = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout.strip(), run.returncode) == ("done", 0), run.stderr


@pytest.mark.workers
async def test_an_activation_that_no_worker_answers_is_given_up(runtime, monkeypatch):
    """It must not wait for ever, and leaves the kernel as it was."""
    await runtime.launch("k", echo)
    set_answer_timeout(monkeypatch, 0.05)
    with monkeypatch.context() as stuck:
        never_runs(stuck)
        with pytest.raises(KernelStateError, match="'k' did not answer"):
            await within(runtime.activate("k"), 2.0)
    assert runtime.get_state("k") is KernelState.LAUNCHED
