"""Streams on grids: what a kernel has for them on the CPU it has there, and comes to the same, bit for bit."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import check_books, eventually, start, within
from inside import arena_of, fill, is_let_be, table_of
from kinds import usleep

import ringkernel as rk
from ringkernel import KernelFailedError, KernelState, KernelStateError, RingKernelRuntime
from ringkernel.errors import ConfigurationError

if TYPE_CHECKING:
    from thread_device import ThreadDevice

TICK = np.dtype([("time", "i8"), ("key", "i4"), ("x", "f8")], align=True)
GAIN = np.array((2.0,), [("factor", "f8")])
RNG = np.random.default_rng(11)


def ticks(count: int, until: int = 500) -> np.ndarray[Any, Any]:
    """So many, in the order of their times."""
    messages = np.zeros(count, TICK)
    messages["time"] = np.sort(RNG.integers(-50, until, count))
    messages["key"], messages["x"] = RNG.integers(-5, 40, count), RNG.normal(size=count)
    return messages


@rk.ring_kernel("gs_priced", input_type=TICK, output_type=TICK, state=np.zeros(1), order_by="time")
def priced(msg: Any, out: Any, state: Any) -> Any:
    if msg.x == 13:
        raise ValueError("unlucky")
    out.time, out.key, out.x = msg.time, msg.key, msg.x * state[0]
    return msg.x > -1


@rk.on_input("gs_priced", "quotes", TICK)
def priced_quote(msg: Any, out: Any, state: Any) -> Any:
    state[0] = msg.x
    return False


STATE = np.zeros((), [("n", "i8"), ("sum", "f8")])


@rk.ring_kernel(
    "gs_all", input_type=TICK, output_type=TICK, state=STATE, key="key", order_by="time", params=GAIN, rng=5, keys=64
)
def everything(msg: Any, out: Any, state: Any, params: Any, rng: Any) -> None:
    state.n += 1
    state.sum += msg.x * params.factor
    out.time, out.key, out.x = msg.time, msg.key, state.n + state.sum + rng.normal() * rng.integers(1, 100)


@rk.on_input("gs_all", "other", TICK)
def everything_other(msg: Any, out: Any, state: Any, params: Any, rng: Any) -> Any:
    state.sum -= msg.x
    return False


@rk.on_timer("gs_all", every=50)
def everything_timer(time: Any, out: Any, state: Any, params: Any, rng: Any) -> Any:
    out.time, out.x = time, state.sum * rng.random() / params.factor
    return state.n > 3


@rk.on_end("gs_all")
def everything_end(out: Any, state: Any, params: Any, rng: Any) -> None:
    out.time, out.x = 1_000, state.sum


@pytest.fixture(params=["called by address", pytest.param("built in", marks=[pytest.mark.compiles, pytest.mark.long])])
def made(request: pytest.FixtureRequest, device: ThreadDevice) -> ThreadDevice:
    """Grids that call the CPU's spans, and grids that have them in their own code, as a GPU's do."""
    device.is_built_in = request.param == "built in"
    return device


async def come_to(
    runtime: RingKernelRuntime, kernel: Any, device: str, *inputs: np.ndarray[Any, Any]
) -> tuple[Any, ...]:
    """What comes of these inputs on a device: outputs and states."""
    kernel_id = f"on {device}"
    await start(runtime, kernel_id, kernel, device=device, queue_size=32)
    keys = [
        kernel_id,
        *((kernel_id, name) for name in ("other", "quotes") if name in kernel_inputs(runtime, kernel_id)),
    ]
    outputs = await within(runtime.replay(dict(zip(keys, inputs, strict=True)), until=kernel_id), 20)
    check_books(runtime, kernel_id)
    states = np.atleast_1d(await runtime.read_state(kernel_id))
    return len(outputs), *map(bits, (outputs, states))


def bits(records: np.ndarray[Any, Any]) -> list[bytes]:
    """Those of all fields; what lies between fields nobody has written."""
    fields = [records] if records.dtype.names is None else [records[name] for name in records.dtype.names]
    return [field.tobytes() for field in fields]


def kernel_inputs(runtime: RingKernelRuntime, kernel_id: str) -> Any:
    return runtime.kernels[kernel_id].engine.outlets


async def test_a_grid_comes_to_the_same_bits_as_the_cpu(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    trades, quotes = ticks(900), ticks(700)
    for kernel in (priced, everything):
        results = [await come_to(runtime, kernel, device, trades, quotes) for device in ("cpu", "cuda")]
        assert results[0] == results[1]
        assert results[0][0] > 500
        for device in ("cpu", "cuda"):
            runtime.remove(f"on {device}")


# --- inputs, parameters, random numbers -------------------------------------------------------------------------------


@rk.ring_kernel("gs_two", input_type=float, output_type=float, params=GAIN)
def two(msg: Any, out: Any, params: Any) -> None:
    out.value = msg.value * params.factor


@rk.on_input("gs_two", "more", TICK)
def two_more(msg: Any, out: Any, params: Any) -> Any:
    out.value = -msg.x * params.factor
    return msg.key > 0


async def test_each_input_has_its_handler_and_parameters_are_live(
    runtime: RingKernelRuntime, made: ThreadDevice
) -> None:
    await start(runtime, "k", two, device="cuda")
    await runtime.send("k", 3.0)
    assert await within(runtime.receive("k")) == 6.0
    await runtime.send("k", (0, 1, 3.0), input="more")
    assert await within(runtime.receive("k")) == -6.0
    await runtime.send("k", (0, 0, 3.0), input="more")
    await runtime.write_params("k", (5.0,))
    await runtime.send("k", 3.0)
    assert await within(runtime.receive("k")) == 15.0
    assert check_books(runtime, "k").dropped == 1


@rk.ring_kernel("gs_draws", input_type=int, output_type=float, rng=3)
def draws(msg: Any, out: Any, rng: Any) -> None:
    out.value = rng.normal() if msg.value % 2 else rng.random()


async def test_random_numbers_go_on_after_a_pause(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    await start(runtime, "k", draws, device="cuda")
    first = await runtime.map("k", range(200))
    await runtime.deactivate("k")
    await runtime.reactivate("k")
    numbers, rng = [*first, *(await runtime.map("k", range(200)))], rk.Rng(3)
    assert numbers == [rng.normal() if i % 2 else rng.random() for i in [*range(200), *range(200)]]


# --- sources, and ends ------------------------------------------------------------------------------------------------


@rk.ring_kernel("gs_counts", output_type=int, state=np.zeros(1, np.int64))
def counts(out: Any, state: Any) -> Any:
    state[0] += 1
    if state[0] > 300:
        raise StopIteration
    out.value = state[0]
    return state[0] % 3 != 0


@rk.ring_kernel("gs_sums", input_type=int, output_type=int, state=np.zeros(2, np.int64))
def sums(msg: Any, out: Any, state: Any) -> Any:
    state[0] += msg.value
    return False


@rk.on_end("gs_sums")
def sums_end(out: Any, state: Any) -> Any:
    state[1] += 1
    out.value = state[0] + state[1]
    return state[1] < 20


async def test_a_source_feeds_a_kernel_and_both_end(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    for name, kernel in (("counts", counts), ("sums", sums)):
        await runtime.launch(name, kernel, device="cuda", queue_size=4)
    runtime.connect("counts", "sums")
    await runtime.activate("sums")
    await runtime.activate("counts")
    total = sum(i for i in range(1, 301) if i % 3)
    got: list[int] = []
    async for batch in runtime.stream("sums"):
        got += batch.tolist()
    assert got == [total + i for i in range(1, 20)]
    assert [await within(runtime.wait(name)) for name in ("counts", "sums")] == 2 * [KernelState.TERMINATED]
    assert runtime.kernels["counts"].error is None
    assert check_books(runtime, "sums").processed == 200


@pytest.mark.parametrize("how", ["drained", "paused midway"])
async def test_what_is_done_at_the_end_waits_for_room(
    runtime: RingKernelRuntime, device: ThreadDevice, how: str
) -> None:
    await start(runtime, "k", sums, device="cuda", queue_size=4)
    await runtime.send_batch("k", [1, 2])
    got: list[int] = []
    if how == "paused midway":
        await runtime.close_input("k")
        await eventually(lambda: runtime.statistics("k").emitted == 4)
        await runtime.deactivate("k")
        got += (await runtime.receive_batch("k")).tolist()
        assert got == [4, 5, 6, 7]
        await runtime.reactivate("k")
        ending: Any = asyncio.create_task(runtime.wait("k"))
    else:
        ending = asyncio.create_task(runtime.terminate("k", 5))
    async for batch in runtime.stream("k"):
        got += batch.tolist()
    await within(ending)
    assert got == [3 + i for i in range(1, 20)]
    assert runtime.kernels["k"].error is None


# --- time -------------------------------------------------------------------------------------------------------------


def of_time(msg: Any, out: Any) -> None:
    out.time = msg.time


def trades_at(*times: int) -> np.ndarray[Any, Any]:
    messages = np.zeros(len(times), TICK)
    messages["time"], messages["x"] = times, 1
    return messages


async def test_what_is_held_waits_and_nobody_looks_meanwhile(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    kernel = await start(runtime, "k", priced, device="cuda")
    await runtime.send_batch("k", trades_at(1, 2, 3))
    await eventually(lambda: is_let_be(kernel))
    with pytest.raises(TimeoutError, match="waits for input 'quotes'"):
        await runtime.receive("k", timeout=0.01)
    await runtime.advance("k", 2, input="quotes")
    assert [(await within(runtime.receive("k"))).time for _ in range(2)] == [1, 2]
    await eventually(lambda: is_let_be(kernel))
    await runtime.deactivate("k")
    await runtime.close_input("k", input="quotes")
    await runtime.reactivate("k")
    assert (await within(runtime.receive("k"))).time == 3
    await runtime.close_input("k")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    assert check_books(runtime, "k").processed == 3


async def test_late_and_backward_messages(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    declared = rk.ring_kernel("gs_late", input_type=TICK, output_type=TICK, order_by="time", late="drop")(of_time)
    rk.on_input("gs_late", "quotes", TICK)(lambda msg, out: False)
    await start(runtime, "gs_late", declared, device="cuda")
    await runtime.send_batch("gs_late", trades_at(5), input="quotes")
    await runtime.advance("gs_late", 6)
    await eventually(lambda: runtime.statistics("gs_late").processed == 1)
    await runtime.send_batch("gs_late", trades_at(7))
    await runtime.advance("gs_late", 9, input="quotes")
    await runtime.advance("gs_late", 9)
    await eventually(lambda: runtime.statistics("gs_late").processed == 2)
    await runtime.send_batch("gs_late", trades_at(8), input="quotes")
    await eventually(lambda: runtime.statistics("gs_late").late == 1)
    await runtime.send_batch("gs_late", trades_at(4))
    await within(runtime.wait("gs_late"))
    with pytest.raises(KernelFailedError, match="time=4 follows 7"):
        await runtime.send("gs_late", (9, 0, 0.0))


async def test_a_failure_has_what_came_before_it(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    await start(runtime, "k", priced, device="cuda")
    trades = trades_at(1, 2, 3, 4)
    trades["x"][2] = 13
    await runtime.close_input("k", input="quotes")
    await runtime.send_batch("k", trades)
    await within(runtime.wait("k"))
    error = runtime.kernels["k"].error
    assert isinstance(error, ValueError)
    assert error.args == ("unlucky",)
    assert (await runtime.receive_batch("k"))["time"].tolist() == [1, 2]
    assert runtime.unprocessed("k")["time"].tolist() == [4]
    assert check_books(runtime, "k").failed == 1


async def test_patience(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    declared = rk.ring_kernel("gs_patient", input_type=TICK, output_type=TICK, order_by="time", patience=0.05)(of_time)
    rk.on_input("gs_patient", "quotes", TICK)(lambda msg, out: False)
    await start(runtime, "gs_patient", declared, device="cuda")
    await runtime.send_batch("gs_patient", trades_at(1))
    await within(runtime.receive("gs_patient"))


def takes_its_time(msg: Any, out: Any) -> None:
    usleep(30_000)
    out.time = msg.time


async def started_slow(runtime: RingKernelRuntime) -> Any:
    """One that goes by time, with three inputs and room for four outputs."""
    declared = rk.ring_kernel("gs_takes", input_type=TICK, output_type=TICK, order_by="time")(takes_its_time)
    for name in ("b", "c"):
        rk.on_input("gs_takes", name, TICK)(takes_its_time)
    return await start(runtime, "gs_takes", declared, device="cuda", queue_size=4)


@pytest.mark.parametrize("then", ["receive", "pause"])
async def test_who_waits_for_a_grid_that_goes_on_is_told(
    runtime: RingKernelRuntime, device: ThreadDevice, then: str
) -> None:
    """It was held up for room, and knew of all that it takes then."""
    kernel = await started_slow(runtime)
    await runtime.close_input(kernel.kernel_id, input="b")
    await runtime.close_input(kernel.kernel_id, input="c")
    await runtime.send_batch(kernel.kernel_id, trades_at(*range(4)))
    await eventually(lambda: runtime.statistics(kernel.kernel_id).emitted == 4)
    await runtime.send_batch(kernel.kernel_id, trades_at(*range(4, 8)))
    await eventually(lambda: is_let_be(kernel))
    if then == "pause":
        await runtime.deactivate(kernel.kernel_id)
    got = (await runtime.receive_batch(kernel.kernel_id))["time"].tolist()
    if then == "pause":
        await runtime.reactivate(kernel.kernel_id)
    while len(got) < 8:
        got.append((await within(runtime.receive(kernel.kernel_id), 3)).time)
    assert got == list(range(8))


async def test_a_drain_brings_out_all_that_was_held(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    kernel = await started_slow(runtime)
    await runtime.send_batch(kernel.kernel_id, trades_at(*range(4)))
    await runtime.send_batch(kernel.kernel_id, trades_at(*range(4)), input="b")
    await eventually(lambda: is_let_be(kernel))
    ending = asyncio.create_task(runtime.terminate(kernel.kernel_id, 5))
    got = [(await within(runtime.receive(kernel.kernel_id), 3)).time for _ in range(8)]
    await within(ending)
    assert got == [0, 0, 1, 1, 2, 2, 3, 3]
    assert check_books(runtime, kernel.kernel_id).processed == 8


async def test_a_map_after_as_many_messages_as_it_has(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    """What the grid knew of its own queue is no knowledge of the map's array."""
    declared = rk.ring_kernel("gs_mapped", input_type=TICK, output_type=TICK, order_by="time")(of_time)
    kernel = await start(runtime, "gs_mapped", declared, device="cuda")
    await runtime.send_batch(kernel.kernel_id, trades_at(*range(30)))
    assert [(await within(runtime.receive(kernel.kernel_id))).time for _ in range(30)] == list(range(30))
    await eventually(lambda: is_let_be(kernel))
    mapped = await within(runtime.map(kernel.kernel_id, trades_at(*range(30, 60))))
    assert mapped["time"].tolist() == list(range(30, 60))


