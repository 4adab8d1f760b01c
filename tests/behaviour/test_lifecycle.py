"""The table of transitions is the only truth, for every kind of kernel: what is in it happens, the rest changes
nothing."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from helpers import check_books, eventually, receive_all, turns, within
from kinds import Kind, add_one, gated, same

from ringkernel import (
    TRANSITIONS,
    Command,
    KernelExistsError,
    KernelState,
    KernelStateError,
    RingKernelError,
    RingKernelRuntime,
)
from ringkernel.lifecycle import allowed_commands, next_state

COMMANDS = [Command.LAUNCH, Command.ACTIVATE, Command.DEACTIVATE, Command.REACTIVATE, Command.TERMINATE]
ALIVE = [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED, KernelState.TERMINATING]
LEGAL = sorted(((s, c) for s, c in TRANSITIONS if c in COMMANDS), key=str)
ILLEGAL = sorted(((s, c) for s in KernelState for c in COMMANDS if (s, c) not in TRANSITIONS), key=str)


def ids(value: KernelState | Command) -> str:
    return value.name


class Subject:
    """A kernel `subject` that gives back what it gets, and can be brought into every state."""

    def __init__(self, kind: Kind, runtime: RingKernelRuntime) -> None:
        self.kind, self.runtime = kind, runtime
        self.ending: asyncio.Task[None] | None = None

    async def bring_into(self, state: KernelState) -> None:
        self.kind.declare("subject", gated if state is KernelState.TERMINATING else same)
        way = {
            KernelState.CREATED: (),
            KernelState.LAUNCHED: (Command.LAUNCH,),
            KernelState.ACTIVE: (Command.LAUNCH, Command.ACTIVATE),
            KernelState.DEACTIVATED: (Command.LAUNCH, Command.ACTIVATE, Command.DEACTIVATE),
            KernelState.TERMINATING: (Command.LAUNCH, Command.ACTIVATE),
            KernelState.TERMINATED: (Command.LAUNCH, Command.ACTIVATE, Command.TERMINATE),
        }
        for command in way[state]:
            await self.give(command)
        if state is KernelState.TERMINATING:
            await self.linger()

    async def give(self, command: Command) -> None:
        await getattr(self.runtime, command.value)("subject")

    async def linger(self) -> None:
        """Stay in TERMINATING until the end of the test."""
        self.gate = self.kind.gate(self.runtime, "subject")
        await self.runtime.send("subject", -1)
        await eventually(lambda: self.gate.entered)
        self.ending = asyncio.create_task(self.runtime.terminate("subject"))
        await eventually(lambda: self.runtime.get_state("subject") is KernelState.TERMINATING)

    async def finish(self) -> None:
        if self.ending is not None:
            self.gate.open()
            await within(self.ending)


@pytest.fixture
async def subject(kind: Kind, runtime: RingKernelRuntime) -> AsyncIterator[Subject]:
    subject = Subject(kind, runtime)
    yield subject
    await subject.finish()


# --- the table ----------------------------------------------------------------------------------------------------


def test_the_table_has_the_printed_rows_and_the_automatic_ones() -> None:
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


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[KernelState.CREATED, Command.ACTIVATE] = KernelState.ACTIVE  # type: ignore[index]


@pytest.mark.parametrize(("state", "command"), ILLEGAL, ids=ids)
def test_the_refusal_names_kernel_state_command_and_what_is_allowed(state: KernelState, command: Command) -> None:
    with pytest.raises(KernelStateError) as caught:
        next_state("pump", state, command)
    text = str(caught.value)
    assert "'pump'" in text
    assert state.name in text
    assert command.value in text
    assert all(f"{name}()" in text for name in allowed_commands(state) if state is not KernelState.TERMINATING)


@pytest.mark.parametrize(("state", "command"), LEGAL, ids=ids)
async def test_a_legal_command_leads_where_the_table_says(
    subject: Subject, runtime: RingKernelRuntime, state: KernelState, command: Command
) -> None:
    await subject.bring_into(state)
    assert runtime.get_state("subject") is state
    await subject.give(command)
    target = TRANSITIONS[state, command]
    if target is KernelState.TERMINATING:
        target = KernelState.TERMINATED  # automatic
    assert runtime.get_state("subject") is target
    assert runtime.kernels["subject"].state is target
    assert runtime.kernels["subject"].error is None


@pytest.mark.parametrize("state", KernelState, ids=ids)
async def test_illegal_commands_say_why_and_change_nothing(
    subject: Subject, runtime: RingKernelRuntime, state: KernelState
) -> None:
    await subject.bring_into(state)
    launched = state is not KernelState.CREATED
    before = runtime.statistics("subject") if launched else None
    for command in (c for s, c in ILLEGAL if s is state):
        expected = KernelExistsError if command is Command.LAUNCH and state in ALIVE else KernelStateError
        with pytest.raises(expected) as caught:
            await subject.give(command)
        text = str(caught.value)
        assert "'subject'" in text
        assert state.name in text
        if expected is KernelStateError and command is not Command.LAUNCH:
            assert re.search(rf"\b{command.value}\b", text), f"{text!r} does not say that {command.value} was asked"
            for name in allowed_commands(state) if state is not KernelState.TERMINATING else ():
                assert f"{name}()" in text
        assert runtime.get_state("subject") is state
    if before is not None:
        after = runtime.statistics("subject")
        assert (after.accepted, after.state) == (before.accepted, before.state)
    else:
        assert "subject" not in runtime.kernels


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED], ids=ids)
async def test_after_illegal_commands_the_kernel_still_works(
    subject: Subject, runtime: RingKernelRuntime, state: KernelState
) -> None:
    await subject.bring_into(state)
    for command in (c for s, c in ILLEGAL if s is state):
        with pytest.raises(RingKernelError):
            await subject.give(command)
    await runtime.send("subject", 1)
    if state is KernelState.LAUNCHED:
        await runtime.activate("subject")
    elif state is KernelState.DEACTIVATED:
        await runtime.reactivate("subject")
    assert await within(runtime.receive("subject")) == 1


async def test_a_whole_life_with_many_pauses(subject: Subject, runtime: RingKernelRuntime) -> None:
    await subject.bring_into(KernelState.ACTIVE)
    for i in range(50):
        await runtime.send("subject", i)
        await runtime.deactivate("subject")
        await runtime.send("subject", 1000 + i)
        await runtime.reactivate("subject")
    assert await receive_all(runtime, "subject", 100) == [n for i in range(50) for n in (i, 1000 + i)]
    await runtime.terminate("subject")
    assert check_books(runtime, "subject").processed == 100


# --- which messages are allowed when ------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [KernelState.LAUNCHED, KernelState.ACTIVE, KernelState.DEACTIVATED], ids=ids)
async def test_send_is_allowed(subject: Subject, runtime: RingKernelRuntime, state: KernelState) -> None:
    await subject.bring_into(state)
    await runtime.send("subject", 1)
    runtime.send_nowait("subject", 2)
    await runtime.send_batch("subject", [3, 4])
    assert check_books(runtime, "subject").accepted == 4


@pytest.mark.parametrize("state", [KernelState.CREATED, KernelState.TERMINATING, KernelState.TERMINATED], ids=ids)
async def test_send_is_refused_also_of_nothing(
    subject: Subject, runtime: RingKernelRuntime, state: KernelState
) -> None:
    await subject.bring_into(state)
    with pytest.raises(KernelStateError, match=state.name):
        await runtime.send("subject", 1)
    with pytest.raises(KernelStateError, match=state.name):
        runtime.send_nowait("subject", 1)
    for batch in ([1], []):
        with pytest.raises(KernelStateError, match=state.name):
            await runtime.send_batch("subject", batch)
    assert runtime.get_state("subject") is state


async def test_nothing_is_taken_before_the_activation(subject: Subject, runtime: RingKernelRuntime) -> None:
    await subject.bring_into(KernelState.LAUNCHED)
    await runtime.send("subject", 1)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.receive("subject", timeout=0.02)
    assert runtime.statistics("subject").input_depth == 1
    await runtime.activate("subject")
    assert await within(runtime.receive("subject")) == 1


async def test_receive_works_in_every_state_while_there_are_outputs(
    subject: Subject, runtime: RingKernelRuntime
) -> None:
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send_batch("subject", [1, 2, 3, 4])
    await eventually(lambda: runtime.statistics("subject").emitted == 4)
    assert await runtime.receive("subject") == 1
    await runtime.deactivate("subject")
    assert await runtime.receive("subject") == 2
    await runtime.terminate("subject")
    assert await runtime.receive("subject") == 3
    assert runtime.receive_nowait("subject") == 4
    with pytest.raises(KernelStateError, match="'subject' has TERMINATED"):
        await runtime.receive("subject")


async def test_launching_an_id_that_is_alive_is_refused(
    subject: Subject, runtime: RingKernelRuntime, kind: Kind
) -> None:
    await subject.bring_into(KernelState.LAUNCHED)
    with pytest.raises(KernelExistsError, match=r"'subject'.*LAUNCHED"):
        await runtime.launch("subject")
    await runtime.activate("subject")
    with pytest.raises(KernelExistsError, match=r"'subject'.*ACTIVE"):
        await runtime.launch("subject", kind(add_one))
    await runtime.send("subject", 1)
    assert await within(runtime.receive("subject")) == 1


@pytest.mark.parametrize("state", ALIVE, ids=ids)
async def test_a_kernel_that_is_alive_cannot_be_removed(
    subject: Subject, runtime: RingKernelRuntime, state: KernelState
) -> None:
    await subject.bring_into(state)
    with pytest.raises(KernelStateError, match=rf"remove.*'subject'.*{state.name}"):
        runtime.remove("subject")
    assert runtime.get_state("subject") is state


async def test_a_terminated_id_stays_known_until_it_is_removed(subject: Subject, runtime: RingKernelRuntime) -> None:
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


async def test_remove_then_launch_begins_anew(subject: Subject, runtime: RingKernelRuntime) -> None:
    await subject.bring_into(KernelState.ACTIVE)
    await runtime.send_batch("subject", [1, 2])
    await runtime.terminate("subject")
    runtime.remove("subject")
    await runtime.launch("subject")
    counts = check_books(runtime, "subject")
    assert (counts.accepted, counts.processed, counts.emitted) == (0, 0, 0)
    await runtime.activate("subject")
    await runtime.send("subject", 5)
    assert await within(runtime.receive("subject")) == 5


# --- wait ---------------------------------------------------------------------------------------------------------


async def test_wait_returns_the_final_state(subject: Subject, runtime: RingKernelRuntime) -> None:
    await subject.bring_into(KernelState.ACTIVE)
    waiting = asyncio.create_task(runtime.wait("subject"))
    await turns()
    assert not waiting.done()
    await runtime.terminate("subject")
    assert await within(waiting) is KernelState.TERMINATED
    assert await runtime.wait("subject") is KernelState.TERMINATED


async def test_wait_times_out(subject: Subject, runtime: RingKernelRuntime) -> None:
    await subject.bring_into(KernelState.ACTIVE)
    with pytest.raises(asyncio.TimeoutError):
        await runtime.wait("subject", timeout=0.01)
    assert runtime.get_state("subject") is KernelState.ACTIVE
