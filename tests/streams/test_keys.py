"""A keyed kernel has a state for each value of a field: the handler sees that of its message, and nothing of others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import check_books, connect_chain, eventually, start, within
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import chain_of, fuse, set_answer_timeout
from kinds import usleep

import ringkernel as rk
from ringkernel import (
    ConfigurationError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    KeyNotFoundError,
    MessageTypeError,
    RingKernelError,
    RingKernelRuntime,
    ring_kernel,
    testing,
)
from ringkernel.codegen.key_table import MULTIPLIER
from ringkernel.declaration.decorator import find_declaration
from ringkernel.devices.state_access import MANY_KEYS
from ringkernel.memory.keys_layout import NO_KEY, capacity_of, n_slots_for

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = np.dtype([("symbol", "i4"), ("price", "f8")], align=True)
TRADE = np.dtype([("symbol", "S8"), ("price", "f8")])
MEAN = np.dtype([("mean", "f8"), ("n", "i8")])


@rk.message
class Count:
    symbol: np.int32
    n: int = 0


@ring_kernel("ke_mean", input_type=TICK, output_type=float, state=np.zeros((), MEAN), key="symbol", keys=8)
def mean(msg: Any, out: Any, state: Any) -> None:
    state.n += 1
    state.mean += (msg.price - state.mean) / state.n
    out.value = state.mean


@ring_kernel("ke_count", input_type=TICK, output_type=Count, state=Count(np.int32(-1), 10), key="symbol")
def count(msg: Any, out: Any, state: Any) -> None:
    state.n += 1
    out.symbol, out.n = state.symbol, state.n


@ring_kernel("ke_table", input_type=TICK, state=np.full((2, 2), 1.0), key="symbol")
def table(msg: Any, state: Any) -> None:
    state[1, 0] += msg.price


@ring_kernel("ke_strict", input_type=TICK, output_type=float, state=np.zeros((), MEAN), key="symbol")
def strict(msg: Any, out: Any, state: Any) -> None:
    state.n += 1
    if state.n > 2:
        raise ValueError("too many")
    out.value = state.n


def ticks(*rows: tuple[int, float]) -> Any:
    return np.array(list(rows), TICK)


def means_of(messages: Any) -> tuple[list[float], dict[Any, tuple[float, int]]]:
    """What `mean` makes of messages, and the states that it leaves, by Python."""
    outputs: list[float] = []
    states: dict[Any, tuple[float, int]] = {}
    for key, price in messages[["symbol", "price"]].tolist():
        at, n = states.get(key, (0.0, 0))
        states[key] = at + (price - at) / (n + 1), n + 1
        outputs.append(states[key][0])
    return outputs, states


def of_mean(msg: Any, out: Any, state: Any) -> None:
    mean(msg, out, state)


def keyed_by(dtype: Any, keys: int) -> Callable[..., Any]:
    """`mean`, with keys of this dtype."""
    message = np.dtype([("a", "i1"), ("symbol", dtype), ("price", "f8")])
    declare = ring_kernel(
        "ke_by", input_type=message, output_type=float, state=np.zeros((), MEAN), key="symbol", keys=keys
    )
    return declare(of_mean)


def keys_of(dtype: np.dtype[Any]) -> Any:
    """Keys near each other, far apart, and those at the ends."""
    if dtype.kind == "S":
        random = np.random.default_rng(2)
        drawn = [random.integers(0, 256, n, np.uint8).tobytes() for n in range(dtype.itemsize + 1) for _ in range(60)]
        close = [b"a" * (dtype.itemsize - 1) + bytes([i]) for i in range(60)]
        own = np.array([NO_KEY]).tobytes()[: dtype.itemsize]
        return np.unique(np.array([b"", own, *drawn, *close], dtype))
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    near = [*range(low, low + 100), *range(high - 99, high + 1), *range(100)]
    far = [i << shift for shift in range(0, 8 * dtype.itemsize, 3) for i in range(1, 20)]
    wanted = {key for key in (*near, *far, NO_KEY, NO_KEY + 2**64) if low <= key <= high}
    return np.array(sorted(wanted), dtype)


# --- what the handler sees -----------------------------------------------------------------------------------


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "S1", "S3", "S8", "S9", "S20"])
async def test_every_value_of_the_field_has_its_own_state(runtime: RingKernelRuntime, kind: str) -> None:
    keys = keys_of(np.dtype(kind))
    handler = keyed_by(kind, len(keys))
    random = np.random.default_rng(1)
    messages = np.zeros(20 * len(keys), find_declaration("ke_by", handler).input_type.dtype)  # type: ignore[union-attr]
    messages["symbol"] = random.permutation(np.concatenate([keys, random.choice(keys, 19 * len(keys))]))
    messages["price"] = random.normal(size=len(messages))
    await start(runtime, "k", handler)
    outputs = await runtime.map("k", messages)
    expected, states = means_of(messages)
    assert outputs.tolist() == expected
    read = await runtime.read_state("k")
    assert read.dtype.names == ("symbol", "mean", "n")
    assert read["symbol"].dtype == np.dtype(kind)
    assert read["symbol"].tolist() == keys.tolist() == sorted(states)
    assert [tuple(one) for one in read[["mean", "n"]].tolist()] == [states[key] for key in keys.tolist()]
    for key in (keys[0], keys[len(keys) // 2], keys[-1]):
        assert tuple((await runtime.read_state("k", key=key)).tolist()) == states[key.item()]
    assert runtime.statistics("k").keys == len(keys)


async def test_messages_come_by_any_way(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", mean)
    assert await within(runtime.call("k", (1, 2.0))) == 2
    await runtime.send_batch("k", ticks((2, 10.0), (1, 4.0)))
    assert [await within(runtime.receive("k")) for _ in range(2)] == [10, 3]
    await runtime.send("k", (2, 20.0))
    assert await within(runtime.receive("k")) == 15
    assert check_books(runtime, "k").processed == 4


async def test_a_field_of_the_state_that_is_called_like_the_key_holds_it(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", count)
    outputs = await runtime.map("k", ticks((7, 0), (-3, 0), (7, 0)))
    assert outputs.tolist() == [(7, 11), (-3, 11), (7, 12)]
    assert (await runtime.read_state("k")).tolist() == [(-3, 11), (7, 12)]
    assert await runtime.read_state("k", key=7) == Count(np.int32(7), 12)


async def test_a_state_may_be_an_array(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", table)
    await runtime.send_batch("k", ticks((5, 1.5), (4, 2.0), (5, 1.0)))
    await eventually(lambda: runtime.statistics("k").processed == 3)
    read = await runtime.read_state("k")
    assert read["symbol"].tolist() == [4, 5]
    assert read["state"].tolist() == [[[1, 1], [3, 1]], [[1, 1], [3.5, 1]]]
    assert (await runtime.read_state("k", key=5)).tolist() == [[1, 1], [3.5, 1]]


async def test_parameters_are_the_same_for_all_keys(runtime: RingKernelRuntime) -> None:
    gain = np.dtype([("factor", "f8")])

    @ring_kernel(
        "ke_params", input_type=TICK, output_type=float, state=np.zeros(1), key="symbol", params=np.array((2.0,), gain)
    )
    def summed(msg: Any, out: Any, state: Any, params: Any) -> None:
        state[0] += params.factor * msg.price
        out.value = state[0]

    await start(runtime, "k", summed)
    assert (await runtime.map("k", ticks((1, 1), (2, 2), (1, 3)))).tolist() == [2, 4, 8]
    await runtime.write_params("k", (10.0,))
    assert (await runtime.map("k", ticks((1, 1), (3, 2)))).tolist() == [18, 20]


async def test_random_numbers_are_drawn_in_the_order_of_the_messages(runtime: RingKernelRuntime) -> None:
    @ring_kernel("ke_rng", input_type=TICK, output_type=float, state=np.zeros(1), key="symbol", rng=7)
    def drawn(msg: Any, out: Any, state: Any, rng: Any) -> None:
        state[0] += rng.random()
        out.value = state[0]

    await start(runtime, "k", drawn)
    expected, numbers, states = [], rk.Rng(7), dict.fromkeys(range(3), 0.0)
    for i in range(60):
        states[i % 3] += numbers.random()
        expected.append(states[i % 3])
    assert (await runtime.map("k", ticks(*((i % 3, 0.0) for i in range(60))))).tolist() == expected


async def test_inputs_in_the_order_of_time_have_one_state_a_key(runtime: RingKernelRuntime) -> None:
    timed = np.dtype([("time", "i8"), ("symbol", "S12"), ("price", "f8")])
    options: dict[str, Any] = {"output_type": timed, "state": np.full(1, np.nan), "key": "symbol", "order_by": "time"}

    @ring_kernel("ke_as_of", input_type=timed, **options)
    def trades(msg: Any, out: Any, state: Any) -> None:
        out.time, out.symbol, out.price = msg.time, msg.symbol, msg.price - state[0]

    @rk.on_input("ke_as_of", "quotes", timed)
    def quotes(msg: Any, out: Any, state: Any) -> bool:
        state[0] = msg.price
        return False

    random, parts = np.random.default_rng(5), []
    for count in (500, 2_000):
        part = np.zeros(count, timed)
        part["time"] = np.sort(random.integers(0, 1_000, count))
        part["symbol"] = random.choice([b"A", b"B", b"a longer one"], count)
        part["price"] = random.integers(1, 100, count)
        parts.append(part)
    await start(runtime, "ke_as_of", trades)
    sending = asyncio.gather(
        runtime.send_batch("ke_as_of", parts[0]), runtime.send_batch("ke_as_of", parts[1], input="quotes")
    )
    got: list[Any] = []
    expected = []
    for trade in parts[0].tolist():
        before = parts[1][(parts[1]["time"] < trade[0]) & (parts[1]["symbol"] == trade[1])]["price"]
        expected.append((*trade[:2], trade[2] - (before[-1] if len(before) else np.nan)))
    await within(sending)
    for name in ("", "quotes"):
        await runtime.close_input("ke_as_of", input=name)
    while len(got) < len(expected):
        got.extend((await within(runtime.receive_batch("ke_as_of"))).tolist())
    np.testing.assert_equal(got, expected)


async def test_several_inputs_share_the_states(runtime: RingKernelRuntime) -> None:
    @ring_kernel("ke_inputs", input_type=TICK, output_type=float, state=np.zeros(1), key="symbol")
    def total(msg: Any, out: Any, state: Any) -> None:
        out.value = msg.price * state[0]

    @rk.on_input("ke_inputs", "weights", np.dtype([("w", "f8"), ("symbol", "i4")]))
    def weights(msg: Any, out: Any, state: Any) -> bool:
        state[0] = msg.w
        return False

    await start(runtime, "ke_inputs", total)
    await runtime.send_batch("ke_inputs", [(3.0, 1), (5.0, 2)], input="weights")
    await eventually(lambda: runtime.statistics("ke_inputs").processed == 2)
    await runtime.send_batch("ke_inputs", ticks((1, 2.0), (2, 2.0), (3, 2.0)))
    assert [await within(runtime.receive("ke_inputs")) for _ in range(3)] == [6, 10, 0]


async def test_a_handler_does_the_same_in_python() -> None:
    for handler in (mean, count):
        testing.check(handler)
    assert testing.in_python(count, ticks((7, 0), (8, 0), (7, 0))).outputs.tolist() == [(7, 11), (8, 11), (7, 12)]


# --- room ----------------------------------------------------------------------------------------------------


async def test_a_key_too_many_fails_the_kernel_by_name(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", mean)
    with pytest.raises(KernelFailedError) as caught:
        await runtime.map("k", ticks(*((i, 1.0) for i in range(100))))
    error = caught.value.__cause__
    assert isinstance(error, RingKernelError)
    assert str(error).startswith(
        "kernel 'k' failed on message Record(symbol=12, price=1.0): its table has room for 12 "
    )
    assert "symbol=12 would be one more; launch it with keys=24, or pause it" in str(error)
    assert len(caught.value.partial) == 12
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.keys) == (12, 1, 12)
    assert (await runtime.read_state("k"))["symbol"].tolist() == list(range(12))


def colliding(count: int) -> list[int]:
    """Keys that all lead to the last slot of a table of any size, so that a search for them goes round its end; the
    first has a slot of its own."""
    tags = [((0xFFFF << 48) + i) * pow(MULTIPLIER, -1, 2**64) for i in range(count - 1)]
    return [NO_KEY, *(int(np.uint64((tag ^ NO_KEY) % 2**64).astype(np.int64)) for tag in tags)]


@pytest.mark.parametrize("pattern", [range, colliding])
async def test_a_full_table_of_any_size_is_searched_to_an_end(
    runtime: RingKernelRuntime, pattern: Callable[[int], list[int]]
) -> None:
    for keys in range(1, 71):
        room = capacity_of(n_slots_for(keys))
        assert keys <= room < n_slots_for(keys) - 1  # one is for `NO_KEY`, one stays empty: or what follows hangs
        name = f"k{keys}"
        await start(runtime, name, keyed_by("i8", keys))
        first, *known = pattern(room + 2)
        assert [await within(runtime.call(name, (0, key, 1.0))) for key in known[:room]] == [1.0] * room
        if keys % 2:
            with pytest.raises(KeyNotFoundError):
                await within(runtime.read_state(name, key=first))
            assert (await within(runtime.read_state(name, key=known[0])))["n"] == 1
        else:
            await runtime.send(name, (0, known[room], 1.0))
            with pytest.raises(KernelFailedError, match=f"room for {room} keys, and symbol={known[room]} .* keys="):
                await within(runtime.receive(name))


async def test_a_table_that_is_nearly_full_grows_in_every_pause(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", mean)
    before = runtime.statistics("k").keys_nbytes
    for known in range(0, 4_000, 3):
        await runtime.map("k", ticks(*((i * 7919, float(i)) for i in range(known, known + 3))))
        if known % 2:
            await runtime.deactivate("k")
            await runtime.reactivate("k")
        else:
            await runtime.read_state("k", key=0)
    read = await runtime.read_state("k")
    assert read["symbol"].tolist() == [i * 7919 for i in range(4_002)]
    assert read["mean"].tolist() == list(range(4_002))
    counts = runtime.statistics("k")
    assert counts.keys == 4_002
    assert before < counts.keys_nbytes <= 4_002 * 32 * 4


async def test_as_many_keys_as_were_asked_for_take_no_more_room(runtime: RingKernelRuntime) -> None:
    handler = keyed_by("i8", 1500)
    await start(runtime, "k", handler)
    before = runtime.statistics("k").keys_nbytes
    messages = np.zeros(1500, find_declaration("ke_by", handler).input_type.dtype)  # type: ignore[union-attr]
    messages["symbol"] = np.arange(1500)
    for _ in range(2):
        await runtime.map("k", messages)
        await runtime.read_state("k")
    assert runtime.statistics("k").keys_nbytes == before < 2 * 2048 * 32


async def test_many_keys_are_read_in_order(runtime: RingKernelRuntime) -> None:
    many = 200_000
    handler = ring_kernel(
        "ke_many", input_type=TICK, output_type=float, state=np.zeros((), MEAN), key="symbol", keys=many
    )(of_mean)
    await start(runtime, "k", handler)
    messages = np.zeros(2 * many, TICK)
    messages["symbol"] = np.random.default_rng(1).permutation(np.repeat(np.arange(many), 2))
    messages["price"] = messages["symbol"]
    assert np.array_equal(await runtime.map("k", messages), messages["price"])
    read = await runtime.read_state("k")
    assert np.array_equal(read["symbol"], np.arange(many))
    assert np.array_equal(read["mean"], np.arange(many))
    assert np.all(read["n"] == 2)


# --- reading and writing -------------------------------------------------------------------------------------


async def test_a_key_that_no_message_had_is_not_there(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", mean)
    assert len(await runtime.read_state("k")) == 0
    await runtime.call("k", (1, 1.0))
    with pytest.raises(KeyNotFoundError, match=r"^kernel 'k' has no state for symbol=2: no message .* for 1 others$"):
        await runtime.read_state("k", key=2)
    assert issubclass(KeyNotFoundError, KeyError)


@pytest.mark.parametrize("wrong", [1.5, "IBM", 2**31, b"IBM", [1], None.__class__])
async def test_what_is_no_key_is_refused(runtime: RingKernelRuntime, wrong: Any) -> None:
    await runtime.launch("k", mean)
    for calling in (runtime.read_state("k", key=wrong), runtime.write_state("k", (0.0, 0), key=wrong)):
        with pytest.raises(MessageTypeError, match=r"kernel 'k': .* is no symbol, which is int32"):
            await calling


async def test_a_kernel_without_a_key_says_so(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", ring_kernel("ke_none", input_type=int, state=np.zeros(1))(lambda msg, state: None))
    for calling in (runtime.read_state("k", key=1), runtime.write_state("k", [0.0], key=1)):
        with pytest.raises(MessageTypeError, match="kernel 'k' has one state, not one for each key; leave key=1 out"):
            await calling


async def test_the_state_of_a_key_is_written_while_the_kernel_rests(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", mean)
    for key in range(100):  # more than there is room for at first
        await runtime.write_state("k", (10.0 * key, 1), key=key)
    await runtime.write_state("k", (1.0, 3), key=5)
    await runtime.activate("k")
    assert [await within(runtime.call("k", (key, 50.0))) for key in (3, 5)] == [40, 13.25]
    with pytest.raises(KernelStateError, match="while it is ACTIVE"):
        await runtime.write_state("k", (0.0, 0), key=3)


async def test_all_states_are_written_as_they_are_read(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", mean)
    await runtime.map("k", ticks(*((i, float(i)) for i in range(10))))
    kept = await runtime.read_state("k")
    await runtime.map("k", ticks((3, 100.0), (11, 1.0)))
    await runtime.deactivate("k")
    await runtime.write_state("k", kept)
    assert (await runtime.read_state("k")).tolist() == kept.tolist()
    await runtime.launch("other", mean)
    more = np.resize(kept, 1000)
    more["symbol"] = np.arange(1000)
    await runtime.write_state("other", more)
    await runtime.activate("other")
    assert await within(runtime.call("other", (777, 9.0))) == 8
    assert runtime.statistics("other").keys == 1000


async def test_many_states_are_written_beside_the_event_loop(runtime: RingKernelRuntime) -> None:
    """In a thread; who is cancelled meanwhile has changed nothing."""
    await runtime.launch("k", mean)
    await runtime.write_state("k", (1.0, 1), key=1)
    kept = await runtime.read_state("k")
    more = np.resize(kept, 3 * MANY_KEYS)
    more["symbol"] = np.arange(len(more))
    writing = asyncio.create_task(runtime.write_state("k", more))
    steps = 0
    while not writing.done():
        await asyncio.sleep(0)
        steps += 1
    await writing
    assert steps > 10
    assert (await runtime.read_state("k")).tolist() == more.tolist()
    async with runtime.kernels["k"].lock:  # so that it is not done before that
        cancelled = asyncio.create_task(runtime.write_state("k", more[: 2 * MANY_KEYS]))
        for _ in range(5):
            await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
    assert runtime.statistics("k").keys == len(more)
    await runtime.write_state("k", kept)
    assert (await runtime.read_state("k")).tolist() == kept.tolist()


@pytest.mark.parametrize("kind", ["u8", "i8", "S8", "S20"])
async def test_any_keys_are_written(runtime: RingKernelRuntime, kind: str) -> None:
    handler, keys = keyed_by(kind, 2), keys_of(np.dtype(kind))
    await runtime.launch("k", handler)
    states = np.zeros(len(keys), np.dtype([("symbol", kind), ("mean", "f8"), ("n", "i8")], align=True))
    states["symbol"], states["n"] = keys, np.arange(len(keys))
    await runtime.write_state("k", np.random.default_rng(1).permutation(states))
    assert (await runtime.read_state("k")).tolist() == states.tolist()
    for i in (0, len(keys) // 2, len(keys) - 1):
        assert (await runtime.read_state("k", key=keys[i])).n == i
    await runtime.write_state("k", states[:0])
    assert len(await runtime.read_state("k")) == runtime.statistics("k").keys == 0


async def test_states_that_do_not_fit_change_nothing(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", mean)
    await runtime.write_state("k", (1.0, 1), key=1)
    kept = await runtime.read_state("k")
    twice = np.concatenate([kept, kept])
    with pytest.raises(MessageTypeError, match=r"symbol=np.int32\(1\) is there twice, the second time in row 1"):
        await runtime.write_state("k", twice)
    for wrong in ((1.0, 1), kept[["mean", "n"]], kept.reshape(1, 1), [1, 2]):
        with pytest.raises(MessageTypeError, match=r"structured array of one dimension, as read_state\(\) gives it"):
            await runtime.write_state("k", wrong)
    with pytest.raises(MessageTypeError):
        await runtime.write_state("k", (1.0, 1.5), key=1)
    assert (await runtime.read_state("k")).tolist() == kept.tolist()


def test_a_session_reads_and_writes_them() -> None:
    with rk.Session() as session:
        session.launch(mean)
        session.write_state(mean, (5.0, 1), key=3)
        assert session.map(mean, ticks((3, 7.0))).tolist() == [6]
        assert session.read_state(mean, key=3).n == 2
        assert session.read_state(mean).tolist() == [(3, 6.0, 2)]


@pytest.mark.workers
async def test_states_are_read_whole_while_the_kernel_runs(runtime: RingKernelRuntime) -> None:
    pair = np.dtype([("a", "i8"), ("b", "i8")])

    @ring_kernel("ke_pair", input_type=TICK, state=np.zeros((), pair), key="symbol")
    def twice(msg: Any, state: Any) -> None:
        state.a += 1
        state.b += 1

    await start(runtime, "k", twice)
    messages = np.zeros(3_000_000, TICK)
    messages["symbol"] = np.arange(len(messages)) % 100
    mapping = asyncio.ensure_future(runtime.map("k", messages))
    seen = []
    while not mapping.done():
        read = await within(runtime.read_state("k"))
        assert np.array_equal(read["a"], read["b"])
        assert read["a"].max(initial=0) - read["a"].min(initial=2**62) <= 1
        seen.append(int(read["a"].sum()))
    await mapping
    assert seen == sorted(seen)
    assert (await runtime.read_state("k"))["a"].tolist() == [30_000] * 100


# --- failures and ends ---------------------------------------------------------------------------------------


async def test_a_failure_is_that_of_its_key(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", strict)
    await runtime.send_batch("k", ticks((1, 0), (2, 0), (1, 0), (1, 5.0), (2, 0)))
    await within(runtime.wait("k"))
    error = runtime.kernels["k"].error
    assert isinstance(error, ValueError)
    assert "kernel 'k' failed on message Record(symbol=1, price=5.0)" in error.__notes__
    assert error.__traceback__ is not None  # run again in Python, with the state of that key
    assert (await runtime.read_state("k"))[["symbol", "n"]].tolist() == [(1, 3), (2, 1)]
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.unprocessed) == (3, 1, 1)


@pytest.mark.workers
async def test_a_handler_that_does_not_return_leaves_the_table_to_the_worker(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    @ring_kernel("ke_endless", input_type=TICK, output_type=float, state=np.zeros(1), key="symbol", keys=4)
    def endless(msg: Any, out: Any, state: Any) -> None:
        out.value = msg.price
        if msg.price > 0:
            for _ in range(200):  # 2 s: longer than anybody waits here
                usleep(10_000)

    await start(runtime, "k", endless)
    await start(runtime, "other", mean)
    set_answer_timeout(monkeypatch, 0.1)
    await runtime.send_batch("k", ticks((1, -1.0), (2, 1.0)))
    await eventually(lambda: runtime.statistics("k").in_flight == 1 and runtime.statistics("k").keys == 2)
    with pytest.raises(KernelStateError, match="did not answer within"):
        await runtime.read_state("k")
    await runtime.terminate("k", timeout=0.1)
    assert runtime.get_state("k") is KernelState.TERMINATED
    runtime.remove("k")
    for _ in range(20):
        assert await within(runtime.call("other", (1, 1.0))) == 1


async def test_a_kernel_that_has_ended_keeps_its_states(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", mean)
    await runtime.call("k", (4, 2.0))
    await runtime.terminate("k")
    assert (await runtime.read_state("k")).tolist() == [(4, 2.0, 1)]
    runtime.remove("k")
    await start(runtime, "k", mean)
    assert len(await runtime.read_state("k")) == 0


# --- connected, fused, edited --------------------------------------------------------------------------------


@ring_kernel("ke_twice", input_type=TICK, output_type=TICK)
def doubled(msg: Any, out: Any) -> None:
    out.symbol, out.price = msg.symbol, 2 * msg.price


@ring_kernel("ke_changes", input_type=TICK, output_type=TICK, state=np.full(1, np.nan), key="symbol")
def changes(msg: Any, out: Any, state: Any) -> bool:
    before, state[0] = state[0], msg.price
    out.symbol, out.price = msg.symbol // 2, msg.price
    return bool(before != msg.price)


@pytest.mark.workers
@pytest.mark.parametrize("as_one", [False, True])
async def test_a_chain_does_the_same_as_one(runtime: RingKernelRuntime, as_one: bool) -> None:
    await connect_chain(runtime, a=doubled, b=changes, c=mean, queue_size=64)
    for kernel_id in "abc":
        await runtime.activate(kernel_id)
    if as_one:
        assert await fuse(runtime, "a", "b", "c")
    random = np.random.default_rng(3)
    messages = np.zeros(50_000, TICK)
    messages["symbol"], messages["price"] = random.integers(0, 20, 50_000), random.integers(0, 3, 50_000)
    got: list[float] = []
    expected: list[Any] = []
    last: dict[Any, Any] = {}
    for key, price in messages.tolist():
        if last.get(key) != price:
            expected.append((key // 2, 2 * price))
        last[key] = price
    outputs, states = means_of(np.array(expected, TICK))

    async def collect() -> None:
        while len(got) < len(outputs):
            got.extend(await within(runtime.receive_batch("c")))

    await asyncio.gather(runtime.send_batch("a", messages), collect())
    assert got == outputs
    assert not as_one or chain_of(runtime, "a") == ["a", "b", "c"]
    assert (await runtime.read_state("c"))["mean"].tolist() == [states[key][0] for key in range(10)]
    assert (await runtime.read_state("b"))["symbol"].tolist() == list(range(20))
    assert runtime.statistics("b").dropped == len(messages) - len(expected)


@pytest.mark.workers
@pytest.mark.parametrize("full", ["b", "c"])
async def test_a_stage_of_a_chain_that_is_full_fails_alone(runtime: RingKernelRuntime, full: str) -> None:
    options: dict[str, Any] = {"input_type": TICK, "output_type": TICK, "state": np.zeros(1), "key": "symbol"}

    @ring_kernel("ke_roomy", keys=1000, **options)
    def roomy(msg: Any, out: Any, state: Any) -> None:
        state[0] += 1
        out.symbol, out.price = msg.symbol, msg.price

    @ring_kernel("ke_narrow", keys=8, **options)
    def narrow(msg: Any, out: Any, state: Any) -> None:
        state[0] += 1
        out.symbol, out.price = msg.symbol, msg.price

    kernels: dict[str, Any] = {**dict.fromkeys("abc", roomy), full: narrow}
    await connect_chain(runtime, **kernels)
    for kernel_id in "abc":
        await runtime.activate(kernel_id)
    assert await fuse(runtime, "a", "b", "c")
    await runtime.send_batch("a", ticks(*((i, 1.0) for i in range(100))))
    await within(runtime.wait(full))
    assert "symbol=12 would be one more" in str(runtime.kernels[full].error)
    await eventually(lambda: runtime.statistics("a").processed == 100)
    assert (runtime.statistics(full).processed, runtime.statistics(full).failed) == (12, 1)
    assert runtime.get_state("a") is KernelState.ACTIVE


@pytest.mark.workers
async def test_keyed_kernels_side_by_side_do_not_disturb_each_other() -> None:
    async with RingKernelRuntime(workers=2) as runtime:
        ids = [f"k{i}" for i in range(4)]
        parts = []
        for i, kernel_id in enumerate(ids):
            await start(runtime, kernel_id, keyed_by("i4", 1000))
            random = np.random.default_rng(i)
            messages = np.zeros(100_000, np.dtype([("a", "i1"), ("symbol", "i4"), ("price", "f8")]))
            messages["symbol"], messages["price"] = random.integers(0, 1000, 100_000), random.normal(size=100_000)
            parts.append(messages)
        outputs = await within(asyncio.gather(*map(runtime.map, ids, parts)), 60)
        for messages, output in zip(parts, outputs, strict=True):
            assert output.tolist() == means_of(messages)[0]


def edited(body: str, **options: Any) -> Any:
    scope: dict[str, Any] = {"rk": rk, "options": options, "__name__": "__main__"}
    exec(f"@rk.ring_kernel('ke_edited', **options)\ndef edited(msg, out, state):\n    {body}\n", scope)
    return scope["edited"]


async def test_an_edit_keeps_the_states(runtime: RingKernelRuntime) -> None:
    options: dict[str, Any] = {"input_type": TICK, "output_type": float, "state": np.zeros(1), "key": "symbol"}
    await start(runtime, "ke_edited", edited("state[0] += msg.price; out.value = state[0]", **options))
    assert await within(runtime.call("ke_edited", (1, 5.0))) == 5
    edited("state[0] += msg.price; out.value = -state[0]", **{**options, "state": np.full(1, 100.0)})
    assert [await within(runtime.call("ke_edited", (key, 1.0))) for key in (1, 2)] == [-6, -101]


async def test_an_edit_with_another_key_is_refused(runtime: RingKernelRuntime) -> None:
    two = np.dtype([("one", "i4"), ("two", "i4")])
    options: dict[str, Any] = {"input_type": two, "output_type": int, "state": np.zeros(1, "i8")}
    await start(runtime, "ke_edited", edited("state[0] += 1; out.value = state[0]", key="one", **options))
    edited("state[0] += 1; out.value = state[0]", key="two", **options)
    with pytest.raises(KernelStateError, match="its key was 'one', and is 'two' now"):
        await runtime.replace("ke_edited")


# --- declarations --------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"key": "symbol", "state": None}, ConfigurationError, "key='symbol' needs a state"),
    ({"key": "symbol", "batch": True}, ConfigurationError, "key='symbol' does not go with batch=True"),
    ({"ordered": False}, ConfigurationError, "ordered=False needs key"),
    ({"key": "symbol", "ordered": 1}, ConfigurationError, "ordered is 1; it must be True or False"),
    ({"keys": 10}, ConfigurationError, "keys=10 needs key, the field"),
    ({"key": 3}, ConfigurationError, "key is 3; it must be the name of a field"),
    ({"key": "symbol", "keys": 0}, ConfigurationError, "keys is 0; it must be a number of keys from 1 to"),
    ({"key": "symbol", "keys": 2.5}, ConfigurationError, "keys is 2.5; it must be a number of keys"),
    ({"key": "symbol", "keys": 2**31}, ConfigurationError, "keys is 2147483648; it must be"),
    ({"key": "name"}, MessageTypeError, "key='name', but its input is of .*, which has no such field"),
    ({"key": "price"}, MessageTypeError, "key='price', which its input has as float64; a key is an integer, or bytes"),
    (
        {"key": "symbol", "state": np.zeros((), [("symbol", "i8"), ("n", "i8")])},
        MessageTypeError,
        "key='symbol' is int32, and its state has a field of that name, which is int64",
    ),
]


@pytest.mark.parametrize(("options", "kind", "reason"), WRONG)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=f"kernel 'ke_wrong': {reason}"):
        ring_kernel("ke_wrong", **{"input_type": TICK, "state": np.zeros(1), **options})(lambda msg, state=None: None)


def test_a_field_called_state_is_refused_where_that_is_a_column() -> None:
    message = np.dtype([("state", "i4"), ("price", "f8")])
    declare = ring_kernel("ke_wrong", input_type=message, state=np.zeros(1), key="state")
    with pytest.raises(ConfigurationError, match=r"that is what read_state\(\) calls the states of the keys"):
        declare(lambda msg, state: None)


def test_a_coroutine_has_none() -> None:
    async def forever(ctx: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="keeps its own state"):
        ring_kernel("ke_coroutine", input_type=TICK, key="symbol")(forever)


async def test_all_inputs_have_the_key_in_one_type(runtime: RingKernelRuntime) -> None:
    @ring_kernel("ke_two", input_type=TICK, state=np.zeros(1), key="symbol")
    def first(msg: Any, state: Any) -> None: ...

    def other(msg: Any, state: Any) -> None: ...

    for dtype, reason in (
        ([("symbol", "i8")], "int32 in its first input and int64 in input 'other'; it must be of one type"),
        ([("name", "i4")], "input 'other' is of .*, which has no such field"),
    ):
        rk.on_input("ke_two", "other", np.dtype(dtype))(other)
        with pytest.raises(MessageTypeError, match=f"kernel 'ke_two': key='symbol'.*{reason}"):
            await runtime.launch("ke_two")
    rk.on_input("ke_two", "other", TICK, batch=True)(other)
    with pytest.raises(ConfigurationError, match="key='symbol' does not go with batch=True, in no input"):
        await runtime.launch("ke_two")


# --- any messages, in any pieces -----------------------------------------------------------------------------


@settings(deadline=None)
@given(
    keys=st.lists(st.integers(-4, 12) | st.sampled_from([2**31 - 1, -(2**31)]), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
)
def test_pieces_and_pauses_make_no_difference(keys: list[int], cuts: list[int]) -> None:
    messages = ticks(*((key, float(i * i)) for i, key in enumerate(keys)))

    async def run() -> tuple[list[float], Any]:
        async with RingKernelRuntime() as runtime:
            await start(runtime, "k", keyed_tiny)
            outputs: list[float] = []
            for part in np.split(messages, sorted(min(cut, len(messages)) for cut in cuts)):
                for one in np.array_split(part, 1 + len(part) // 2):
                    outputs.extend(await runtime.map("k", one))
                    await runtime.deactivate("k")
                    await runtime.reactivate("k")
            return outputs, await runtime.read_state("k")

    expected, states = means_of(messages)
    outputs, read = asyncio.run(run())
    assert outputs == expected
    assert {row[0]: row[1:] for row in read.tolist()} == states


@ring_kernel("ke_tiny", input_type=TICK, output_type=float, state=np.zeros((), MEAN), key="symbol", keys=4)
def keyed_tiny(msg: Any, out: Any, state: Any) -> None:
    state.n += 1
    state.mean += (msg.price - state.mean) / state.n
    out.value = state.mean
