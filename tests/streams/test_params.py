"""Parameters are read by the handler and replaced whole by the host, between two messages, whatever the kernel does."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, start, within
from inside import chain_of, chunks_by_helpers, fuse, set_answer_timeout, set_cores
from kinds import usleep

import ringkernel as rk
from ringkernel import (
    ConfigurationError,
    KernelCompileError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    MessageTypeError,
    RingKernelRuntime,
    ring_kernel,
    testing,
)
from ringkernel.declaration.decorator import find_declaration

PAIR = np.dtype([("low", "i8"), ("high", "i8")])
FILTER = np.dtype([("limit", "i4"), ("taps", "f8", (3,))])


@rk.message
class Gain:
    factor: float
    offset: float = 0.0


@ring_kernel("pa_scaled", input_type=float, output_type=float, params=Gain(2.0))
def scaled(msg: Any, out: Any, params: Any) -> None:
    out.value = msg.value * params.factor + params.offset


@ring_kernel("pa_summed", input_type=float, output_type=float, state=np.zeros(3), params=Gain(2.0))
def summed(msg: Any, out: Any, state: Any, params: Any) -> None:
    state[2] += msg.value * params.factor
    out.value = state[2]


@ring_kernel("pa_kept", input_type=int, output_type=int, params=np.array((0, 10), PAIR))
def kept(msg: Any, out: Any, params: Any) -> bool:
    out.value = msg.value
    return bool(params.low <= msg.value < params.high)


@ring_kernel("pa_seen", input_type=int, output_type=PAIR, params=np.array((0, 0), PAIR))
def seen(msg: Any, out: Any, params: Any) -> None:
    out.low = params.low
    for _ in range(20):  # so that a write has something to fall into
        out.high += 1
        out.high -= 1
    out.high = params.high


@ring_kernel("pa_strict", input_type=float, params=Gain(2.0))
def strict(msg: Any, params: Any) -> None:
    if msg.value > params.factor:
        raise ValueError("too much")


async def call(runtime: RingKernelRuntime, kernel_id: str, value: float) -> float:
    return float(await within(runtime.call(kernel_id, value)))


# --- what the handler gets -----------------------------------------------------------------------------------


async def test_each_launch_begins_with_the_parameters_as_declared(runtime: RingKernelRuntime) -> None:
    await start(runtime, "one", scaled)
    await runtime.write_params("one", Gain(7.0, 1.0))
    await start(runtime, "two", scaled)
    assert [await call(runtime, name, 3) for name in ("one", "two")] == [22, 6]
    assert (await runtime.read_params("one"), await runtime.read_params("two")) == (Gain(7.0, 1.0), Gain(2.0))


async def test_parameters_come_behind_the_state(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", summed)
    assert [await call(runtime, "k", 1) for _ in range(2)] == [2, 4]
    await runtime.write_params("k", Gain(100.0))
    assert await call(runtime, "k", 1) == 104
    assert (await runtime.read_state("k")).tolist() == [0, 0, 104]


def test_the_default_of_a_last_parameter_called_params_is_the_parameters() -> None:
    def with_output(msg: float, out: int, params=Gain(3.0)) -> None: ...  # type: ignore[no-untyped-def]

    def with_state(msg: float, out: int, state=np.zeros(2), params=Gain(3.0)) -> None: ...  # type: ignore[no-untyped-def]

    def sink(msg: float, params=Gain(3.0)) -> None: ...  # type: ignore[no-untyped-def]

    for func in (with_output, with_state, sink):
        found: Any = find_declaration("k", func)
        assert (found.params.tolist(), found.params_type.cls) == ([(3.0, 0.0)], Gain)
        assert (found.state is not None) == (func is with_state)
        assert (found.output_type is None) == (func is sink)
    given: Any = find_declaration("k", ring_kernel("k", params=Gain(5.0), state=np.ones(1))(with_state))
    assert (given.params.tolist(), given.state.tolist()) == ([(5.0, 0.0)], [1])


async def test_a_batch_handler_gets_them_too(runtime: RingKernelRuntime) -> None:
    @ring_kernel("pa_batch", input_type=float, output_type=float, batch=True, params=np.array((2, [1, 2, 3]), FILTER))
    def weighted(msgs: Any, outs: Any, params: Any) -> None:
        for i in range(len(msgs)):
            outs[i].value = msgs[i].value * params.limit + params.taps[1]

    await start(runtime, "k", weighted)
    assert (await runtime.map("k", [1.0, 2.0])).tolist() == [4, 6]
    new = await runtime.read_params("k")
    new.taps[1] = 0.5
    await runtime.write_params("k", new)
    assert (await runtime.map("k", [1.0, 2.0])).tolist() == [2.5, 4.5]


async def test_a_handler_does_the_same_in_python() -> None:
    testing.check(scaled)
    testing.check(summed)
    assert testing.in_python(scaled, [1.0]).outputs.tolist() == [2]


# --- writing -------------------------------------------------------------------------------------------------


async def test_they_are_replaced_in_every_state_but_the_last(runtime: RingKernelRuntime) -> None:
    await runtime.launch("k", scaled)
    await runtime.write_params("k", Gain(3.0))
    assert runtime.get_state("k") is KernelState.LAUNCHED
    await runtime.activate("k")
    assert await call(runtime, "k", 1) == 3
    await runtime.write_params("k", Gain(4.0))
    assert runtime.get_state("k") is KernelState.ACTIVE
    assert await call(runtime, "k", 1) == 4
    await runtime.deactivate("k")
    await runtime.write_params("k", Gain(5.0))
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    assert runtime.statistics("k").processed == 2
    await runtime.reactivate("k")
    assert await call(runtime, "k", 1) == 5
    await runtime.terminate("k")
    with pytest.raises(KernelStateError, match="while it is TERMINATED; allowed is LAUNCHED, ACTIVE or DEACTIVATED"):
        await runtime.write_params("k", Gain(6.0))
    assert await runtime.read_params("k") == Gain(5.0)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [(1.0, "expected a Gain"), (None, "expected a Gain"), (np.zeros(2), "expected a Gain"), ((1, "x"), "Gain")],
)
async def test_what_their_type_would_change_is_refused(runtime: RingKernelRuntime, wrong: Any, reason: str) -> None:
    await start(runtime, "k", scaled)
    with pytest.raises(MessageTypeError, match=reason):
        await runtime.write_params("k", wrong)
    assert await runtime.read_params("k") == Gain(2.0)
    assert await call(runtime, "k", 1) == 2


async def test_a_number_that_does_not_fit_is_refused(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", kept)
    with pytest.raises(MessageTypeError, match="low"):
        await runtime.write_params("k", (2**63, 0))
    with pytest.raises(MessageTypeError, match="low"):
        await runtime.write_params("k", (0.5, 0))
    await runtime.write_params("k", (5, 7))
    assert (await runtime.map("k", np.arange(10))).tolist() == [5, 6]


async def test_a_kernel_without_parameters_says_so(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", ring_kernel("pa_none", input_type=int)(lambda msg: None))
    for calling in (runtime.read_params("k"), runtime.write_params("k", 1)):
        with pytest.raises(MessageTypeError, match=r"'k' was declared without parameters; params= declares them"):
            await calling


@pytest.mark.workers
async def test_no_message_sees_half_of_a_write_and_none_is_lost(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", seen)
    count = 200_000
    got: list[Any] = []

    async def feed() -> None:
        for first in range(0, count, 2_000):
            await runtime.send_batch("k", np.arange(first, first + 2_000))

    async def write() -> None:
        for i in range(1, 50):
            await within(runtime.write_params("k", (i, -i)))
            await asyncio.sleep(0.001)

    async def collect() -> None:
        while sum(len(part) for part in got) < count:
            got.append(await within(runtime.receive_batch("k")))

    await asyncio.wait_for(asyncio.gather(feed(), write(), collect()), 60)
    outputs = np.concatenate(got)
    assert np.array_equal(outputs["low"], -outputs["high"])
    assert np.all(np.diff(outputs["low"]) >= 0)
    assert check_books(runtime, "k").processed == count
    await runtime.send("k", 1)
    assert (await within(runtime.receive("k")))["low"] == 49


async def test_they_are_replaced_in_the_middle_of_a_map(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", seen)
    mapping = asyncio.ensure_future(runtime.map("k", np.zeros(4_000_000, np.int64)))
    await eventually(lambda: runtime.statistics("k").processed > 0)
    await within(runtime.write_params("k", (1, 1)))
    outputs = await within(mapping, 30)
    assert np.array_equal(outputs["low"], outputs["high"])
    assert np.all(np.diff(outputs["low"]) >= 0)
    assert (outputs["low"][0], (await runtime.read_params("k")).low) == (0, 1)


@pytest.mark.workers
async def test_a_handler_without_state_is_still_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cores(monkeypatch, 3)
    async with RingKernelRuntime(workers=3) as team:
        await start(team, "k", seen)
        written = 0
        while not chunks_by_helpers(team):
            written += 1
            await team.write_params("k", (written, 2 * written))
            outputs = await within(team.map("k", np.arange(4_000_000)), 20)
            assert np.all(outputs["low"] == written)
            assert np.all(outputs["high"] == 2 * written)
            assert written < 200, "nobody has helped"


@pytest.mark.workers
@pytest.mark.parametrize("written", ["a", "b", "c"])
async def test_a_chain_stays_one_while_a_stage_gets_others(runtime: RingKernelRuntime, written: str) -> None:
    for kernel_id in "abc":
        await runtime.launch(kernel_id, scaled)
    runtime.connect("a", "b")
    runtime.connect("b", "c")
    for kernel_id in "abc":
        await runtime.activate(kernel_id)
    assert await fuse(runtime, "a", "b", "c")
    await runtime.send_batch("a", [1.0, 2.0])
    assert [await within(runtime.receive("c")) for _ in range(2)] == [8, 16]
    await within(runtime.write_params(written, Gain(10.0)))
    assert chain_of(runtime, "a") == ["a", "b", "c"]
    await runtime.send_batch("a", [1.0, 2.0])
    assert [await within(runtime.receive("c")) for _ in range(2)] == [40, 80]
    assert chain_of(runtime, "a") == ["a", "b", "c"]


async def test_a_handler_that_does_not_return_keeps_its_parameters(
    runtime: RingKernelRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    @ring_kernel("pa_endless", input_type=int, params=Gain(1.0))
    def endless(msg: Any, params: Any) -> None:
        if msg.value < params.factor:
            for _ in range(200):  # 2 s: longer than anybody waits here
                usleep(10_000)

    await start(runtime, "k", endless)
    set_answer_timeout(monkeypatch, 0.1)
    await runtime.send("k", 0)
    await eventually(lambda: runtime.statistics("k").in_flight == 1)
    with pytest.raises(KernelStateError, match="did not answer within"):
        await runtime.write_params("k", Gain(-1.0))
    assert await runtime.read_params("k") == Gain(1.0)
    await runtime.terminate("k", timeout=0.1)


# --- failures ------------------------------------------------------------------------------------------------


async def test_a_failure_is_run_again_with_the_parameters_of_then(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", strict)
    await runtime.send("k", 1.5)
    await eventually(lambda: runtime.statistics("k").processed == 1)
    await runtime.write_params("k", Gain(1.0))
    await runtime.send("k", 1.5)
    await within(runtime.wait("k"))
    error = runtime.kernels["k"].error
    assert isinstance(error, ValueError)
    assert str(error) == "too much"
    frames = [] if error.__traceback__ is None else [error.__traceback__.tb_frame.f_code.co_name]
    assert frames == ["strict"]


async def test_a_kernel_that_fails_meanwhile_says_that(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", strict)
    await runtime.send("k", 100.0)
    with pytest.raises((KernelFailedError, KernelStateError)):
        for i in range(1_000):
            await within(runtime.write_params("k", Gain(float(i % 50))))
            await asyncio.sleep(0.001)


# --- in the handler they are read only -----------------------------------------------------------------------


def changed(params: Any) -> None:
    params.factor = 1.0


def assigns(msg: Any, out: Any, params: Any) -> None:
    params.factor = msg.value
    out.value = 1.0


def assigns_by_name(msg: Any, out: Any, params: Any) -> None:
    params["factor"] = 2.0
    out.value = msg.value


def assigns_in_a_helper(msg: Any, out: Any, params: Any) -> None:
    changed(params)
    out.value = msg.value


@pytest.mark.compiles
@pytest.mark.parametrize("handler", [assigns, assigns_by_name, assigns_in_a_helper])
async def test_a_handler_that_writes_to_them_is_refused(runtime: RingKernelRuntime, handler: Any) -> None:
    declared = ring_kernel("pa_bad", input_type=float, output_type=float, params=Gain(2.0))(handler)
    with pytest.raises(KernelCompileError, match=r"the parameters are read only.*write_params\(\)") as caught:
        await runtime.launch("k", declared)
    assert "test_params.py" in str(caught.value)


@pytest.mark.compiles
async def test_a_nested_array_of_them_is_not_written_to(runtime: RingKernelRuntime) -> None:
    @ring_kernel("pa_nested", input_type=float, params=np.array((2, [1, 2, 3]), FILTER))
    def nested(msg: Any, params: Any) -> None:
        taps = params.taps
        taps[0] = msg.value

    with pytest.raises(KernelCompileError, match="the parameters are read only"):
        await runtime.launch("k", nested)


@pytest.mark.compiles
async def test_who_writes_to_a_message_hears_of_that(runtime: RingKernelRuntime) -> None:
    @ring_kernel("pa_message", input_type=float, params=Gain(2.0))
    def writes(msg: Any, params: Any) -> None:
        msg.value = params.factor

    with pytest.raises(KernelCompileError, match="a message is read only"):
        await runtime.launch("k", writes)


# --- editing, devices, declarations --------------------------------------------------------------------------


def edited(signature: str, expression: str) -> Any:
    scope: dict[str, Any] = {"rk": rk, "np": np, "Gain": Gain, "PAIR": PAIR, "__name__": "__main__"}
    exec(f'@rk.ring_kernel("pa_edited")\ndef edited({signature}):\n    out.value = {expression}\n', scope)
    return scope["edited"]


async def test_an_edit_keeps_what_was_written(runtime: RingKernelRuntime) -> None:
    signature = "msg: float, out: float, params=Gain(2.0)"
    await start(runtime, "pa_edited", edited(signature, "msg.value * params.factor"))
    await runtime.write_params("pa_edited", Gain(5.0))
    edited(signature, "-msg.value * params.factor")
    assert await call(runtime, "pa_edited", 1) == -5


async def test_an_edit_with_other_parameters_is_refused(runtime: RingKernelRuntime) -> None:
    await start(runtime, "pa_edited", edited("msg: float, out: float, params=Gain(2.0)", "msg.value * params.factor"))
    edited("msg: float, out: float, params=np.zeros((), PAIR)", "msg.value * params.low")
    with pytest.raises(KernelStateError, match=r"its params was Gain \(factor: float64, offset: float64\), and is"):
        await runtime.replace("pa_edited")
    assert await call(runtime, "pa_edited", 1) == 2


@pytest.mark.parametrize("wrong", [1.0, np.zeros(3), np.zeros(1, PAIR), [Gain(1.0)], Gain, {"factor": 1.0}])
def test_what_is_no_record_cannot_be_parameters(wrong: Any) -> None:
    with pytest.raises(MessageTypeError, match="params is .*; use a message instance, or a structured record"):
        ring_kernel("pa_wrong", input_type=float, params=wrong)(lambda msg, params: None)


def test_a_handler_that_does_not_take_them_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"should take \(msg, out, state, params\)"):
        ring_kernel("pa_few", input_type=float, output_type=float, state=np.zeros(1), params=Gain(1.0))(
            lambda msg, out, state: None
        )


def test_a_coroutine_has_none() -> None:
    async def forever(ctx: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="keeps its own state, parameters, random numbers and batches"):
        ring_kernel("pa_coroutine", params=Gain(1.0))(forever)


async def test_outputs_before_a_write_are_of_the_parameters_before(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", scaled)
    await runtime.send_batch("k", [1.0, 2.0])
    await eventually(lambda: runtime.statistics("k").processed == 2)
    await runtime.write_params("k", Gain(0.0))
    assert drain(runtime, "k") == [2, 4]


async def test_every_input_gets_the_same(runtime: RingKernelRuntime) -> None:
    @ring_kernel("pa_inputs", input_type=float, output_type=float, params=Gain(2.0))
    def first(msg: Any, out: Any, params: Any) -> None:
        out.value = msg.value * params.factor

    @rk.on_input("pa_inputs", "other", int)
    def other(msg: Any, out: Any, params: Any) -> None:
        out.value = -msg.value * params.factor

    await start(runtime, "pa_inputs", first)
    await runtime.write_params("pa_inputs", Gain(3.0))
    await runtime.send("pa_inputs", 1.0)
    await runtime.send("pa_inputs", 1, input="other")
    assert sorted([await within(runtime.receive("pa_inputs")) for _ in range(2)]) == [-3, 3]
