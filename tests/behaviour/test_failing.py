"""A failure ends one kernel, with a cause: its outputs can be received first, who waits is woken, and its neighbours
go on."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from helpers import activate, check_books, drain, eventually, in_line, receive_all, start, start_chain, within
from kinds import Kind, add_one, fails_at_13, same, sink

from ringkernel import (
    Command,
    KernelFailedError,
    KernelState,
    KernelStateError,
    RingKernelRuntime,
    managed_kernel,
)
from ringkernel.runtime.kernels import kernel as kernels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COMMANDS = [Command.LAUNCH, Command.ACTIVATE, Command.DEACTIVATE, Command.REACTIVATE, Command.TERMINATE]


async def test_a_failure_is_a_transition_with_a_cause(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(fails_at_13))
    await runtime.send_batch("k", [1, 2, 13, 4, 5])
    assert await within(runtime.wait("k")) is KernelState.TERMINATED
    error = runtime.kernels["k"].error
    assert isinstance(error, ValueError)
    assert "thirteen" in str(error)
    assert [await runtime.receive("k") for _ in range(2)] == [1, 2]
    for call in (runtime.receive("k"), runtime.receive_batch("k"), runtime.send("k", 1)):
        with pytest.raises(KernelFailedError, match=r"'k'.*ValueError.*thirteen") as caught:
            await within(call)
        assert caught.value.__cause__ is error
    for call_now in (lambda: runtime.receive_nowait("k"), lambda: runtime.send_nowait("k", 1)):
        with pytest.raises(KernelFailedError):
            call_now()
    assert list(runtime.unprocessed("k")) == [4, 5]
    counts = check_books(runtime, "k")
    assert (counts.accepted, counts.processed, counts.failed, counts.unprocessed) == (5, 2, 1, 2)


def _logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The failures that a log has with their tracebacks."""
    return [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR and one.exc_info]


async def test_a_failure_of_which_nobody_hears_is_logged_once(
    runtime: RingKernelRuntime, kind: Kind, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "TOLD_WITHIN_S", 0.0)
    await start(runtime, "k", kind(fails_at_13))
    await runtime.send("k", 13)
    await eventually(lambda: _logged(caplog) == ["kernel 'k' has failed"])
    await runtime.close()
    assert len(_logged(caplog)) == 1


@pytest.mark.parametrize("end", ["close", "remove"])
async def test_a_failure_is_logged_at_the_latest_when_all_ends(
    runtime: RingKernelRuntime, kind: Kind, end: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "TOLD_WITHIN_S", 1e6)
    await start(runtime, "k", kind(fails_at_13))
    await runtime.send("k", 13)
    await within(runtime.wait("k"))
    assert _logged(caplog) == []
    if end == "close":
        await runtime.close()
    else:
        runtime.remove("k")
    assert _logged(caplog) == ["kernel 'k' has failed"]


async def _send_until_it_fails(runtime: RingKernelRuntime) -> None:
    while True:
        await runtime.send("k", 13)


