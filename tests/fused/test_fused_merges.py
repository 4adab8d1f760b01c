"""A kernel that goes by time as the first of those that run as one: nothing tells them from kernels one by one."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import pytest
from helpers import check_books, eventually, live_state, within
from inside import chain_of, chains_that_can_be_one, fuse, set_answer_timeout, turns_of_workers
from kinds import usleep

import ringkernel as rk
from ringkernel import KernelState, KernelStateError, RingKernelRuntime
from ringkernel.codegen import span_cache
from ringkernel.declaration.decorator import find_declaration
from ringkernel.devices.compiled.compiling import chain_of as plan_of_chain
from ringkernel.devices.cpu.executor import WorkerExecutor
from ringkernel.ring.turns.loop_turns import FEW

pytestmark = [pytest.mark.workers, pytest.mark.compiles, pytest.mark.timeout(120)]

Late = Literal["fail", "drop", "take"]
ITEM = np.dtype([("time", "i8"), ("key", "S4"), ("input", "i4"), ("value", "i8")], align=True)
WIDE = np.dtype([("time", "i8"), ("value", "i8"), ("x", "f8", (60,))], align=True)
COUNT = np.dtype([("seen", "i8"), ("open", "i8")])
EVERY = 7
POISON_FIRST, POISON_NEXT, POISON_TIMER, POISON_BY_TIMER = 901, 902, 903, 904
"""Values of messages on which the first kernel fails, and the second; and after which the first one's timer fails, or
emits what the second fails on."""


def declare(
    name: str, n_inputs: int, *, timer: bool, keyed: bool = False, wide: bool = False, late: Late = "fail"
) -> Any:
    """A kernel of the name that drops some of its messages, and is told apart by what its state has seen."""
    out_type = WIDE if wide else ITEM
    options: dict[str, Any] = {"key": "key", "keys": 8} if keyed else {}
    state = np.zeros((), COUNT) if keyed else np.zeros(2, np.int64)

    if keyed:

        def handle(msg, out, state):  # type: ignore[no-untyped-def]
            state.seen += msg.value
            if msg.value == 901:
                raise ValueError("the first")
            if msg.value == 903 or msg.value == 904:
                state.open = msg.value
            out.time, out.value = msg.time, msg.value if msg.value == 902 else msg.value + 1000 * (state.seen % 10)
            return msg.value % 4 != 0

        def tick(time, out, state):  # type: ignore[no-untyped-def]
            if state.open == 903:
                raise ValueError("the timer")
            out.time, out.value = time, -state.seen if state.open == 0 else state.open
            return state.seen % 3 != 0
    else:

        def handle(msg, out, state):  # type: ignore[no-untyped-def]
            state[0] += msg.value
            if msg.value == 901:
                raise ValueError("the first")
            if msg.value == 903 or msg.value == 904:
                state[1] = msg.value
            out.time, out.value = msg.time, msg.value if msg.value == 902 else msg.value + 1000 * (state[0] % 10)
            return msg.value % 4 != 0

        def tick(time, out, state):  # type: ignore[no-untyped-def]
            if state[1] == 903:
                raise ValueError("the timer")
            out.time, out.value = time, -state[0] if state[1] == 0 else state[1]
            return state[0] % 3 != 0

    kernel = rk.ring_kernel(
        name, input_type=ITEM, output_type=out_type, state=state, order_by="time", late=late, **options
    )(handle)
    for number in range(1, n_inputs):
        rk.on_input(name, f"input {number}", ITEM)(handle)
    if timer:
        rk.on_timer(name, every=EVERY)(tick)
    return kernel


def declare_next(name: str, *, wide: bool = False, sink: bool = False) -> Any:
    """What comes after it."""
    if sink:

        @rk.ring_kernel(name, input_type=ITEM, state=np.zeros(1, np.int64))
        def adds(msg, state):  # type: ignore[no-untyped-def]
            if msg.value in (902, 904):
                raise KeyError("the next")
            state[0] = 3 * state[0] + msg.value

        return adds

    @rk.ring_kernel(name, input_type=WIDE if wide else ITEM, output_type=np.int64, state=np.zeros(1, np.int64))
    def follows(msg, out, state):  # type: ignore[no-untyped-def]
        if msg.value in (902, 904):
            raise KeyError("the next")
        state[0] += 1
        out.value = msg.value * 100 + state[0] % 100
        return msg.value % 5 != 0

    return follows


def declare_between(name: str) -> Any:
    """What may come in between."""

    @rk.ring_kernel(name, input_type=ITEM, output_type=ITEM, state=np.zeros(1, np.int64))
    def between(msg, out, state):  # type: ignore[no-untyped-def]
        state[0] += msg.value
        out.time, out.value = msg.time, msg.value
        return msg.value % 13 != 0

    return between


@dataclass(frozen=True)
class Case:
    """A chain of two or three."""

    n_inputs: int = 2
    timer: bool = True
    keyed: bool = False
    wide: bool = False
    sink: bool = False
    long: bool = False
    late: Late = "fail"
    queue_size: int = 64

    @property
    def name(self) -> str:
        options = "".join(f" {name}" for name in ("timer", "keyed", "wide", "sink", "long") if getattr(self, name))
        return f"{self.n_inputs}{options} {self.late}"

    def kernels(self) -> list[Any]:
        first = declare(
            f"merge {self.name}",
            self.n_inputs,
            timer=self.timer,
            keyed=self.keyed,
            wide=self.wide,
            late=self.late,
        )
        between = [declare_between(f"between {self.name}")] if self.long else []
        return [first, *between, declare_next(f"next {self.name}", wide=self.wide, sink=self.sink)]


CASES = [
    Case(n_inputs=1, timer=False),
    Case(timer=False),
    Case(),
    Case(n_inputs=3, queue_size=8),
    Case(n_inputs=1, queue_size=2),
    Case(keyed=True),
    Case(wide=True, n_inputs=3, timer=False),
    Case(wide=True),
    Case(sink=True),
    Case(sink=True, timer=False, n_inputs=3),
    Case(long=True),
    Case(late="drop"),
    Case(late="take", keyed=True, n_inputs=3),
]
KERNELS = {case: case.kernels() for case in CASES}


def given(case: Case, seed: int, count: int = 300) -> list[tuple[int, np.ndarray[Any, Any]]]:
    """Pieces of messages, each for an input. With `late` some of them come when their time has passed, seen from the
    other inputs, whatever runs when: those are sent after an `advance`."""
    chosen = random.Random(seed)
    pieces, times = [], [0] * case.n_inputs
    for _ in range(count // 10):
        number = chosen.randrange(case.n_inputs)
        piece = np.zeros(chosen.randrange(1, 12), ITEM)
        for one in piece:
            times[number] += chosen.choice([0, 0, 1, 2, 3, 9])
            one["time"], one["input"], one["value"] = times[number], number, chosen.randrange(1, 900)
            one["key"] = chosen.choice([b"a", b"b", b"c"])
        pieces.append((number, piece))
    return pieces


def end_of(pieces: Any) -> int:
    """The last time of all."""
    return max(int(piece["time"][-1]) for _, piece in pieces)


def input_name(number: int) -> str:
    return f"input {number}" if number else ""


class Play:
    """A chain that runs as one, or does not."""

    def __init__(self, case: Case, *, fused: bool) -> None:
        self.case, self.fused, self.kernels = case, fused, KERNELS[case]
        self.ids = [f"{what} {case.name}" for what in ("merge", *["between"] * case.long, "next")]
        self.got: list[int] = []
        self.open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self.runtime = await self.open.enter_async_context(RingKernelRuntime(workers=1, fuse=False))
        for kernel in self.kernels:
            await self.runtime.launch(kernel, queue_size=self.case.queue_size)
        for source, target in itertools.pairwise(self.ids):
            self.runtime.connect(source, target)
        for kernel_id in self.ids:
            await self.runtime.activate(kernel_id)
        if self.fused:
            assert await fuse(self.runtime, *self.ids)
        self.receiving = None if self.case.sink else asyncio.ensure_future(self._receive())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.receiving is not None:
            self.receiving.cancel()
            await asyncio.wait([self.receiving])
        await self.open.aclose()

    async def _receive(self) -> None:
        async for batch in self.runtime.stream(self.ids[-1]):
            self.got += batch.tolist()

    async def give_heir(self, kernel_id: str) -> None:
        """Let another kernel take what this one emits, and keep the first hundred values."""

        @rk.ring_kernel("heir", input_type=WIDE if self.case.wide else ITEM, state=np.zeros(101, np.int64))
        def heir(msg, state):  # type: ignore[no-untyped-def]
            state[0] += 1
            if state[0] <= 100:
                state[state[0]] = msg.value

        await self.runtime.deactivate(kernel_id)
        await self.runtime.launch(heir)
        self.runtime.connect(kernel_id, "heir")
        await self.runtime.activate("heir")
        await self.runtime.reactivate(kernel_id)

    @property
    def is_fused(self) -> bool:
        return chain_of(self.runtime, self.ids[0]) == self.ids

    async def send(self, pieces: Any) -> None:
        """Each input gets its pieces in order, all inputs at the same time, and then time passes for it."""

        async def feed(number: int) -> None:
            for mine, piece in pieces:
                if mine == number:
                    await self.runtime.send_batch(self.ids[0], piece, input=input_name(number))
            await self.runtime.advance(self.ids[0], end_of(pieces) + 1, input=input_name(number))

        await within(asyncio.gather(*map(feed, range(self.case.n_inputs))), 30)

    async def advance(self, time: int) -> None:
        for number in range(self.case.n_inputs):
            await self.runtime.advance(self.ids[0], time, input=input_name(number))

    async def idle(self) -> None:
        """Until nothing more comes of what was sent: for longer where something is left that waits."""
        seen: Any = None
        still = 0
        for _ in range(500):
            counts = [self.runtime.statistics(one) for one in self.runtime.kernels]
            now = [(one.processed, one.emitted, one.unprocessed, one.output_depth) for one in counts]
            still = still + 1 if now == seen else 0
            if still >= (10 if any(one.unprocessed + one.output_depth for one in counts) else 3):
                return
            seen = now
            await asyncio.sleep(0.01)
        raise AssertionError("something comes all the time")

    async def outcome(self) -> dict[str, Any]:
        """All that can be told of them."""
        said: dict[str, Any] = {"got": self.got}
        for one in self.ids:
            counts = check_books(self.runtime, one)
            said[one] = [getattr(counts, name) for name in ("accepted", "processed", "failed", "dropped", "late")]
            if self.runtime.get_state(one) is not KernelState.TERMINATED:
                said[f"state of {one}"] = (await self.runtime.read_state(one)).tolist()
        for source, target in itertools.pairwise(self.ids):
            before, after = self.runtime.statistics(source), self.runtime.statistics(target)
            assert after.accepted == before.emitted or self.runtime.get_state(target) is KernelState.TERMINATED
            assert min(before.busy_s, after.busy_s) > 0
        return said


async def both(case: Case, play: Any) -> tuple[Any, Any]:
    """What comes of it, as one and one by one."""
    outcomes = []
    for fused in (True, False):
        async with Play(case, fused=fused) as one:
            outcomes.append(await play(one))
    return outcomes[0], outcomes[1]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_they_do_what_they_do_one_by_one(case: Case) -> None:
    async def play(one: Play) -> dict[str, Any]:
        for seed in (1, 2):
            pieces = given(case, seed)
            for _, piece in pieces:
                piece["time"] += 10_000 * seed
            end = end_of(pieces)
            await one.send(pieces)
            if case.late != "fail":
                await one.idle()
                await one.advance(end + 5)
                await one.idle()
                if case.n_inputs > 1:
                    last = max((int(piece["time"][-1]) for number, piece in pieces if number == 1), default=0)
                    await one.runtime.send(one.ids[0], (max(last, end - 3), b"a", 1, 11), input=input_name(1))
            await one.idle()
        assert one.is_fused == one.fused
        return await one.outcome()

    as_one, one_by_one = await both(case, play)
    assert as_one == one_by_one
    assert len(as_one["got"]) > 100 or case.sink


def poisoned(case: Case, value: int, number: int = 1) -> Any:
    pieces = given(case, 3, 200)
    mine = [piece for which, piece in pieces if which == number]
    mine[len(mine) // 2]["value"][0] = value
    return pieces


FAILING = [Case(timer=False), Case(), Case(keyed=True), Case(wide=True), Case(sink=True), Case(long=True)]


@pytest.mark.parametrize("case", FAILING, ids=lambda case: case.name)
@pytest.mark.parametrize("value", [POISON_FIRST, POISON_NEXT, POISON_TIMER, POISON_BY_TIMER])
@pytest.mark.parametrize("number", [0, 1])
async def test_one_that_fails_leaves_what_it_would_have_left_alone(case: Case, value: int, number: int) -> None:
    if value in (POISON_TIMER, POISON_BY_TIMER) and not case.timer:
        pytest.skip("it has no timer")
    pieces = poisoned(case, value, number)
    by_first = value in (POISON_FIRST, POISON_TIMER)

    async def play(one: Play) -> dict[str, Any]:
        failing, other = (one.ids[0], one.ids[1]) if by_first else (one.ids[-1], one.ids[-2])
        sending = asyncio.ensure_future(one.send(pieces))
        assert await within(one.runtime.wait(failing), 10) is KernelState.TERMINATED
        error = one.runtime.kernels[failing].error
        said: dict[str, Any] = {"error": repr(error), "notes": error.__notes__ if error else None}
        if by_first:
            sending.cancel()
            await asyncio.wait([sending])
            await one.idle()
            left = [one.runtime.unprocessed(failing, input=input_name(i)) for i in range(case.n_inputs)]
            failed_on = [] if value == POISON_TIMER else [value]
            taken = sum(map(len, left)) + one.runtime.statistics(failing).processed + len(failed_on)
            assert taken == one.runtime.statistics(failing).accepted
            assert one.runtime.statistics(failing).failed == len(failed_on)
        else:  # the other goes on, and what it emits is for whoever takes the place of the one that has failed
            await one.give_heir(other)
            await within(sending, 10)
            await one.idle()
            left = one.runtime.unprocessed(failing)["value"].tolist()
            said["left"] = left + (await one.runtime.read_state("heir"))[1:].tolist()[: 100 - len(left)]
            assert not chain_of(one.runtime, other)
        assert all(one.runtime.get_state(each) is KernelState.ACTIVE for each in one.ids if each != failing)
        outcome = await one.outcome()
        ended = outcome.pop(failing)
        # how much had come to it when it failed is a matter of luck
        return said | outcome | {failing: ended[1:] if by_first else [ended[1], ended[2]]}

    as_one, one_by_one = await both(case, play)
    assert as_one == one_by_one


CASES_OF_COMMANDS = [Case(), Case(n_inputs=3, queue_size=8), Case(keyed=True)]


@pytest.mark.parametrize("case", CASES_OF_COMMANDS, ids=lambda case: case.name)
async def test_commands_take_them_apart_and_lose_nothing(case: Case) -> None:
    KERNELS.setdefault(case, KERNELS.get(case) or case.kernels())
    pieces = given(case, 5, 600)

    async def play(one: Play) -> dict[str, Any]:
        async def disturb() -> None:
            for i in range(20):
                await one.runtime.deactivate(one.ids[i % 2])
                await one.runtime.reactivate(one.ids[i % 2])
                if one.fused:
                    await fuse(one.runtime, *one.ids)
                await asyncio.sleep(0.001 * (i % 3))

        await within(asyncio.gather(one.send(pieces), disturb()), 30)
        await one.idle()
        return await one.outcome()

    as_one, one_by_one = await both(case, play)
    assert as_one == one_by_one


@pytest.mark.parametrize("number", [0, 1])
async def test_an_end_drains_what_is_queued(number: int) -> None:
    case = Case()
    pieces = given(case, 6, 100)

    async def play(one: Play) -> Any:
        await one.send(pieces)
        await one.idle()
        await within(one.runtime.terminate(one.ids[number]), 5)
        assert not one.is_fused
        await one.idle()
        counts = [check_books(one.runtime, one_id) for one_id in one.ids]
        assert counts[number].unprocessed == 0
        return one.got, [(one.processed, one.emitted, one.dropped) for one in counts]

    as_one, one_by_one = await both(case, play)
    assert as_one[number:] == one_by_one[number:]


async def test_the_end_of_its_inputs_is_that_of_both() -> None:
    case = Case()
    pieces = given(case, 7)

    async def play(one: Play) -> dict[str, Any]:
        await one.send(pieces)
        for number in range(case.n_inputs):
            await one.runtime.close_input(one.ids[0], input=input_name(number))
        for one_id in one.ids:
            assert await within(one.runtime.wait(one_id), 10) is KernelState.TERMINATED
        assert one.receiving is not None
        await within(asyncio.wait([one.receiving]))
        return await one.outcome()

    as_one, one_by_one = await both(case, play)
    assert as_one == one_by_one
    assert as_one[f"merge {case.name}"][1] == sum(len(piece) for _, piece in pieces)


async def test_they_rest_when_there_is_nothing_to_do_and_see_time_pass() -> None:
    case = Case()
    async with Play(case, fused=True) as one:
        await one.send([(0, np.array([(1, b"", 0, 1)], ITEM)), (1, np.array([(2, b"", 1, 3)], ITEM))])
        for time in range(3, 2_000, EVERY):
            await one.advance(time)
        await eventually(lambda: one.runtime.statistics(one.ids[0]).emitted == 2 + 1_996 // EVERY)
        await one.advance(5_000)
        await one.idle()
        assert one.is_fused
        before = turns_of_workers(one.runtime)
        await asyncio.sleep(0.05)
        assert turns_of_workers(one.runtime) - before < 100


async def test_a_handler_that_does_not_return_takes_both_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    set_answer_timeout(monkeypatch, 0.2)
    gate = np.dtype([("open", "i8"), ("entered", "i8")])

    @rk.ring_kernel("wedged next", input_type=ITEM, output_type=np.int64, state=np.zeros((), gate))
    def wedged(msg, out, state):  # type: ignore[no-untyped-def]
        state.entered += 1
        while msg.value < 0 and state.open == 0:
            usleep(100)
        out.value = msg.value

    case = Case(timer=False)
    first, ids = KERNELS[case][0], [f"merge {case.name}", "wedged next"]
    async with RingKernelRuntime(workers=1, fuse=False) as runtime:
        for kernel in (first, wedged):
            await runtime.launch(kernel, queue_size=2048)
        runtime.connect(*ids)
        for kernel_id in ids:
            await runtime.activate(kernel_id)
        gate_of = live_state(runtime, "wedged next")
        assert not await fuse(runtime, *ids)
        monkeypatch.setattr(WorkerExecutor, "is_bounded", True)
        assert await fuse(runtime, *ids)
        messages = np.zeros(2 * FEW, ITEM)
        messages["time"], messages["value"] = np.arange(len(messages)), -5
        for number in range(2):
            await runtime.send_batch(first, messages, input=input_name(number))
        await eventually(lambda: runtime.statistics(ids[0]).in_flight > 0)
        with pytest.raises(KernelStateError):
            await within(runtime.deactivate("wedged next"), 3)
        await within(runtime.terminate("wedged next", timeout=0.1), 3)
        assert all(runtime.get_state(one) is KernelState.TERMINATED for one in ids)
        counts = runtime.statistics(ids[0])
        assert counts.accepted == 2 * len(messages) == counts.in_flight + counts.processed + counts.unprocessed
        gate_of["open"] = 1


async def test_what_a_further_one_has_failed_on_has_been_taken_by_the_first() -> None:
    case = Case(timer=False)

    async def play(one: Play) -> Any:
        first, following = one.ids
        await one.runtime.send(first, (9, b"", 1, 1), input=input_name(1))
        await one.runtime.send(first, (5, b"", 0, POISON_NEXT))
        await within(one.runtime.wait(following), 5)
        await eventually(lambda: one.runtime.statistics(first).processed == 1)
        await one.give_heir(first)
        await one.runtime.send(first, (4, b"", 0, 1))  # before what its input has come to
        await within(one.runtime.wait(first), 5)
        assert one.runtime.unprocessed(first, input=input_name(1))["time"].tolist() == [9]
        return str(one.runtime.kernels[first].error)

    as_one, one_by_one = await both(case, play)
    assert as_one == one_by_one
    assert "never go back" in as_one


async def test_only_the_first_may_go_by_time() -> None:
    first, last = KERNELS[Case()]
    second = declare("second by time", 1, timer=False)

    @rk.ring_kernel("unordered inputs", input_type=ITEM, output_type=ITEM)
    def unordered(msg, out):  # type: ignore[no-untyped-def]
        out.time = msg.time

    @rk.on_input("unordered inputs", "other", ITEM)
    def other(msg, out):  # type: ignore[no-untyped-def]
        out.time = msg.time

    async with RingKernelRuntime(workers=1) as runtime:
        for kernel in (unordered, second, first, last):
            await runtime.launch(kernel)
        ids = list(runtime.kernels)
        for source, target in itertools.pairwise(ids):
            runtime.connect(source, target)
        for kernel_id in ids:
            await runtime.activate(kernel_id)
        assert chains_that_can_be_one(runtime) == [ids[2:]]


def test_the_span_is_cached_by_all_that_it_is_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("RINGKERNEL_CACHE_DIR", str(tmp_path))
    declare_next("cached next")
    declare("cached", 2, timer=True)
    declare("cached, and drops", 2, timer=True, late="drop")
    declare("cached without a timer", 2, timer=False)
    declare("cached with three", 3, timer=True)
    last = find_declaration("cached next", None)
    for name in ("cached", "cached, and drops", "cached without a timer", "cached with three"):
        plan = plan_of_chain([find_declaration(name, None), last])
        assert span_cache.find_span(plan).library is not None
        assert span_cache.find_span(plan).library is None
