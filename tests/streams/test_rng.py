"""Random numbers of a handler: the generator's published ones, the same in Python, compiled, and at each launch."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
import spans
from helpers import drain, eventually, start, within
from hypothesis import given, settings
from hypothesis import strategies as st
from inside import chain_of, fuse, set_cores
from scipy import stats

import ringkernel as rk
from ringkernel import (
    ConfigurationError,
    KernelCompileError,
    KernelFailedError,
    KernelStateError,
    RingKernelRuntime,
    ring_kernel,
    testing,
)
from ringkernel.declaration import rng as source
from ringkernel.declaration.decorator import find_declaration

SEEDS = st.integers(0, 2**64 - 1)
BOUNDS = np.dtype([("low", "i8"), ("high", "i8")])
DRAWN = np.dtype([("uniform", "f8"), ("normal", "f8"), ("whole", "i8")])


@rk.message
class Noise:
    size: float


def draw(msg: Any, out: Any, rng: Any) -> None:
    out.uniform = rng.random()
    out.normal = rng.normal()
    out.whole = rng.integers(msg.low, msg.high)


@ring_kernel("rg_noisy", input_type=float, output_type=float, state=np.zeros(3), params=Noise(0.5), rng=11)
def noisy(msg: Any, out: Any, state: Any, params: Any, rng: Any) -> bool:
    state[0] += 1
    out.value = msg.value + params.size * rng.normal()
    return bool(rng.random() < 0.75)


@ring_kernel("rg_fails", input_type=int, output_type=float, rng=5)
def fails(msg: Any, out: Any, rng: Any) -> None:
    x = rng.random()
    if x < 0.01:
        raise ValueError("unlucky")
    out.value = x


def bits(value: float) -> bytes:
    return np.float64(value).tobytes()


# --- the generator -------------------------------------------------------------------------------------------


def test_words_are_those_of_the_reference_implementations() -> None:
    """Of xoshiro256++ from the words 1 to 4, and of splitmix64, as the authors' C programs give them."""
    words: source.Words = [1, 2, 3, 4]
    assert [source.next_word(words) for _ in range(10)] == [
        *(41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205),
        *(9973669472204895162, 14011001112246962877, 12406186145184390807, 15849039046786891736),
        10450023813501588000,
    ]
    assert source.seeded(1234567) == [
        *(6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431),
    ]


def test_the_logarithm_is_right_to_the_last_place() -> None:
    rng = rk.Rng(3)
    for x in [1.0, 0.5, 2.0**-53, source._HALF_ROOT, *(rng.random() ** (1 + i % 9) for i in range(5_000))]:
        assert x == 0 or abs(source.log(x) - math.log(x)) <= math.ulp(math.log(x))


def test_the_layers_have_the_density_of_the_normal_distribution() -> None:
    inside = slice(1, source._LAYERS)
    assert np.allclose(source._LOWER[inside], np.exp(-(source._OUTER[inside] ** 2) / 2), rtol=1e-14)
    areas = source._OUTER[inside] * (source._UPPER[inside] - source._LOWER[inside])
    assert np.allclose(areas, source._AREA, rtol=1e-11)
    tail = math.sqrt(math.pi / 2) * math.erfc(source._R / math.sqrt(2))
    assert math.isclose(source._R * source._HEIGHT_AT_R + tail, source._AREA, rel_tol=1e-14)


def test_numbers_have_their_distributions() -> None:
    rng, count = rk.Rng(2026), 100_000
    normal = np.array([rng.normal() for _ in range(count)])
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    beyond = int((np.abs(normal) > source._R).sum())
    assert stats.binomtest(beyond, count, 2 * stats.norm.sf(source._R)).pvalue > 1e-3
    assert stats.kstest([rng.random() for _ in range(count)], "uniform").pvalue > 1e-3
    faces = Counter(rng.integers(1, 7) for _ in range(count))
    assert sorted(faces) == [1, 2, 3, 4, 5, 6]
    assert stats.chisquare(list(faces.values())).pvalue > 1e-3


