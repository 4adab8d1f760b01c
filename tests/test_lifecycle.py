"""The table of transitions through the runtime: what is legal happens, what is not changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time

import pytest
from helpers import check_books, drain, eventually, turns, within

from ringkernel import (
    TRANSITIONS,
    Command,
    KernelContext,
    KernelExistsError,
    KernelFailedError,
    KernelNotFoundError,
    KernelState,
    KernelStateError,
    RingKernelError,
    RingKernelRuntime,
    managed_kernel,
    ring_kernel,
)
from ringkernel.lifecycle import allowed_commands, next_state

COMMANDS = [Command.LAUNCH, Command.ACTIVATE, Command.DEACTIVATE, Command.REACTIVATE, Command.TERMINATE]
LEGAL = sorted(((s, c) for s, c in TRANSITIONS if c in COMMANDS), key=str)
ILLEGAL = sorted(((s, c) for s in KernelState for c in COMMANDS if (s, c) not in TRANSITIONS), key=str)


def ids(value):
    return value.name


# --- kernels that can be brought into every state -----------------------------------------------------------------


class CoroutineSubject:
    """A coroutine kernel `subject` that adds one, and stays in TERMINATING until it is let go."""

    def __init__(self, runtime: RingKernelRuntime) -> None:
        self.runtime = runtime
        self.let_go = asyncio.Event()
        self.hold = False

        @ring_kernel("subject")
        async def subject(ctx: KernelContext):
            async for message in ctx:
                await ctx.send(message + 1)
            if self.hold:
                await self.let_go.wait()

    async def bring_into(self, state: KernelState) -> None:
        runtime = self.runtime
        if state is KernelState.CREATED:
            return
        await runtime.launch("subject")
        if state is KernelState.LAUNCHED:
            return
        await runtime.activate("subject")
        if state is KernelState.ACTIVE:
            return
        if state is KernelState.TERMINATING:
            await self.linger()
        elif state is KernelState.DEACTIVATED:
            await runtime.deactivate("subject")
        else:
            await runtime.terminate("subject")

    async def linger(self) -> None:
        await turns()  # its body has begun, so that there is something to hold
        self.hold = True
        self.ending = asyncio.create_task(self.runtime.terminate("subject"))
        await eventually(lambda: self.runtime.get_state("subject") is KernelState.TERMINATING)

    async def finish(self) -> None:
        self.let_go.set()
        if hasattr(self, "ending"):
            await within(self.ending)


class CompiledSubject(CoroutineSubject):
    """A compiled kernel `subject` that adds one, and with a negative message takes a while."""

    def __init__(self, runtime: RingKernelRuntime) -> None:
        self.runtime = runtime
        self.let_go = asyncio.Event()

        @ring_kernel("subject", input_type=int, output_type=int)
        def subject(msg, out):
            out.value = msg.value + 1
            x = 0.0
            for _ in range(-msg.value * 1_000_000):
                x = x * 0.999 + 1e-3
            if x > 2.0:
                out.value = 0

    async def linger(self) -> None:
        await self.runtime.send("subject", -100)  # some hundred million dependent operations: 0.4 s
        await eventually(lambda: self.runtime.statistics("subject").in_flight)
        self.ending = asyncio.create_task(self.runtime.terminate("subject"))
        await eventually(lambda: self.runtime.get_state("subject") is KernelState.TERMINATING)


@pytest.fixture(params=[CoroutineSubject, CompiledSubject], ids=["coroutine", "compiled"])
async def subject(request, runtime):
    subject = request.param(runtime)
    yield subject
    await subject.finish()


async def give(runtime: RingKernelRuntime, command: Command) -> None:
    await getattr(runtime, command.value)("subject")


# --- the table ----------------------------------------------------------------------------------------------------


def test_the_table_has_the_printed_rows_and_the_automatic_ones():
    s, c = KernelState, Command
    assert dict(TRANSITIONS) == {
        (s.CREATED, c.LAUNCH): s.LAUNCHED,
        (s.LAUNCHED, c.ACTIVATE): s.ACTIVE,
        (s.ACTIVE, c.DEACTIVATE): s.DEACTIVATED,
        (s.DEACTIVATED, c.REACTIVATE): s.ACTIVE,
        (s.ACTIVE, c.TERMINATE): s.TERMINATING,
        (s.DEACTIVATED, c.TERMINATE): s.TERMINATING,
        (s.LAUNCHED, c.TERMINATE): s.TERMINATING,
        **{
            (state, command): s.TERMINATED
            for state in (s.ACTIVE, s.DEACTIVATED, s.TERMINATING)
            for command in (c.FINISH, c.FAIL)
        },
    }


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TRANSITIONS[KernelState.CREATED, Command.ACTIVATE] = KernelState.ACTIVE


@pytest.mark.parametrize(("state", "command"), ILLEGAL, ids=ids)
def test_the_refusal_names_kernel_state_command_and_what_is_allowed(state, command):
    with pytest.raises(KernelStateError) as caught:
        next_state("pump", state, command)
    text = str(caught.value)
    assert "'pump'" in text
    assert state.name in text
    assert command.value in text
    assert all(f"{name}()" in text for name in allowed_commands(state) if state is not KernelState.TERMINATING)


@pytest.mark.parametrize(("state", "command"), LEGAL, ids=ids)
async def test_a_legal_command_leads_where_the_table_says(subject, runtime, state, command):
    await subject.bring_into(state)
    assert runtime.get_state("subject") is state
    await give(runtime, command)
    target = TRANSITIONS[state, command]
    if target is KernelState.TERMINATING:
        target = KernelState.TERMINATED  # automatic
    assert runtime.get_state("subject") is target
    assert runtime.kernels["subject"].state is target
    assert runtime.kernels["subject"].error is None


@pytest.mark.parametrize("state", KernelState, ids=ids)
async def test_illegal_commands_say_why_and_change_nothing(subject, runtime, state):
    await subject.bring_into(state)
    launched = state is not KernelState.CREATED
    before = runtime.statistics("subject") if launched else None
    for command in (c for s, c in ILLEGAL if s is state):
        alive = state in (KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED, KernelState.TERMINATING)
        expected = KernelExistsError if command is Command.LAUNCH and alive else KernelStateError
        with pytest.raises(expected) as caught:
            await give(runtime, command)
        text = str(caught.value)
        assert "'subject'" in text
        assert state.name in text
        if expected is KernelStateError and command is not Command.LAUNCH:
            assert re.search(rf"\b{command.value}\b", text), f"{text!r} does not say that {command.value} was asked"
            for name in allowed_commands(state) if state is not KernelState.TERMINATING else ():
                assert f"{name}()" in text
        assert runtime.get_state("subject") is state
    if launched:
        after = runtime.statistics("subject")
        assert (after.accepted, after.state) == (before.accepted, before.state)
    else:
        assert "subject" not in runtime.kernels


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED], ids=ids)
async def test_after_illegal_commands_the_kernel_still_works(subject, runtime, state):
    await subject.bring_into(state)
    for command in (c for s, c in ILLEGAL if s is state):
        with pytest.raises(RingKernelError):
            await give(runtime, command)
    await runtime.send("subject", 1)
    if state is KernelState.LAUNCHED:
        await runtime.activate("subject")
    elif state is KernelState.DEACTIVATED:
        await runtime.reactivate("subject")
    assert await within(runtime.receive("subject")) == 2


async def test_a_whole_life_with_many_pauses(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    for i in range(50):
        await runtime.send("subject", i)
        await runtime.deactivate("subject")
        await runtime.send("subject", 1000 + i)
        await runtime.reactivate("subject")
    outputs = [await within(runtime.receive("subject")) for _ in range(100)]
    assert outputs == [n + 1 for i in range(50) for n in (i, 1000 + i)]
    await runtime.terminate("subject")
    assert check_books(runtime, "subject").processed == 100


# --- which messages are allowed when ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED], ids=ids)
async def test_send_is_allowed(subject, runtime, state):
    await subject.bring_into(state)
    await runtime.send("subject", 1)
    runtime.send_nowait("subject", 2)
    await runtime.send_batch("subject", [3, 4])
    assert check_books(runtime, "subject").accepted == 4


@pytest.mark.parametrize("state", [KernelState.CREATED, KernelState.TERMINATING, KernelState.TERMINATED], ids=ids)
async def test_send_is_refused(subject, runtime, state):
    await subject.bring_into(state)
    with pytest.raises(KernelStateError, match=state.name):
        await runtime.send("subject", 1)
    with pytest.raises(KernelStateError, match=state.name):
        runtime.send_nowait("subject", 1)
    with pytest.raises(KernelStateError, match=state.name):
        await runtime.send_batch("subject", [1])
    assert runtime.get_state("subject") is state


async def test_an_empty_batch_is_refused_like_any_other(subject, runtime):
    await subject.bring_into(KernelState.TERMINATED)
    with pytest.raises(KernelStateError, match="TERMINATED"):
        await runtime.send_batch("subject", [])


async def test_nothing_is_taken_before_the_activation(subject, runtime):
    await subject.bring_into(KernelState.LAUNCHED)
    await runtime.send("subject", 1)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive("subject", timeout=0.02)
    assert runtime.statistics("subject").input_depth == 1
    await runtime.activate("subject")
    assert await within(runtime.receive("subject")) == 2


async def test_receive_works_in_every_state_while_there_are_outputs(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send_batch("subject", [1, 2, 3, 4])
    await eventually(lambda: runtime.statistics("subject").emitted == 4)
    assert await runtime.receive("subject") == 2
    await runtime.deactivate("subject")
    assert await runtime.receive("subject") == 3
    await runtime.terminate("subject")
    assert await runtime.receive("subject") == 4
    assert runtime.receive_nowait("subject") == 5
    with pytest.raises(KernelStateError, match="'subject' has TERMINATED"):
        await runtime.receive("subject")


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED], ids=ids)
async def test_a_blocked_receive_is_woken_when_the_kernel_ends(subject, runtime, state):
    await subject.bring_into(state)
    waiters = [asyncio.create_task(runtime.receive("subject")) for _ in range(3)]
    await turns()
    assert not any(waiter.done() for waiter in waiters)
    await runtime.terminate("subject")
    for waiter in waiters:
        with pytest.raises(KernelStateError, match="TERMINATED"):
            await within(waiter, 1.0)


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.DEACTIVATED], ids=ids)
async def test_a_blocked_send_is_woken_when_the_kernel_ends(subject, runtime, state):
    await subject.bring_into(KernelState.CREATED)
    await runtime.launch("subject", queue_size=1)
    if state is KernelState.DEACTIVATED:
        await runtime.activate("subject")
        await runtime.deactivate("subject")
    await runtime.send("subject", 1)
    senders = [asyncio.create_task(runtime.send("subject", 2 + i)) for i in range(3)]
    await turns()
    assert not any(sender.done() for sender in senders)
    await runtime.terminate("subject")
    for sender in senders:
        with pytest.raises(KernelStateError, match="TERMINAT"):
            await within(sender, 1.0)
    assert list(runtime.unprocessed("subject")) == [1]


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.DEACTIVATED], ids=ids)
async def test_terminate_takes_nothing_more_from_a_kernel_that_is_not_active(subject, runtime, state):
    await subject.bring_into(state)
    await runtime.send_batch("subject", [1, 2, 3])
    await runtime.terminate("subject")
    assert list(runtime.unprocessed("subject")) == [1, 2, 3]
    counts = check_books(runtime, "subject")
    assert (counts.accepted, counts.processed, counts.unprocessed) == (3, 0, 3)
    assert drain(runtime, "subject") == []


async def test_terminate_from_active_processes_what_was_queued(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send_batch("subject", list(range(200)))
    await runtime.terminate("subject")
    assert drain(runtime, "subject") == list(range(1, 201))
    assert list(runtime.unprocessed("subject")) == []
    assert check_books(runtime, "subject").processed == 200


async def test_what_a_source_emits_while_its_target_drains_is_not_lost(runtime):
    subject = CompiledSubject(runtime)
    gate = asyncio.Event()

    @ring_kernel("source", output_type=int)
    async def source(ctx):
        await gate.wait()
        for i in range(3):
            await ctx.send(i)

    await subject.bring_into(KernelState.LAUNCHED)
    await runtime.launch("source")
    runtime.connect("source", "subject")
    await runtime.activate("subject")
    await runtime.activate("source")
    await subject.linger()
    gate.set()
    await within(runtime.wait("source"))
    assert runtime.get_state("subject") is KernelState.TERMINATING
    await within(subject.ending)
    assert drain(runtime, "subject") == [-99]
    assert list(runtime.unprocessed("subject")) == [0, 1, 2]
    assert check_books(runtime, "subject").accepted == 4


async def test_unprocessed_is_only_known_at_the_end(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    with pytest.raises(KernelStateError, match="ACTIVE"):
        runtime.unprocessed("subject")
    await runtime.terminate("subject")
    assert len(runtime.unprocessed("subject")) == 0


# --- ids ----------------------------------------------------------------------------------------------------------

CALLS = {
    "launch": lambda runtime, name: runtime.launch(name),
    "activate": lambda runtime, name: runtime.activate(name),
    "deactivate": lambda runtime, name: runtime.deactivate(name),
    "reactivate": lambda runtime, name: runtime.reactivate(name),
    "terminate": lambda runtime, name: runtime.terminate(name),
    "send": lambda runtime, name: runtime.send(name, 1),
    "send_nowait": lambda runtime, name: runtime.send_nowait(name, 1),
    "send_batch": lambda runtime, name: runtime.send_batch(name, [1]),
    "receive": lambda runtime, name: runtime.receive(name),
    "receive_nowait": lambda runtime, name: runtime.receive_nowait(name),
    "receive_batch": lambda runtime, name: runtime.receive_batch(name),
    "stream": lambda runtime, name: anext(runtime.stream(name)),
    "map": lambda runtime, name: runtime.map(name, [1]),
    "map chain": lambda runtime, name: runtime.map((name, name), [1]),
    "connect": lambda runtime, name: runtime.connect(name, name),
    "statistics": lambda runtime, name: runtime.statistics(name),
    "read_state": lambda runtime, name: runtime.read_state(name),
    "write_state": lambda runtime, name: runtime.write_state(name, 1),
    "unprocessed": lambda runtime, name: runtime.unprocessed(name),
    "wait": lambda runtime, name: runtime.wait(name),
    "remove": lambda runtime, name: runtime.remove(name),
    "get_state": lambda runtime, name: runtime.get_state(name),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_an_unknown_id_is_named(runtime, call):
    with pytest.raises(KernelNotFoundError, match="'nobody'") as caught:
        await call(runtime, "nobody")  # plain methods raise before there is anything to await
    assert isinstance(caught.value, KeyError)
    assert "\\" not in str(caught.value)


@pytest.mark.parametrize(
    "call", [call for name, call in CALLS.items() if name not in ("launch", "get_state")],
    ids=[name for name in CALLS if name not in ("launch", "get_state")],
)  # fmt: skip
async def test_a_kernel_that_is_only_declared_is_refused_by_its_state(runtime, call):
    @ring_kernel("declared")
    async def declared(ctx): ...

    with pytest.raises(KernelStateError, match=r"'declared'.*CREATED.*launch\(\)"):
        await call(runtime, "declared")
    assert runtime.get_state("declared") is KernelState.CREATED


async def test_launching_an_id_that_is_alive(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    with pytest.raises(KernelExistsError, match=r"'subject'.*ACTIVE"):
        await runtime.launch("subject")
    await runtime.send("subject", 1)
    assert await within(runtime.receive("subject")) == 2


async def test_two_launches_of_one_id_at_once_give_one_kernel(subject, runtime):
    await subject.bring_into(KernelState.CREATED)
    results = await asyncio.gather(*(runtime.launch("subject") for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(result, KernelExistsError) for result in results) == 2
    assert runtime.get_state("subject") is KernelState.LAUNCHED


async def test_a_terminated_id_stays_known_until_it_is_removed(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send("subject", 1)
    await runtime.terminate("subject")
    with pytest.raises(KernelStateError, match="remove"):
        await runtime.launch("subject")
    assert runtime.get_state("subject") is KernelState.TERMINATED
    assert runtime.statistics("subject").processed == 1
    assert "subject" in runtime.kernels
    runtime.remove("subject")
    assert "subject" not in runtime.kernels
    assert runtime.get_state("subject") is KernelState.CREATED  # it is declared


async def test_remove_then_launch_begins_anew(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send_batch("subject", [1, 2])
    await runtime.terminate("subject")
    runtime.remove("subject")
    await runtime.launch("subject")
    counts = check_books(runtime, "subject")
    assert (counts.accepted, counts.processed, counts.emitted) == (0, 0, 0)
    await runtime.activate("subject")
    await runtime.send("subject", 5)
    assert await within(runtime.receive("subject")) == 6


@pytest.mark.parametrize(
    "state",
    [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED, KernelState.TERMINATING],
    ids=ids,
)
async def test_a_kernel_that_is_alive_cannot_be_removed(subject, runtime, state):
    await subject.bring_into(state)
    with pytest.raises(KernelStateError, match=rf"remove.*'subject'.*{state.name}"):
        runtime.remove("subject")
    assert runtime.get_state("subject") is state


async def test_one_function_under_several_ids(runtime):
    async def echo(ctx):
        async for message in ctx:
            await ctx.send((ctx.kernel_id, message))

    for name in ("a", "b"):
        await runtime.launch(name, echo)
        await runtime.activate(name)
        await runtime.send(name, 1)
        assert await within(runtime.receive(name)) == (name, 1)
    assert set(runtime.kernels) == {"a", "b"}
    with pytest.raises(TypeError):
        runtime.kernels["c"] = None


async def test_a_declaration_is_replaced_by_a_later_one(runtime):
    for answer in ("first", "second"):

        @ring_kernel("cell")
        async def cell(ctx, answer=answer):
            async for _ in ctx:
                await ctx.send(answer)

    await runtime.launch("cell")
    await runtime.activate("cell")
    await runtime.send("cell", 0)
    assert await within(runtime.receive("cell")) == "second"


# --- commands that meet -------------------------------------------------------------------------------------------


async def test_terminate_twice_at_once(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    results = await asyncio.gather(
        runtime.terminate("subject"), runtime.terminate("subject"), return_exceptions=True
    )  # fmt: skip
    assert results[0] is None
    assert results[1] is None or isinstance(results[1], KernelStateError)
    assert runtime.get_state("subject") is KernelState.TERMINATED


async def test_pauses_and_resumptions_at_once_are_taken_one_after_the_other(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    results = await asyncio.gather(
        runtime.deactivate("subject"), runtime.deactivate("subject"), return_exceptions=True
    )  # fmt: skip
    assert sum(result is None for result in results) == 1
    assert sum(isinstance(result, KernelStateError) for result in results) == 1
    assert runtime.get_state("subject") is KernelState.DEACTIVATED
    results = await asyncio.gather(
        runtime.reactivate("subject"), runtime.reactivate("subject"), return_exceptions=True
    )  # fmt: skip
    assert sum(result is None for result in results) == 1
    await runtime.send("subject", 1)
    assert await within(runtime.receive("subject")) == 2


async def test_terminate_supersedes_a_pending_pause_and_releases_its_waiter(runtime):
    subject = CompiledSubject(runtime)
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send("subject", -40)
    await eventually(lambda: runtime.statistics("subject").in_flight)
    pause = asyncio.create_task(runtime.deactivate("subject"))
    await turns()
    assert not pause.done()
    ending = asyncio.create_task(runtime.terminate("subject"))
    with pytest.raises(KernelStateError, match="'subject'"):
        await within(pause)
    await within(ending)
    assert runtime.get_state("subject") is KernelState.TERMINATED
    assert drain(runtime, "subject") == [-39]


async def test_a_pause_that_was_cancelled_is_not_obeyed_late(runtime):
    subject = CompiledSubject(runtime)
    await subject.bring_into(KernelState.ACTIVE)
    for i in range(5):
        await runtime.send("subject", -10)
        await eventually(lambda: runtime.statistics("subject").in_flight)
        pause = asyncio.create_task(runtime.deactivate("subject"))
        await turns(2)
        pause.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pause
        assert runtime.get_state("subject") is KernelState.ACTIVE
        await runtime.send("subject", i)
        assert await within(runtime.receive("subject")) == -9
        assert await within(runtime.receive("subject")) == i + 1
        await within(runtime.deactivate("subject"))  # a late answer to the first must not satisfy this one
        assert runtime.get_state("subject") is KernelState.DEACTIVATED
        await runtime.send("subject", 7)
        await turns()
        assert runtime.statistics("subject").input_depth == 1
        await runtime.reactivate("subject")
        assert await within(runtime.receive("subject")) == 8


async def test_a_pause_that_was_obeyed_and_cancelled_before_anybody_noticed(runtime):
    subject = CompiledSubject(runtime)
    await subject.bring_into(KernelState.ACTIVE)
    first = asyncio.create_task(runtime.deactivate("subject"))
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251 (the worker obeys meanwhile, and the event loop cannot look)
    first.cancel()
    second = asyncio.create_task(runtime.deactivate("subject"))
    await within(second, 2.0)
    assert runtime.get_state("subject") is KernelState.DEACTIVATED
    await asyncio.wait([first])
    await runtime.send("subject", 1)
    await turns()
    assert runtime.statistics("subject").input_depth == 1
    await runtime.reactivate("subject")
    assert await within(runtime.receive("subject")) == 2


async def test_a_cancelled_terminate_goes_on(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send_batch("subject", list(range(100)))
    ending = asyncio.create_task(runtime.terminate("subject"))
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    assert await within(runtime.wait("subject")) is KernelState.TERMINATED
    assert drain(runtime, "subject") == list(range(1, 101))


async def test_a_cancelled_launch_has_launched_nothing(runtime):
    subject = CompiledSubject(runtime)
    launch = asyncio.create_task(runtime.launch("subject"))
    await asyncio.sleep(0)
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    assert runtime.get_state("subject") is KernelState.CREATED
    assert "subject" not in runtime.kernels
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send("subject", 1)
    assert await within(runtime.receive("subject")) == 2


@pytest.mark.parametrize("timeout", [-1, float("nan"), "5"])
async def test_a_timeout_that_is_none_is_refused_and_changes_nothing(subject, runtime, timeout):
    await subject.bring_into(KernelState.ACTIVE)
    with pytest.raises(ValueError, match="timeout"):
        await runtime.terminate("subject", timeout=timeout)
    assert runtime.get_state("subject") is KernelState.ACTIVE
    with pytest.raises(ValueError, match="timeout"):
        await runtime.wait("subject", timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        await runtime.receive("subject", timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        await runtime.send_batch("subject", range(100_000), timeout=timeout)


@pytest.mark.parametrize("seed", range(4))
async def test_commands_from_many_tasks_at_once_leave_the_books_balanced(subject, runtime, seed):
    await subject.bring_into(KernelState.LAUNCHED)
    chance = random.Random(seed)
    sent, got = [], []

    async def commander() -> None:
        for _ in range(40):
            command = chance.choice([Command.ACTIVATE, Command.DEACTIVATE, Command.REACTIVATE])
            task = asyncio.create_task(give(runtime, command))
            await turns(chance.randrange(4))
            if chance.random() < 0.3:
                task.cancel()
            with contextlib.suppress(KernelStateError, asyncio.CancelledError):
                await within(task)

    async def sender() -> None:
        for i in range(200):
            await runtime.send("subject", i)
            sent.append(i)
            await turns(chance.randrange(2))

    async def receiver() -> None:
        while True:
            got.append(await runtime.receive("subject"))

    receiving = asyncio.create_task(receiver())
    await within(asyncio.gather(*(commander() for _ in range(4)), sender()), 20)
    if runtime.get_state("subject") is KernelState.DEACTIVATED:
        await runtime.reactivate("subject")
    elif runtime.get_state("subject") is KernelState.LAUNCHED:
        await runtime.activate("subject")
    await within(runtime.terminate("subject"))
    with pytest.raises(KernelStateError):
        await within(receiving)
    assert got == [n + 1 for n in sent]
    assert check_books(runtime, "subject").processed == 200


# --- wait ---------------------------------------------------------------------------------------------------------


async def test_wait_returns_the_final_state(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    waiting = asyncio.create_task(runtime.wait("subject"))
    await turns()
    assert not waiting.done()
    await runtime.terminate("subject")
    assert await within(waiting) is KernelState.TERMINATED
    assert await runtime.wait("subject") is KernelState.TERMINATED


async def test_wait_times_out(subject, runtime):
    await subject.bring_into(KernelState.ACTIVE)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.wait("subject", timeout=0.01)
    assert runtime.get_state("subject") is KernelState.ACTIVE


# --- failures -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["coroutine", "compiled"])
async def failing(request, runtime):
    """A launched kernel `failing` that doubles, and fails on 13."""
    if request.param == "coroutine":

        @ring_kernel("failing")
        async def failing(ctx):
            async for message in ctx:
                if message == 13:
                    raise ValueError("thirteen")
                await ctx.send(2 * message)
    else:

        @ring_kernel("failing", input_type=int, output_type=int)
        def failing(msg, out):
            if msg.value == 13:
                raise ValueError("thirteen")
            out.value = 2 * msg.value

    await runtime.launch("failing")


async def test_a_failure_is_a_transition_with_a_cause(failing, runtime):
    await runtime.activate("failing")
    await runtime.send_batch("failing", [1, 2, 13, 4, 5])
    assert await within(runtime.wait("failing")) is KernelState.TERMINATED
    error = runtime.kernels["failing"].error
    assert isinstance(error, ValueError)
    assert "thirteen" in str(error)
    assert [await runtime.receive("failing") for _ in range(2)] == [2, 4]
    with pytest.raises(KernelFailedError, match=r"'failing'.*ValueError.*thirteen") as caught:
        await runtime.receive("failing")
    assert caught.value.__cause__ is error
    with pytest.raises(KernelFailedError):
        await runtime.send("failing", 1)
    assert list(runtime.unprocessed("failing")) == [4, 5]
    counts = check_books(runtime, "failing")
    assert (counts.accepted, counts.processed, counts.failed, counts.unprocessed) == (5, 2, 1, 2)


async def test_a_failed_kernel_accepts_no_command_and_can_be_removed(failing, runtime):
    await runtime.activate("failing")
    await runtime.send("failing", 13)
    await within(runtime.wait("failing"))
    for command in COMMANDS:
        with pytest.raises(KernelStateError, match="TERMINATED"):
            await getattr(runtime, command.value)("failing")
    runtime.remove("failing")
    await runtime.launch("failing")
    assert runtime.kernels["failing"].error is None


async def test_a_failure_while_terminating(failing, runtime):
    await runtime.send_batch("failing", [1, 13, 3])
    await runtime.activate("failing")
    await within(runtime.terminate("failing"))
    assert isinstance(runtime.kernels["failing"].error, ValueError)
    assert await runtime.receive("failing") == 2
    assert list(runtime.unprocessed("failing")) == [3]


async def test_a_failure_wakes_who_waits_and_leaves_siblings_alone(failing, runtime):
    async def sibling(ctx):
        async for message in ctx:
            await ctx.send(message)

    await runtime.launch("sibling", sibling)
    await runtime.activate("sibling")
    await runtime.activate("failing")
    waiter = asyncio.create_task(runtime.receive("failing"))
    await turns()
    await runtime.send("failing", 13)
    with pytest.raises(KernelFailedError):
        await within(waiter, 2.0)
    assert runtime.get_state("sibling") is KernelState.ACTIVE
    await runtime.send("sibling", 1)
    assert await within(runtime.receive("sibling")) == 1


async def test_managed_kernel_does_not_mind_a_kernel_that_has_failed(failing, runtime):
    await runtime.terminate("failing")
    runtime.remove("failing")
    async with managed_kernel(runtime, "failing") as kernel_id:
        await runtime.send(kernel_id, 13)
        await within(runtime.wait(kernel_id))
    assert isinstance(runtime.kernels["failing"].error, ValueError)


# --- the runtime itself -------------------------------------------------------------------------------------------


async def test_a_closed_runtime_launches_nothing_and_closes_twice(loop_errors):
    @ring_kernel("late")
    async def late(ctx): ...

    runtime = RingKernelRuntime()
    async with runtime:
        pass
    with pytest.raises(KernelStateError, match="closed"):
        await runtime.launch("late")
    await runtime.close()
    assert runtime.get_state("late") is KernelState.CREATED


async def test_leaving_the_runtime_ends_sources_before_targets(loop_errors):
    ended: list[str] = []

    async def stage(ctx):
        async for message in ctx:
            await ctx.send(message + [ctx.kernel_id])  # noqa: RUF005
        ended.append(ctx.kernel_id)

    async with RingKernelRuntime() as runtime:
        for name in ("c", "b", "a"):
            await runtime.launch(name, stage)
        runtime.connect("a", "b")
        runtime.connect("b", "c")
        for name in ("a", "b", "c"):
            await runtime.activate(name)
        await runtime.send_batch("a", [[0], [1], [2]])
    assert ended == ["a", "b", "c"]
    assert [await runtime.receive("c") for _ in range(3)] == [[i, "a", "b", "c"] for i in range(3)]


async def test_leaving_the_runtime_ends_kernels_side_by_side(loop_errors):
    async def slow(ctx):
        await ctx.wait_active()
        try:
            await ctx.receive()
        finally:
            await asyncio.sleep(0.2)

    async with RingKernelRuntime() as runtime:
        for i in range(10):
            await runtime.launch(f"slow{i}", slow)
            await runtime.activate(f"slow{i}")
        await turns()
        begun = time.monotonic()
    assert time.monotonic() - begun < 1.0
    assert {kernel.state for kernel in runtime.kernels.values()} == {KernelState.TERMINATED}


async def test_a_runtime_belongs_to_its_loop(runtime):
    async def echo(ctx): ...

    await runtime.launch("echo", echo)

    def elsewhere() -> None:
        async def use() -> None:
            await runtime.activate("echo")

        with pytest.raises(KernelStateError, match="another event loop"):
            asyncio.run(use())
        with pytest.raises(KernelStateError, match="outside of its event loop"):
            runtime.send_nowait("echo", 1)
        assert runtime.get_state("echo") is KernelState.LAUNCHED  # looking is allowed from any thread

    await asyncio.to_thread(elsewhere)
    assert runtime.get_state("echo") is KernelState.LAUNCHED