CALLS: dict[str, Callable[[RingKernelRuntime], Awaitable[Any]]] = {
    "receive": lambda runtime: runtime.receive("k"),
    "receive_batch": lambda runtime: runtime.receive_batch("k"),
    "send": _send_until_it_fails,
    "call": lambda runtime: runtime.call("k", 13),
    "map": lambda runtime: runtime.map("k", [1, 13]),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_failure_that_a_caller_is_told_of_is_not_logged_as_an_error(
    runtime: RingKernelRuntime,
    kind: Kind,
    call: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernels, "TOLD_WITHIN_S", 0.3)
    caplog.set_level(logging.INFO, "ringkernel")
    await start(runtime, "k", kind(fails_at_13))
    if call.startswith("receive"):
        await runtime.send("k", 13)
    with pytest.raises(KernelFailedError):
        await within(CALLS[call](runtime))
    await runtime.close()
    assert _logged(caplog) == []
    assert "kernel 'k' has failed: ValueError: thirteen" in caplog.messages


async def test_a_failed_kernel_accepts_no_command_and_can_be_removed(runtime: RingKernelRuntime, kind: Kind) -> None:
    kind.declare("k", fails_at_13)
    await runtime.launch("k")
    await runtime.activate("k")
    await runtime.send("k", 13)
    await within(runtime.wait("k"))
    for command in COMMANDS:
        with pytest.raises(KernelStateError, match="TERMINATED"):
            await getattr(runtime, command.value)("k")
    runtime.remove("k")
    await runtime.launch("k")
    assert runtime.kernels["k"].error is None


async def test_a_failure_while_terminating(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("k", kind(fails_at_13))
    await runtime.send_batch("k", [1, 13, 3])
    await runtime.activate("k")
    await within(runtime.terminate("k"))
    assert isinstance(runtime.kernels["k"].error, ValueError)
    assert await runtime.receive("k") == 1
    assert list(runtime.unprocessed("k")) == [3]


async def test_a_failure_wakes_who_waits_and_leaves_siblings_alone(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "sibling", kind(add_one))
    kernel = await runtime.launch("k", kind(fails_at_13), queue_size=1)
    receivers = [await in_line(kernel.output_queue, runtime.receive("k")) for _ in range(3)]
    await runtime.send("k", 13)
    senders = [await in_line(kernel.input_queue, runtime.send("k", 1 + i)) for i in range(3)]
    await runtime.activate("k")
    for receiver in receivers:
        with pytest.raises(KernelFailedError, match="thirteen"):
            await within(receiver, 2.0)
    refused = 0
    for outcome in await within(asyncio.gather(*senders, return_exceptions=True), 2.0):
        assert outcome is None or isinstance(outcome, KernelFailedError)
        refused += outcome is not None
    assert refused >= 2  # one may have found room before the failure
    assert list(runtime.unprocessed("k")) == [1, 2, 3][: 3 - refused]
    assert runtime.get_state("sibling") is KernelState.ACTIVE
    await runtime.send("sibling", 1)
    assert await within(runtime.receive("sibling")) == 2


async def test_managed_kernel_does_not_mind_a_kernel_that_has_failed(runtime: RingKernelRuntime, kind: Kind) -> None:
    async with managed_kernel(runtime, "k", kind(fails_at_13)) as kernel_id:
        await runtime.send(kernel_id, 13)
        await within(runtime.wait(kernel_id))
    assert isinstance(runtime.kernels["k"].error, ValueError)


async def test_a_stream_ends_with_the_failure(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(fails_at_13))
    await runtime.send_batch("k", [1, 13])
    batches = runtime.stream("k")
    assert list(await within(anext(batches))) == [1]
    with pytest.raises(KernelFailedError, match="thirteen"):
        await within(anext(batches))


# --- in a graph ---------------------------------------------------------------------------------------------------


async def test_a_target_that_fails_leaves_its_source_and_its_sibling_alone(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    await runtime.launch("source", kind(add_one), queue_size=8)
    await runtime.launch("fails", kind(fails_at_13), queue_size=16)
    await runtime.launch("lives", kind(add_one), queue_size=64)
    runtime.connect("source", "fails")
    runtime.connect("source", "lives")
    await activate(runtime, "source", "fails", "lives")
    await within(runtime.send_batch("source", range(50)))
    await within(runtime.wait("fails"))
    assert isinstance(runtime.kernels["fails"].error, ValueError)
    assert await receive_all(runtime, "lives", 50) == list(range(2, 52))
    counts = check_books(runtime, "fails")
    assert (counts.processed, counts.failed) == (12, 1)
    assert list(runtime.unprocessed("fails"))[:1] in ([14], [])
    assert drain(runtime, "fails") == list(range(1, 13))
    with pytest.raises(KernelFailedError):
        await runtime.receive("fails")


# --- senders that can never get room: dead ends -------------------------------------------------------------------

SIZE = 8


async def send_until_refused(runtime: RingKernelRuntime, name: str) -> tuple[int, KernelStateError]:
    """How many were sent, and why no more."""
    for sent in range(1000):
        try:
            await within(runtime.send(name, 100 + sent))
        except KernelStateError as error:
            return sent, error
    pytest.fail("all messages were taken")


async def test_a_sender_that_waits_is_told_when_the_consumer_fails(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, a=kind(same), b=kind(fails_at_13))
    await runtime.deactivate("b")
    await runtime.send("a", 13)
    sending = asyncio.create_task(runtime.send_batch("a", range(100, 200)))
    await eventually(lambda: runtime.kernels["a"].input_queue.statistics().waiting_putters)
    await runtime.reactivate("b")
    with pytest.raises(
        KernelStateError, match=r"'a' cannot go on.*kernel 'b' has failed: ValueError: thirteen"
    ) as caught:
        await within(sending)
    assert isinstance(caught.value.__cause__, ValueError)
    await within(runtime.terminate("a", timeout=0.2))
    left = [*runtime.unprocessed("b"), *runtime.unprocessed("a")]
    accounted = len(left) + runtime.statistics("a").in_flight + runtime.statistics("a").failed
    sent: int = getattr(caught.value, "sent")  # noqa: B009 (only what a batch raises has it)
    assert accounted + runtime.statistics("b").processed == sent
    assert left == sorted(left)
    check_books(runtime, "b")


async def test_a_sender_is_told_through_a_chain_once_it_is_full(runtime: RingKernelRuntime, kind: Kind) -> None:
    stages = {name: kind(same) for name in "abc"}
    await start_chain(runtime, queue_size=SIZE, **stages, d=kind(fails_at_13))
    await runtime.send("a", 13)
    await within(runtime.wait("d"))
    sent, error = await send_until_refused(runtime, "a")
    assert "nobody takes the outputs of kernel 'c' any more, since kernel 'd' has failed" in str(error)
    in_hands = 0 if kind.is_compiled else 3
    least = 2 if kind.name == "grid" else 3  # cursors of a grid are seen one after the other, so it may seem full early
    assert least * SIZE <= sent <= 3 * SIZE + in_hands  # all queues on the way are full
    for name in "abc":
        await within(runtime.terminate(name, timeout=0.2))
    counts = [runtime.statistics(name) for name in "abcd"]
    left = sum(one.unprocessed + one.in_flight + one.failed for one in counts) - counts[3].failed
    assert left == sent


async def test_a_sender_is_told_through_a_chain_of_both_kinds(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    coroutine = Kind("typed_coroutine")(same)
    end = compiled_kind(fails_at_13)
    await start_chain(runtime, queue_size=SIZE, a=compiled_kind(same), b=coroutine, c=compiled_kind(same), d=end)
    await runtime.send("a", 13)
    await within(runtime.wait("d"))
    sent, error = await send_until_refused(runtime, "a")
    assert "nobody takes the outputs of kernel 'c' any more, since kernel 'd' has failed" in str(error)
    assert 3 * SIZE <= sent <= 3 * SIZE + 1  # the coroutine may have one in hand


async def test_a_consumer_that_was_terminated_is_named(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, a=kind(same), b=kind(sink))
    await runtime.terminate("b")
    _, error = await send_until_refused(runtime, "a")
    assert "since kernel 'b' has ended" in str(error)
    assert error.__cause__ is None
    runtime.remove("b")
    with pytest.raises(KernelStateError, match="since kernel 'b' has ended"):
        runtime.send_nowait("a", 1)


async def test_as_long_as_another_consumer_takes_all_goes_on(runtime: RingKernelRuntime, kind: Kind) -> None:
    await runtime.launch("a", kind(same), queue_size=SIZE)
    await runtime.launch("b", kind(sink), queue_size=SIZE)
    await runtime.launch("c", kind(same), queue_size=SIZE)
    runtime.connect("a", "b")
    runtime.connect("a", "c")
    await activate(runtime, "a", "b", "c")
    await runtime.send("a", 13)
    await within(runtime.wait("b"))
    assert await within(runtime.receive("c")) == 13
    for i in range(100):
        await within(runtime.send("a", i))
        assert await within(runtime.receive("c")) == i
    await runtime.terminate("c")
    _, error = await send_until_refused(runtime, "a")
    assert "since kernel 'b' has failed" in str(error)


async def test_one_of_two_consumers_that_cannot_get_on_holds_up_the_source(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    """The source goes on until that one is full: its senders are told then, and not before."""
    for name, kernel in (("a", same), ("b", same), ("c", fails_at_13), ("free", sink)):
        await runtime.launch(name, kind(kernel), queue_size=SIZE)
    for source, target in ("ab", "bc", ("a", "free")):
        runtime.connect(source, target)
    await activate(runtime, "a", "b", "c", "free")
    await runtime.send("a", 13)
    await within(runtime.wait("c"))
    await within(runtime.wait("free"))  # failed, too: it is a consumer no more
    sent, error = await send_until_refused(runtime, "a")
    assert "'c' has failed" in str(error)
    assert sent >= 2 * SIZE


async def test_a_new_consumer_makes_it_go_on(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=SIZE, a=kind(same), b=kind(fails_at_13))
    await runtime.send("a", 13)
    await within(runtime.wait("b"))
    sent, _ = await send_until_refused(runtime, "a")
    await runtime.deactivate("a")
    await runtime.launch("new", kind(same), queue_size=2 * SIZE)
    runtime.connect("a", "new")
    await runtime.activate("new")
    await runtime.reactivate("a")
    received: list[int] = []
    while len(received) < sent:
        received.append(await within(runtime.receive("new")))
    await within(runtime.send("a", 7))
    assert await within(runtime.receive("new")) == 7
    assert received == sorted(received)


async def test_a_map_that_is_held_up_by_a_dead_end_beside_it_is_told(runtime: RingKernelRuntime, kind: Kind) -> None:
    for name, kernel in (("a", same), ("b", same), ("side", same), ("end", fails_at_13)):
        await runtime.launch(name, kind(kernel), queue_size=SIZE)
    for source, target in ("ab", ("a", "side"), ("side", "end")):
        runtime.connect(source, target)
    await activate(runtime, "a", "b", "side", "end")
    await runtime.send("side", 13)
    await within(runtime.wait("end"))
    with pytest.raises(KernelStateError, match="'end' has failed") as caught:
        await within(runtime.map(("a", "b"), list(range(1000))))
    assert not isinstance(caught.value, KernelFailedError)
    received = list(caught.value.partial)
    await eventually(lambda: runtime.statistics("b").processed == runtime.statistics("a").emitted)
    received += drain(runtime, "b")
    assert received == list(range(len(received)))
    assert len(received) >= SIZE