@given(SEEDS, st.integers(-(2**63), 2**63 - 2), st.integers(1, 2**64 - 1))
def test_whole_numbers_are_within_their_bounds(seed: int, low: int, extent: int) -> None:
    high = min(low + extent, 2**63 - 1)
    rng = rk.Rng(seed)
    assert all(low <= rng.integers(low, high) < high for _ in range(20))
    assert rng.integers(low, low + 1) == low
    assert all(0 <= rng.random() < 1 for _ in range(20))


@given(SEEDS)
def test_one_seed_is_one_sequence_and_two_are_two(seed: int) -> None:
    first = [rk.Rng(seed).random() for _ in range(2)]
    assert first[0] == first[1]
    one, other = rk.Rng(seed), rk.Rng((seed + 1) % 2**64)
    assert [one.random() for _ in range(4)] != [other.random() for _ in range(4)]


def test_a_generator_is_pickled_where_it_is() -> None:
    rng = rk.Rng(1)
    rng.normal()
    copied = pickle.loads(pickle.dumps(rng))  # noqa: S301 (our own)
    assert copied.random() == rng.random()


@pytest.mark.parametrize("bounds", [(0, 0), (5, -5)])
def test_python_refuses_an_empty_range(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="needs a low below high"):
        rk.Rng(1).integers(*bounds)


def test_python_refuses_bounds_that_are_none() -> None:
    with pytest.raises(OverflowError, match="beyond int64"):
        rk.Rng(1).integers(0, 2**63)
    with pytest.raises(TypeError):
        rk.Rng(1).integers(0, 1.5)  # type: ignore[arg-type]


# --- the same, compiled --------------------------------------------------------------------------------------