async def test_nobody_looks_at_a_grid_that_has_no_room(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    kernel = await start(runtime, "k", two, device="cuda", queue_size=2)
    await runtime.send_batch("k", [1.0, 2.0])
    await eventually(lambda: runtime.statistics("k").emitted == 2)
    await runtime.send_batch("k", [3.0, 4.0])
    await eventually(lambda: is_let_be(kernel))
    got = [await within(runtime.receive("k")) for _ in range(4)]
    assert got == [2.0, 4.0, 6.0, 8.0]


async def test_a_grid_that_is_lost_in_a_merge_leaves_the_rest_unprocessed(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    def slow(msg: Any, out: Any) -> None:
        usleep(300_000)
        out.time = msg.time

    declared = rk.ring_kernel("gs_slow", input_type=TICK, output_type=TICK, order_by="time")(slow)
    await start(runtime, "gs_slow", declared, device="cuda")
    await runtime.send_batch("gs_slow", trades_at(1, 2, 3))
    await eventually(lambda: runtime.statistics("gs_slow").in_flight == 1)
    device.grids[-1].reason = "an illegal address"
    await within(runtime.wait("gs_slow"))
    statistics = check_books(runtime, "gs_slow")
    assert (statistics.processed, statistics.in_flight, statistics.unprocessed) == (0, 1, 2)


# --- keys -------------------------------------------------------------------------------------------------------------


@rk.ring_kernel("gs_keyed", input_type=TICK, output_type=float, state=STATE, key="key", keys=8)
def keyed(msg: Any, out: Any, state: Any) -> None:
    state.n += 1
    out.value = state.n


async def test_a_table_of_keys(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    await start(runtime, "k", keyed, device="cuda")
    messages = ticks(200)
    messages["key"] = np.arange(200) % 6
    assert (await runtime.map("k", messages)).tolist() == [1.0 + i // 6 for i in range(200)]
    assert runtime.statistics("k").keys == 6
    assert (await runtime.read_state("k"))["n"].tolist() == [34, 34, 33, 33, 33, 33]
    await runtime.deactivate("k")
    more = np.array([(key, 100, 0.0) for key in range(4, 500)], [("key", "i4"), ("n", "i8"), ("sum", "f8")])
    await runtime.write_state("k", more)  # it grows
    await runtime.reactivate("k")
    assert (await runtime.map("k", messages[:6])).tolist() == [1, 1, 1, 1, 101, 101]
    assert runtime.statistics("k").keys == 500


def counted(msg: Any, out: Any, state: Any) -> None:
    state.n += 1
    out.value = state.n


async def test_a_table_grows_where_the_device_reaches_it(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    """When the supervisor starts the kernel, and not when it was paused for a moment."""
    declared = rk.ring_kernel("gs_grows", input_type=TICK, output_type=float, state=STATE, key="key", keys=100_000)
    table = table_of(await start(runtime, "k", declared(counted), device="cuda"))
    capacity = table.capacity
    messages = np.zeros(int(0.9 * capacity), TICK)
    messages["key"] = np.arange(len(messages))
    await runtime.map("k", messages)
    await runtime.read_state("k", key=5)
    assert table.capacity == capacity
    await runtime.deactivate("k")
    await runtime.reactivate("k")
    assert table.capacity == 2 * capacity
    assert device._is_reached(table._slots.address)
    assert device._is_reached(table._order.address)
    assert (await runtime.map("k", messages[:3])).tolist() == [2, 2, 2]


async def test_a_full_table_names_the_key(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    await start(runtime, "k", keyed, device="cuda")
    messages = ticks(1_000)
    messages["key"] = np.arange(1_000)
    with pytest.raises(KernelFailedError, match="its table has room for [0-9]+ keys, and key=[0-9]+ would be one more"):
        await runtime.map("k", messages)
    check_books(runtime, "k")


# --- edits ------------------------------------------------------------------------------------------------------------


def edited(text: str, **options: Any) -> Any:
    """A cell of a notebook that declares the kernel, again."""
    scope: dict[str, Any] = {"rk": rk, "options": options, "__name__": "__main__"}
    exec(f'@rk.ring_kernel("gs_edited", **options)\ndef edited(msg: float, out: float, state=START):\n    {text}', {
        **scope, "START": np.zeros(1)
    }, scope)  # fmt: skip
    return scope["edited"]


async def test_an_edited_handler_takes_over(
    runtime: RingKernelRuntime, made: ThreadDevice, caplog: pytest.LogCaptureFixture
) -> None:
    """Between two messages, with the state, beside a kernel that goes on."""
    compiles_s = 60.0
    await start(runtime, "beside", two, device="cuda")
    await start(runtime, "gs_edited", edited("state[0] += msg.value; out.value = state[0]"), device="cuda")
    assert (await runtime.map("gs_edited", [1.0, 2.0])).tolist() == [1, 3]
    edited("out.value = -state[0]")
    assert await within(runtime.call("gs_edited", 5.0), compiles_s) == -3
    edited("out.value = msg.value", block_size=64)
    assert "its block_size was 128, and is 64 now" in caplog.text
    assert await within(runtime.call("gs_edited", 5.0), compiles_s) == -3
    await runtime.send("beside", 2.0)
    assert await within(runtime.receive("beside")) == 4.0
    check_books(runtime, "gs_edited")


# --- threads ----------------------------------------------------------------------------------------------------------


async def test_threads_push_by_inputs_that_were_opened_before(runtime: RingKernelRuntime, made: ThreadDevice) -> None:
    await runtime.launch("k", two, device="cuda", queue_size=64)
    handles = [runtime.open_input("k") for _ in range(3)]
    await runtime.activate("k")
    with pytest.raises(
        KernelStateError, match="while it is ACTIVE: on cuda:0 a kernel finds its inputs when it starts"
    ):
        runtime.open_input("k")

    def push(handle: Any) -> None:
        with handle:
            for i in range(50):
                handle.push(i)
            handle.push_batch(np.arange(500.0))

    threads = [threading.Thread(target=push, args=(handle,)) for handle in handles]
    for thread in threads:
        thread.start()
    got: list[float] = []
    while len(got) < 3 * 550:
        got += (await within(runtime.receive_batch("k", timeout=5))).tolist()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(3 * [2.0 * i for i in [*range(50), *range(500)]])
    await runtime.close_input("k")
    await runtime.close_input("k", input="more")
    assert await within(runtime.wait("k")) is KernelState.TERMINATED


async def test_more_opened_inputs_than_a_block_holds_are_refused(
    runtime: RingKernelRuntime, device: ThreadDevice
) -> None:
    await runtime.launch("k", two, device="cuda")
    handles = []
    with pytest.raises(ConfigurationError, match="what a block keeps of them must fit"):
        for _ in range(1_000):
            handles.append(runtime.open_input("k"))
    await runtime.launch("s", keyed, device="cuda")  # a connection that is refused has changed nothing
    with pytest.raises(ConfigurationError, match="cannot have [0-9]+ inputs"):
        runtime.connect("s", "k")
    await runtime.activate("s")
    await runtime.send("s", (0, 0, 0.0))
    assert await within(runtime.receive("s")) == 1.0
    await runtime.activate("k")
    handles[-1].push(4.0)
    assert await within(runtime.receive("k")) == 8.0
    for handle in handles:
        handle.close()


async def test_memory_that_grows_is_reached(runtime: RingKernelRuntime, device: ThreadDevice) -> None:
    await start(runtime, "first", two, device="cuda")
    await runtime.launch("k", priced, device="cuda")
    held = fill(arena_of(runtime))
    handle = runtime.open_input("k", "quotes")
    assert held
    await runtime.activate("k")
    handle.push((1, 0, 1.0))
    await runtime.send("k", (2, 0, 3.0))
    handle.advance(3)
    assert (await within(runtime.receive("k"))).x == 3.0
    handle.close()
