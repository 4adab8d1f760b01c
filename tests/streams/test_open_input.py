"""Threads that are neither the event loop's nor a worker's feed a kernel, each by an input of its own."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from fault_kernels import coroutine, echo, echo_on_worker, fail_at_57, gated, usleep
from helpers import check_books, connect_chain, drain, eventually, live_state, start, within
from inside import arena_of, force_fusing, pool_of

import ringkernel as rk
from ringkernel import (
    ConfigurationError,
    InputHandle,
    KernelFailedError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    QueueFullError,
    RingKernelRuntime,
    ring_kernel,
)
from ringkernel.codegen.operations import load, load_acquire, store
from ringkernel.codegen.targets.cpu import compile_entry
from ringkernel.memory.layout import BLOCK, PARKER
from ringkernel.ring.protocol.cursors import waiting_of

pytestmark = pytest.mark.workers

MODES: tuple[Literal["drop", "raise", "wait"], ...] = "drop", "raise", "wait"
TICK = np.dtype([("price", "f8"), ("volume", "i4")], align=True)


@ring_kernel("oi_tick", input_type=TICK, output_type=TICK)
def tick(msg: Any, out: Any) -> None:
    out.price, out.volume = msg.price, msg.volume


@ring_kernel("oi_count", input_type=int, state=np.zeros(1, np.int64))
def count(msg: Any, state: Any) -> None:
    state[0] += 1


@ring_kernel("oi_slow_count", input_type=int, state=np.zeros(1, np.int64))
def slow_count(msg: Any, state: Any) -> None:
    usleep(0)
    state[0] += 1


@ring_kernel("oi_add", input_type=int, output_type=int, state=np.zeros(1, np.int64))
def add(msg: Any, out: Any, state: Any) -> None:
    state[0] += msg.value
    out.value = state[0]


@rk.on_input("oi_add", "ticks", TICK)
def add_tick(msg: Any, out: Any, state: Any) -> bool:
    state[0] += msg.volume
    return False


class Interrupt(BaseException):
    """As Ctrl-C raises one, between any two instructions."""


class Thread(threading.Thread):
    """One whose exception is looked at."""

    error: BaseException | None = None
    result: Any = None

    def __init__(self, work: Any, *arguments: Any) -> None:
        super().__init__(daemon=True)
        self._work, self._arguments = work, arguments
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work(*self._arguments)
        except BaseException as error:  # noqa: BLE001 (the test looks at it)
            self.error = error
        finally:
            del self._work, self._arguments

    async def end(self) -> Any:
        await eventually(lambda: not self.is_alive(), 30)
        if self.error is not None:
            raise self.error
        return self.result


def sleeps(handle: InputHandle) -> bool:
    """Whether somebody waits for room there, asleep."""
    feed = handle._feeder.feed
    return feed.ring.api.read_word(feed.parker_address + PARKER.parked) == 1


def descriptors() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir())


def n_inputs(runtime: RingKernelRuntime, kernel_id: str = "k") -> int:
    return len(runtime.kernels[kernel_id].engine.edges)


async def waiting(runtime: RingKernelRuntime, func: Any = echo, size: int = 4, **options: Any) -> tuple[Any, Thread]:
    """A handle of a kernel that is not activated, and a thread that sleeps in a push by it, after `size` messages."""
    await runtime.launch("k", func, queue_size=size, **options)
    handle = runtime.open_input("k")
    handle.push_batch(np.arange(size))
    thread = Thread(handle.push, size)
    await eventually(lambda: sleeps(handle))
    return handle, thread


# --- what comes of it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("func", [echo, echo_on_worker])
async def test_several_threads_feed_a_kernel_each_in_its_order(runtime: RingKernelRuntime, func: Any) -> None:
    await start(runtime, "k", func, queue_size=64)
    total = 3_000

    def feed(handle: InputHandle, number: int) -> None:
        with handle:
            for i in range(0, total, 30):
                handle.push_batch(np.arange(i, i + 29) + number * total)
                handle.push(i + 29 + number * total)

    threads = [Thread(feed, runtime.open_input("k"), number) for number in range(4)]
    received: list[int] = []
    sent = 0
    while len(received) < 4 * total + sent:
        if sent < 100:
            await runtime.send("k", -1)
            sent += 1
        received += (await within(runtime.receive_batch("k"), 30)).tolist()
    for thread in threads:
        await thread.end()
    assert received.count(-1) == sent
    for number in range(4):
        mine = [x for x in received if x >= 0 and x // total == number]
        assert mine == list(range(number * total, (number + 1) * total))
    check_books(runtime, "k")


async def test_messages_have_the_forms_that_send_takes(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", tick)
    array = np.array([(4.0, 4), (5.0, 5)], TICK)
    with runtime.open_input("k") as handle:
        handle.push((1.0, 1))
        handle.push({"price": 2.0, "volume": 2})
        handle.push(np.array((3.0, 3), TICK)[()])
        handle.push_batch(array)
        handle.push_batch([(6.0, 6), (7.0, 7)])
        handle.push_batch({"price": [8.0], "volume": [8]})
        handle.push_batch(np.empty(0, TICK))
        with pytest.raises(MessageTypeError):
            handle.push("text")
        with pytest.raises(MessageTypeError):
            handle.push_batch(["text"])
        with pytest.raises(MessageTypeError):
            handle.push_batch({"price": [8.0], "volume": [8], "more": [1]})
        handle.push_batch({"price": [9.0], "volume": [9], "more": [1]}, extra="ignore")
        handle.push((10.0, 10))
    received: list[Any] = []
    while len(received) < 10:
        received += (await within(runtime.receive_batch("k"))).tolist()
    assert received == [(float(i), i) for i in range(1, 11)]
    check_books(runtime, "k")


async def test_a_named_input_has_its_own_handler(runtime: RingKernelRuntime) -> None:
    await start(runtime, "oi_add", None)
    with runtime.open_input("oi_add", "ticks") as ticks, runtime.open_input("oi_add") as handle:
        ticks.push_batch([(1.0, 10), (2.0, 20)])
        await eventually(lambda: runtime.statistics("oi_add").processed == 2)
        handle.push(1)
        assert await within(runtime.receive("oi_add")) == 31
        assert (handle.input, ticks.input) == ("", "ticks")
        with pytest.raises(MessageTypeError):
            ticks.push(1)
        with pytest.raises(ConfigurationError, match="'oi_add' has no input 'others'; its inputs are '', 'ticks'"):
            runtime.open_input("oi_add", "others")
        await runtime.deactivate("oi_add")
        ticks.push((3.0, 30))
        handle.push(2)
    await runtime.terminate("oi_add")
    assert runtime.unprocessed("oi_add", input="ticks").tolist() == [(3.0, 30)]
    assert runtime.unprocessed("oi_add").tolist() == [2]
    check_books(runtime, "oi_add")


def test_a_session_opens_inputs_for_its_callers() -> None:
    with rk.Session(workers=1) as session:
        session.launch("k", echo)
        session.activate("k")
        with session.open_input("k") as handle:
            handle.push(5)
        assert session.receive("k", timeout=10) == 5


async def test_a_push_that_wakes_a_worker_has_somebody_look_after_it(runtime: RingKernelRuntime) -> None:
    """From a kernel that holds its worker the others move on, also where only threads feed them."""
    await start(runtime, "held", gated)
    await start(runtime, "k", echo_on_worker)
    pool = pool_of(runtime)
    for _ in range(3):
        with runtime.open_input("held") as holding, runtime.open_input("k") as handle:
            entered = int(live_state(runtime, "held")["entered"])
            await eventually(lambda: pool._monitor is None and all(worker.parked for worker in pool.workers))
            holding.push(1)
            await eventually(lambda entered=entered: live_state(runtime, "held")["entered"] > entered)  # type: ignore[misc]
            await asyncio.to_thread(handle.push, 2)
            assert await within(runtime.receive("k")) == 2
        live_state(runtime, "held")["open"] = 1
        assert await within(runtime.receive("held")) == 1
        live_state(runtime, "held")["open"] = 0


# --- without room ------------------------------------------------------------------------------------------------


async def test_without_room_it_raises(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", echo, queue_size=4)
    with runtime.open_input("k", full="raise") as handle:
        handle.push(0)
        with pytest.raises(QueueFullError, match="3 of 5 messages were pushed: all 4 slots of input '' of") as caught:
            handle.push_batch(np.arange(1, 6))
        assert caught.value.sent == 3  # type: ignore[attr-defined]
        with pytest.raises(QueueFullError, match="all 4 slots of input '' of kernel 'k' are taken"):
            handle.push(4)
        assert handle.dropped == 0
        await runtime.activate("k")
        assert [await within(runtime.receive("k")) for _ in range(4)] == [0, 1, 2, 3]
        handle.push(4)
        assert await within(runtime.receive("k")) == 4


async def test_without_room_it_drops_and_counts(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", echo, queue_size=4)
    with runtime.open_input("k", full="drop") as handle:
        handle.push_batch(np.arange(6))
        handle.push(6)
        assert handle.dropped == 3
        await runtime.activate("k")
        assert [await within(runtime.receive("k")) for _ in range(4)] == [0, 1, 2, 3]
        handle.push(7)
        assert await within(runtime.receive("k")) == 7
        assert handle.dropped == 3
    assert check_books(runtime, "k").accepted == 5
    with runtime.open_input("k", full="drop") as another:
        assert another.dropped == 0


async def test_without_room_a_thread_sleeps_until_there_is_some(runtime: RingKernelRuntime) -> None:
    handle, thread = await waiting(runtime)
    await runtime.activate("k")
    assert [await within(runtime.receive("k")) for _ in range(5)] == [0, 1, 2, 3, 4]
    await thread.end()
    batch = Thread(handle.push_batch, np.arange(1_000))
    received: list[int] = []
    while len(received) < 1_000:
        received += (await within(runtime.receive_batch("k"))).tolist()
    assert received == list(range(1_000))
    await batch.end()
    handle.close()
    check_books(runtime, "k")


async def test_a_queue_of_one_slot_does(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", count, queue_size=1)
    with runtime.open_input("k") as handle:
        thread = Thread(handle.push_batch, np.arange(2_000))
        await thread.end()
    await eventually(lambda: runtime.statistics("k").processed == 2_000)


async def test_the_end_wakes_who_waits(runtime: RingKernelRuntime) -> None:
    _, thread = await waiting(runtime)
    await runtime.terminate("k")
    with pytest.raises(KernelStateError, match="cannot push to kernel 'k': it (is TERMINATING|has TERMINATED)"):
        await thread.end()
    assert runtime.unprocessed("k").tolist() == [0, 1, 2, 3]
    assert check_books(runtime, "k").accepted == 4


async def test_a_failure_wakes_who_waits_and_is_the_cause(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", fail_at_57, queue_size=4)
    handle = runtime.open_input("k")
    thread = Thread(handle.push_batch, np.arange(54, 100))
    await eventually(lambda: sleeps(handle))
    await runtime.activate("k")
    with pytest.raises(KernelFailedError, match="kernel 'k' has failed: OwnError: fifty-seven") as caught:
        await thread.end()
    sent = caught.value.sent  # type: ignore[attr-defined]
    assert runtime.unprocessed("k").tolist() == list(range(58, 54 + sent))
    assert check_books(runtime, "k").accepted == sent
    assert not handle.is_open
    with pytest.raises(KernelFailedError) as again:
        handle.push(1)
    assert type(again.value.__cause__).__name__ == "OwnError"


async def test_close_wakes_who_waits(runtime: RingKernelRuntime) -> None:
    handle, thread = await waiting(runtime)
    handle.close()
    with pytest.raises(KernelStateError, match="input '' of kernel 'k' was closed"):
        await thread.end()
    handle.close()
    await runtime.activate("k")
    assert [await within(runtime.receive("k")) for _ in range(4)] == [0, 1, 2, 3]  # what was pushed is the kernel's


async def test_a_dead_end_is_said_to_who_waits(runtime: RingKernelRuntime) -> None:
    await connect_chain(runtime, queue_size=4, first=echo, last=fail_at_57)
    for name in ("last", "first"):
        await runtime.activate(name)
    handle = runtime.open_input("first")
    thread = Thread(handle.push_batch, np.full(1_000, 57))
    with pytest.raises(KernelStateError, match="'first' cannot go on: nobody takes the outputs"):
        await thread.end()
    handle.close()


async def test_in_the_loop_s_thread_nobody_waits(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", echo, queue_size=4)
    with runtime.open_input("k") as handle:
        with pytest.raises(KernelStateError, match="the event loop, whose thread this is, cannot wait") as caught:
            handle.push_batch(np.arange(5))
        assert caught.value.sent == 4  # type: ignore[attr-defined]
        await runtime.activate("k")
        assert [await within(runtime.receive("k")) for _ in range(4)] == [0, 1, 2, 3]
        handle.push(4)
        assert await within(runtime.receive("k")) == 4


# --- when it may be opened, and by whom used -----------------------------------------------------------------------


async def test_it_is_opened_in_the_states_in_which_one_may_send(runtime: RingKernelRuntime) -> None:
    with pytest.raises(KernelStateError, match="cannot open an input of kernel 'oi_tick' while it is CREATED"):
        runtime.open_input(tick)
    await runtime.launch("k", echo)
    for state, number in ((KernelState.LAUNCHED, 1), (KernelState.ACTIVE, 2), (KernelState.DEACTIVATED, 3)):
        if state is KernelState.ACTIVE:
            await runtime.activate("k")
        if state is KernelState.DEACTIVATED:
            await runtime.deactivate("k")
        assert runtime.get_state("k") is state
        with runtime.open_input("k") as handle:
            assert handle.is_open
            assert repr(handle) == "<open input '' of kernel 'k'>"
            handle.push(number)
    await runtime.reactivate("k")
    assert [await within(runtime.receive("k")) for _ in range(3)] == [1, 2, 3]
    await runtime.terminate("k")
    assert repr(handle) == "<closed input '' of kernel 'k'>"
    allowed = "allowed is LAUNCHED or ACTIVE or DEACTIVATED"
    with pytest.raises(KernelStateError, match=f"cannot open an input of kernel 'k' while it is TERMINATED; {allowed}"):
        runtime.open_input("k")


async def test_other_kernels_and_other_words_are_refused(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", echo)
    await runtime.launch("c", coroutine)
    with pytest.raises(ConfigurationError, match="full is 'block'; it must be"):
        runtime.open_input("k", full="block")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="kernel 'c' is on event-loop; port"):
        runtime.open_input("c")
    assert n_inputs(runtime) == 1


async def test_two_threads_at_once_are_told_and_nothing_is_lost(runtime: RingKernelRuntime) -> None:
    handle, thread = await waiting(runtime)
    with pytest.raises(KernelStateError, match="another thread pushes to input '' of kernel 'k' by this handle"):
        handle.push(9)
    with pytest.raises(KernelStateError, match="another thread pushes") as caught:
        handle.push_batch([9, 9])
    assert caught.value.sent == 0  # type: ignore[attr-defined]
    await runtime.activate("k")
    await thread.end()
    await Thread(handle.push, 5).end()  # it may be handed on
    handle.close()
    assert [await within(runtime.receive("k")) for _ in range(6)] == [0, 1, 2, 3, 4, 5]


async def test_an_interrupted_push_leaves_the_handle_usable(runtime: RingKernelRuntime) -> None:
    """Wherever that is: one that was pushed before the exception came is the kernel's."""
    await start(runtime, "k", count, queue_size=16)
    pushed, interrupts = 0, 0
    stop = threading.Event()

    def feed(handle: InputHandle) -> None:
        nonlocal pushed, interrupts
        sys.settrace(None)  # what measures coverage has a lock, which an exception might leave locked
        while not stop.is_set():
            try:
                while not stop.is_set():
                    handle.push(1)
                    pushed += 1
            except Interrupt:
                interrupts += 1

    interrupt = ctypes.pythonapi.PyThreadState_SetAsyncExc
    interrupt.argtypes = [ctypes.c_ulong, ctypes.py_object]
    with runtime.open_input("k") as handle:
        thread = Thread(feed, handle)
        for _ in range(300):
            before = interrupts
            interrupt(thread.ident, Interrupt)
            await eventually(lambda before=before: interrupts > before)  # type: ignore[misc]
        stop.set()
        await thread.end()
        handle.push(1)
    await eventually(lambda: runtime.statistics("k").unprocessed == 0)
    assert pushed < check_books(runtime, "k").accepted <= pushed + 1 + 300


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_ends_the_wait_for_room() -> None:
    with rk.Session(workers=1) as session:
        session.launch("k", echo, queue_size=4)
        handle = session.open_input("k")

        def interrupt() -> None:
            while not sleeps(handle):
                pass
            os.kill(os.getpid(), signal.SIGINT)

        thread = Thread(interrupt)
        with pytest.raises(KeyboardInterrupt) as caught:
            handle.push_batch(np.arange(5))
        assert caught.value.sent == 4  # type: ignore[attr-defined]
        thread.join()
        session.activate("k")
        assert [session.receive("k", timeout=10) for _ in range(4)] == [0, 1, 2, 3]
        handle.push(4)
        assert session.receive("k", timeout=10) == 4
        handle.close()