def called(span: Any, seed: int, messages: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a span of `draw` makes of messages, called on memory."""
    out, words = np.zeros(len(messages), DRAWN), np.array(2 * source.seeded(seed), np.uint64)
    fault = np.zeros(8, np.int64)
    function = spans.function_of(span)
    addresses = (messages.ctypes.data, len(messages), out.ctypes.data, words.ctypes.data, fault.ctypes.data)
    return out[: function(*addresses)]


@pytest.fixture(scope="module")
def span() -> Any:
    """The compiled handler."""
    from ringkernel.codegen.span_types import SpanTypes

    return spans.compile_span(draw, SpanTypes(BOUNDS, DRAWN, None, rng=True))


WHOLE = st.integers(-(2**63), 2**63 - 1)
RANGES = st.tuples(WHOLE, WHOLE).filter(lambda bounds: bounds[0] < bounds[1])


@pytest.mark.compiles
@settings(max_examples=200)
@given(seed=SEEDS, ranges=st.lists(RANGES, min_size=1, max_size=50))
def test_compiled_numbers_are_those_of_python_bit_for_bit(span: Any, seed: int, ranges: list[tuple[int, int]]) -> None:
    got, rng = called(span, seed, np.array(ranges, BOUNDS)), rk.Rng(seed)
    assert len(got) == len(ranges)
    for (low, high), one in zip(ranges, got, strict=True):
        assert bits(one["uniform"]) == bits(rng.random())
        assert bits(one["normal"]) == bits(rng.normal())
        assert one["whole"] == rng.integers(low, high)


@pytest.mark.compiles
def test_a_long_sequence_is_the_same(span: Any) -> None:
    """Long enough for each way through the ziggurat, tail included."""
    count = 100_000
    messages = np.zeros(count, BOUNDS)
    messages["low"], messages["high"] = -3, 3
    got, rng = called(span, 99, messages), rk.Rng(99)
    expected = np.array([(rng.random(), rng.normal(), rng.integers(-3, 3)) for _ in range(count)], DRAWN)
    assert got.tobytes() == expected.tobytes()
    assert np.abs(got["normal"]).max() > source._R


async def test_each_launch_starts_anew_from_the_seed(runtime: RingKernelRuntime) -> None:
    await start(runtime, "one", noisy)
    await start(runtime, "two", noisy)
    messages = np.arange(1_000.0)
    first = (await runtime.map("one", messages)).tobytes()
    assert (await runtime.map("two", messages)).tobytes() == first
    assert (await runtime.map("one", messages)).tobytes() != first
    assert testing.in_python(noisy, messages).outputs.tobytes() == first


async def test_how_messages_come_makes_no_difference(runtime: RingKernelRuntime) -> None:
    expected = testing.in_python(noisy, np.arange(300.0)).outputs
    await start(runtime, "k", noisy)
    for i in range(100):
        await runtime.send("k", float(i))
    await runtime.send_batch("k", np.arange(100.0, 300.0))
    await eventually(lambda: runtime.statistics("k").processed == 300)
    assert np.array_equal(drain(runtime, "k"), expected)


@pytest.mark.workers
async def test_threads_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cores(monkeypatch, 3)
    messages = np.arange(100_000.0)
    expected = testing.in_python(noisy, messages).outputs
    async with RingKernelRuntime(workers=3) as team:
        await start(team, "k", noisy)
        assert np.array_equal(await within(team.map("k", messages), 30), expected)
    with pytest.raises(ConfigurationError, match="parallel=2, but its handler has random numbers"):
        ring_kernel("rg_two", input_type=float, rng=1, parallel=2)(lambda msg, rng: None)


@pytest.mark.workers
async def test_a_chain_that_runs_as_one_draws_the_same(runtime: RingKernelRuntime) -> None:
    messages = np.arange(500.0)
    between = testing.in_python(noisy, messages).outputs
    expected = testing.in_python(noisy, between).outputs
    for kernel_id in "ab":
        await runtime.launch(kernel_id, noisy)
    runtime.connect("a", "b")
    for kernel_id in "ab":
        await runtime.activate(kernel_id)
    assert await fuse(runtime, "a", "b")
    await runtime.send_batch("a", messages[:250])
    await eventually(lambda: runtime.statistics("a").processed == 250)
    assert chain_of(runtime, "a") == ["a", "b"]
    await runtime.send_batch("a", messages[250:])
    await eventually(lambda: runtime.statistics("a").processed == 500)
    await eventually(lambda: runtime.statistics("b").processed == len(between))
    assert np.array_equal(drain(runtime, "b"), expected)


async def test_a_batch_draws_in_order(runtime: RingKernelRuntime) -> None:
    @ring_kernel("rg_batch", input_type=float, output_type=float, batch=True, rng=3)
    def batch(msgs: Any, outs: Any, rng: Any) -> None:
        for i in range(len(msgs)):
            outs[i].value = msgs[i].value * rng.random()

    rng = rk.Rng(3)
    await start(runtime, "k", batch)
    got = [*await runtime.map("k", np.ones(1_000)), *await runtime.map("k", np.ones(10))]
    assert got == [rng.random() for _ in range(1_010)]


async def test_a_helper_draws_from_the_same(runtime: RingKernelRuntime) -> None:
    def two_of(rng: Any) -> Any:
        return rng.random() + rng.random()

    @ring_kernel("rg_helper", input_type=float, output_type=float, rng=3)
    def handler(msg: Any, out: Any, rng: Any) -> None:
        out.value = two_of(rng)

    await start(runtime, "k", handler)
    rng = rk.Rng(3)
    assert (await runtime.map("k", np.zeros(5))).tolist() == [rng.random() + rng.random() for _ in range(5)]


async def test_every_input_draws_from_the_same(runtime: RingKernelRuntime) -> None:
    @ring_kernel("rg_inputs", input_type=float, output_type=float, rng=3)
    def first(msg: Any, out: Any, rng: Any) -> None:
        out.value = rng.random()

    @rk.on_input("rg_inputs", "other", int)
    def other(msg: Any, out: Any, rng: Any) -> None:
        out.value = -rng.random()

    await start(runtime, "rg_inputs", first)
    rng = rk.Rng(3)
    for i in range(6):
        await (runtime.send("rg_inputs", 1, input="other") if i % 2 else runtime.send("rg_inputs", 1.0))
        drawn = rng.random()
        assert await within(runtime.receive("rg_inputs")) == (-drawn if i % 2 else drawn)


# --- failures ------------------------------------------------------------------------------------------------


async def test_a_failure_is_run_again_with_the_numbers_of_then(runtime: RingKernelRuntime) -> None:
    expected = testing.in_python(fails, np.zeros(10_000, np.int64))
    assert expected.failure is ValueError
    await start(runtime, "k", fails)
    with pytest.raises(KernelFailedError) as caught:
        await runtime.map("k", np.zeros(10_000, np.int64))
    assert np.array_equal(caught.value.partial, expected.outputs)
    error = caught.value.__cause__
    assert isinstance(error, ValueError)
    assert str(error) == "unlucky"
    assert not any("no Python traceback" in note for note in error.__notes__)


async def test_an_empty_range_ends_the_kernel(runtime: RingKernelRuntime) -> None:
    await start(runtime, "k", ring_kernel("rg_draw", input_type=BOUNDS, output_type=DRAWN, rng=1)(draw))
    await runtime.send_batch("k", np.array([(0, 5), (5, 5)], BOUNDS))
    await within(runtime.wait("k"))
    error = runtime.kernels["k"].error
    assert isinstance(error, ValueError)
    assert str(error) == "integers(low, high) needs a low below high, which is excluded"


# --- what is refused -----------------------------------------------------------------------------------------


def unknown_method(msg: Any, out: Any, rng: Any) -> None:
    out.value = rng.poisson()


def of_floats(msg: Any, out: Any, rng: Any) -> None:
    out.value = rng.integers(0, msg.value)


def by_index(msg: Any, out: Any, rng: Any) -> None:
    out.value = rng[0]


def by_field(msg: Any, out: Any, rng: Any) -> None:
    rng.seed = 3
    out.value = 1.0


def returned(msg: Any, out: Any, rng: Any) -> Any:
    out.value = 1.0
    return rng


@pytest.mark.sampled(2)
@pytest.mark.compiles
@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (unknown_method, "poisson"),
        (of_floats, r"rng.integers\(low, high\) takes two numbers of type int64, got \(int64, float64\)"),
        (by_index, "rng"),
        (by_field, "seed"),
        (returned, "returns True"),
    ],
)
async def test_a_handler_has_its_three_methods_and_no_more(
    runtime: RingKernelRuntime, handler: Any, reason: str
) -> None:
    declared = ring_kernel("rg_bad", input_type=float, output_type=float, rng=1)(handler)
    with pytest.raises(KernelCompileError, match=reason) as caught:
        await runtime.launch("k", declared)
    assert "test_rng.py" in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "seed", np.zeros(2)])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"'rg_seed': rng is .*; it must be an integer from 0 to 2\*\*64 - 1"):
        ring_kernel("rg_seed", input_type=float, rng=seed)(lambda msg, rng: None)
    with pytest.raises(ConfigurationError, match="Rng: seed is"):
        rk.Rng(seed)


def test_the_default_of_a_last_parameter_called_rng_is_the_seed() -> None:
    def full(msg: float, out: int, state=np.zeros(1), params=Noise(1.0), rng=7) -> None: ...  # type: ignore[no-untyped-def]

    def sink(msg: float, rng=7) -> None: ...  # type: ignore[no-untyped-def]

    for func in (full, sink):
        found: Any = find_declaration("k", func)
        assert (found.rng, found.state is None, found.params is None) == (7, func is sink, func is sink)
        assert (found.output_type is None) == (func is sink)


def test_a_coroutine_has_none() -> None:
    async def forever(ctx: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="keeps its own state, parameters, random numbers"):
        ring_kernel("rg_coroutine", rng=1)(forever)


async def test_an_edit_goes_on_with_the_numbers(runtime: RingKernelRuntime) -> None:
    def cell(expression: str, signature: str = "msg: float, out: float, rng=3") -> Any:
        scope: dict[str, Any] = {"rk": rk, "__name__": "__main__"}
        exec(f'@rk.ring_kernel("rg_edited")\ndef edited({signature}):\n    out.value = {expression}\n', scope)
        return scope["edited"]

    rng = rk.Rng(3)
    await start(runtime, "rg_edited", cell("rng.random()"))
    assert await runtime.call("rg_edited", 0) == rng.random()
    cell("-rng.random()")
    assert await runtime.call("rg_edited", 0) == -rng.random()
    cell("1.0", "msg: float, out: float")
    with pytest.raises(KernelStateError, match="its rng was a seed, and is None now"):
        await runtime.replace("rg_edited")


async def test_all_keys_draw_from_the_same(runtime: RingKernelRuntime) -> None:
    keyed = np.dtype([("key", "i8"), ("value", "f8")])

    @ring_kernel("rg_keyed", input_type=keyed, output_type=float, state=np.ones(1), key="key", params=Noise(2.0), rng=3)
    def handler(msg: Any, out: Any, state: Any, params: Any, rng: Any) -> None:
        state[0] += msg.value * params.size
        out.value = state[0] + rng.random()

    messages = np.array([(i % 7, i) for i in range(1_000)], keyed)
    await start(runtime, "k", handler)
    got = await runtime.map("k", messages)
    assert np.array_equal(got, testing.in_python(handler, messages).outputs)
    rng, sums = rk.Rng(3), np.ones(7)
    for message, output in zip(messages, got, strict=True):
        sums[message["key"]] += 2 * message["value"]
        assert output == sums[message["key"]] + rng.random()


async def test_a_timer_draws_from_the_same(runtime: RingKernelRuntime) -> None:
    tick = np.dtype([("time", "i8"), ("value", "f8")])

    @ring_kernel("rg_timed", input_type=tick, output_type=tick, order_by="time", params=Noise(2.0), rng=3)
    def handler(msg: Any, out: Any, params: Any, rng: Any) -> None:
        out.time, out.value = msg.time, params.size * rng.random()

    @rk.on_timer("rg_timed", every=10)
    def timer(time: Any, out: Any, params: Any, rng: Any) -> None:
        out.time, out.value = time, -params.size * rng.random()

    await start(runtime, "rg_timed", handler)
    await runtime.send_batch("rg_timed", np.array([(1, 0), (12, 0), (13, 0), (31, 0)], tick))
    got = np.array([tuple(await within(runtime.receive("rg_timed"))) for _ in range(7)], tick)
    rng = rk.Rng(3)
    assert got["time"].tolist() == [1, 10, 12, 13, 20, 30, 31]
    assert got["value"].tolist() == [sign * 2 * rng.random() for sign in (1, -1, 1, 1, -1, -1, 1)]


@pytest.mark.compiles
def test_a_span_from_the_cache_draws_the_same(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from ringkernel.codegen.span_cache import find_span
    from ringkernel.codegen.span_types import Plan, SpanTypes

    monkeypatch.setenv("RINGKERNEL_CACHE_DIR", str(tmp_path))
    plan = Plan.of(draw, SpanTypes(BOUNDS, DRAWN, None, rng=True))
    compiled, cached = find_span(plan), find_span(plan)
    assert (compiled.library is None, cached.library is None) == (False, True)
    messages = np.zeros(20_000, BOUNDS)
    messages["high"] = 6
    assert called(cached, 8, messages).tobytes() == called(compiled, 8, messages).tobytes()
