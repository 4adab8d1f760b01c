"""A map that is paused, cancelled, failed or ended loses nothing that it computed, and leaves kernels that work."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from helpers import check_books, drain, eventually, partial_of, receive_all, start, start_chain, turns, within
from kinds import Kind, add_one, copies, drops_thirds, fails_at_13, gated, same, slow

from ringkernel import KernelFailedError, KernelState, KernelStateError, RingKernelRuntime
from ringkernel.runtime.maps import map as map_module

ENDLESS = list(range(100_000))


async def begin(runtime: RingKernelRuntime, path: Any, messages: Any, *, processed: int = 5) -> asyncio.Task[Any]:
    """A task for a map that has got on for a while."""
    mapping = asyncio.create_task(runtime.map(path, messages))
    last = path if isinstance(path, str) else path[-1]
    await eventually(lambda: runtime.statistics(last).processed > processed)
    return mapping


# --- paused -------------------------------------------------------------------------------------------------------


async def test_a_map_is_paused_and_resumed(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, a=kind(add_one), b=kind(slow))
    mapping = asyncio.create_task(runtime.map(("a", "b"), list(range(200))))
    for _ in range(3):
        taken = runtime.statistics("b").processed
        await eventually(lambda: runtime.statistics("b").processed > taken)  # noqa: B023 (awaited in this round)
        await runtime.deactivate("b")
        await runtime.deactivate("a")
        assert runtime.get_state("b") is KernelState.DEACTIVATED
        await eventually(lambda: kind.is_compiled or not runtime.statistics("b").in_flight)
        frozen = runtime.statistics("b").processed
        await turns(50)
        assert runtime.statistics("b").processed == frozen
        assert not mapping.done()
        await runtime.reactivate("b")
        await runtime.reactivate("a")
    assert list(await within(mapping)) == list(range(1, 201))
    assert check_books(runtime, "b").processed == 200


async def test_a_map_ends_while_its_kernel_is_paused(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    """The last message may be done before the pause is: the kernel then stays paused, and its own queue is back."""
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    mapping = asyncio.create_task(runtime.map("k", [-1]))
    await eventually(lambda: gate.entered)
    pausing = asyncio.create_task(runtime.deactivate("k"))
    await turns()
    gate.open()
    await within(pausing)
    assert (await within(mapping)).tolist() == [-1]
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    await runtime.send("k", 7)
    await turns(50)
    assert runtime.statistics("k").processed == 1
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 7


# --- cancelled ----------------------------------------------------------------------------------------------------


async def test_a_cancelled_map_leaves_the_kernel_as_it_was(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(slow))
    mapping = await begin(runtime, "k", ENDLESS)
    sending = asyncio.create_task(runtime.send_batch("k", range(200_000, 200_010)))  # waits until the map is over
    await turns()
    assert not sending.done()
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await within(mapping)
    await within(sending)
    taken = runtime.statistics("k").accepted - 10
    assert taken < 1000
    assert partial_of(caught.value) == list(range(taken))
    assert await receive_all(runtime, "k", 10) == list(range(200_000, 200_010))
    await eventually(lambda: runtime.statistics("k").processed == taken + 10)
    check_books(runtime, "k")
    assert list(await within(runtime.map("k", range(5)))) == list(range(5))


async def test_after_a_cancelled_map_every_kernel_works(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(slow), queue_size=4)
    mapping = await begin(runtime, "k", ENDLESS)
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await within(mapping)
    received: list[int] = partial_of(caught.value)

    def all_is_received() -> bool:
        received.extend(drain(runtime, "k"))
        counts = runtime.statistics("k")
        return counts.unprocessed == counts.in_flight == counts.output_depth == 0

    await eventually(all_is_received)
    assert received == list(range(runtime.statistics("k").processed))
    assert list(await within(runtime.map("k", [1, 2, 3]))) == [1, 2, 3]
    check_books(runtime, "k")


async def test_a_map_is_cancelled_while_the_kernel_is_paused(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    await start(runtime, "k", compiled_kind(slow))
    mapping = await begin(runtime, "k", ENDLESS)
    await runtime.deactivate("k")
    sending = asyncio.create_task(runtime.send("k", 77))
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await within(mapping)
    await within(sending)
    assert runtime.get_state("k") is KernelState.DEACTIVATED
    await runtime.reactivate("k")
    assert await within(runtime.receive("k")) == 77


async def test_a_map_is_cancelled_at_every_early_moment(runtime: RingKernelRuntime, kind: Kind) -> None:
    """Before, during and after the array is put in place; whatever happens, the kernel is back afterwards."""
    await start_chain(runtime, a=kind(add_one), b=kind(add_one))
    length = 2000 if kind.is_compiled else 100
    for count in range(40):
        mapping = asyncio.create_task(runtime.map(("a", "b"), list(range(length))))
        await turns(count)
        mapping.cancel()
        try:
            got = await within(mapping)
        except asyncio.CancelledError:
            pass
        else:
            assert list(got) == list(range(2, length + 2))
        # what had passed the first kernel may still come out of the second
        await eventually(lambda: runtime.statistics("a").unprocessed == runtime.statistics("a").in_flight == 0)
        await eventually(lambda: runtime.statistics("b").processed == runtime.statistics("a").emitted)
        drain(runtime, "b")
        assert list(await within(runtime.map(("a", "b"), [0, 1, 2]))) == [2, 3, 4]


# --- beside other messages ----------------------------------------------------------------------------------------


async def test_messages_sent_during_a_map_are_kept_apart_from_it(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    """They may go first or last, or the map may be refused, but they neither change its result nor get lost."""
    await start_chain(runtime, a=compiled_kind(drops_thirds), b=copies)
    values = np.arange(1, 20_000)
    wanted = values[values % 3 != 0]
    wanted = np.repeat(wanted, wanted % 4)
    done = 0
    for count in range(30):
        mapping = asyncio.create_task(runtime.map(("a", "b"), values))
        await turns(count)
        await runtime.send("a", 1_000_003)
        try:
            got = await within(mapping)
        except KernelStateError as error:
            assert not isinstance(error, KernelFailedError)
        else:
            np.testing.assert_array_equal(got, wanted)
            done += 1
        assert [await within(runtime.receive("b")) for _ in range(3)] == [1_000_003] * 3
    assert done > 0


async def test_a_short_map_among_many_messages_stays_within_its_result(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    """The result of a map has room for what its own messages can give, and for nothing else."""
    await start_chain(runtime, queue_size=256, a=compiled_kind(add_one), b=copies)
    for count in range(30):
        mapping = asyncio.create_task(runtime.map(("a", "b"), [1]))
        await turns(count)
        await runtime.send_batch("a", [1_000_001] * 200)
        try:
            assert (await within(mapping)).tolist() == [2, 2]
        except KernelStateError as error:
            assert not isinstance(error, KernelFailedError)
        assert await receive_all(runtime, "b", 400) == [1_000_002] * 400


# --- failed -------------------------------------------------------------------------------------------------------


async def test_a_failing_kernel_leaves_what_had_come_out_on_the_exception(
    runtime: RingKernelRuntime, kind: Kind
) -> None:
    await start(runtime, "k", kind(fails_at_13), queue_size=4)
    with pytest.raises(KernelFailedError, match="thirteen") as caught:
        await within(runtime.map("k", list(range(1000))))
    assert isinstance(caught.value.__cause__, ValueError)
    assert list(caught.value.partial) == list(range(13))
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.failed, counts.emitted) == (13, 1, 13)
    assert runtime.get_state("k") is KernelState.TERMINATED
    with pytest.raises(KernelFailedError):
        await runtime.receive("k")
    with pytest.raises(KernelFailedError, match="thirteen") as later:
        await runtime.map("k", [1])
    assert isinstance(later.value.__cause__, ValueError)


async def test_a_failure_at_the_end_of_a_chain(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start_chain(runtime, queue_size=16, a=kind(add_one), b=kind(fails_at_13))
    with pytest.raises(KernelFailedError, match="'b'") as caught:
        await within(runtime.map(("a", "b"), list(range(1000))))
    assert list(caught.value.partial) == list(range(1, 13))
    assert runtime.get_state("a") is KernelState.ACTIVE
    assert list(runtime.unprocessed("b"))[:1] == [14]
    assert check_books(runtime, "a").emitted == check_books(runtime, "b").accepted


async def test_a_failure_at_the_start_of_a_chain(runtime: RingKernelRuntime, kind: Kind) -> None:
    """What had passed the first kernel comes out: in the partial result, or afterwards."""
    await start_chain(runtime, queue_size=16, a=kind(fails_at_13), b=kind(add_one))
    with pytest.raises(KernelFailedError, match="'a'") as caught:
        await within(runtime.map(("a", "b"), list(range(1000))))
    await eventually(lambda: runtime.statistics("b").processed == 13)
    assert list(caught.value.partial) + drain(runtime, "b") == list(range(1, 14))
    assert runtime.get_state("b") is KernelState.ACTIVE


async def fail_with_the_last_message(runtime: RingKernelRuntime, before: int, **kernels: Any) -> None:
    """Map over a chain of which one kernel, whose name is `f`, fails at the last message, and only there."""
    await start_chain(runtime, queue_size=1024, **kernels)
    first, last = next(iter(kernels)), next(reversed(kernels))
    with pytest.raises(KernelFailedError, match="thirteen") as caught:
        await within(runtime.map((first, last), [1] * before + [13]))
    await eventually(lambda: runtime.statistics(last).input_depth == runtime.statistics(last).in_flight == 0)
    assert list(caught.value.partial) + drain(runtime, last) == [1] * before
    counts = runtime.statistics("f")
    assert (counts.processed, counts.failed, counts.unprocessed) == (before, 1, 0)


@pytest.mark.parametrize("names", ["f", "fs", "sf"])
@pytest.mark.parametrize("before", [0, 1, 5000])
async def test_a_map_fails_with_its_last_message(
    runtime: RingKernelRuntime, kind: Kind, names: str, before: int
) -> None:
    kernels = {name: kind(fails_at_13 if name == "f" else same) for name in names}
    await fail_with_the_last_message(runtime, before, **kernels)


@pytest.mark.parametrize("names", ["fs", "sf"])
@pytest.mark.parametrize("before", [0, 1, 5000])
@pytest.mark.parametrize("failing", ["compiled", "coroutine"])
async def test_a_map_over_both_kinds_fails_with_its_last_message(
    runtime: RingKernelRuntime, compiled_kind: Kind, names: str, before: int, failing: str
) -> None:
    coroutine = Kind("typed_coroutine")
    fails, passes = (compiled_kind, coroutine) if failing == "compiled" else (coroutine, compiled_kind)
    kernels = {name: fails(fails_at_13) if name == "f" else passes(same) for name in names}
    await fail_with_the_last_message(runtime, before, **kernels)


async def test_a_map_says_what_a_kernel_has_failed_of_whoever_notices_first(
    runtime: RingKernelRuntime, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def neighbour_notices(path: list[Any], *_: Any) -> None:
        await eventually(lambda: any(kernel.state is KernelState.TERMINATED for kernel in path))
        raise KernelStateError("the one before it cannot go on")

    monkeypatch.setattr(map_module, "_through", neighbour_notices)
    await start_chain(runtime, s=kind(same), f=kind(fails_at_13))
    with pytest.raises(KernelFailedError, match="thirteen"):
        await within(runtime.map(("s", "f"), [1, 13]))


# --- ended --------------------------------------------------------------------------------------------------------


async def test_terminate_during_a_map_lets_it_finish(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    """What was queued may still be taken, and the array is queued."""
    await start(runtime, "k", compiled_kind(slow))
    mapping = await begin(runtime, "k", list(range(100)))
    await within(runtime.terminate("k"))
    try:
        got = await within(mapping)
    except KernelFailedError as error:
        got = error.partial
    assert got.tolist() == list(range(100))
    counts = check_books(runtime, "k")
    assert (counts.processed, counts.state) == (100, KernelState.TERMINATED)
    assert runtime.kernels["k"].error is None


async def test_terminate_without_time_cuts_a_map_short(runtime: RingKernelRuntime, kind: Kind) -> None:
    await start(runtime, "k", kind(slow), queue_size=4)
    mapping = await begin(runtime, "k", ENDLESS)
    await within(runtime.terminate("k", timeout=0.02))
    with pytest.raises(KernelFailedError) as caught:
        await within(mapping)
    counts = check_books(runtime, "k")
    assert list(caught.value.partial) == list(range(counts.processed))
    assert 5 < counts.processed < 10_000
    assert runtime.kernels["k"].error is None


async def test_a_map_is_cancelled_while_its_kernel_is_being_terminated(
    runtime: RingKernelRuntime, compiled_kind: Kind
) -> None:
    await start(runtime, "k", compiled_kind(slow))
    mapping = await begin(runtime, "k", ENDLESS)
    ending = asyncio.create_task(runtime.terminate("k", timeout=1.0))
    await turns()
    assert runtime.get_state("k") is KernelState.TERMINATING
    mapping.cancel()
    with pytest.raises((asyncio.CancelledError, KernelStateError)):
        await within(mapping)
    await within(ending)
    assert runtime.get_state("k") is KernelState.TERMINATED
    assert runtime.kernels["k"].error is None
    check_books(runtime, "k")


async def test_terminate_at_every_early_moment_of_a_map(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    for count in range(0, 30, 2):
        await start_chain(runtime, a=compiled_kind(add_one), b=compiled_kind(add_one))
        mapping = asyncio.create_task(runtime.map(("a", "b"), np.arange(5000)))
        await turns(count)
        await within(asyncio.gather(runtime.terminate("b", timeout=0.5), runtime.terminate("a", timeout=0.5)))
        try:
            got = await within(mapping)
        except KernelStateError as error:
            got = getattr(error, "partial", None)
        if got is not None:
            assert got.tolist() == list(range(2, len(got) + 2))
        for name in ("a", "b"):
            assert runtime.kernels[name].error is None
            check_books(runtime, name)
            runtime.remove(name)


async def test_the_runtime_is_left_during_a_map(compiled_kind: Kind, loop_errors: list[object]) -> None:
    async with RingKernelRuntime(workers=1) as runtime:
        await start(runtime, "k", compiled_kind(slow))
        mapping = await begin(runtime, "k", list(range(50)))
    try:
        got = await within(mapping)
    except KernelFailedError as error:
        got = error.partial
    assert got.tolist() == list(range(50))


async def test_a_map_over_a_handler_that_is_abandoned(runtime: RingKernelRuntime, compiled_kind: Kind) -> None:
    """The thread may come back to the arrays long after the map has failed."""
    await start(runtime, "k", compiled_kind(gated))
    gate = compiled_kind.gate(runtime, "k")
    mapping = asyncio.create_task(runtime.map("k", [-1, *range(9)]))
    await eventually(lambda: gate.entered)
    ending = asyncio.create_task(runtime.terminate("k", timeout=0.05))
    with pytest.raises(KernelFailedError) as caught:
        await within(mapping)
    await within(ending)
    assert len(caught.value.partial) == 0
    assert "abandoned" in str(runtime.kernels["k"].error)
    counts = runtime.statistics("k")
    assert (counts.processed, counts.in_flight) == (0, 1)
    await start(runtime, "next", compiled_kind(add_one))
    gate.open()
    for _ in range(10):
        assert (await within(runtime.map("next", range(10)))).tolist() == list(range(1, 11))
    assert runtime.statistics("k").processed == 0
