"""A real runtime beside a plain model of it: any sequence of commands and messages, the ledger checked after each.

The model knows the table of transitions, the list of what was sent, and what a kernel makes of a message. It does not
know when a kernel gets to run: after each step the machine waits until every active kernel has either handled all its
messages or has no room for an output.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from helpers import check_books, eventually, turns, within
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from inside import use_devices
from thread_device import ThreadDevice

from ringkernel import (
    TRANSITIONS,
    BatchTimeoutError,
    Command,
    KernelContext,
    KernelExistsError,
    KernelFailedError,
    KernelState,
    KernelStateError,
    KernelStatistics,
    QueueEmptyError,
    QueueFullError,
    RingKernelRuntime,
    ring_kernel,
)

T = TypeVar("T")

COMPILED = ("cpu", "grid")
KERNELS = ("machine_objects", "records", *COMPILED)
CAPACITY = 4
POISON = -1
ALIVE = (KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED)
COMMANDS = (Command.LAUNCH, Command.ACTIVATE, Command.DEACTIVATE, Command.REACTIVATE, Command.TERMINATE)


def outputs_of(inputs: list[int]) -> list[int]:
    """What each kernel here makes of its inputs: drops multiples of three, adds one to the others."""
    return [n + 1 for n in inputs if n % 3]


def declare_kernels() -> None:
    async def body(ctx: KernelContext[int, int]) -> None:
        async for n in ctx:
            if n == POISON:
                raise ValueError("poison")
            if n % 3:
                await ctx.send(n + 1)

    @ring_kernel("machine_objects", queue_size=CAPACITY)
    async def objects(ctx: KernelContext[int, int]) -> None:
        await body(ctx)

    @ring_kernel("records", input_type=int, output_type=int, queue_size=CAPACITY)
    async def records(ctx: KernelContext[int, int]) -> None:
        await body(ctx)

    @ring_kernel("cpu", input_type=int, output_type=int, queue_size=CAPACITY)
    @ring_kernel("grid", input_type=int, output_type=int, queue_size=CAPACITY, device="cuda:0")
    def compiled(msg: Any, out: Any) -> bool:
        if msg.value == -1:
            raise ValueError("poison")
        out.value = msg.value + 1
        return msg.value % 3 != 0  # type: ignore[no-any-return]


@dataclass
class Model:
    """What is known of one kernel."""

    state: KernelState = KernelState.CREATED
    sent: list[int] = field(default_factory=list)
    got: list[int] = field(default_factory=list)
    taken_at_pause: int | None = None


class LifecycleMachine(RuleBasedStateMachine):
    """One kernel at a time, so that every step counts."""

    kernel: str

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[dict[str, Any]] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        declare_kernels()
        self.model = Model()
        self.runtime = RingKernelRuntime(workers=1)
        self.run(self.runtime.__aenter__())

    def run(self, coroutine: Awaitable[T]) -> T:
        result: T = self.loop.run_until_complete(within(coroutine))
        return result

    def call(self, function: Callable[..., T], *args: Any) -> T:
        async def inside() -> T:
            return function(*args)

        return self.run(inside())

    @property
    def is_launched(self) -> bool:
        return self.model.state is not KernelState.CREATED

    @property
    def counts(self) -> KernelStatistics:
        return self.runtime.statistics(self.kernel)

    @initialize(kernel=st.sampled_from(KERNELS))
    def choose(self, kernel: str) -> None:
        self.kernel = kernel

    # --- commands ------------------------------------------------------------------------------------------------

    @rule(command=st.sampled_from(COMMANDS))
    def command(self, command: Command) -> None:
        model = self.model
        target = TRANSITIONS.get((model.state, command))
        method = getattr(self.runtime, command.value)
        if target is None:
            alive = command is Command.LAUNCH and model.state in ALIVE
            with pytest.raises(KernelExistsError if alive else KernelStateError, match=repr(self.kernel)):
                self.run(method(self.kernel))
            return
        self.run(method(self.kernel))
        if command in (Command.LAUNCH, Command.DEACTIVATE):
            model.taken_at_pause = self.taken()
        elif target is KernelState.ACTIVE or model.state is KernelState.ACTIVE:
            model.taken_at_pause = None  # also at its end, when it may take what was queued
        model.state = KernelState.TERMINATED if target is KernelState.TERMINATING else target

    @rule(times=st.integers(1, 4))
    def go_on(self, times: int) -> None:
        """The longest way through the table, of which random commands seldom go far."""
        onward = {
            KernelState.CREATED: Command.LAUNCH,
            KernelState.LAUNCHED: Command.ACTIVATE,
            KernelState.ACTIVE: Command.DEACTIVATE,
            KernelState.DEACTIVATED: Command.REACTIVATE,
        }
        for _ in range(times):
            if self.model.state in onward:
                self.command(onward[self.model.state])
                self.settle()

    @rule()
    def remove(self) -> None:
        if self.model.state is not KernelState.TERMINATED:
            with pytest.raises(KernelStateError, match=self.model.state.name):
                self.call(self.runtime.remove, self.kernel)
            return
        self.call(self.runtime.remove, self.kernel)
        self.model = Model()

    @rule()
    def start_over(self) -> None:
        if self.model.state in ALIVE:
            self.command(Command.TERMINATE)
            self.nothing_is_lost()
        if self.model.state is KernelState.TERMINATED:
            self.remove()
        self.command(Command.LAUNCH)

    # --- messages ------------------------------------------------------------------------------------------------

    @rule(number=st.one_of(st.integers(0, 20), st.just(POISON)))
    def send(self, number: int) -> None:
        if self.model.state not in ALIVE:
            with pytest.raises(KernelStateError):
                self.call(self.runtime.send_nowait, self.kernel, number)
            return
        is_full = self.counts.input_depth == CAPACITY
        try:
            self.call(self.runtime.send_nowait, self.kernel, number)
        except QueueFullError:
            assert is_full
        else:
            assert not is_full
            self.model.sent.append(number)

    @rule(batch=st.lists(st.integers(0, 20), min_size=1, max_size=3 * CAPACITY))
    def send_batch(self, batch: list[int]) -> None:
        if self.model.state not in ALIVE:
            with pytest.raises(KernelStateError):
                self.run(self.runtime.send_batch(self.kernel, batch))
            return
        try:
            self.run(self.runtime.send_batch(self.kernel, batch, timeout=0.005))
        except BatchTimeoutError as error:
            assert error.sent < len(batch)
            batch = batch[: error.sent]
        self.model.sent.extend(batch)

    def receive_one(self) -> bool:
        depth = self.counts.output_depth
        try:
            value = self.call(self.runtime.receive_nowait, self.kernel)
        except QueueEmptyError:
            assert depth == 0
            assert self.model.state in ALIVE
            return False
        except KernelStateError as error:
            assert depth == 0
            if self.is_launched:
                assert self.model.state is KernelState.TERMINATED
                failed = self.runtime.kernels[self.kernel].error is not None
                assert isinstance(error, KernelFailedError) == failed
            return False
        self.model.got.append(value)
        return True

    @rule()
    def receive(self) -> None:
        """Take one, or so many that a compiled kernel that waits for room is woken: once per half ring."""
        most = CAPACITY // 2 if self.kernel in COMPILED else CAPACITY
        while self.is_launched and self.receive_one() and self.counts.output_depth > most:
            pass

    @rule()
    def receive_everything(self) -> None:
        while self.is_launched and self.counts.output_depth:
            self.receive()
            self.settle()

    # --- what must hold ------------------------------------------------------------------------------------------

    def taken(self) -> int:
        return self.counts.accepted - self.counts.unprocessed

    def settle(self) -> None:
        """Wait until an active kernel can do nothing more, or has failed."""
        self.run(turns())
        model = self.model
        if model.state is not KernelState.ACTIVE:
            return

        def is_at_rest() -> bool:
            counts = self.counts
            if counts.state is not KernelState.ACTIVE:
                return True
            poisoned = POISON in model.sent[: counts.accepted - counts.unprocessed]  # and about to fail
            return not poisoned and (counts.processed == len(model.sent) or counts.output_depth == CAPACITY)

        self.run(eventually(is_at_rest))
        if self.runtime.get_state(self.kernel) is KernelState.TERMINATED:
            assert POISON in model.sent
            model.state = KernelState.TERMINATED  # the automatic row

    @invariant()
    def the_state_is_that_of_the_table(self) -> None:
        self.settle()
        assert self.runtime.get_state(self.kernel) is self.model.state
        assert self.errors == []

    @invariant()
    def nothing_is_lost(self) -> None:
        if not self.is_launched:
            return
        self.settle()
        model = self.model
        counts = check_books(self.runtime, self.kernel)
        assert counts.accepted == len(model.sent)
        assert counts.received == len(model.got)
        assert model.got == outputs_of(model.sent)[: len(model.got)]
        assert counts.emitted == len(outputs_of(model.sent[: counts.processed])), counts
        assert counts.input_depth <= CAPACITY
        assert counts.output_depth <= CAPACITY
        if model.taken_at_pause is not None:  # and it has not been active since
            assert self.taken() == model.taken_at_pause
        if model.state is KernelState.TERMINATED:
            self.check_the_end(counts)

    def check_the_end(self, counts: KernelStatistics) -> None:
        model = self.model
        assert counts.in_flight == 0
        assert list(self.runtime.unprocessed(self.kernel)) == model.sent[counts.processed + counts.failed :]
        error = self.runtime.kernels[self.kernel].error
        if error is not None:
            assert isinstance(error, ValueError)
            assert (counts.failed, model.sent[counts.processed]) == (1, POISON)
        elif counts.failed:  # it was in the kernel's hand when a drain that had no room ended
            assert self.kernel not in COMPILED
            assert counts.failed == 1
            assert counts.emitted >= CAPACITY

    def teardown(self) -> None:
        self.run(self.runtime.close())
        assert {kernel.state for kernel in self.runtime.kernels.values()} <= {KernelState.TERMINATED}
        self.run(asyncio.sleep(0))
        assert asyncio.all_tasks(self.loop) == set()
        self.loop.close()
        assert self.errors == []


async def compile_all() -> None:
    """What a first launch compiles may take longer than a step."""
    declare_kernels()
    async with RingKernelRuntime(workers=1) as runtime:
        for kernel_id in KERNELS:
            await runtime.launch(kernel_id)


@pytest.mark.unguarded  # grids want memory that grows by the chunk
def test_the_lifecycle_follows_its_model(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, random_cases: Callable[[int], int]
) -> None:
    device = ThreadDevice()
    use_devices(monkeypatch, device)
    caplog.set_level(logging.CRITICAL, "ringkernel")  # kernels are poisoned on purpose
    asyncio.run(compile_all())
    run_state_machine_as_test(
        LifecycleMachine,
        settings=settings(
            max_examples=random_cases(100),
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
            database=None,
            report_multiple_bugs=False,
        ),
    )
    device.join()