async def test_maps_and_calls_are_refused_while_one_is_open(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    assert await runtime.call("k", 1) == 1
    assert (await runtime.map("k", np.arange(3))).tolist() == [0, 1, 2]
    with runtime.open_input("k") as handle:
        with pytest.raises(KernelStateError, match="call: an input of kernel 'k' is open to another thread"):
            await runtime.call("k", 1)
        with pytest.raises(KernelStateError, match="map: an input of kernel 'k' is open to another thread"):
            await runtime.map("k", np.arange(3))
        handle.push(5)
        assert await within(runtime.receive("k")) == 5
    assert await runtime.call("k", 1) == 1
    assert (await runtime.map("k", np.arange(3))).tolist() == [0, 1, 2]
    check_books(runtime, "k")


async def test_it_is_not_opened_in_the_midst_of_a_map_or_a_call(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", gated)
    going = asyncio.create_task(runtime.call("k", 1))
    await eventually(lambda: live_state(runtime, "k")["entered"] == 1)
    with pytest.raises(KernelStateError, match=r"while a call\(\) waits for its answer"):
        runtime.open_input("k")
    live_state(runtime, "k")["open"] = 1
    assert await within(going) == 1
    live_state(runtime, "k")["open"] = 0
    mapping = asyncio.create_task(runtime.map("k", np.arange(3)))
    await eventually(lambda: live_state(runtime, "k")["entered"] == 2)
    with pytest.raises(KernelStateError, match="while it is in a map"):
        runtime.open_input("k")
    live_state(runtime, "k")["open"] = 1
    assert (await within(mapping)).tolist() == [0, 1, 2]
    with runtime.open_input("k") as handle:
        handle.push(7)
    assert await within(runtime.receive("k")) == 7


@pytest.mark.parametrize("which", ["first", "middle", "last"])
async def test_a_stage_of_a_fused_chain_may_be_fed(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    force_fusing(monkeypatch, most=3)
    await connect_chain(runtime, first=echo, middle=echo, last=echo)
    for name in ("last", "middle", "first"):
        await runtime.activate(name)
    await runtime.send_batch("first", np.arange(2_000))
    received: list[int] = []
    with runtime.open_input(which) as handle:
        thread = Thread(handle.push_batch, np.arange(10_000, 15_000))
        await runtime.send_batch("first", np.arange(2_000, 4_000))
        while len(received) < 9_000:
            received += (await within(runtime.receive_batch("last"))).tolist()
        await thread.end()
    assert [x for x in received if x < 10_000] == list(range(4_000))
    assert [x for x in received if x >= 10_000] == list(range(10_000, 15_000))
    for name in ("first", "middle", "last"):
        check_books(runtime, name)


# --- the end -----------------------------------------------------------------------------------------------------


async def test_what_was_pushed_and_not_taken_is_told(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", echo)
    await runtime.send("k", 1)
    first, second = runtime.open_input("k"), runtime.open_input("k")
    first.push_batch([2, 3])
    second.push(4)
    first.close()
    first.close()
    await runtime.terminate("k")
    second.close()
    assert sorted(runtime.unprocessed("k").tolist()) == [1, 2, 3, 4]
    assert check_books(runtime, "k").accepted == 4


@pytest.mark.parametrize("func", [slow_count, count])
async def test_a_drain_while_threads_push_accounts_for_all(runtime: RingKernelRuntime, func: Any) -> None:
    for i in range(20):
        await start(runtime, "k", func, queue_size=16)
        pushed = [0] * 3

        def feed(handle: InputHandle, number: int, pushed: list[int] = pushed) -> None:
            try:
                while True:
                    handle.push(1)
                    pushed[number] += 1
                    try:
                        handle.push_batch(np.ones(40, np.int64))
                        pushed[number] += 40
                    except KernelStateError as error:
                        pushed[number] += error.sent  # type: ignore[attr-defined]
                        raise
            except KernelStateError:
                pass

        threads = [Thread(feed, runtime.open_input("k"), number) for number in range(3)]
        await eventually(lambda i=i: runtime.statistics("k").processed > 50 * i)  # type: ignore[misc]
        await within(runtime.terminate("k"))
        for thread in threads:
            await thread.end()
        assert check_books(runtime, "k").accepted == sum(pushed)
        assert runtime.statistics("k").processed + len(runtime.unprocessed("k")) == sum(pushed)
        runtime.remove("k")


async def test_ten_thousand_handles_one_after_the_other_leave_nothing(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", count)
    for i in range(200):
        with runtime.open_input("k", full=MODES[i % 3]) as handle:
            handle.push(1)
    chunks, open_before = len(arena_of(runtime).chunks), descriptors()
    for i in range(10_000):
        with runtime.open_input("k", full=MODES[i % 3]) as handle:
            handle.push(1)
    await eventually(lambda: runtime.statistics("k").processed == 10_200)
    assert n_inputs(runtime) <= 1 + 9
    assert len(arena_of(runtime).chunks) == chunks
    assert descriptors() <= open_before + 9
    check_books(runtime, "k")


@pytest.mark.parametrize("func", [count, slow_count])
async def test_many_at_the_same_time_go_when_they_are_closed(runtime: RingKernelRuntime, func: Any) -> None:
    await start(runtime, "k", func, queue_size=16)
    stop = threading.Event()
    pushed = 0

    def feed(handle: InputHandle) -> None:
        nonlocal pushed
        with handle:
            while not stop.is_set():
                handle.push_batch(np.ones(10, np.int64))
                pushed += 10

    thread = Thread(feed, runtime.open_input("k"))
    for _ in range(5):
        handles = [runtime.open_input("k") for _ in range(150)]
        for handle in handles:
            handle.push(1)
            await asyncio.to_thread(handle.close)
        del handle, handles
        await eventually(lambda: n_inputs(runtime) <= 2 + 64)
    stop.set()
    await thread.end()
    await eventually(lambda: runtime.statistics("k").processed == 750 + pushed)
    assert check_books(runtime, "k").accepted == 750 + pushed
    with runtime.open_input("k") as handle:
        handle.push(1)
    await eventually(lambda: runtime.statistics("k").processed == 751 + pushed)


async def test_what_waits_in_closed_ones_needs_no_ring_each(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", echo, queue_size=64)
    for i in range(100):
        with runtime.open_input("k", full="raise") as handle:
            handle.push(i)
    assert n_inputs(runtime) <= 1 + 9
    await runtime.activate("k")
    assert sorted([await within(runtime.receive("k")) for _ in range(100)]) == list(range(100))


async def test_inputs_are_opened_while_the_kernel_runs(runtime: RingKernelRuntime) -> None:
    """Beside a poller that looks at the table of inputs all the time; the table moves, too."""
    for func in (slow_count, count):
        await start(runtime, "k", func, queue_size=16)
        stop = threading.Event()
        pushed = [0] * 70

        def feed(handle: InputHandle, number: int, pushed: list[int] = pushed, stop: threading.Event = stop) -> None:
            with handle:
                for _ in range(20):
                    handle.push_batch(np.ones(8, np.int64))
                    pushed[number] += 8

        threads = []
        for number in range(70):
            threads.append(Thread(feed, runtime.open_input("k"), number))
            await runtime.send("k", 1)
        held = [runtime.open_input("k") for _ in range(30)]
        for handle in held:
            handle.push(1)
            handle.close()
        for thread in threads:
            await thread.end()
        total = 70 * 160 + 70 + 30
        await eventually(lambda total=total: runtime.statistics("k").processed == total, 30)  # type: ignore[misc]
        assert (await runtime.read_state("k")).tolist() == [total]
        check_books(runtime, "k")
        await runtime.terminate("k")
        runtime.remove("k")


def poll(block: int, words: int) -> int:
    """Look at all inputs again and again, as a poller does, while messages come and nobody takes any. How often what
    was seen cannot have been; `words`: whether to stop, and how many looks there were."""
    wrong, before = 0, 0
    while load_acquire(words) == 0:
        seen = waiting_of(block)
        if seen < before or seen > 1_000:
            wrong += 1
        else:
            before = seen
        n_inputs = load_acquire(block + BLOCK.n_inputs)
        table = block + load(block + BLOCK.inputs)
        for i in range(n_inputs):
            if load(table + 8 * i) == 0:
                wrong += 1
        store(words + 8, load(words + 8) + 1)
    return wrong


async def test_a_poller_sees_whole_tables_of_inputs(runtime: RingKernelRuntime) -> None:
    """It looks between any two words that are written."""
    engine: Any = (await runtime.launch("k", count, queue_size=1)).engine
    api, words = engine.block._api, np.zeros(2, np.int64)
    thread = Thread(compile_entry(poll, nogil=True), engine.block.address, int(words.ctypes.data))

    def write_and_be_seen(address: int, value: int) -> int:
        api.write_word(address, value)
        enough = words[1] + 2
        while words[1] < enough:
            time.sleep(0)
        return 0

    engine.block._api = api._replace(write_word=write_and_be_seen)
    for _ in range(40):  # the table moves at the 9th, the 17th and the 33rd
        with runtime.open_input("k", full="raise") as handle:
            handle.push(1)
            engine.thread_feeds._closed[0].clear()  # so that none is used again
    words[0] = 1
    assert await thread.end() == 0
    await runtime.terminate("k")
    assert check_books(runtime, "k").unprocessed == 40


async def test_pauses_lose_nothing(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", count, queue_size=16)
    handle = runtime.open_input("k")

    def feed() -> None:
        for _ in range(400):
            handle.push_batch(np.ones(50, np.int64))

    thread = Thread(feed)
    while thread.is_alive():
        await runtime.deactivate("k")
        await runtime.reactivate("k")
    await thread.end()
    handle.close()
    await eventually(lambda: runtime.statistics("k").processed == 20_000)
    check_books(runtime, "k")


async def test_a_thread_that_dies_with_its_handle_is_told_of(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)

    def feed(handles: list[InputHandle]) -> None:
        handles.pop().push(3)

    with pytest.warns(ResourceWarning, match="an open handle of input '' of kernel 'k' was collected without close"):
        await Thread(feed, [runtime.open_input("k")]).end()
    assert await within(runtime.receive("k")) == 3
    assert await runtime.call("k", 4) == 4  # none is open any more


async def test_handles_of_ended_kernels_say_nothing(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    handle = runtime.open_input("k")
    await runtime.terminate("k")
    runtime.remove("k")
    with pytest.raises(KernelStateError, match="cannot push to kernel 'k': it has TERMINATED"):
        handle.push(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del handle
        gc.collect()


def test_a_loop_that_is_closed_wakes_who_waits() -> None:
    kept: list[Any] = []

    async def leave() -> None:
        runtime = RingKernelRuntime(workers=1)
        kept.extend([runtime, *await waiting(runtime)])

    with pytest.warns(ResourceWarning, match="event loop was closed"):
        asyncio.run(leave())
    thread = kept[-1]
    thread.join(10)
    assert isinstance(thread.error, KernelStateError)
    assert "its runtime's event loop has gone" in str(thread.error)
    kept.clear()


@pytest.mark.unguarded  # a child would share that memory
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
async def test_a_fork_is_refused_and_the_parent_goes_on(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", echo)
    handle = runtime.open_input("k")
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads: that is what is being tested
        pid = os.fork()
    if pid == 0:
        text = "nothing was raised"
        try:
            handle.push(1)
        except BaseException as error:  # noqa: BLE001 (the parent looks at it)
            text = f"{type(error).__name__}: {error}"
        handle.close()
        os.write(write_end, text.encode())
        os._exit(0)
    os.close(write_end)
    text = (await asyncio.to_thread(os.read, read_end, 10_000)).decode()
    os.close(read_end)
    os.waitpid(pid, 0)  # noqa: ASYNC222 (it has already said its last word)
    assert text.startswith("KernelStateError: this handle of input '' of kernel 'k' belongs to process")
    handle.push(5)
    assert await within(runtime.receive("k")) == 5
    handle.close()
    assert check_books(runtime, "k").accepted == 1


EXITS = """
    import asyncio, threading, time
    import ringkernel as rk

    def double(msg: float, out: float):
        out.value = 2 * msg.value

    async def main():
        runtime = rk.RingKernelRuntime(workers=1)
        await runtime.launch(double, queue_size=4)
        handle = runtime.open_input(double)
        handle.push_batch([1.0, 2.0, 3.0, 4.0])
        threading.Thread(target=handle.push, args=(5.0,), daemon=DAEMON).start()
        await asyncio.sleep(0.1)
        if CLOSE:
            await runtime.close()
        return runtime, handle

    threading.excepthook = lambda args: print(args.exc_type.__name__, flush=True)
    kept = asyncio.run(main())
    print("end", flush=True)
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("daemon", [True, False])
@pytest.mark.parametrize("close", [True, False])
def test_a_program_ends_with_open_handles(daemon: bool, close: bool) -> None:
    script = textwrap.dedent(EXITS).replace("DAEMON", str(daemon)).replace("CLOSE", str(close))
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr
    assert daemon or "KernelStateError" in done.stdout  # what the thread was told; a daemon is not waited for
    assert "end" in done.stdout
    assert done.stderr == ""


# --- kernels that end by themselves --------------------------------------------------------------------------------


@pytest.mark.parametrize("func", [echo, echo_on_worker])
async def test_a_kernel_whose_input_is_closed_ends_when_its_handles_are(runtime: RingKernelRuntime, func: Any) -> None:
    await start(runtime, "k", func)
    first, second = runtime.open_input("k"), runtime.open_input("k")
    first.push(1)
    first.close()
    await runtime.close_input("k")
    with pytest.raises(KernelStateError, match=r"cannot open input '' of kernel 'k': close_input\(\) has said"):
        runtime.open_input("k")
    second.push_batch([2, 3])
    assert [await within(runtime.receive("k")) for _ in range(3)] == [1, 2, 3]
    assert runtime.get_state("k") is KernelState.ACTIVE
    second.push(4)
    await asyncio.to_thread(second.close)
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert await within(runtime.receive("k")) == 4
    check_books(runtime, "k")


async def test_an_input_is_not_at_its_end_while_others_use_it_again(runtime: RingKernelRuntime) -> None:
    await start(runtime, "oi_add", None)
    with runtime.open_input("oi_add") as handle:
        handle.push(1)
    assert await within(runtime.receive("oi_add")) == 1
    await runtime.close_input("oi_add", input="ticks")
    with pytest.raises(KernelStateError, match="cannot open input 'ticks' of"):
        runtime.open_input("oi_add", "ticks")
    with runtime.open_input("oi_add") as again:
        assert n_inputs(runtime, "oi_add") == 3
        await runtime.close_input("oi_add")
        again.push(2)
        assert await within(runtime.receive("oi_add")) == 3
        assert runtime.get_state("oi_add") is KernelState.ACTIVE
    assert await within(runtime.wait("oi_add")) is KernelState.TERMINATED


async def test_a_kernel_that_threads_feed_outlives_its_source(runtime: RingKernelRuntime) -> None:
    await connect_chain(runtime, first=echo, last=echo)
    for name in ("last", "first"):
        await runtime.activate(name)
    with runtime.open_input("last") as handle:
        await runtime.close_input("first")
        await within(runtime.wait("first"))
        handle.push(1)
        assert await within(runtime.receive("last")) == 1
    await runtime.close_input("last")
    assert await within(runtime.wait("last")) is KernelState.TERMINATED


async def test_a_handler_that_stops_is_told_to_who_pushes(runtime: RingKernelRuntime) -> None:
    def until_three(msg: int, out: int) -> None:
        if msg.value == 3:  # type: ignore[attr-defined]
            raise StopIteration
        out.value = msg.value  # type: ignore[attr-defined]

    await start(runtime, "k", until_three, queue_size=4)
    handle = runtime.open_input("k")
    with pytest.raises(
        KernelStateError, match="cannot push to kernel 'k': (its handler has raised|it has TERM)"
    ) as caught:
        await Thread(handle.push_batch, np.arange(100)).end()
    await within(runtime.wait("k"))
    sent = caught.value.sent  # type: ignore[attr-defined]
    assert runtime.unprocessed("k").tolist() == list(range(4, sent))
    assert check_books(runtime, "k").accepted == sent


# --- compiled code -----------------------------------------------------------------------------------------------


async def test_functions_that_numba_compiles_push(runtime: RingKernelRuntime) -> None:
    import numba

    await start(runtime, "k", tick, queue_size=64)
    await start(runtime, "n", echo, queue_size=64)
    ticks, numbers = runtime.open_input("k"), runtime.open_input("n")
    push_tick, push_number = ticks.numba_push, numbers.numba_push
    with runtime.open_input("n", full="drop") as another:
        assert another.numba_push is push_number

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def produce(ticks: int, numbers: int, records: Any, count: int) -> int:
        pushed = 0
        for i in range(count):
            records[i % 16].price = i
            records[i % 16].volume = 2 * i
            if i % 16 == 15:
                pushed += push_tick(ticks, records)
            if i % 16 == 7:
                pushed += push_tick(ticks, records[7])
            pushed += push_number(numbers, i)
        return pushed

    thread = Thread(produce, ticks.address, numbers.address, np.zeros(16, TICK), 1_600)
    received: list[Any] = []
    volumes: list[int] = []
    while len(received) < 1_600 or len(volumes) < 1_700:
        received += drain(runtime, "n")
        volumes += [int(record.volume) for record in drain(runtime, "k")]
        await asyncio.sleep(0)
    assert await thread.end() == 3_300
    assert received == list(range(1_600))
    assert sorted(volumes) == sorted([*range(0, 3_200, 2), *range(14, 3_200, 32)])
    await Thread(numbers.push, 5).end()  # and Python goes on where it was
    assert await within(runtime.receive("n")) == 5
    for name in ("k", "n"):
        check_books(runtime, name)
    numbers.close()
    with pytest.raises(KernelStateError, match="this input was closed, or its kernel has ended"):
        produce(ticks.address, numbers.address, np.zeros(16, TICK), 1)
    ticks.close()


async def test_compiled_code_without_room_does_as_the_handle_is_meant_to(runtime: RingKernelRuntime) -> None:
    import numba

    await runtime.launch("k", echo, queue_size=4)
    dropping, raising, sleeping = (runtime.open_input("k", full=full) for full in MODES)
    push = dropping.numba_push

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator]
    def produce(address: int, values: Any) -> int:
        return push(address, values)

    values = np.arange(6)
    assert produce(dropping.address, values) == 4
    assert dropping.dropped == 2
    with pytest.raises(QueueFullError, match="all slots of this input are taken"):
        produce(raising.address, values)
    thread = Thread(produce, sleeping.address, values)
    await eventually(lambda: sleeps(sleeping))
    with pytest.raises(KernelStateError, match="another thread pushes by this handle"):
        produce(sleeping.address, values)
    await runtime.terminate("k")
    with pytest.raises(KernelStateError, match="its kernel has ended"):
        await thread.end()
    assert sorted(runtime.unprocessed("k").tolist()) == sorted([0, 1, 2, 3] * 3)
    check_books(runtime, "k")


async def test_compiled_code_with_other_messages_does_not_compile(runtime: RingKernelRuntime) -> None:
    import numba

    await runtime.launch("k", echo)
    with runtime.open_input("k") as handle:
        push = handle.numba_push

        @numba.njit  # type: ignore[untyped-decorator]
        def produce(address: int, value: Any) -> int:
            return push(address, value)

        for wrong in (1.5, np.zeros(3), np.zeros((2, 2), np.int64), np.zeros(4, np.int64)[::2], np.zeros(1, TICK)[0]):
            with pytest.raises(numba.TypingError, match="push takes a message of type int64, that is int64, or a cont"):
                produce(handle.address, wrong)
        assert produce(handle.address, np.int32(3)) == 1
    await runtime.terminate("k")
    assert runtime.unprocessed("k").tolist() == [3]
